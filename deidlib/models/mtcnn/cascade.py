"""The geometry of MTCNN's cascade: image pyramid, P-Net cells, box code and whole-pixel crops.

As facenet-pytorch computes it, whose weights and thresholds assume these roundings. Boxes are its 1-based inclusive
ones while inside the cascade, hence the odd ``+ 1`` and ``- 1``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deidlib.geometry.suppression import nms

# Boxes above which pairs are not looked at all at once, and how often boxes fall.
_MANY, _ROUNDS = 1024, 6
THRESHOLDS = (0.6, 0.7, 0.7)
"""Scores above which a stage hands on."""
P_MARGIN, R_MARGIN, O_MARGIN = (math.log(threshold / (1 - threshold)) for threshold in THRESHOLDS)
"""The same as logits."""
# P-Net looks at 12 x 12 pixels of a scaled image, one cell every 2 pixels.
CELL, STRIDE = 12, 2


def pyramid(height: int, width: int, min_face: float = 20.0, factor: float = 0.709) -> list[float]:
    """The scales at which P-Net sees the image, largest first; empty if the image is smaller than a face.

    Example:
        >>> [round(s, 3) for s in pyramid(40, 60)]
        [0.6, 0.425, 0.302]
    """
    scales = []
    scale, side = CELL / min_face, min(height, width) * CELL / min_face
    while side >= CELL:
        scales.append(scale)
        scale, side = scale * factor, side * factor
    return scales


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of the image at one scale of the pyramid."""
    return int(height * scale + 1), int(width * scale + 1)


def cells_along(length: int) -> int:
    """How many P-Net cells lie along a side of that many pixels of the scaled image.

    Example:
        >>> cells_along(12), cells_along(13), cells_along(14)
        (1, 2, 2)
    """
    return (length - CELL + 1) // STRIDE + 1


def cell_boxes(row: Tensor, column: Tensor, scale: float) -> Tensor:
    """The image area that P-Net cells look at.

    Args:
        row: ``(...)`` row of the cell in P-Net's output.
        column: ``(...)`` its column.
        scale: of the pyramid.

    Returns:
        ``(..., 4)`` xyxy pixels, float32.
    """
    corner = torch.stack([column, row], dim=-1).float() * STRIDE
    return torch.cat([((corner + 1) / scale).floor(), ((corner + CELL) / scale).floor()], dim=-1)


def square(boxes: Tensor) -> Tensor:
    """The square with a box's centre and its longer side, ``(N, 4)``."""
    low, high = torch.split(boxes, 2, dim=1)
    centre, half = (low + high) / 2, (high - low).amax(dim=1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], dim=1)


def shift_cell(cells: Tensor, code: Tensor) -> Tensor:
    """P-Net's boxes ``(..., 4)``: corners move by ``code`` times the cell's sides."""
    return cells + code * (cells[..., 2:] - cells[..., :2]).tile(2)


def shift_crop(boxes: Tensor, code: Tensor) -> Tensor:
    """R- and O-Net's boxes ``(..., 4)``: corners move by ``code`` times the inclusive sides of the crop."""
    return boxes + code * (boxes[..., 2:] - boxes[..., :2] + 1).tile(2)


def crop_points(boxes: Tensor, code: Tensor) -> Tensor:
    """O-Net's five points ``(..., 5, 2)`` in pixels from its ``(..., 10)`` output: five x, then five y."""
    relative = code.reshape(*code.shape[:-1], 2, 5).transpose(-1, -2)
    side = boxes[..., 2:] - boxes[..., :2] + 1
    return relative * side[..., None, :] + boxes[..., None, :2] - 1


def whole_pixels(boxes: Tensor, height: int, width: int) -> Tensor:
    """The slice of the image that a crop takes: left, top, right, bottom, long; may be empty (right <= left)."""
    whole = boxes.long()
    # By numbers that the host knows: a tensor of them would be waited for.
    right, bottom = whole[:, 2:3].clamp(max=width), whole[:, 3:].clamp(max=height)
    return torch.cat([whole[:, :2].clamp(min=1) - 1, right, bottom], dim=1)


def suppress(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Greedy suppression by overlap over the *smaller* of two boxes, MTCNN's last step.

    Args:
        boxes: ``(N, 4)`` inclusive pixel corners.
        scores: ``(N,)``.
        threshold: share of the smaller box.

    Returns:
        ``(K,)`` long, the boxes kept, best first.
    """
    left = scores.argsort(descending=True, stable=True)
    area = (boxes[:, 2:] - boxes[:, :2] + 1).prod(dim=1)
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        corner = torch.maximum(boxes[best, :2], boxes[left, :2])
        shared = (torch.minimum(boxes[best, 2:], boxes[left, 2:]) - corner + 1).clamp(min=0).prod(dim=1)
        left = left[shared / torch.minimum(area[best], area[left]) <= threshold]
    return torch.stack(kept) if kept else left


def survivors(
    boxes: Tensor, scores: Tensor, rounds: Sequence[tuple[Tensor, float]], among: Tensor | None = None
) -> Tensor:
    """Which boxes greedy suppression by IoU leaves within each owner's: ``(N,)`` bool, for loops that must not wait.

    Every box that a surviving better one overlaps falls, and again with those that survive then: after as many times
    as the longest chain of overlaps it is :func:`~deidlib.geometry.suppression.nms`, exactly. Chains of MTCNN's boxes,
    which lie on one face, end sooner.

    Args:
        boxes: ``(N, 4)`` xyxy pixels.
        scores: ``(N,)``; of equal ones the first is the better.
        rounds: one after the other, each among those that the one before leaves: ``(N,)`` long, whose the boxes are,
            and the IoU above which the worse of two falls.
        among: ``(N,)`` bool, those that there are; all if not given.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [1.0, 0.0, 9.0, 9.0], [20.0, 0.0, 29.0, 9.0]])
        >>> survivors(boxes, torch.tensor([0.8, 0.9, 0.7]), [(torch.tensor([0, 0, 0]), 0.5)])
        tensor([False,  True,  True])
    """
    if len(boxes) > _MANY:
        # Pairs of so many would take more memory than waiting takes time.
        left = torch.arange(len(boxes), device=boxes.device) if among is None else among.nonzero().squeeze(1)
        for owner, threshold in rounds:
            left = left[nms(boxes[left], scores[left], threshold, owner[left])]
        return torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, left, True)
    # All pairs, in few operations; of boxes without area they are not numbers, and above nothing.
    low, high = torch.split(boxes, 2, dim=1)
    area = (high - low).prod(dim=1)
    shared = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp_(min=0).prod(dim=2)
    overlap = shared / (area[:, None] + area - shared)
    other = scores[:, None]
    beats = (scores > other) | (scores == other).tril(-1)
    left = torch.ones_like(scores) if among is None else among.to(scores)
    for owner, threshold in rounds:
        falls = (beats & (overlap > threshold) & (owner[:, None] == owner)).to(scores)
        least = left
        for _ in range(_ROUNDS):
            left = torch.addmv(least, falls, left, alpha=-1).clamp_(min=0)
    return left.bool()
