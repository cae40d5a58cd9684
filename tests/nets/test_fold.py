from __future__ import annotations

import torch
from torch import Tensor, nn

from deidlib.nets.fold import Affine, without_batch_norm


class Both(nn.Module):
    """Norms after a convolution, as in RetinaFace, and before one, as in FAN."""

    def __init__(self) -> None:
        super().__init__()
        self.after = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.BatchNorm2d(6))
        self.inner = nn.ModuleList([nn.Sequential(nn.Conv2d(6, 5, 1, bias=False), nn.BatchNorm2d(5, eps=0.1))])
        self.before = nn.BatchNorm2d(5)
        self.last = nn.Conv2d(5, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.last(self.before(self.inner[0](self.after(images))).relu())
        return maps


def trained() -> Both:
    torch.manual_seed(3)
    net = Both()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    # Running statistics other than 0 and 1.
    for _ in range(5):
        net(torch.randn(4, 3, 12, 12) * 2 + 1)
    return net.eval()


def test_the_same_without_any_batch_norm() -> None:
    net, images = trained(), torch.rand(2, 3, 12, 12, requires_grad=True)
    expected = net(images)
    (gradient,) = torch.autograd.grad(expected.square().sum(), images)
    folded = without_batch_norm(net)
    assert folded is net
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    # After a convolution nothing is left to do; before one, a multiply-add.
    assert [type(layer) for layer in folded.after] == [nn.Conv2d, nn.Identity, nn.ReLU, Affine]
    assert isinstance(folded.before, Affine)
    torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-5)
    (after,) = torch.autograd.grad(folded(images).square().sum(), images)
    torch.testing.assert_close(after, gradient, rtol=1e-3, atol=1e-4)


def test_a_net_in_training_mode_is_taken_as_it_is_used() -> None:
    net, images = trained(), torch.rand(1, 3, 12, 12)
    expected = net(images)
    net.train()
    torch.testing.assert_close(without_batch_norm(net)(images), expected, rtol=1e-4, atol=1e-5)
