"""``Framing``: which part of a frame a detector is shown, and in what size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from deidlib.geometry.boxes import Rectangle


class Framing(Protocol):
    """From the frame's size to what is shown of it."""

    def __call__(self, height: int, width: int) -> tuple[Rectangle, tuple[int, int]]:
        """The window, in pixels of the frame, which may reach beyond it; height and width that it is scaled to."""
        ...


@dataclass(frozen=True)
class Letterbox:
    """The whole frame in the middle of a square picture, black above and below, or on both sides.

    Args:
        side: of the picture.

    Example:
        >>> Letterbox(128)(480, 640)
        (Rectangle(left=0, top=-80, right=640, bottom=560), (128, 128))
    """

    side: int

    def __call__(self, height: int, width: int) -> tuple[Rectangle, tuple[int, int]]:
        """The square around the frame."""
        longer = max(height, width)
        left, top = (width - longer) // 2, (height - longer) // 2
        return Rectangle(left, top, left + longer, top + longer), (self.side, self.side)


@dataclass(frozen=True)
class RoundedUp:
    """The frame itself, stretched a little, so that its sides are multiples of a number.

    Args:
        multiple: that number.

    Example:
        >>> RoundedUp(32)(720, 1280)
        (Rectangle(left=0, top=0, right=1280, bottom=720), (736, 1280))
    """

    multiple: int

    def __call__(self, height: int, width: int) -> tuple[Rectangle, tuple[int, int]]:
        """The frame, and its sides rounded up."""
        rows, columns = (math.ceil(side / self.multiple) * self.multiple for side in (height, width))
        return Rectangle(0, 0, width, height), (rows, columns)
