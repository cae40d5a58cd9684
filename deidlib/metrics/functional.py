"""Distances between two readings of the same face: landmarks, gaze, head pose. Row i against row i."""

from __future__ import annotations

import torch
from torch import Tensor

from deidlib.geometry.camera import angle_between

# iBUG indices of the outer corners of the right and the left eye; in five points the eyes' own indices.
_EYES = {68: (36, 45), 5: (0, 1)}


def landmark_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean Euclidean distance of corresponding landmarks, in pixels; symmetric.

    Args:
        a: ``(N, P, 2)`` pixels.
        b: ``(N, P, 2)`` pixels.

    Returns:
        ``(N,)`` pixels.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> landmark_distance(torch.zeros(1, 5, 2), torch.tensor([3., 4.]).expand(1, 5, 2))
        tensor([5.])
    """
    _same_shape(a, b, "landmarks", (a.shape[1] if a.ndim == 3 else 68, 2))
    distance: Tensor = torch.linalg.vector_norm(a - b, dim=-1)
    return distance.mean(dim=-1)


def interocular_distance(landmarks: Tensor) -> Tensor:
    """Distance between the outer eye corners (68 points, as for 300-W) or between the eyes (five points), in pixels.

    From five points it is about two thirds of that from 68: do not compare the two.

    Args:
        landmarks: ``(N, 68, 2)`` iBUG order, or ``(N, 5, 2)``; pixels.

    Returns:
        ``(N,)`` pixels.

    Raises:
        ValueError: another number of points.

    Example:
        >>> interocular_distance(torch.tensor([[[10., 0.], [40., 40.], [0., 0.], [0., 0.], [0., 0.]]]))
        tensor([50.])
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] not in ((68, 2), (5, 2)):
        raise ValueError(f"landmarks must have shape (N, 68, 2) or (N, 5, 2), got {tuple(landmarks.shape)}.")
    right, left = _EYES[landmarks.shape[1]]
    distance: Tensor = torch.linalg.vector_norm(landmarks[:, right] - landmarks[:, left], dim=-1)
    return distance


def face_size(boxes: Tensor) -> Tensor:
    """The side of a square of the box's area, sqrt(width x height), in pixels.

    Args:
        boxes: ``(N, 4)`` xyxy pixels.

    Returns:
        ``(N,)`` pixels.

    Example:
        >>> face_size(torch.tensor([[0., 0., 4., 9.]]))
        tensor([6.])
    """
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()


def in_units_of(distance: Tensor, measure: Tensor) -> Tensor:
    """A distance over a measure, row by row: what all normalised errors are made of.

    Args:
        distance: ``(N,)`` pixels.
        measure: ``(N,)`` pixels, such as :func:`face_size` or :func:`interocular_distance` gives.

    Returns:
        ``(N,)`` without unit. What coincides is 0 off, even by a measure of 0.

    Example:
        >>> in_units_of(torch.tensor([3.0, 0.0]), torch.tensor([6.0, 0.0]))
        tensor([0.5000, 0.0000])
    """
    return distance / measure.clamp(min=torch.finfo(measure.dtype).tiny)


def nme_interocular(landmarks: Tensor, original: Tensor) -> Tensor:
    """Normalised mean error: :func:`landmark_distance` over :func:`interocular_distance` of the original.

    Not symmetric: the original is the measure. In profile the eyes coincide and this explodes; see :func:`nme_box`.

    Args:
        landmarks: ``(N, P, 2)`` pixels, P 68 or 5.
        original: ``(N, P, 2)`` pixels.

    Returns:
        ``(N,)`` without unit; 0.05 is 5 %.

    Raises:
        ValueError: shapes differ, or another number of points.
    """
    return in_units_of(landmark_distance(landmarks, original), interocular_distance(original))


def nme_box(landmarks: Tensor, original: Tensor, boxes: Tensor) -> Tensor:
    """Normalised mean error: :func:`landmark_distance` over :func:`face_size` of the original's box.

    Args:
        landmarks: ``(N, P, 2)`` pixels.
        original: ``(N, P, 2)`` pixels.
        boxes: ``(N, 4)`` the original's boxes, xyxy pixels.

    Returns:
        ``(N,)`` without unit; 0.05 is 5 %.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> nme_box(torch.zeros(1, 5, 2), torch.full((1, 5, 2), 3.0), torch.tensor([[0., 0., 4., 9.]]))
        tensor([0.7071])
    """
    return in_units_of(landmark_distance(landmarks, original), face_size(boxes))


def gaze_angle(a: Tensor, b: Tensor) -> Tensor:
    """:func:`~deidlib.geometry.camera.angle_between` gaze directions, in degrees; symmetric. Lengths do not matter.

    Args:
        a: ``(N, 3)``.
        b: ``(N, 3)``.

    Returns:
        ``(N,)`` degrees in [0, 180]; NaN where a vector has no direction (length 0).

    Raises:
        ValueError: shapes differ.

    Example:
        >>> gaze_angle(torch.tensor([[0., 0., 1.]]), torch.tensor([[0., 2., 0.]]))
        tensor([90.])
    """
    _same_shape(a, b, "gaze", (3,))
    return angle_between(a, b).rad2deg()


def head_pose_angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle of the rotation that turns one head pose into the other, in degrees; symmetric.

    Args:
        a: ``(N, 3, 3)`` rotation matrices, as :func:`deidlib.geometry.camera.head_pose` gives them.
        b: ``(N, 3, 3)`` likewise.

    Returns:
        ``(N,)`` degrees in [0, 180].

    Raises:
        ValueError: shapes differ.

    Example:
        >>> quarter = torch.tensor([[0., -1., 0.], [1., 0., 0.], [0., 0., 1.]])
        >>> head_pose_angle(torch.eye(3)[None], quarter[None])
        tensor([90.])
    """
    _same_shape(a, b, "rotations", (3, 3))
    turn = a.mT @ b
    # A rotation by t about the unit axis u: the antisymmetric part is sin(t) [u]x, the trace 1 + 2 cos(t).
    antisymmetric = (turn - turn.mT) / 2
    sine = torch.linalg.vector_norm(antisymmetric[:, [2, 0, 1], [1, 2, 0]], dim=-1)
    cosine = (turn.diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1) / 2
    return torch.atan2(sine, cosine).rad2deg()


def _same_shape(a: Tensor, b: Tensor, what: str, row: tuple[int, ...]) -> None:
    if a.shape != b.shape or a.shape[1:] != row:
        expected = f"(N, {', '.join(map(str, row))})"
        raise ValueError(f"{what} must both have shape {expected}, got {tuple(a.shape)} and {tuple(b.shape)}.")
