"""``cut``: windows of one size out of a batch of images, with a gradient that is put back and not summed up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Place = tuple[int, int, int]
"""Which image, and the left and top of a window in it."""


def cut(images: Tensor, places: Sequence[Place], extent: tuple[int, int]) -> Tensor:
    """Cut windows out; differentiable in the images.

    By slices whose places the host knows: no index is sent to a device. torch's own gradient of a slice is a picture of
    zeros around it, one for each; here it is one for all.

    Args:
        images: ``(B, C, H, W)``.
        places: of W windows, within the images; they may overlap.
        extent: height and width of them all.

    Returns:
        ``(W, C, height, width)``.

    Example:
        >>> images = torch.arange(12.0).reshape(1, 1, 3, 4)
        >>> cut(images, [(0, 1, 0), (0, 2, 1)], (2, 2)).flatten(1)
        tensor([[ 1.,  2.,  5.,  6.],
                [ 6.,  7., 10., 11.]])
    """
    windows: Tensor = _Cut.apply(images, tuple(places), extent)
    return windows


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, places: tuple[Place, ...], extent: tuple[int, int]) -> Tensor:
        ctx.places, ctx.shape = places, images.shape
        height, width = extent
        parts = [images[i, :, top : top + height, left : left + width] for i, left, top in places]
        return torch.stack(parts) if parts else images.new_zeros(0, images.shape[1], height, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = gradients
        height, width = slopes.shape[-2:]
        total = slopes.new_zeros(ctx.shape)
        for (i, left, top), slope in zip(ctx.places, slopes.unbind(0), strict=True):
            total[i, :, top : top + height, left : left + width] += slope
        return total, None, None
