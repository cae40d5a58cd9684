"""``Part``: the part of the frames that an attack may change, which its loop alone works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from deidlib.geometry.boxes import Rectangle

# A part that is nearly all of the frame saves less than putting it back costs.
_ALL = 0.8


@dataclass(frozen=True, eq=False)
class Part:
    """One rectangle in every frame of a batch; outside of it the frames stay as they are.

    What takes a step, is compared and kept is as large as the faces then, not as the frames. No number depends on how
    large the rectangle is, and so on the other frames of a batch: where a frame may not change, it has no slope.

    Args:
        frames: ``(K, 3, H, W)``.
        place: of the part in them; None: all.
    """

    frames: Tensor
    place: Rectangle | None

    @classmethod
    def around(cls, frames: Tensor, free: Tensor) -> Self:
        """The smallest part with all that may change in any of the frames. It is waited for.

        Args:
            frames: ``(K, 3, H, W)``.
            free: ``(K, C, H, W)`` bool, what may change; or ``(K, 1, 1, 1)``, everything.
        """
        height, width = frames.shape[2:]
        place = Rectangle(0, 0, width, height) if free.shape[2:] != frames.shape[2:] else rectangle_of(free)
        area = (place.right - place.left) * (place.bottom - place.top)
        # Where nothing may change nothing is saved, either.
        return cls(frames, place if 0 < area < _ALL * height * width else None)

    @property
    def corner(self) -> tuple[int, int]:
        """Its left and its top."""
        return (0, 0) if self.place is None else (self.place.left, self.place.top)

    def select(self, rows: Tensor) -> Self:
        """Of some of the frames."""
        return type(self)(self.frames[rows], self.place)

    def of(self, values: Tensor) -> Tensor:
        """What lies in it.

        Args:
            values: ``(K, C, H, W)``, or ``(K, C, 1, 1)``, which stay what they are.
        """
        if self.place is None or values.shape[2:] != self.frames.shape[2:]:
            return values
        left, top, right, bottom = self.place
        return values[:, :, top:bottom, left:right].contiguous()

    def whole(self, images: Tensor) -> Tensor:
        """The frames with this in their part; differentiable.

        Args:
            images: ``(K, 3, h, w)``.
        """
        if self.place is None:
            return images
        left, top, right, bottom = self.place
        frames = self.frames.clone()
        frames[:, :, top:bottom, left:right] = images
        return frames


def rectangle_of(free: Tensor) -> Rectangle:
    """The smallest rectangle outside of which nothing is free, in any picture; empty if nothing is. It is waited for.

    Args:
        free: ``(..., H, W)`` bool.

    Example:
        >>> import torch
        >>> rectangle_of(torch.tensor([[False, False, False], [False, True, True]]))
        Rectangle(left=1, top=1, right=3, bottom=2)
    """
    free = free.flatten(0, -3).any(dim=0) if free.ndim > 2 else free
    sides: Sequence[list[bool]] = [free.any(dim=0).tolist(), free.any(dim=1).tolist()]
    if not any(sides[0]):
        return Rectangle(0, 0, 0, 0)
    (left, right), (top, bottom) = ((side.index(True), len(side) - side[::-1].index(True)) for side in sides)
    return Rectangle(left, top, right, bottom)
