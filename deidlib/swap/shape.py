"""A face's shape, apart from its place, size and tilt; and how far it is from its mirror image."""

from __future__ import annotations

import torch
from torch import Tensor

from deidlib.geometry.face_model import face_model

STRAIGHT = 0.45
"""The :func:`skewness` of a face that is turned aside by some 30 degrees."""


def normal(shapes: Tensor) -> Tensor:
    """Shapes ``(..., P, 2)`` as complex numbers, around 0, of size 1."""
    numbers = torch.view_as_complex(shapes.contiguous())
    numbers = numbers - numbers.mean(dim=-1, keepdim=True)
    return numbers / numbers.abs().square().sum(dim=-1, keepdim=True).sqrt()


def turned_to(numbers: Tensor, goal: Tensor) -> Tensor:
    """In the plane the best rotation onto a shape is one complex number of modulus 1."""
    turn = (numbers.conj() * goal).sum(dim=-1, keepdim=True)
    turned: Tensor = numbers * turn / turn.abs()
    return turned


def skewness(shape: Tensor) -> float:
    """How far a face is from its mirror image, as a share of its size; 0 for one that looks straight ahead."""
    own, other = normal(shape), normal(mirrored(shape, 0))
    return float((own - turned_to(other, own)).abs().square().sum().sqrt())


def mirrored(points: Tensor, width: int) -> Tensor:
    """The 68 points of the picture's mirror image, in their own order."""
    model = face_model()
    order = torch.cdist(model * model.new_tensor([-1, 1, 1]), model).argmin(dim=1)
    flipped = points * points.new_tensor([-1, 1]) + points.new_tensor([width, 0])
    return flipped[order]
