"""``Readback``: what the authorised models read from the written file, against what they read on the originals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from deidlib.faces import Faces
from deidlib.models.base import TargetModel, observe_each

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


class ReadbackTally:
    """Compares batch by batch; memory does not grow with the length of the clip, but for the frames that are bad.

    Args:
        models: the authorised models, by name.
        wanted: the overlap that a frame must have not to be called bad.
    """

    def __init__(self, models: Mapping[str, TargetModel[Any]], wanted: float) -> None:
        self.models, self.wanted = dict(models), wanted
        self.bad: list[int] = []
        self._sums = {name: _Sums() for name in models}

    def add(self, images: Tensor, numbers: Sequence[int], truth: Sequence[Mapping[str, Faces]]) -> None:
        """Read frames of the written file.

        Args:
            images: ``(B, 3, H, W)``.
            numbers: the frames' numbers in the clip.
            truth: per frame, what each model reads on the original; a frame without is passed over.
        """
        rows = [i for i, known in enumerate(truth) if any(len(faces) for faces in known.values())]
        if not rows:
            return
        models = {name: model.at([numbers[i] for i in rows]) for name, model in self.models.items()}
        given = None
        if not any(model.task == "boxes" for model in models.values()):
            # Nobody authorised looks for faces, so the places are known from elsewhere.
            given = [next(iter(truth[i].values())) for i in rows]
            given = [Faces(faces.boxes, faces.scores).to(images.device) for faces in given]
        read = observe_each(images[rows], models, given)
        for k, i in enumerate(rows):
            worst = math.inf
            for name, model in models.items():
                known = truth[i].get(name)
                if known is not None and len(known):
                    overlap = self._sums[name].add(known, read[name][k].to(known.boxes.device), model.task)
                    if model.task == "boxes":
                        worst = min(worst, overlap)
            if worst < self.wanted:
                self.bad.append(numbers[i])

    def result(self, repaired: int) -> Readback:
        """The numbers, once all frames have been added."""
        models = {name: sums.result(self.models[name].task) for name, sums in self._sums.items()}
        return Readback(models, self.wanted, tuple(self.bad[:100]), len(self.bad), repaired)


class _Sums:
    def __init__(self) -> None:
        self.faces = self.found = 0
        self.iou = self.nme = self.gaze = 0.0
        self.least = math.inf
        self.has_nme = self.has_gaze = False

    def add(self, known: Faces, read: Faces, reads: str) -> float:
        """Add a frame; returns its least overlap."""
        from deidlib.metrics import difference

        if reads == "boxes":
            known = Faces(known.boxes, known.scores)
        result = difference(known, read, min_iou=_FOUND)
        self.faces += len(known)
        self.found += int((result.iou > 0).sum())
        self.iou += float(result.iou.double().sum())
        self.least = min(self.least, float(result.iou.min()))
        if reads == "landmarks" and result.nme is not None:
            self.nme, self.has_nme = self.nme + float(result.nme.double().sum()), True
        if reads == "gaze" and result.gaze is not None:
            self.gaze, self.has_gaze = self.gaze + float(result.gaze.double().sum()), True
        return float(result.iou.min())

    def result(self, reads: str) -> ModelReadback:
        count = max(self.faces, 1)
        detects = reads == "boxes" and self.faces > 0
        return ModelReadback(
            faces=self.faces,
            found=self.found / count,
            mean_iou=self.iou / count if detects else None,
            min_iou=self.least if detects else None,
            mean_nme=self.nme / count if self.has_nme else None,
            mean_gaze=self.gaze / count if self.has_gaze else None,
        )
