"""``mean_proportions``: a clip's landmarks with the proportions of the generic face instead of the person's own."""

from __future__ import annotations

import torch
from torch import Tensor

from deidlib.geometry.camera import Camera, head_pose
from deidlib.geometry.face_model import face_model

# Where the generic face's forehead ends, metres: a detector's box reaches up to there, and no landmark does.
_FOREHEAD = (0.0, -0.105, 0.055)


def mean_proportions(landmarks: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Keep pose and expression, and replace the proportions of a face by those of the generic one.

    In every frame the generic face, posed as the head is, is set beside the points. What differs, in the face's own
    size and upright, has a part that stays, the person's proportions, and one that changes, the expression:

        points'(t) = generic'(t) + s(t) R(t) (d(t) - mean d),    d(t) = R(t)^-1 (points(t) - generic(t)) / s(t)

    with s the pixels per metre at the face and R its turn in the picture. Of a single frame, what stays is all there
    is, and the expression goes too.

    How far a head is tilted up or down is told by nothing but proportions, the height of the nose's tip between eyes
    and mouth above all: a person's tell as a pitch. So generic' nods as the head does, about the level: of its pitch
    the clip's mean is taken out.

    Args:
        landmarks: ``(T, 68, 2)`` or ``(T, 5, 2)`` pixels of one face in the frames of a clip; finite.
        camera: that took them.

    Returns:
        The points ``(T, P, 2)`` float64 on the CPU; and ``(T, 4)``, the boxes around the generic face with its
        forehead, posed: a detector's box, whose form is a person's too, made everybody's.

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
    model = face_model(points.shape[1])
    level = rotation @ _nod(-_pitch(rotation).mean())
    # About the middle of the points, which stays where it is.
    moved = translation + (rotation - level) @ model.mean(dim=0)

    def posed(model: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
        return torch.stack([camera.project(model @ r.T + t) for r, t in zip(rotation, translation, strict=True)])

    # The face's x axis in the picture, and pixels per metre.
    axis = torch.nn.functional.normalize(rotation[:, :2, 0], dim=1)
    turn = torch.stack([axis, torch.stack([-axis[:, 1], axis[:, 0]], dim=1)], dim=2) * (
        camera.fx / translation[:, 2:, None]
    )
    differs = torch.linalg.solve(turn[:, None], (points - posed(model, rotation, translation))[..., None])
    expression = differs - differs.mean(dim=0)
    outline = posed(torch.cat([face_model(68), torch.tensor([_FOREHEAD], dtype=torch.float64)]), level, moved)
    boxes = torch.cat([outline.amin(dim=1), outline.amax(dim=1)], dim=1)
    return posed(model, level, moved) + (turn[:, None] @ expression)[..., 0], boxes


def _pitch(rotation: Tensor) -> Tensor:
    """How far heads are turned about their own x axis, before all else; ``(T, 3, 3)`` to radians."""
    return torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2])


def _nod(angle: Tensor) -> Tensor:
    """The turn about a head's own x axis, ``(3, 3)``."""
    cosine, sine = float(angle.cos()), float(angle.sin())
    return torch.tensor([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]], dtype=torch.float64)
