"""``ReaderResult``: how one reader's readings of the protected frames differ from those of the originals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from deidlib.evaluation.movement import MovementResult
from deidlib.faces import Faces
from deidlib.geometry.camera import Camera
from deidlib.metrics import DiffScore, Miss, NormalisedDiffScore, ReadingDifference, TemporalFidelity
from deidlib.metrics.signals import MAX_LAG

Role = Literal["authorised", "unauthorised"]

MEASURES = ReadingDifference.measures
"""What is measured of every face of the original; of all but the first, a face not read counts as the limit of
:class:`~deidlib.metrics.Miss` (head pose: 180 degrees)."""


@dataclass(frozen=True)
class ReadingSettings:
    """How readings are compared.

    Args:
        min_iou: boxes must overlap by more than this to be of one face.
        miss: what a face counts that is not read.
        camera: that took the frames, for head poses; by default :meth:`Camera.default` of each clip's size.
        max_lag: frames to either side among which it is looked for how late readings come.
    """

    min_iou: float = 0.5
    miss: Miss = field(default_factory=Miss)
    camera: Camera | None = None
    max_lag: int = MAX_LAG

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        miss, camera = self.miss, self.camera
        return {
            "min_iou": self.min_iou,
            "miss": {"box": miss.box, "landmarks_in_face_sizes": miss.landmarks, "gaze_deg": miss.gaze},
            "camera": "default"
            if camera is None
            else {"focal": [camera.fx, camera.fy], "centre": [camera.cx, camera.cy]},
            "max_lag": self.max_lag,
        }


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
        movement: how far the readings are followed over time; of single frames nothing is.
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
    movement: MovementResult

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


class ReaderComparison:
    """Compares what a reader reads on both files, batch by batch; keeps numbers and readings, no pixels.

    Args:
        name: of the reader.
        role: authorised, or not.
        task: its own field.
        about: what it is.
        settings: how readings are compared.
    """

    def __init__(self, name: str, role: Role, task: str, about: Mapping[str, Any], settings: ReadingSettings) -> None:
        self.name, self.role, self.task, self.about = name, role, task, about
        self._settings = settings
        miss, min_iou = settings.miss, settings.min_iou
        self._difference = ReadingDifference(miss=miss, min_iou=min_iou)
        self._scores = DiffScore(miss=miss, min_iou=min_iou), NormalisedDiffScore(miss=miss, min_iou=min_iou)
        self._clips: list[TemporalFidelity] = []
        self._originals: list[Faces] = []
        self._protected: list[Faces] = []
        self._reference: list[Faces] = []

    def begin(self) -> None:
        """What follows is another clip: its faces have not moved there from the one before."""
        self._clips.append(TemporalFidelity(min_iou=self._settings.min_iou, max_lag=self._settings.max_lag))

    def update(
        self,
        originals: Sequence[Faces],
        protected: Sequence[Faces],
        camera: Camera,
        *,
        truth: Sequence[Faces] | None = None,
    ) -> None:
        """Add frames, one entry each.

        Args:
            originals: what the reader reads on them.
            protected: what it reads on the protected frames.
            camera: that took the frames.
            truth: what the protected readings are compared with; the reader's own on the originals if not given.
        """
        here, there = [_kept(faces) for faces in originals], [_kept(faces) for faces in protected]
        reference = here if truth is None else list(truth)
        self._originals += here
        self._protected += there
        self._reference += reference
        self._difference.update(reference, there, camera=camera)
        self._clips[-1].update(reference, there, camera=camera)
        for metric in self._scores:
            metric.update(reference, there)

    def compute(self) -> ReaderResult:
        """The comparison of all frames."""
        plain, normalised = self._scores
        counts = self._difference.per_frame()
        rows = zip(
            self._values(), counts["found"].tolist(), counts["spurious"].tolist(),
            plain.per_frame()["score"], normalised.per_frame()["score"], strict=True,
        )  # fmt: skip
        frames = [
            FrameComparison(values, found, extra, _or_none(score), _or_none(other))
            for values, found, extra, score, other in rows
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
            movement=MovementResult(self.task, [clip.per_face() for clip in self._clips], self._settings.max_lag),
        )

    def _values(self) -> list[dict[str, tuple[float, ...] | None]]:
        """Per frame the faces' values by measure, None for a measure that the reference lacks."""
        counts = [len(known) for known in self._reference]
        columns = {name: torch.split(column, counts) for name, column in self._difference.per_face().items()}
        return [
            {name: None if _lacks(known, name) else tuple(column[number].tolist()) for name, column in columns.items()}
            for number, known in enumerate(self._reference)
        ]


def _kept(faces: Faces) -> Faces:
    """On the CPU, each field by itself: a slice of all that a detector considered would keep all of that."""
    return faces.map(lambda values: values.detach().cpu().clone())


def _lacks(faces: Faces, measure: str) -> bool:
    """Whether a reading has nothing to be measured by."""
    return measure in _NEEDS and getattr(faces, _NEEDS[measure]) is None


_NEEDS = dict.fromkeys(("landmarks_px", "nme_interocular", "nme_box", "head_pose_deg"), "landmarks")
_NEEDS["gaze_deg"] = "gaze"


def _or_none(value: Tensor) -> float | None:
    number: float = value.item()
    return None if math.isnan(number) else number
