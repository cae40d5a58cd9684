"""RetinaFace with a ResNet-50 backbone, in the layout that its published checkpoints share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import resnet50

_CHANNELS = 256
_ANCHORS = 2


class RetinaFaceResNet50(nn.Module):
    """RetinaFace (Deng et al., arXiv 1905.00641) on ResNet-50: three levels, strides 8, 16 and 32, two anchors a cell.

    ``forward(images)`` takes ``(B, 3, H, W)`` and gives, for all A anchors (level by level, row by row, size by
    size, as :func:`deidlib.geometry.boxes.anchors` orders them), box code ``(B, A, 4)``, class logits ``(B, A, 2)``
    (background, face; no softmax) and point code ``(B, A, 10)`` (x1, y1, ..., x5, y5).

    Two checkpoints are in circulation. Their keys and shapes are the same, and each loads where the other is
    meant, but they were trained on different inputs:

    - biubug6/Pytorch_Retinaface: BGR, 0..255, minus (104, 117, 123);
    - ternaus/retinaface: RGB, ImageNet's mean and deviation.

    Example:
        >>> net = RetinaFaceResNet50().eval()
        >>> with torch.no_grad():
        ...     [tuple(out.shape) for out in net(torch.rand(1, 3, 64, 32))]
        [(1, 84, 4), (1, 84, 2), (1, 84, 10)]
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = _Body()
        self.fpn = _Pyramid((512, 1024, 2048), _CHANNELS)
        self.ssh1 = _Context(_CHANNELS)
        self.ssh2 = _Context(_CHANNELS)
        self.ssh3 = _Context(_CHANNELS)
        # The names are those of the checkpoints.
        self.ClassHead = nn.ModuleList(_Head(_CHANNELS, 2) for _ in range(3))
        self.BboxHead = nn.ModuleList(_Head(_CHANNELS, 4) for _ in range(3))
        self.LandmarkHead = nn.ModuleList(_Head(_CHANNELS, 10) for _ in range(3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Box code, class logits and point code."""
        levels = self.fpn(self.body(images))
        levels = [ssh(level) for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]
        box, logits, points = (
            torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], dim=1)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        )
        return box, logits, points


class _Body(nn.Module):
    """ResNet-50 without its classifier; the maps at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        net = resnet50(weights=None)
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.bn1(self.conv1(images)).relu()
        maps = self.layer1(nn.functional.max_pool2d(maps, 3, stride=2, padding=1))
        levels = []
        for layer in (self.layer2, self.layer3, self.layer4):
            maps = layer(maps)
            levels.append(maps)
        return levels


class _Pyramid(nn.Module):
    """Feature pyramid: coarse levels are added to the finer ones, nearest neighbour."""

    def __init__(self, inputs: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        self.output1 = _convolution(inputs[0], channels, 1)
        self.output2 = _convolution(inputs[1], channels, 1)
        self.output3 = _convolution(inputs[2], channels, 1)
        self.merge1 = _convolution(channels, channels, 3)
        self.merge2 = _convolution(channels, channels, 3)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        fine, middle, coarse = self.output1(maps[0]), self.output2(maps[1]), self.output3(maps[2])
        middle = self.merge2(middle + interpolate(coarse, size=middle.shape[-2:], mode="nearest"))
        fine = self.merge1(fine + interpolate(middle, size=fine.shape[-2:], mode="nearest"))
        return [fine, middle, coarse]


class _Context(nn.Module):
    """SSH's context module: receptive fields of 3, 5 and 7 side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.conv3X3 = _convolution(channels, half, 3, active=False)
        self.conv5X5_1 = _convolution(channels, quarter, 3)
        self.conv5X5_2 = _convolution(quarter, quarter, 3, active=False)
        self.conv7X7_2 = _convolution(quarter, quarter, 3)
        self.conv7x7_3 = _convolution(quarter, quarter, 3, active=False)

    def forward(self, maps: Tensor) -> Tensor:
        shared = self.conv5X5_1(maps)
        five = self.conv5X5_2(shared)
        seven = self.conv7x7_3(self.conv7X7_2(shared))
        return torch.cat([self.conv3X3(maps), five, seven], dim=1).relu()


class _Head(nn.Module):
    """One 1x1 convolution; ``(B, C, h, w)`` to ``(B, h * w * anchors, values)``."""

    def __init__(self, channels: int, values: int) -> None:
        super().__init__()
        self.values = values
        self.conv1x1 = nn.Conv2d(channels, _ANCHORS * values, 1)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = rearrange(
            self.conv1x1(maps), "b (anchors values) h w -> b (h w anchors) values", values=self.values
        )
        return out


def _convolution(inputs: int, outputs: int, size: int, *, active: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if active else nn.Sequential(*layers)
