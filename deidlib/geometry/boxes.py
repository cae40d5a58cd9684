"""Boxes: xyxy in pixels, and rectangles of whole ones. Overlap, growth, clipping, anchors as RetinaFace's, box code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Rectangle(NamedTuple):
    """Whole pixels: columns ``left`` to ``right`` and rows ``top`` to ``bottom``, the last ones exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box in ``a`` with every box in ``b``.

    Args:
        a: ``(N, 4)`` xyxy pixels.
        b: ``(M, 4)`` xyxy pixels.

    Returns:
        ``(N, M)`` in [0, 1]; a box without area overlaps nothing.

    Example:
        >>> iou(torch.tensor([[0., 0., 2., 2.]]), torch.tensor([[1., 0., 3., 2.], [5., 5., 6., 6.]]))
        tensor([[0.3333, 0.0000]])
    """
    return iou_of_pairs(a[:, None], b)


def iou_of_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each box with the one in its own place: :func:`iou` without the other pairs.

    Args:
        a: ``(..., 4)`` xyxy pixels.
        b: ``(..., 4)`` likewise, broadcastable.

    Returns:
        ``(...)`` in [0, 1]; 0 for a box without area, and for one that is not a number.

    Example:
        >>> iou_of_pairs(torch.tensor([0., 0., 2., 2.]), torch.tensor([[1., 0., 3., 2.], [5., 5., 6., 6.]]))
        tensor([0.3333, 0.0000])
    """
    shared, area, other = _areas(a, b)
    return (shared / (area + other - shared)).nan_to_num(nan=0.0)


def held(a: Tensor, b: Tensor) -> Tensor:
    """How much of the smaller of two boxes lies in the larger: of every box in ``a`` and every box in ``b``.

    Args:
        a: ``(N, 4)`` xyxy pixels.
        b: ``(M, 4)`` xyxy pixels.

    Returns:
        ``(N, M)`` in [0, 1]; 0 for a box without area.

    Example:
        >>> held(torch.tensor([[0., 0., 9., 9.]]), torch.tensor([[1., 1., 3., 3.], [8., 0., 10., 1.]]))
        tensor([[1.0000, 0.5000]])
    """
    shared, area, other = _areas(a[:, None], b)
    smaller = torch.minimum(area, other)
    return shared / smaller.where(smaller > 0, torch.ones_like(smaller))


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The areas that boxes ``(..., 4)`` share with those in their places, and of both."""
    (low, high), (other_low, other_high) = torch.split(a, 2, dim=-1), torch.split(b, 2, dim=-1)
    shared = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp(min=0).prod(dim=-1)
    return shared, (high - low).prod(dim=-1), (other_high - other_low).prod(dim=-1)


def around(a: Tensor, b: Tensor) -> Tensor:
    """The smallest boxes that hold each box and the one in its own place.

    Args:
        a: ``(..., 4)`` xyxy pixels.
        b: ``(..., 4)`` likewise, broadcastable.

    Example:
        >>> around(torch.tensor([0., 3., 4., 9.]), torch.tensor([1., 1., 8., 5.]))
        tensor([0., 1., 8., 9.])
    """
    return torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], dim=-1)


def corners_of(boxes: Tensor) -> Tensor:
    """Boxes ``(N, 4)`` as x1, y1, x2, y2 that are given as centre x, centre y, width, height.

    Example:
        >>> corners_of(torch.tensor([[5.0, 5.0, 4.0, 2.0]]))
        tensor([[3., 4., 7., 6.]])
    """
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=1)


def expand(boxes: Tensor, factor: float) -> Tensor:
    """Scale boxes about their centres.

    Args:
        boxes: ``(N, 4)`` xyxy pixels.
        factor: 1.2 makes each side 20 % longer.

    Example:
        >>> expand(torch.tensor([[10., 10., 20., 30.]]), 2.0)
        tensor([[ 5.,  0., 25., 40.]])
    """
    if not factor > 0:
        raise ValueError(f"factor must be positive, got {factor}.")
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) * (factor / 2)
    return torch.cat([centre - half, centre + half], dim=1)


def outwards(boxes: Tensor) -> Tensor:
    """Boxes with their edges rounded outwards to whole pixels.

    Args:
        boxes: ``(N, 4)`` xyxy pixels.

    Example:
        >>> outwards(torch.tensor([[1.5, -0.5, 3.0, 4.1]]))
        tensor([[ 1., -1.,  3.,  5.]])
    """
    return torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1)


def grid_window(box: Sequence[float], margin: float, grid: int, height: int, width: int) -> Rectangle:
    """The whole pixels around a box, from one line of a grid to another, within the frame.

    Args:
        box: x1, y1, x2, y2.
        margin: pixels around it, at least.
        grid: pixels between lines, which begin at 0.
        height: of the frame.
        width: of the frame.

    Example:
        >>> grid_window((20.0, 40.0, 30.0, 90.0), 8, 16, 100, 200)
        Rectangle(left=0, top=32, right=48, bottom=100)
    """
    x1, y1, x2, y2 = box
    return Rectangle(
        max(math.floor((x1 - margin) / grid) * grid, 0),
        max(math.floor((y1 - margin) / grid) * grid, 0),
        min(math.ceil((x2 + margin) / grid) * grid, width),
        min(math.ceil((y2 + margin) / grid) * grid, height),
    )


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Cut boxes off at the frame; a box wholly outside is left without area on the border.

    Example:
        >>> clip(torch.tensor([[-5., 3., 50., 20.]]), height=10, width=40)
        tensor([[ 0.,  3., 40., 10.]])
    """
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)


