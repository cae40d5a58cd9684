"""``mean_proportions``: a clip's landmarks with the proportions of the generic face instead of the person's own."""

from __future__ import annotations

import torch
from torch import Tensor

from deidlib.geometry.camera import Camera, head_pose
from deidlib.geometry.face_model import face_model


def mean_proportions(landmarks: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Keep pose and expression, and replace the proportions of a face by those of the generic one.

    In every frame the generic face, posed as the head is, is set beside the points. What differs, in the face's own
    size and upright, has a part that stays, the person's proportions, and one that changes, the expression:

        points'(t) = generic(t) + s(t) R(t) (d(t) - mean d),    d(t) = R(t)^-1 (points(t) - generic(t)) / s(t)

    with s the pixels per metre at the face and R its turn in the picture. Of a single frame, what stays is all there
    is, and the expression goes too. A pose that was fitted to uncommon proportions keeps a trace of them.

    Args:
        landmarks: ``(T, 68, 2)`` or ``(T, 5, 2)`` pixels of one face in the frames of a clip; finite.
        camera: that took them.

    Returns:
        The points ``(T, P, 2)`` float64 on the CPU; and ``(T, 4)``, the boxes around the generic face of 68 points,
        posed: a detector's box, whose form is a person's too, made everybody's.

    Example:
        >>> camera = Camera.default(480, 480)
        >>> wide = face_model(5) * torch.tensor([1.2, 1.0, 1.0]) + torch.tensor([0.0, 0.0, 0.6])
        >>> points, _ = mean_proportions(camera.project(wide)[None], camera)
        >>> rotation, translation = head_pose(points, camera)
        >>> (camera.project(face_model(5) @ rotation[0].T + translation[0]) - points[0]).abs().max() < 0.5
        tensor(True)
    """
    points = landmarks.detach().to("cpu", torch.float64)
    rotation, translation = head_pose(points, camera)

    def posed(model: Tensor) -> Tensor:
        return torch.stack([camera.project(model @ r.T + t) for r, t in zip(rotation, translation, strict=True)])

    generic = posed(face_model(points.shape[1]))
    # The face's x axis in the picture, and pixels per metre.
    axis = torch.nn.functional.normalize(rotation[:, :2, 0], dim=1)
    turn = torch.stack([axis, torch.stack([-axis[:, 1], axis[:, 0]], dim=1)], dim=2) * (
        camera.fx / translation[:, 2:, None]
    )
    differs = torch.linalg.solve(turn[:, None], (points - generic)[..., None])
    expression = differs - differs.mean(dim=0)
    outline = posed(face_model(68))
    boxes = torch.cat([outline.amin(dim=1), outline.amax(dim=1)], dim=1)
    return generic + (turn[:, None] @ expression)[..., 0], boxes
