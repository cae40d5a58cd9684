"""Where a swapper gets landmarks from: the faces as given, or models that are asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.matching import match
from deidlib.models.base import FaceModel


def read_landmarks(images: Tensor, models: Sequence[FaceModel], faces: Sequence[Faces] | None = None) -> list[Faces]:
    """What the last of the models reads, each being given what the one before it has read."""
    known = None if faces is None else list(faces)
    for model in models:
        known = model.predict(images, known)
    if known is None:
        raise ValueError("landmarks must name at least one model, such as MTCNN().")
    return known


def landmarks_of(images: Tensor, faces: Sequence[Faces], models: Sequence[FaceModel]) -> list[list[Tensor | None]]:
    """The landmarks of faces.

    Landmarks that faces come with are taken, except that five points give way to a model that reads 68. Models are
    asked about the frames in which a face lacks some (a row of NaN counts as none).

    Args:
        images: ``(B, 3, H, W)``.
        faces: B entries.
        models: each gets what the one before has read.

    Returns:
        For each face ``(68, 2)`` or ``(5, 2)`` finite pixels, or ``None`` where nobody sees any.
    """
    rows = [_finite(known) for known in faces]
    finer = any(getattr(model, "task", None) == "landmarks" for model in models)
    missing = [i for i, row in enumerate(rows) if any(p is None or (finer and len(p) == 5) for p in row)]
    if missing and models:
        seen = read_landmarks(images[missing], models, [faces[i] for i in missing])
        for i, found in zip(missing, seen, strict=True):
            read = _finite(found.to(faces[i].boxes.device))
            for face, partner in match(faces[i].boxes, found.boxes).items():
                if read[partner] is not None and (finer or rows[i][face] is None):
                    rows[i][face] = read[partner]
    return rows


def _finite(faces: Faces) -> list[Tensor | None]:
    if faces.landmarks is None:
        return [None] * len(faces)
    known = torch.isfinite(faces.landmarks).flatten(1).all(dim=1).tolist()
    return [points if there else None for points, there in zip(faces.landmarks, known, strict=True)]
