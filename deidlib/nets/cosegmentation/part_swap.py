"""Part swap: the source's features inside a mask, the target's own outside."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deidlib.nets.cosegmentation.blocks import Shrink
from deidlib.nets.cosegmentation.dense_motion import DenseMotion
from deidlib.nets.cosegmentation.motion import Parts, SegmentMotion, sample
from deidlib.nets.cosegmentation.reconstruction import Generator, carry


class SwapSource(NamedTuple):
    """A source image with what is computed of it once for all targets.

    Args:
        image: ``(1, 3, H, W)``, RGB in [0, 1].
        parts: its parts.
        features: the generator's, ``(1, C, h, w)``.
    """

    image: Tensor
    parts: Parts
    features: Tensor


class PartSwap(nn.Module):
    """Swaps parts of a face: inside the mask the source's look in the target's pose, outside the target.

    The whole image is decoded anew, so it differs from the target also outside the mask, if little.

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
        self.multiple = generator.multiple
        if isinstance(motion, DenseMotion):
            self.multiple = math.lcm(self.multiple, motion.multiple)

    def source(self, image: Tensor, parts: Parts) -> SwapSource:
        """What :meth:`forward` needs of a source image, ``(1, 3, H, W)``."""
        return SwapSource(image, parts, self.generator.encode(image))

    def forward(
        self,
        source: SwapSource,
        targets: Tensor,
        parts: Parts,
        *,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        """Swap.

        A mask is in [0, 1], ``(B, 1, h, w)`` or one for all, as large as the features or larger by a whole factor.
        Where there are two, the larger share counts.

        Args:
            source: whose look.
            targets: ``(B, 3, H, W)`` whose pose, and everything outside the mask; RGB in [0, 1].
            parts: the targets' parts.
            source_mask: what of the source to put in; it is moved as the source is.
            target_mask: what of the targets to replace.

        Returns:
            ``(B, 3, H, W)`` in [0, 1].

        Raises:
            ValueError: no mask, or its size does not go with that of the features.
        """
        count = len(targets)
        motion = self.motion(source.image, source.parts.expand(count), parts)
        theirs, _ = carry(source.features.expand(count, -1, -1, -1), motion, align_corners=self.align_corners)
        masks = []
        if source_mask is not None:
            moved = _fitted(source_mask, theirs).expand(count, -1, -1, -1)
            masks.append(sample(moved, motion.field, align_corners=self.align_corners))
        if target_mask is not None:
            masks.append(_fitted(target_mask, theirs))
        if not masks:
            raise ValueError("what is to be swapped? Give source_mask, target_mask, or both.")
        mask = masks[0] if len(masks) == 1 else torch.maximum(*masks)
        own = self.generator.encode(targets)
        return self.generator.decode(own * (1 - mask) + theirs * mask)


def _fitted(mask: Tensor, features: Tensor) -> Tensor:
    """The mask at the size of the features."""
    factor = mask.shape[-1] // features.shape[-1]
    if factor < 1 or mask.shape[-2:] != (features.shape[-2] * factor, features.shape[-1] * factor):
        raise ValueError(
            f"the mask must be {tuple(features.shape[-2:])} as the features are, or a whole number of times that "
            f"size, got {tuple(mask.shape[-2:])}."
        )
    if factor == 1:
        return mask
    smaller: Tensor = Shrink(1, factor).to(mask)(mask)
    return smaller
