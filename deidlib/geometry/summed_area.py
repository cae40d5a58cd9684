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
        return self._means(total.div_(area[..., None]))

    def crops(self, image: Tensor, rectangles: Tensor, side: int) -> Tensor:
        """Area-resized crops.

        Args:
            image: ``(Q,)`` long, which image each crop is of.
            rectangles: ``(Q, 4)`` long, xyxy whole pixels, none empty.
            side: of the crops.

        Returns:
            ``(Q, C, side, side)``: what ``F.interpolate(slice, size=(side, side), mode="area")`` gives for each slice.
        """
        image, rectangles = image.to(self.sums.device), rectangles.to(self.sums.device)
        low, high = rectangles[:, :2], rectangles[:, 2:]
        start, end = area_spans(low, high, side).unbind(-1)
        (left, top), (right, bottom) = start.unbind(1), end.unbind(1)
        y, x = torch.cat([top, bottom], dim=1), torch.cat([left, right], dim=1)
        corners = self.sums[image[:, None, None], y[:, :, None], x[:, None, :]]
        above, below = corners.reshape(-1, 2, side, 2 * side, corners.shape[-1]).unbind(1)
        before, beyond = (below - above).reshape(-1, side, 2, side, corners.shape[-1]).unbind(2)
        across, down = (end - start).unbind(1)
        area = down[:, :, None] * across[:, None, :]
        return self._means((beyond - before) / area[..., None])

    def _means(self, means: Tensor) -> Tensor:
        return means.permute(0, 3, 1, 2).to(self.device, self.dtype)
