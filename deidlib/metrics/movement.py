"""``movement``: what of a face moves, as numbers that can be followed through a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from deidlib.faces import Faces, five_points
from deidlib.geometry.camera import Camera, euler_angles, head_pose, vectors_to_angles
from deidlib.metrics.functional import face_size

SIGNALS: dict[str, tuple[int, ...]] = {
    "centre_px": (2,),
    "size_px": (),
    "points_px": (5, 2),
    "mouth_px": (),
    "eyes_px": (),
    "head_pitch_deg": (),
    "head_yaw_deg": (),
    "head_roll_deg": (),
    "gaze_pitch_deg": (),
    "gaze_yaw_deg": (),
}
"""What is followed, with the shape of one frame's value; the unit is in the name."""

# iBUG indices of points that come apart when the mouth opens, and the eyes.
_LIPS, _LIDS = ((62,), (66,)), ((37, 38, 43, 44), (41, 40, 47, 46))


def movement(faces: Faces, *, camera: Camera | None = None) -> dict[str, Tensor]:
    """Each face as numbers: where it is, how large, where it is turned, and where it looks.

    Args:
        faces: N faces of a frame.
        camera: that took it, for head poses; without one there are none.

    Returns:
        By the names of :data:`SIGNALS` ``(N, ...)`` float64 on the CPU, NaN where a face has no such value: the middle
        of the box; :func:`~deidlib.metrics.functional.face_size`; five points; of 68 points the opening of the mouth
        (inner lips) and of the eyes (mean of the lids' distances); the angles of
        :func:`~deidlib.geometry.camera.head_pose`; those of gaze. Of head and gaze alike pitch grows upwards and yaw
        towards the left of the frame, and both are 0 straight into the camera; roll grows clockwise in the frame.

    Example:
        >>> values = movement(Faces(torch.tensor([[0., 0., 4., 9.]]), torch.ones(1)))
        >>> values["centre_px"].tolist(), values["size_px"].tolist(), values["gaze_yaw_deg"].tolist()
        ([[2.0, 4.5]], [6.0], [nan])
    """
    boxes = faces.boxes.detach().to("cpu", torch.float64)
    values = {name: boxes.new_full((len(faces), *shape), torch.nan) for name, shape in SIGNALS.items()}
    values["centre_px"] = (boxes[:, :2] + boxes[:, 2:]) / 2
    values["size_px"] = face_size(boxes)
    if faces.landmarks is not None:
        landmarks = faces.landmarks.detach().to("cpu", torch.float64)
        points = five_points(landmarks)
        values["points_px"] = points
        if landmarks.shape[1] == 68:
            values["mouth_px"], values["eyes_px"] = _apart(landmarks, _LIPS), _apart(landmarks, _LIDS)
        read = points.isfinite().all(dim=(1, 2))
        if camera is not None and bool(read.any()):
            angles = euler_angles(head_pose(landmarks[read], camera)[0]).rad2deg() * torch.tensor([-1.0, 1.0, 1.0])
            for name, column in zip(("head_pitch_deg", "head_yaw_deg", "head_roll_deg"), angles.T, strict=True):
                values[name][read] = column
    if faces.gaze is not None:
        gaze = faces.gaze.detach().to("cpu", torch.float64)
        # A vector without length looks nowhere.
        angles = vectors_to_angles(gaze.where(gaze.any(dim=1, keepdim=True), gaze.new_tensor(torch.nan))).rad2deg()
        values["gaze_pitch_deg"], values["gaze_yaw_deg"] = angles.T
    return values


def _apart(landmarks: Tensor, points: tuple[tuple[int, ...], tuple[int, ...]]) -> Tensor:
    upper, lower = (landmarks[:, list(rows)] for rows in points)
    distance: Tensor = torch.linalg.vector_norm(upper - lower, dim=-1)
    return distance.mean(dim=1)