def anchors(
    height: int,
    width: int,
    sizes: Sequence[Sequence[int]],
    strides: Sequence[int],
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """The anchor boxes of a RetinaFace head over an image (Deng et al., arXiv 1905.00641).

    Args:
        height: image height in pixels.
        width: image width in pixels.
        sizes: anchor side lengths in pixels per pyramid level.
        strides: pixels between neighbouring cells per pyramid level.
        device: where the result lives.

    Returns:
        ``(A, 4)`` centre x, centre y, width, height in *pixels*, level by level, row by row, size by size.

    Example:
        >>> anchors(32, 32, sizes=[[16, 32]], strides=[16])[:3].tolist()
        [[8.0, 8.0, 16.0, 16.0], [8.0, 8.0, 32.0, 32.0], [24.0, 8.0, 16.0, 16.0]]
    """
    levels = []
    for level_sizes, stride in zip(sizes, strides, strict=True):
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        y = (torch.arange(rows, device=device) + 0.5) * stride
        x = (torch.arange(columns, device=device) + 0.5) * stride
        s = torch.tensor(level_sizes, device=device, dtype=torch.float32)
        cy, cx, size = torch.meshgrid(y, x, s, indexing="ij")
        levels.append(torch.stack([cx, cy, size, size], dim=-1).reshape(-1, 4))
    return torch.cat(levels)


def encode(boxes: Tensor, anchors: Tensor, variances: tuple[float, float] = (0.1, 0.2)) -> Tensor:
    """Express boxes relative to anchors, the inverse of :func:`decode`.

    Args:
        boxes: ``(N, 4)`` xyxy pixels.
        anchors: ``(N, 4)`` centre and size, pixels.
        variances: scale of the centre and of the size code.
    """
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.cat(
        [
            (centre - anchors[:, :2]) / (variances[0] * anchors[:, 2:]),
            torch.log(size / anchors[:, 2:]) / variances[1],
        ],
        dim=1,
    )


def decode(code: Tensor, anchors: Tensor, variances: tuple[float, float] = (0.1, 0.2)) -> Tensor:
    """Boxes in xyxy pixels from their code relative to ``anchors``.

    Args:
        code: ``(..., 4)``.
        anchors: ``(..., 4)`` centre and size, pixels, broadcastable to ``code``.
        variances: scale of the centre and of the size code.

    Example:
        >>> a = anchors(32, 32, sizes=[[16]], strides=[16])
        >>> box = torch.tensor([[1., 2., 13., 30.]]).expand(4, 4)
        >>> torch.allclose(decode(encode(box, a), a), box, atol=1e-4)
        True
    """
    centre = anchors[..., :2] + code[..., :2] * variances[0] * anchors[..., 2:]
    half = anchors[..., 2:] * torch.exp(code[..., 2:] * variances[1]) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def encode_points(points: Tensor, anchors: Tensor, variance: float = 0.1) -> Tensor:
    """Points ``(N, P, 2)`` in pixels expressed relative to anchors ``(N, 4)``."""
    return (points - anchors[:, None, :2]) / (variance * anchors[:, None, 2:])


def decode_points(code: Tensor, anchors: Tensor, variance: float = 0.1) -> Tensor:
    """Points ``(..., P, 2)`` in pixels from their code; the inverse of :func:`encode_points`."""
    return anchors[..., None, :2] + code * variance * anchors[..., None, 2:]
