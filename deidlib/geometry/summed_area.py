"""``SummedArea``: means over rectangles of pixels, however large, for four looks each: many area resizes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from deidlib.geometry.warp import area_spans
from deidlib.images import in_double


@dataclass(frozen=True, eq=False)
class Looks:
    """Where the corners of N rectangles lie among the sums of images of one size.

    Args:
        corners: ``(4, N)`` long: top left, top right, bottom left, bottom right.
        area: ``(N, 1)`` long, pixels.
    """

    corners: Tensor
    area: Tensor

    @classmethod
    def crossing(cls, image: Tensor, columns: Tensor, rows: Tensor, size: tuple[int, int]) -> Self:
        """At all crossings of spans of columns and of rows: for each of Q pictures ``h w`` rectangles, row by row.

        Args:
            image: ``(Q,)`` long, which image each picture is of.
            columns: ``(Q, w, 2)`` long, first and one past the last.
            rows: ``(Q, h, 2)`` long, likewise.
            size: height and width of the images.
        """
        # One more of each than there are pixels.
        height, width = size[0] + 1, size[1] + 1
        lines = rows * width + (image * (height * width))[:, None, None]
        corners = lines.permute(2, 0, 1)[:, None, :, :, None] + columns.permute(2, 0, 1)[:, :, None]
        down, across = rows[..., 1] - rows[..., 0], columns[..., 1] - columns[..., 0]
        return cls(corners.reshape(4, -1), (down[:, :, None] * across[:, None]).reshape(-1, 1))

    @classmethod
    def of_crops(cls, image: Tensor, rectangles: Tensor, side: int, size: tuple[int, int]) -> Self:
        """For area-resized crops: :meth:`SummedArea.crops`.

        Args:
            image: ``(Q,)`` long, which image each crop is of.
            rectangles: ``(Q, 4)`` long, xyxy whole pixels, none empty.
            side: of the crops.
            size: height and width of the images.
        """
        columns, rows = area_spans(rectangles[:, :2], rectangles[:, 2:], side).unbind(1)
        return cls.crossing(image, columns, rows, size)


@dataclass(frozen=True, eq=False)
class SummedArea:
    """The sum of all pixels above and to the left of each corner (Crow, SIGGRAPH 1984), of a batch of images.

    In float64, so that differences of large sums are exact to the last bits of float32. Differentiable.

    Args:
        sums: ``(B, H + 1, W + 1, C)`` float64.
        dtype: of the images.
        device: of the images; sums of one without float64 are kept on the CPU.

    Example:
        >>> images = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> SummedArea.of(images).resized((2, 2))
        tensor([[[[ 2.5000,  4.5000],
                  [10.5000, 12.5000]]]])
    """

    sums: Tensor
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, images: Tensor) -> Self:
        """Of images ``(B, C, H, W)``."""
        sums = in_double(images.permute(0, 2, 3, 1)).cumsum(1).cumsum(2)
        return cls(pad(sums, (0, 0, 1, 0, 1, 0)), images.dtype, images.device)

    def resized(self, size: tuple[int, int]) -> Tensor:
        """All images as ``F.interpolate(images, size, mode="area")`` gives them, ``(B, C, h, w)``."""
        height, width = self.sums.shape[1] - 1, self.sums.shape[2] - 1
        zero = torch.zeros((), dtype=torch.long, device=self.sums.device)
        top, bottom = area_spans(zero, zero + height, size[0]).unbind(-1)
        left, right = area_spans(zero, zero + width, size[1]).unbind(-1)
        bands = self.sums.index_select(1, bottom) - self.sums.index_select(1, top)
        total = bands.index_select(2, right).sub_(bands.index_select(2, left))
        area = (bottom - top)[:, None] * (right - left)
        return total.div_(area[..., None]).permute(0, 3, 1, 2).to(self.device, self.dtype)

    def crops(self, image: Tensor, rectangles: Tensor, side: int) -> Tensor:
        """Area-resized crops.

        Args:
            image: ``(Q,)`` long, which image each crop is of.
            rectangles: ``(Q, 4)`` long, xyxy whole pixels, none empty.
            side: of the crops.

        Returns:
            ``(Q, C, side, side)``: what ``F.interpolate(slice, size=(side, side), mode="area")`` gives for each slice.
        """
        size = self.sums.shape[1] - 1, self.sums.shape[2] - 1
        means = self.means(Looks.of_crops(image, rectangles, side, size))
        return means.view(-1, side, side, means.shape[1]).permute(0, 3, 1, 2)

    def means(self, looks: Looks) -> Tensor:
        """Means over rectangles, ``(N, C)``."""
        corners, area = looks.corners.to(self.sums.device), looks.area.to(self.sums.device)
        found = self.sums.flatten(0, 2)[corners]
        above, below = found.view(2, 2, *found.shape[1:]).unbind(0)
        before, beyond = (below - above).unbind(0)
        return ((beyond - before) / area).to(self.device, self.dtype)
