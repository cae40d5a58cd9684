"""Differentiable crops and perspective warps, batched.

Pixel coordinates here are OpenCV's: (0, 0) is the *centre* of the top-left pixel, so that matrices from
``cv2.getPerspectiveTransform`` or a camera apply as they are. Box coordinates, whose (0, 0) is the outer corner,
are half a pixel further: ``pixel = box - 0.5``.

A sampling grid depends on geometry alone. Build it once per target with :func:`perspective_grid` or
:func:`crop_grid` and sample with it in every iteration. (kornia's ``warp_perspective`` and ``crop_and_resize`` build
theirs at every call, and take one warp per image, where a frame may hold several faces.)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def carried(matrices: Tensor, points: Tensor) -> Tensor:
    """Where matrices carry points, in homogeneous coordinates.

    Written out: a matrix product may add up in another order for one matrix than for several, and whoever rounds down
    to whole pixels sees the last bit.

    Args:
        matrices: ``(..., 3, 3)``.
        points: ``(..., 2)``; all dimensions but the last are broadcast against those of the matrices.

    Returns:
        ``(..., 3)``.

    Example:
        >>> carried(torch.eye(3), torch.tensor([2.0, 5.0])).tolist()
        [2.0, 5.0, 1.0]
    """
    by_x, by_y, by_1 = matrices.unbind(-1)
    return by_x * points[..., :1] + by_y * points[..., 1:] + by_1


def perspective_grid(matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Where each output pixel of a perspective warp reads the input.

    Args:
        matrices: ``(F, 3, 3)`` mapping input pixels to output pixels, as ``cv2.warpPerspective`` takes them.
        size: output ``(height, width)``.

    Returns:
        ``(F, height, width, 2)`` input pixel coordinates x, y.

    Example:
        >>> shift = torch.eye(3)
        >>> shift[0, 2] = -1.0
        >>> perspective_grid(shift[None], (1, 2))[0, 0].tolist()
        [[1.0, 0.0], [2.0, 0.0]]
    """
    height, width = size
    y, x = torch.meshgrid(
        torch.arange(height, device=matrices.device, dtype=matrices.dtype),
        torch.arange(width, device=matrices.device, dtype=matrices.dtype),
        indexing="ij",
    )
    source = carried(torch.linalg.inv(matrices)[:, None, None], torch.stack([x, y], dim=-1))
    return source[..., :2] / source[..., 2:]


def crop_grid(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Where each pixel of a resized crop reads the input, as ``cv2.resize(..., INTER_LINEAR)`` does.

    Args:
        boxes: ``(F, 4)`` xyxy, outer pixel edges; whole numbers for equality with slicing and ``cv2.resize``.
        size: output ``(height, width)``.

    Returns:
        ``(F, height, width, 2)`` input pixel coordinates x, y, never outside the centres of the box's own pixels
        (OpenCV repeats the border of the crop rather than looking beyond it).
    """
    height, width = size
    axes = []
    for low, high, count in ((boxes[:, 0], boxes[:, 2], width), (boxes[:, 1], boxes[:, 3], height)):
        step = (torch.arange(count, device=boxes.device, dtype=boxes.dtype) + 0.5) / count
        position = low[:, None] + step * (high - low)[:, None] - 0.5
        axes.append(torch.minimum(torch.maximum(position, low[:, None]), (high - 1)[:, None].clamp(min=low[:, None])))
    x, y = axes
    return torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1)


def sample(images: Tensor, grid: Tensor, frame: Tensor | None = None) -> Tensor:
    """Read images at pixel coordinates with bilinear interpolation; outside the image there is black.

    Args:
        images: ``(B, C, H, W)``.
        grid: ``(F, h, w, 2)`` pixel coordinates x, y, from :func:`perspective_grid` or :func:`crop_grid`.
        frame: ``(F,)`` long, which image each row reads; row i reads image i if not given.

    Returns:
        ``(F, C, h, w)``, differentiable in ``images``.
    """
    height, width = images.shape[-2:]
    source = images if frame is None else images[frame]
    # align_corners=True: -1 and 1 are the centres of the outermost pixels; one pixel wide has no extent.
    x, y = grid.unbind(-1)
    normalised = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=-1)
    return grid_sample(source, normalised.to(source.dtype), mode="bilinear", padding_mode="zeros", align_corners=True)


def warp_perspective(images: Tensor, matrices: Tensor, size: tuple[int, int], frame: Tensor | None = None) -> Tensor:
    """``cv2.warpPerspective`` with bilinear interpolation and a black border, differentiable and batched.

    Args:
        images: ``(B, C, H, W)``.
        matrices: ``(F, 3, 3)`` mapping input pixels to output pixels.
        size: output ``(height, width)``.
        frame: ``(F,)`` long, which image each matrix applies to; image i if not given.

    Returns:
        ``(F, C, height, width)``.
    """
    return sample(images, perspective_grid(matrices, size), frame)


def crop_resize(images: Tensor, boxes: Tensor, size: tuple[int, int], frame: Tensor | None = None) -> Tensor:
    """Cut boxes out and resize them, as slicing and ``cv2.resize(..., INTER_LINEAR)`` do.

    Args:
        images: ``(B, C, H, W)``.
        boxes: ``(F, 4)`` xyxy, outer pixel edges; they may leave the image, where there is black.
        size: output ``(height, width)``.
        frame: ``(F,)`` long, which image each box is cut from; image i if not given.

    Returns:
        ``(F, C, height, width)``.
    """
    return sample(images, crop_grid(boxes, size), frame)


def area_spans(low: Tensor, high: Tensor, count: int, first: int = 0, last: int | None = None) -> Tensor:
    """Which input pixels each output pixel of an area resize averages along one axis.

    Args:
        low: ``(...)`` long, first input pixel of the stretch that is resized.
        high: ``(...)`` long, one past its last pixel.
        count: output pixels over the whole stretch.
        first: first output pixel wanted.
        last: one past the last output pixel wanted; all from ``first`` on if not given.

    Returns:
        ``(..., last - first, 2)`` long: start and end (exclusive) of each average, as
        ``F.interpolate(mode="area")`` and ``F.adaptive_avg_pool2d`` choose them.

    Example:
        >>> area_spans(torch.tensor(10), torch.tensor(15), count=2).tolist()
        [[10, 13], [12, 15]]
    """
    # Starts are rounded down, ends up.
    is_end = torch.arange(2, device=low.device)
    edge = torch.arange(first, count if last is None else last, device=low.device)[:, None] + is_end
    inner = (edge * (high - low)[..., None, None] + is_end * (count - 1)) // count
    return low[..., None, None] + inner
