"""A picture read through a map of the plane: the map at the knots of a lattice, interpolated between them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from deidlib.geometry.boxes import Rectangle

# Knots along a side; a smooth map changes little between them.
_KNOTS = 49
# The smallest level of a pyramid, pixels.
_LEAST = 8


class Lattice:
    """Where each pixel of a rectangle reads another picture.

    Args:
        mapping: from points ``(..., 2)`` float64 to the other picture's, pixels from its outer corner.
        inside: the rectangle.
    """

    def __init__(self, mapping: Callable[[Tensor], Tensor], inside: Rectangle) -> None:
        self.size = (inside.bottom - inside.top, inside.right - inside.left)
        self.x = _knots(inside.left, inside.right)
        self.y = _knots(inside.top, inside.bottom)
        self.places = mapping(torch.stack(torch.meshgrid(self.x, self.y, indexing="xy"), dim=-1))

    def area(self) -> Tensor:
        """Pixels of the other picture per pixel, below 0 where the map turns over.

        Returns:
            ``(n - 1, m - 1)`` float64, between the knots.
        """
        right = (self.places[:-1, 1:] - self.places[:-1, :-1]) / (self.x[1:] - self.x[:-1])[None, :, None]
        down = (self.places[1:, :-1] - self.places[:-1, :-1]) / (self.y[1:] - self.y[:-1])[:, None, None]
        return right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]


class Pyramid:
    """A picture in its own size and in halves of it, so that it can be shown small without flickering.

    Args:
        image: ``(1, 3, H, W)``.
    """

    def __init__(self, image: Tensor) -> None:
        self.levels = [image]
        while min(self.levels[-1].shape[2:]) >= 2 * _LEAST:
            self.levels.append(interpolate(self.levels[-1], scale_factor=0.5, mode="area"))

    def read(self, lattice: Lattice, scale: float) -> Tensor:
        """The picture, bent; beyond its border the border's pixels are repeated.

        Args:
            lattice: where its pixels are read.
            scale: pixels of the picture per pixel shown, about; half as many a level up.

        Returns:
            ``(3, h, w)``, as large as the lattice's rectangle.
        """
        level = min(max(round(math.log2(max(scale, 1e-6))), 0), len(self.levels) - 1)
        source = self.levels[level]
        # Odd sizes lose their last pixel when halved.
        extent = lattice.places.new_tensor([source.shape[3], source.shape[2]]) * 2**level
        grid = (lattice.places / extent * 2 - 1).to(source.dtype).movedim(-1, 0)[None]
        grid = interpolate(grid, size=lattice.size, mode="bilinear", align_corners=True).movedim(1, -1)
        return grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


def _knots(start: int, stop: int) -> Tensor:
    """From the first pixel's centre to the last one's; two at least."""
    count = max(2, min(_KNOTS, stop - start))
    return torch.linspace(start + 0.5, max(stop - 0.5, start + 1.0), count, dtype=torch.float64)
