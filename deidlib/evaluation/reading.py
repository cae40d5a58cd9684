"""``ReaderResult``: how one reader's readings of the protected frames differ from those of the originals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from deidlib.faces import Faces, five_points
from deidlib.geometry.camera import Camera, head_pose
from deidlib.metrics import (
    DiffScore,
    Miss,
    NormalisedDiffScore,
    difference,
    head_pose_angle,
    interocular_distance,
    normalised,
)

Role = Literal["authorised", "unauthorised"]

_HALF_TURN = 180.0

MEASURES = ("iou", "landmarks_px", "nme_interocular", "nme_box", "gaze_deg", "head_pose_deg")
"""What is measured of every face of the original; of all but the first, a face not read counts as the limit of
:class:`~deidlib.metrics.Miss` (head pose: 180 degrees)."""


@dataclass(frozen=True)
class FrameComparison:
    """A frame: one value per face of the original, in its order. A measure that the original's reading lacks is None.

    Args:
        values: by the names of :data:`MEASURES`.
        found: faces that the reader finds.
        extra: faces that it finds and the original does not have.
        score: DiffScore of the frame, as in the paper; None without a face.
        normalised: the one without units.
    """

    values: Mapping[str, tuple[float, ...] | None]
    found: int
    extra: int
    score: float | None
    normalised: float | None

    @property
    def faces(self) -> int:
        """How many faces the original has."""
        iou = self.values["iou"]
        return 0 if iou is None else len(iou)

    def mean(self, measure: str) -> float | None:
        """The mean over the frame's faces, None without any."""
        values = self.values[measure]
        return sum(values) / len(values) if values else None


@dataclass(frozen=True, eq=False)
class ReaderResult:
    """How one reader reads the protected frames.

    Args:
        name: what the user calls it.
        role: authorised, or not.
        task: its own field; what it is given to start with is read by others of its group.
        about: what it is, for the record.
        originals: per frame, what it reads on the original.
        protected: per frame, what it reads on the protected frame.
        reference: what the protected readings are compared with: ``originals``, or the truth that was given.
        frames: the comparison, frame by frame.
        score: the paper's DiffScore over all frames, with its terms.
        normalised: the one without units.
    """

    name: str
    role: Role
    task: str
    about: Mapping[str, Any]
    originals: Sequence[Faces]
    protected: Sequence[Faces]
    reference: Sequence[Faces]
    frames: Sequence[FrameComparison]
    score: Mapping[str, float]
    normalised: Mapping[str, float]

    def all(self, measure: str) -> list[float]:
        """The values of every face of every frame."""
        return [value for frame in self.frames for value in frame.values[measure] or ()]

    @property
    def faces(self) -> int:
        """Faces of the originals, over all frames."""
        return sum(frame.faces for frame in self.frames)

    @property
    def found(self) -> int:
        """How many of them it finds."""
        return sum(frame.found for frame in self.frames)

    @property
    def extra(self) -> int:
        """Faces that it finds where the originals have none."""
        return sum(frame.extra for frame in self.frames)


class ReaderTally:
    """Compares frame by frame; keeps numbers and readings, no pixels.

    Args:
        name: of the reader.
        role: authorised, or not.
        task: its own field.
        about: what it is.
        miss: what a face counts that is not read.
        min_iou: boxes must overlap by more than this to be of one face.
    """

    def __init__(self, name: str, role: Role, reads: str, about: Mapping[str, Any], miss: Miss, min_iou: float) -> None:
        self.name, self.role, self.task, self.about = name, role, reads, about
        self.miss, self.min_iou = miss, min_iou
        self._scores = DiffScore(miss=miss, min_iou=min_iou), NormalisedDiffScore(miss=miss, min_iou=min_iou)
        self._originals: list[Faces] = []
        self._protected: list[Faces] = []
        self._reference: list[Faces] = []
        self._values: list[tuple[dict[str, tuple[float, ...] | None], int, int]] = []

    def add(self, original: Faces, protected: Faces, reference: Faces, camera: Camera) -> None:
        """Add a frame.

        Args:
            original: what the reader reads on it.
            protected: what it reads on the protected frame.
            reference: what that is compared with.
            camera: that took the frame.
        """
        self._originals.append(original)
        self._protected.append(protected)
        self._reference.append(reference)
        for metric in self._scores:
            metric.update([reference], [protected])
        result = difference(reference, protected, miss=self.miss, min_iou=self.min_iou)
        interocular = None
        if result.landmarks is not None and reference.landmarks is not None:
            interocular = normalised(result.landmarks, interocular_distance(reference.landmarks))
        columns = {
            "iou": result.iou,
            "landmarks_px": result.landmarks,
            "nme_interocular": interocular,
            "nme_box": result.nme,
            "gaze_deg": result.gaze,
            "head_pose_deg": _head_pose(
                reference, protected, result.pairing.original, result.pairing.protected, camera
            ),
        }
        values = {name: None if column is None else tuple(column.tolist()) for name, column in columns.items()}
        self._values.append((values, len(result.pairing), len(result.pairing.spurious)))

    def result(self) -> ReaderResult:
        """The comparison, once all frames have been added."""
        plain, normalised = self._scores
        rows = zip(self._values, plain.per_frame()["score"], normalised.per_frame()["score"], strict=True)
        frames = [
            FrameComparison(values, found, extra, _or_none(score), _or_none(other))
            for (values, found, extra), score, other in rows
        ]
        return ReaderResult(
            name=self.name,
            role=self.role,
            task=self.task,
            about=self.about,
            originals=self._originals,
            protected=self._protected,
            reference=self._reference,
            frames=frames,
            score={key: value.item() for key, value in plain.compute().items()},
            normalised={key: value.item() for key, value in normalised.compute().items()},
        )


def _head_pose(reference: Faces, protected: Faces, here: Tensor, there: Tensor, camera: Camera) -> Tensor | None:
    """``(N,)`` degrees, half a turn for a face whose points are not read; None where the reference has no points."""
    if reference.landmarks is None:
        return None
    angles = torch.full((len(reference),), _HALF_TURN, dtype=torch.float64)
    if protected.landmarks is not None and len(here):
        a, b = reference.landmarks[here], protected.landmarks[there]
        if a.shape != b.shape:
            a, b = five_points(a), five_points(b)
        read = b.isfinite().all(dim=(1, 2)) if len(b) else b.new_zeros(0, dtype=torch.bool)
        turns = head_pose_angle(head_pose(a[read], camera)[0], head_pose(b[read], camera)[0])
        angles[here[read]] = turns.to(angles)
    return angles


def _or_none(value: Tensor) -> float | None:
    number: float = value.item()
    return None if math.isnan(number) else number
