"""``Readback``: what the authorised models read from the written file, against what they read on the originals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.images import read_together
from deidlib.metrics.face_table import FaceTable
from deidlib.models.base import TargetModel
from deidlib.models.observe import observe_each

# Boxes that overlap by less than this are not of the same face.
_FOUND = 0.5


@dataclass(frozen=True)
class ModelReadback:
    """How one authorised model reads the written file. A face that it does not find counts as read as badly as can be.

    Args:
        faces: that it reads on the originals, and that were attacked.
        found: the share of them that it finds (IoU at least 0.5).
        mean_iou: mean overlap of its boxes, 0 for a miss; of a detector.
        min_iou: the least overlap, likewise.
        mean_nme: mean distance of landmarks, in face sizes, 1 for a miss; None if it reads none.
        mean_gaze: mean angle between gaze directions in degrees, 180 for a miss; None if it reads none.
    """

    faces: int
    found: float
    mean_iou: float | None
    min_iou: float | None
    mean_nme: float | None
    mean_gaze: float | None


@dataclass(frozen=True)
class Readback:
    """How the authorised models read the written file.

    Args:
        models: by name.
        wanted: the overlap of boxes that every frame should have.
        below: frames in which a detector's overlap is lower, the numbers of the first 100 of them.
        frames_below: how many there are.
        repaired: frames that were attacked again, with more steps.
    """

    models: Mapping[str, ModelReadback]
    wanted: float
    below: tuple[int, ...]
    frames_below: int
    repaired: int

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class ReadbackComparison:
    """Compares batch by batch, and keeps no pixels: a few dozen bytes per frame and model.

    Args:
        models: the authorised models, by name.
        wanted: the overlap that a frame must have not to be called bad.
    """

    def __init__(self, models: Mapping[str, TargetModel[Any]], wanted: float) -> None:
        self.models, self.wanted = dict(models), wanted
        self._numbers: list[int] = []
        self._tables = {name: FaceTable(min_iou=_FOUND) for name in models}

    def update(self, images: Tensor, numbers: Sequence[int], truth: Sequence[Mapping[str, Faces]]) -> None:
        """Read frames of the written file.

        Args:
            images: ``(B, 3, H, W)``.
            numbers: the frames' numbers in the clip.
            truth: per frame, what each model reads on the original; a frame without is passed over.
        """
        found = [i for i, known in enumerate(truth) if any(len(faces) for faces in known.values())]
        for part in read_together(len(found), images.device):
            if found[part]:
                self._read(images, numbers, truth, found[part])

    def _read(
        self, images: Tensor, numbers: Sequence[int], truth: Sequence[Mapping[str, Faces]], rows: list[int]
    ) -> None:
        models = {name: model.at([numbers[i] for i in rows]) for name, model in self.models.items()}
        given, tasks = None, {model.task for model in models.values()}
        if "boxes" not in tasks:
            # Nobody authorised looks for faces, so the places are known from elsewhere; so are the points that gaze is
            # read at, where nobody authorised reads them.
            given = [next(iter(truth[i].values())) for i in rows]
            given = [
                Faces(faces.boxes, faces.scores, None if "landmarks" in tasks else faces.landmarks).to(images.device)
                for faces in given
            ]
        read = observe_each(images[rows], models, given)
        for name, model in models.items():
            known = [_own(truth[i].get(name, Faces.empty()), model.task) for i in rows]
            self._tables[name].add(known, read[name])
        self._numbers += [numbers[i] for i in rows]

    @property
    def bad(self) -> list[int]:
        """The frames in which a detector's overlap is lower than wanted, in the order of the updates."""
        bad = torch.zeros(len(self._numbers), dtype=torch.bool)
        for name, table in self._tables.items():
            if self.models[name].task == "boxes":
                # A frame without faces has no least overlap: NaN is not below anything.
                bad |= table.per_frame()["least_iou"].double() < self.wanted
        return [number for number, is_bad in zip(self._numbers, bad.tolist(), strict=True) if is_bad]

    def compute(self, repaired: int) -> Readback:
        """The numbers of all frames.

        Args:
            repaired: frames that were attacked again.
        """
        models = {name: _model_readback(table.means(), self.models[name].task) for name, table in self._tables.items()}
        bad = self.bad
        return Readback(models, self.wanted, tuple(bad[:100]), len(bad), repaired)


def _own(faces: Faces, task: str) -> Faces:
    """What a model is asked for: a detector for boxes, whatever else it sees."""
    return Faces(faces.boxes, faces.scores) if task == "boxes" else faces


def _model_readback(values: Mapping[str, Tensor], task: str) -> ModelReadback:
    def of(wanted: str, name: str) -> float | None:
        value = values[name].item()
        return None if task != wanted or math.isnan(value) else value

    return ModelReadback(
        faces=int(values["faces"]),
        found=int(values["found"]) / max(int(values["faces"]), 1),
        mean_iou=of("boxes", "iou"),
        min_iou=of("boxes", "least_iou"),
        mean_nme=of("landmarks", "nme_box"),
        mean_gaze=of("gaze", "gaze_deg"),
    )
