"""RetinaFace with a MobileNet backbone of a quarter of its width."""

from __future__ import annotations

from torch import Tensor, nn

from deidlib.nets.retinaface_net import RetinaFaceNet


class RetinaFaceMobileNet(RetinaFaceNet):
    """:class:`~deidlib.nets.retinaface_net.RetinaFaceNet` on MobileNet (Howard et al., arXiv 1704.04861), width 0.25.

    face-alignment ships it too, but loads torchvision with it, which takes as long as torch itself, for every command.

    Args:
        slope: of the activations below 0; the published checkpoints differ in it.

    Example:
        >>> import torch
        >>> net = RetinaFaceMobileNet(slope=0.1).eval()
        >>> with torch.no_grad():
        ...     [tuple(out.shape) for out in net(torch.rand(1, 3, 64, 32))]
        [(1, 84, 4), (1, 84, 2), (1, 84, 10)]
    """

    def __init__(self, slope: float) -> None:
        super().__init__(_Body(slope), (64, 128, 256), channels=64, slope=slope)


class _Body(nn.Module):
    """The maps at strides 8, 16 and 32."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            nn.Sequential(*_layer(3, 8, 3, slope, stride=2)),
            _separable(8, 16, slope),
            _separable(16, 32, slope, stride=2),
            _separable(32, 32, slope),
            _separable(32, 64, slope, stride=2),
            _separable(64, 64, slope),
        )
        self.stage2 = nn.Sequential(
            _separable(64, 128, slope, stride=2), *(_separable(128, 128, slope) for _ in range(5))
        )
        self.stage3 = nn.Sequential(_separable(128, 256, slope, stride=2), _separable(256, 256, slope))

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.stage1(images)
        middle = self.stage2(fine)
        return [fine, middle, self.stage3(middle)]


def _separable(inputs: int, outputs: int, slope: float, stride: int = 1) -> nn.Sequential:
    """Every channel by itself, and then all of a pixel."""
    return nn.Sequential(
        *_layer(inputs, inputs, 3, slope, stride=stride, groups=inputs), *_layer(inputs, outputs, 1, slope)
    )


def _layer(inputs: int, outputs: int, size: int, slope: float, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(slope)]
