from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deidlib.nets import max_pool
from deidlib.nets.max_pool import MaxPool2d, with_shared_ties

KINDS = [
    {"kernel_size": 2, "stride": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 2), "stride": (1, 2)},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size", [(12, 13), (7, 8), (3, 3)])
def test_without_ties_it_is_torchs(kind: dict[str, object], size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *size, requires_grad=True)
    ours, theirs = MaxPool2d(**kind)(maps), nn.MaxPool2d(**kind)(maps)  # type: ignore[arg-type]
    assert torch.equal(ours, theirs)
    weights = torch.randn_like(ours)
    (gradient,), (expected,) = (torch.autograd.grad((out * weights).sum(), maps) for out in (ours, theirs))
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_accelerators_way_gives_the_same(kind: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    # Rounded, so that there are ties.
    maps = torch.randn(2, 3, 12, 13).mul(2).round().requires_grad_()
    pooled = MaxPool2d(**kind)(maps)  # type: ignore[arg-type]
    weights = torch.randn_like(pooled)
    (expected,) = torch.autograd.grad((pooled * weights).sum(), maps, retain_graph=True)
    monkeypatch.setattr(max_pool, "_place_by_place", max_pool._at_once)
    (gradient,) = torch.autograd.grad((pooled * weights).sum(), maps)
    torch.testing.assert_close(gradient, expected)


def test_what_is_as_great_shares_the_gradient() -> None:
    # The upper two windows by hand; what the last column's window lacks is not counted.
    maps = torch.tensor([[1.0, 1.0, 5.0, 2.0, 3.0], [0.0, 1.0, 2.0, 5.0, 3.0]], requires_grad=True)
    MaxPool2d(2, ceil_mode=True)(maps[None, None]).backward(torch.tensor([[[[6.0, 4.0, 2.0]]]]))
    assert maps.grad is not None
    assert maps.grad.tolist() == [[2.0, 2.0, 2.0, 0.0, 1.0], [0.0, 2.0, 0.0, 2.0, 1.0]]


def test_the_last_bits_of_a_flat_picture_do_not_matter() -> None:
    flat = torch.randn(1, 4, 4, 4).repeat_interleave(6, dim=2).repeat_interleave(6, dim=3)
    weights = torch.randn(1, 4, 11, 11)
    gradients: list[Tensor] = []
    for _ in range(2):
        maps = (flat * (1 + 2e-7 * torch.randn_like(flat))).requires_grad_()
        gradients += torch.autograd.grad((MaxPool2d(3, 2)(maps) * weights).sum(), maps)
    torch.testing.assert_close(*gradients)
    # Going to the greatest alone, 121 windows could reach 121 of the 576 places at most.
    assert int((gradients[0] != 0).sum()) > 400


def test_all_pools_of_a_net_are_replaced() -> None:
    net = nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, padding=1)))
    expected = net(torch.arange(100.0).reshape(1, 1, 10, 10))
    assert with_shared_ties(net) is net
    assert [type(module) for module in net.modules() if isinstance(module, nn.MaxPool2d)] == [MaxPool2d] * 2
    assert torch.equal(net(torch.arange(100.0).reshape(1, 1, 10, 10)), expected)
    with pytest.raises(ValueError, match="expected a max pool without dilation"):
        with_shared_ties(nn.Sequential(nn.MaxPool2d(2, dilation=2)))
