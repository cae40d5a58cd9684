"""The layers that the co-segmentation nets are made of, named as in their checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate


class Block(nn.Module):
    """Convolution that keeps the size, normalisation, ReLU: ``(B, inputs, h, w)`` to ``(B, outputs, h, w)``."""

    def __init__(self, inputs: int, outputs: int, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """The block's maps."""
        out: Tensor = self.norm(self.conv(maps))
        return out.relu()


class Down(Block):
    """A block, then the mean of two by two pixels: half the size."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of half the size."""
        return nn.functional.avg_pool2d(super().forward(maps), 2)


class Up(Block):
    """Every pixel two by two times, then a block: twice the size."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of twice the size."""
        return super().forward(interpolate(maps, scale_factor=2, mode="nearest"))


class Residual(nn.Module):
    """Two convolutions, each after its normalisation and ReLU, beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the same shape."""
        inner = self.conv1(self.norm1(maps).relu())
        out: Tensor = maps + self.conv2(self.norm2(inner).relu())
        return out


class Hourglass(nn.Module):
    """A U-Net: down in steps of two and up again, each level joined to its counterpart.

    ``(B, inputs, h, w)`` to ``(B, inputs + widths[0], h, w)``; h and w must be divisible by ``2 ** levels``.

    Args:
        inputs: channels of the input, which is joined to the output as it is.
        widths: channels of the full size and of each level below it: one more than there are levels.

    Example:
        >>> net = Hourglass(3, (8, 16, 32))
        >>> net.outputs, tuple(net(torch.rand(2, 3, 8, 12)).shape)
        (11, (2, 11, 8, 12))
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.outputs = inputs + widths[0]
        down = [Down(first, second) for first, second in pairwise((inputs, *widths[1:]))]
        # From the bottom up; all but the lowest get the level's own maps and those from below.
        below = (widths[-1], *(2 * width for width in widths[-2:0:-1]))
        up = [Up(first, second) for first, second in zip(below, widths[-2::-1], strict=True)]
        self.encoder = _Encoder(down)
        self.decoder = _Decoder(up)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the input's size."""
        out: Tensor = self.decoder(self.encoder(maps))
        return out


class _Encoder(nn.Module):
    def __init__(self, blocks: Sequence[Down]) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(blocks)

    def forward(self, maps: Tensor) -> list[Tensor]:
        """The maps of every level, the input first."""
        levels = [maps]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        return levels


class _Decoder(nn.Module):
    def __init__(self, blocks: Sequence[Up]) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleList(blocks)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """The maps of the first level, from the lowest one up."""
        maps = levels[-1]
        for block, level in zip(self.up_blocks, levels[-2::-1], strict=True):
            maps = torch.cat([block(maps), level], dim=1)
        return maps


class Shrink(nn.Module):
    """Take every ``factor``-th pixel of what a Gaussian has smoothed, so that nothing aliases.

    ``(B, channels, H, W)`` to ``(B, channels, H / factor, W / factor)``. The Gaussian's deviation is
    ``(factor - 1) / 2`` pixels, and it reaches four deviations far; beyond the border there is black. The
    checkpoints hold its values as ``weight``, ``(channels, 1, size, size)``.

    Example:
        >>> shrink = Shrink(3, 4)
        >>> tuple(shrink.weight.shape), tuple(shrink(torch.rand(1, 3, 16, 32)).shape)
        ((3, 1, 13, 13), (1, 3, 4, 8))
    """

    weight: Tensor

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        deviation = (factor - 1) / 2
        self.reach = round(4 * deviation)
        self.factor = factor
        steps = torch.arange(-self.reach, self.reach + 1, dtype=torch.float32)
        line = torch.exp(-(steps**2) / (2 * deviation**2)) if factor > 1 else torch.ones(1)
        plane = line[:, None] * line
        self.register_buffer("weight", (plane / plane.sum()).repeat(channels, 1, 1, 1))

    @staticmethod
    def factor_of(weight: Tensor) -> int:
        """The factor that a checkpoint's ``weight`` was made for."""
        return 1 + (weight.shape[-1] - 1) // 4

    def forward(self, images: Tensor) -> Tensor:
        """Images of the ``factor``-th part of the size."""
        # A stride in place of smoothing every pixel and dropping most of them.
        return conv2d(images, self.weight, stride=self.factor, padding=self.reach, groups=len(self.weight))
