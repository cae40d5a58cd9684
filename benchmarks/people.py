"""Photographs of people, cut alike: whom attacks are to tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from deidlib.faces import Faces
from deidlib.images import to_grid
from deidlib.media import read_image
from deidlib.metrics import auc
from deidlib.models.retinaface import RetinaFace

# Pixels: photographs are cut to so many, their faces as large as the driver's, give or take; how large and where is
# drawn by chance: placed by their boxes, faces would have their form told by where the points lie in the picture.
SIDE, FACE, SHIFT = 224, (75, 115), 20
# Pictures of a person among the suspects.
MOST = 3


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture of one person, ``(1, 3, 224, 224)``, and the face in it."""

    image: Tensor
    face: Faces
    person: int


def photographs(people: Path, model: RetinaFace, first: int = 1) -> list[Photograph]:
    """All pictures, cut to the face's surroundings."""
    found = []
    chance = torch.Generator().manual_seed(0)
    for person, folder in enumerate(sorted(path for path in people.iterdir() if path.is_dir()), first):
        for path in sorted(folder.iterdir()):
            image = _scaled(read_image(path), 640)
            known = model.predict(image)[0]
            if not len(known):
                continue
            face = float(torch.empty(1).uniform_(*FACE, generator=chance))
            image = _scaled(image, face / float((known.boxes[0, 2:] - known.boxes[0, :2]).min()) * max(image.shape[2:]))
            known = model.predict(image)[0]
            if not len(known):
                continue
            shift = torch.empty(2).uniform_(-SHIFT, SHIFT, generator=chance)
            middle = (known.boxes[0, :2] + known.boxes[0, 2:]) / 2
            left, top = (middle + shift - SIDE / 2).round().int().tolist()
            wide = pad(image, (SIDE, SIDE, SIDE, SIDE), mode="constant", value=0.5)
            cut = to_grid(wide[:, :, top + SIDE : top + 2 * SIDE, left + SIDE : left + 2 * SIDE].clamp(0, 1))
            known = model.predict(cut)[0][:1]
            if len(known):
                found.append(Photograph(cut, known, person))
    return found


def few(pictures: Sequence[Photograph]) -> list[Photograph]:
    """The first pictures of each person, as many of one as of another."""
    kept: list[Photograph] = []
    for picture in pictures:
        if sum(other.person == picture.person for other in kept) < MOST:
            kept.append(picture)
    return kept


def _scaled(image: Tensor, longest: float) -> Tensor:
    factor = longest / max(image.shape[2:])
    return interpolate(image, scale_factor=factor, mode="bilinear", antialias=True).clamp(0, 1)


def pairs(scores: Tensor, people: Tensor) -> tuple[float, float]:
    """Rank 1 and AUC of all pairs but each picture with itself."""
    self_ = torch.eye(len(people), dtype=torch.bool)
    same = people[:, None] == people[None]
    best = scores.masked_fill(self_, -2).argmax(dim=1)
    return float((people[best] == people).float().mean()), float(auc(scores[same & ~self_], scores[~same]))
