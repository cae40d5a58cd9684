"""``difference``: how two readings of a frame differ, face by face."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deidlib.faces import Faces, comparable_points
from deidlib.geometry.camera import Camera, head_pose
from deidlib.metrics.functional import (
    face_size,
    gaze_angle,
    head_pose_angle,
    in_units_of,
    interocular_distance,
    landmark_distance,
    nme_box,
)
from deidlib.metrics.pairing import Pairing, pair

_HALF_TURN = 180.0


@dataclass(frozen=True)
class Miss:
    """What a face that is not read contributes to each term, and the most that a reading can contribute.

    A reading worse than none counts as none: so a miss can never improve a score. Infinity lifts the limit; then a
    single miss makes the term infinite.

    Args:
        box: in units of 1 - IoU.
        landmarks: in face sizes (sqrt of the area of the original's box): every landmark that far off.
        gaze: degrees.

    Raises:
        ValueError: a value is negative or NaN.
    """

    box: float = 1.0
    landmarks: float = 1.0
    gaze: float = 180.0

    def __post_init__(self) -> None:
        for name in ("box", "landmarks", "gaze"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Miss.{name} must be >= 0, got {getattr(self, name)}.")


@dataclass(frozen=True, eq=False)
class Difference:
    """How two readings of a frame differ, one row per face of the original.

    Args:
        pairing: who was compared with whom.
        iou: ``(N,)`` overlap of the boxes, 0 for a miss.
        box: ``(N,)`` 1 - IoU.
        landmarks: ``(N,)`` mean distance in pixels; ``None`` if the original has no landmarks.
        nme_box: ``(N,)`` the same in face sizes, sqrt(area of the original's box).
        nme_interocular: ``(N,)`` the same in distances of the original's outer eye corners (68 points) or eyes (five).
        gaze: ``(N,)`` degrees; ``None`` if the original has no gaze.
        head_pose: ``(N,)`` degrees between the poses fitted to the landmarks, 180 for a miss; ``None`` if the original
            has no landmarks, or no camera was given.
    """

    pairing: Pairing
    iou: Tensor
    box: Tensor
    landmarks: Tensor | None
    nme_box: Tensor | None
    nme_interocular: Tensor | None
    gaze: Tensor | None
    head_pose: Tensor | None


def difference(
    original: Faces,
    protected: Faces,
    *,
    miss: Miss | None = None,
    min_iou: float = 0.0,
    camera: Camera | None = None,
) -> Difference:
    """Compare what was read on a protected frame with what was read on the original.

    The original decides what is compared: a field that it lacks is left out; a field that it has and the other reading
    lacks (or has as NaN) is a miss. Where one has 68 landmarks and the other five, five are compared.

    Args:
        original: the faces of the original frame.
        protected: the faces of the protected frame, in any order.
        miss: what a miss contributes; ``Miss()`` if not given.
        min_iou: boxes must overlap by more than this to be the same face.
        camera: that took both, for head poses.

    Raises:
        ValueError: the original's landmarks or gaze hold NaN, infinity or a vector without direction.

    Example:
        >>> original = Faces(torch.tensor([[0., 0., 4., 9.], [50., 0., 54., 9.]]), torch.ones(2))
        >>> protected = Faces(torch.tensor([[0., 0., 4., 6.]]), torch.ones(1))
        >>> difference(original, protected).box
        tensor([0.3333, 1.0000])
    """
    limit = Miss() if miss is None else miss
    _check_original(original)
    pairing = pair(original, protected, min_iou=min_iou)
    here, there = pairing.original, pairing.protected
    device = original.boxes.device

    def spread(values: Tensor | None, most: float | Tensor) -> Tensor:
        """Values of the pairs to all faces, none of them above ``most``."""
        row = original.boxes.new_full((len(original),), torch.inf)
        if values is not None:
            row[here] = values.to(row).nan_to_num(nan=torch.inf, posinf=torch.inf)
        return torch.minimum(row, row.new_tensor(most) if isinstance(most, float) else most)

    overlap = original.boxes.new_zeros(len(original))
    overlap[here] = pairing.iou
    pixels = by_box = by_eyes = angle = pose = None
    if original.landmarks is not None:
        size = face_size(original.boxes).clamp(min=torch.finfo(original.boxes.dtype).tiny)
        points = distance = by_size = None
        if protected.landmarks is not None:
            points = comparable_points(original.landmarks[here], protected.landmarks.to(device)[there])
            distance = landmark_distance(*points)
            by_size = nme_box(points[1], points[0], original.boxes[here])
        pixels = spread(distance, float(limit.landmarks) * size)
        by_box = spread(by_size, float(limit.landmarks))
        by_eyes = in_units_of(pixels, interocular_distance(original.landmarks))
        if camera is not None:
            pose = _head_pose_angles(len(original), here, points, camera)
    if original.gaze is not None:
        gaze = None if protected.gaze is None else gaze_angle(protected.gaze.to(device)[there], original.gaze[here])
        angle = spread(gaze, float(limit.gaze))
    box = spread(1 - pairing.iou, float(limit.box))
    return Difference(pairing, overlap, box, pixels, by_box, by_eyes, angle, pose)


def _head_pose_angles(faces: int, here: Tensor, points: tuple[Tensor, Tensor] | None, camera: Camera) -> Tensor:
    """``(N,)`` degrees, half a turn for a face whose points are not read; float64 on the CPU, as poses are fitted."""
    angles = torch.full((faces,), _HALF_TURN, dtype=torch.float64)
    if points is not None and len(here):
        a, b = points
        read = b.isfinite().all(dim=(1, 2))
        turns = head_pose_angle(head_pose(a[read], camera)[0], head_pose(b[read], camera)[0])
        angles[here[read].cpu()] = turns
    return angles


def _check_original(original: Faces) -> None:
    if original.landmarks is not None and not bool(torch.isfinite(original.landmarks).all()):
        raise ValueError("the original's landmarks hold NaN or infinity; leave out faces that have none.")
    if original.gaze is not None and not bool((torch.isfinite(original.gaze).all(1) & original.gaze.any(1)).all()):
        raise ValueError("the original's gaze must be finite vectors with a direction; leave out faces that have none.")
