"""What 68 or five landmarks say about a face's outline: the missing points, the forehead, the face's extent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deidlib.geometry.face_model import face_model
from deidlib.swap.tps import ThinPlate

# Each a mean of landmarks, and how far above it the forehead reaches, as a share of the distance from chin to brows.
_FOREHEAD = (((17,), 0.2), ((19,), 0.36), ((21, 22), 0.42), ((24,), 0.36), ((26,), 0.2))
_EYES, _MOUTH = (slice(36, 42), slice(42, 48)), slice(48, 68)
_DIRECTIONS = 64
# Share of the way from mouth to chin by which a face's box may correct the chin.
_STRETCH = 0.3


def all_points(landmarks: Tensor, box: Tensor | None = None) -> Tensor:
    """68 points of a face, of which five may be all that is known.

    The generic face of :mod:`deidlib.geometry.face_model` is seen from where the five points fit best (an affine
    camera), and all but its jaw bent so that they fit; its chin is moved towards the lower edge of the box, which
    detectors draw there.

    Args:
        landmarks: ``(68, 2)``, returned as they are, or ``(5, 2)``; pixels.
        box: ``(4,)`` xyxy of the face.

    Returns:
        ``(68, 2)`` float64.

    Raises:
        ValueError: five points on one line, or twice in one place.
    """
    points = landmarks.double()
    if len(points) == 68:
        return points
    model, known = face_model(68).to(points.device), face_model(5).to(points.device)
    # Smiling widens the mouth and not the face: the camera is told by the eyes, the nose and the mouth's middle.
    pick = points.new_tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0.5, 0.5]])
    camera: Tensor = torch.linalg.lstsq(_homogeneous(pick @ known), pick @ points).solution
    whole, fitted = _homogeneous(model) @ camera, _homogeneous(known) @ camera
    bent = ThinPlate.fit(fitted, points - fitted)(whole[17:])
    whole = torch.cat([whole[:17], whole[17:] + bent])
    return whole if box is None else _chin_at(whole, float(box[3]))


def _chin_at(points: Tensor, bottom: float) -> Tensor:
    """The points with the lower jaw stretched along the face so that it ends at a height, if that is near."""
    mouth, chin = points[[48, 54]].mean(dim=0), points[8]
    down = chin - mouth
    if not float(down[1]) > 0.5 * float(down.norm()):
        return points  # lying down, or upside down: the lower edge says nothing about the chin
    factor = min(max((bottom - float(mouth[1])) / float(down[1]), 1 - _STRETCH), 1 + _STRETCH) - 1
    # How far each point lies along the way from the mouth to the chin.
    share = ((points[:17] - mouth) @ down / down.square().sum()).clamp(0, 1)
    moved = points.clone()
    moved[:17] += factor * share[:, None] * down
    return moved


def forehead(points: Tensor, reach: float = 1.0) -> Tensor:
    """Five points along the hairline, from the right to the left temple; no landmark lies there.

    Args:
        points: ``(68, 2)``.
        reach: share of an average forehead.

    Returns:
        ``(5, 2)``.
    """
    brows = points[17:27].mean(dim=0)
    up = brows - points[8]
    return torch.stack([points[list(below)].mean(dim=0) + reach * share * up for below, share in _FOREHEAD])


def narrowed(points: Tensor, share: float) -> Tensor:
    """The points ``(68, 2)`` with the sides of the jaw and the brows' ends moved inwards.

    By a share of their distance from the middle of the face; the less, the nearer to the chin, which stays.
    """
    side = torch.zeros_like(points[:, :1])
    side[:17, 0] = torch.linspace(-1, 1, 17, dtype=points.dtype, device=points.device).abs()
    side[[17, 26]] = 0.5
    return points + share * side * (points[17:].mean(dim=0) - points)


def width(points: Tensor) -> float:
    """Size of a face in pixels, from 68 points ``(68, 2)``: about the width of a face that looks into the camera."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    return float((high - low).prod().sqrt())


def parts(points: Tensor) -> dict[str, list[Tensor]]:
    """The points around each eye and the mouth."""
    return {"eyes": [points[eye] for eye in _EYES], "mouth": [points[_MOUTH]]}


def distance(points: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """How far pixels lie outside the convex hull of points; below 0 inside.

    The hull is taken as the common part of 64 half-planes, so it is never too small.

    Args:
        points: ``(P, 2)``.
        x: ``(w,)`` and ``y``: ``(h,)``, where, in the points' coordinates.

    Returns:
        ``(h, w)``.

    Example:
        >>> square = torch.tensor([[0., 0.], [4., 0.], [4., 4.], [0., 4.]])
        >>> distance(square, torch.tensor([2., 7.]), torch.tensor([2.])).round(decimals=4)
        tensor([[-2.,  3.]])
    """
    angle = torch.arange(_DIRECTIONS, device=points.device, dtype=points.dtype) * (2 * math.pi / _DIRECTIONS)
    across, down = angle.cos(), angle.sin()
    support = (points[:, :1] * across + points[:, 1:] * down).amax(dim=0)
    result = torch.full((len(y), len(x)), -torch.inf, device=x.device, dtype=points.dtype)
    for a, b, limit in zip(across, down, support, strict=True):
        torch.maximum(result, (a * x)[None] + (b * y)[:, None] - limit, out=result)
    return result


def _homogeneous(points: Tensor) -> Tensor:
    return torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
