"""The generator, and the task that it was trained on: a target rebuilt from a source and the parts' motion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import interpolate

from deidlib.nets.cosegmentation.blocks import Block, Down, Residual, Up
from deidlib.nets.cosegmentation.dense_motion import DenseMotion
from deidlib.nets.cosegmentation.motion import Motion, Parts, SegmentMotion, sample


class Generator(nn.Module):
    """From images to features and back. What is done to the features in between is others' business.

    Args:
        widths: channels of the full size and of each level below it.
        residuals: how many residual blocks there are at the lowest level.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256), residuals: int = 6) -> None:
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)  # what height and width must be divisible by
        self.first = Block(3, widths[0], 7)
        self.down_blocks = nn.ModuleList(Down(first, second) for first, second in pairwise(widths))
        self.up_blocks = nn.ModuleList(Up(first, second) for first, second in pairwise(widths[::-1]))
        self.bottleneck = nn.Sequential()
        for number in range(residuals):
            self.bottleneck.add_module(f"r{number}", Residual(widths[-1]))
        self.final = nn.Conv2d(widths[0], 3, 7, padding=3)

    def encode(self, images: Tensor) -> Tensor:
        """Features of images: ``(B, 3, H, W)`` to ``(B, widths[-1], H / 2**levels, W / 2**levels)``."""
        features: Tensor = self.first(images)
        for block in self.down_blocks:
            features = block(features)
        return features

    def decode(self, features: Tensor) -> Tensor:
        """Images in [0, 1] from features, the way back of :meth:`encode`."""
        features = self.bottleneck(features)
        for block in self.up_blocks:
            features = block(features)
        images: Tensor = self.final(features)
        return images.sigmoid()


class Reconstructed(NamedTuple):
    """What :class:`Reconstruction` gives.

    Args:
        images: ``(B, 3, H, W)`` the targets rebuilt, in [0, 1].
        moved: ``(B, 3, H, W)`` the source, its pixels merely moved.
        visibility: ``(B, 1, h, w)`` at the features' size, or ``None``.
    """

    images: Tensor
    moved: Tensor
    visibility: Tensor | None


class Reconstruction(nn.Module):
    """The target, rebuilt from the source's look and the target's parts: the whole face is replaced.

    Args:
        generator: encodes and decodes.
        motion: where the source's features go.
        align_corners: see :func:`sample`.
    """

    def __init__(
        self, generator: Generator, motion: SegmentMotion | DenseMotion, *, align_corners: bool = True
    ) -> None:
        super().__init__()
        self.generator = generator
        self.motion = motion
        self.align_corners = align_corners

    def forward(self, image: Tensor, source: Parts, target: Parts) -> Reconstructed:
        """Rebuild the targets.

        Args:
            image: ``(B, 3, H, W)`` the source, RGB in [0, 1].
            source: its parts.
            target: the targets' parts.
        """
        motion = self.motion(image, source, target)
        features, visibility = carry(self.generator.encode(image), motion, align_corners=self.align_corners)
        moved = sample(image, motion.field, align_corners=self.align_corners)
        return Reconstructed(self.generator.decode(features), moved, visibility)


def carry(features: Tensor, motion: Motion, *, align_corners: bool) -> tuple[Tensor, Tensor | None]:
    """The source's features where the motion takes them, dark where they are not visible.

    Args:
        features: ``(B, C, h, w)``.
        motion: at any size.
        align_corners: see :func:`sample`.

    Returns:
        ``(B, C, h, w)``, and the visibility at that size, ``(B, 1, h, w)`` or ``None``.
    """
    carried = sample(features, motion.field, align_corners=align_corners)
    visibility = motion.visibility
    if visibility is None:
        return carried, None
    if visibility.shape[-2:] != carried.shape[-2:]:
        visibility = interpolate(visibility, size=carried.shape[-2:], mode="bilinear", align_corners=False)
    return carried * visibility, visibility
