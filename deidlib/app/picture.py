"""``Picture``: a frame as the page shows it, of the size of a screen; with the faces marked that are hidden or left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from deidlib.app.marked_face import Box
from deidlib.images import to_pixels

# Pixels of the longer side: what is larger is made smaller, and what is small larger, by a whole factor.
_MOST, _LEAST = 1280, 640
_HIDDEN, _LEFT = (0, 190, 90), (225, 40, 40)


@dataclass(frozen=True)
class Mark:
    """A face to be marked.

    Args:
        number: as the page counts it.
        box: xyxy pixels of the frame.
        checked: whether it is to be hidden.
    """

    number: int
    box: Box
    checked: bool


class Picture:
    """A frame to be looked at.

    Args:
        image: ``(3, H, W)`` in [0, 1].

    Example:
        >>> import torch
        >>> picture = Picture(torch.zeros(3, 1280, 2560))
        >>> picture.image.size, picture.in_frame(640, 320)
        ((1280, 640), (1280.0, 640.0))
    """

    def __init__(self, image: Tensor) -> None:
        shown = Image.fromarray(to_pixels(image))
        side = max(shown.size)
        self.scale = _MOST / side if side > _MOST else float(max(_LEAST // side, 1))
        if self.scale != 1:
            how = Image.Resampling.NEAREST if self.scale > 1 else Image.Resampling.LANCZOS
            size = (max(1, round(shown.width * self.scale)), max(1, round(shown.height * self.scale)))
            shown = shown.resize(size, how)
        self.image = shown

    def in_frame(self, x: float, y: float) -> tuple[float, float]:
        """The point of the frame that is seen at a point of the picture."""
        return x / self.scale, y / self.scale

    def marked(self, marks: Sequence[Mark], corner: tuple[float, float] | None = None) -> Picture:
        """Draw faces into it: a number, and in words what is left as it is, for those who see no colours.

        Args:
            marks: the faces.
            corner: of a box that is being drawn, in pixels of the frame.
        """
        draw = ImageDraw.Draw(self.image)
        text = max(13, round(min(self.image.size) / 28))
        font, width = ImageFont.load_default(text), max(2, text // 6)
        for mark in marks:
            x0, y0, x1, y1 = (value * self.scale for value in mark.box)
            color = _HIDDEN if mark.checked else _LEFT
            draw.rectangle((x0 - width, y0 - width, x1 + width, y1 + width), outline=(0, 0, 0), width=1)
            draw.rectangle((x0, y0, x1, y1), outline=color, width=width)
            if not mark.checked:
                draw.line((x0, y0, x1, y1), fill=color, width=width)
                draw.line((x0, y1, x1, y0), fill=color, width=width)
            label = f"{mark.number}" if mark.checked else f"{mark.number} stays as it is"
            _label(draw, label, font, (x0, y0), self.image.size, color)
        if corner is not None:
            x, y = (value * self.scale for value in corner)
            for dx, dy in ((3 * width, 0), (0, 3 * width)):
                draw.line((x - dx, y - dy, x + dx, y + dy), fill=(0, 0, 0), width=width + 2)
                draw.line((x - dx, y - dy, x + dx, y + dy), fill=(255, 215, 0), width=width)
        return self

    def save(self, path: Path) -> Path:
        """Write it without loss, for its owner alone."""
        path.touch(mode=0o600)
        self.image.save(path, format="PNG", compress_level=1)
        return path

    @property
    def pixels(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """``(H, W, 3)``."""
        return np.asarray(self.image)


def _label(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    corner: tuple[float, float],
    size: tuple[int, int],
    color: tuple[int, int, int],
) -> None:
    """Words on a ground of the colour, above the corner or, where there is no room, within it."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    wide, high = right - left + 8, bottom - top + 8
    x = min(max(corner[0], 0), max(size[0] - wide, 0))
    y = corner[1] - high if corner[1] >= high else max(corner[1], 0)
    draw.rectangle((x, y, x + wide, y + high), fill=color)
    draw.text((x + 4 - left, y + 4 - top), text, font=font, fill=(0, 0, 0) if color == _HIDDEN else (255, 255, 255))
