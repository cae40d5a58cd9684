"""RetinaFace's network but for its backbone, in the layout that its published checkpoints share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import interpolate

_ANCHORS = 2


class RetinaFaceNet(nn.Module):
    """RetinaFace (Deng et al., arXiv 1905.00641): three levels, strides 8, 16 and 32, two anchors a cell.

    ``forward(images)`` takes ``(B, 3, H, W)`` and gives, for all A anchors (level by level, row by row, size by
    size, as :func:`deidlib.geometry.boxes.anchors` orders them), box code ``(B, A, 4)``, class logits ``(B, A, 2)``
    (background, face; no softmax) and point code ``(B, A, 10)`` (x1, y1, ..., x5, y5).

    Args:
        body: images to the maps of three levels, finest first.
        inputs: channels of those.
        channels: of the pyramid.
        slope: of the activations below 0; None: they are plain ReLUs.
    """

    def __init__(self, body: nn.Module, inputs: tuple[int, int, int], channels: int, slope: float | None) -> None:
        super().__init__()
        self.body = body
        self.fpn = _Pyramid(inputs, channels, slope)
        self.ssh1 = _Context(channels, slope)
        self.ssh2 = _Context(channels, slope)
        self.ssh3 = _Context(channels, slope)
        # The names are those of the checkpoints.
        self.ClassHead = nn.ModuleList(_Head(channels, 2) for _ in range(3))
        self.BboxHead = nn.ModuleList(_Head(channels, 4) for _ in range(3))
        self.LandmarkHead = nn.ModuleList(_Head(channels, 10) for _ in range(3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Box code, class logits and point code."""
        levels = self.fpn(self.body(images))
        levels = [ssh(level) for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]
        box, logits, points = (
            torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], dim=1)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        )
        return box, logits, points


class _Pyramid(nn.Module):
    """Feature pyramid: coarse levels are added to the finer ones, nearest neighbour."""

    def __init__(self, inputs: tuple[int, int, int], channels: int, slope: float | None) -> None:
        super().__init__()
        self.output1 = _convolution(inputs[0], channels, 1, slope)
        self.output2 = _convolution(inputs[1], channels, 1, slope)
        self.output3 = _convolution(inputs[2], channels, 1, slope)
        self.merge1 = _convolution(channels, channels, 3, slope)
        self.merge2 = _convolution(channels, channels, 3, slope)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        fine, middle, coarse = self.output1(maps[0]), self.output2(maps[1]), self.output3(maps[2])
        middle = self.merge2(middle + interpolate(coarse, size=middle.shape[-2:], mode="nearest"))
        fine = self.merge1(fine + interpolate(middle, size=fine.shape[-2:], mode="nearest"))
        return [fine, middle, coarse]


class _Context(nn.Module):
    """SSH's context module: receptive fields of 3, 5 and 7 side by side."""

    def __init__(self, channels: int, slope: float | None) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.conv3X3 = _convolution(channels, half, 3, active=False)
        self.conv5X5_1 = _convolution(channels, quarter, 3, slope)
        self.conv5X5_2 = _convolution(quarter, quarter, 3, active=False)
        self.conv7X7_2 = _convolution(quarter, quarter, 3, slope)
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


def _convolution(
    inputs: int, outputs: int, size: int, slope: float | None = None, *, active: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)]
    if active:
        layers.append(nn.ReLU() if slope is None else nn.LeakyReLU(slope))
    return nn.Sequential(*layers)
