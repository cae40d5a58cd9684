"""``shape_of``: what a reading alone tells of who somebody is: the proportions of the face's points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.face_model import face_model
from deidlib.metrics.alignment import similarity


def shape_of(readings: Sequence[Faces]) -> Tensor:
    """The proportions of one face over the frames of a clip: size, place and turn in the picture are taken out.

    Each frame's points are brought onto the generic face's by the similarity of least squares; what is left is their
    mean over the clip, and how far the box reaches beyond them.

    Args:
        readings: a clip's frames, one face with landmarks each; frames without it are passed over.

    Returns:
        ``(2 P + 4,)``: P points and the box's four edges, in units of the generic face's spread.

    Raises:
        ValueError: no frame has a face with landmarks.
    """
    points, boxes = [], []
    for known in readings:
        if len(known) and known.landmarks is not None and bool(known.landmarks[0].isfinite().all()):
            points.append(known.landmarks[0].cpu().double())
            boxes.append(known.boxes[0].cpu().double())
    if not points:
        raise ValueError("no reading has a face with landmarks, so there are no proportions to compare.")
    source = torch.stack(points)
    mean = face_model(source.shape[1])[:, :2]
    mean = (mean - mean.mean(dim=0)) / (mean - mean.mean(dim=0)).square().sum(dim=1).mean().sqrt()
    matrices = similarity(source, mean)
    turn, shift = matrices[:, None, :2, :2], matrices[:, None, :2, 2]
    shape = (turn @ source[..., None])[..., 0] + shift
    # A box does not turn with the face: its edges count from the points' middle, in the face's size.
    middle, scale = source.mean(dim=1), matrices[:, :2, 0].norm(dim=1)
    edges = (torch.stack(boxes) - middle.repeat(1, 2)) * scale[:, None]
    return torch.cat([shape.flatten(1), edges], dim=1).mean(dim=0).float()
