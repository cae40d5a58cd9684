"""``Tolerance``: an attack ends when the authorised models read what they are to read, and not before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from deidlib.attack.distortion import Distortion
from deidlib.attack.loop import Goal, Iterate
from deidlib.faces import Faces, five_points
from deidlib.geometry.boxes import iou
from deidlib.geometry.matching import match
from deidlib.models.base import TargetModel
from deidlib.models.observe import observe, observe_each, united

# Boxes that overlap by less than this are not of the same face.
_FOUND = 0.5
# Steps after which a detector that does not read in its forward pass is asked.
_EVERY = 4


@dataclass(frozen=True, eq=False)
class ReadingError:
    """How far a model's reading of frames is from what it is to read: the worst of each frame's faces.

    What a model does not read, or what was not to be read, is not off: ``iou`` is 1 and the others are 0, as for a
    frame without faces.

    Args:
        iou: ``(B,)`` least overlap of boxes; 0 for a face that is not found.
        nme: ``(B,)`` largest mean distance of landmarks, in face sizes (sqrt of the box's area); infinite for a miss.
        gaze: ``(B,)`` largest angle between gaze directions, degrees; 180 for a miss.
        score: ``(B,)`` largest fall of the score; 1 for a miss.
    """

    iou: Tensor
    nme: Tensor
    gaze: Tensor
    score: Tensor

    @classmethod
    def none(cls, frames: int, device: torch.device | str = "cpu") -> Self:
        """Nothing is off."""
        zero = torch.zeros(frames, device=device)
        return cls(zero + 1, zero, zero.clone(), zero.clone())

    @classmethod
    def between(cls, wanted: Sequence[Faces], read: Sequence[Faces], task: str) -> Self:
        """Compare what was to be read with what is read.

        Args:
            wanted: per frame what it is to read; what is NaN is not asked for.
            read: per frame what it reads, in any order.
            task: what the model reads: ``"boxes"``, and with them scores and perhaps five points; ``"landmarks"``; or
                ``"gaze"``.
        """
        device = wanted[0].boxes.device if wanted else "cpu"
        rows = [_of_frame(*pair, task) for pair in zip(wanted, read, strict=True)]
        columns = zip(*rows, strict=True) if rows else [()] * 4
        return cls(*(torch.tensor(column, device=device) for column in columns))

    def worst(self, other: Self) -> Self:
        """The worse of two readings, frame by frame and measure by measure."""
        larger = {f.name: torch.maximum(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return replace(self, **larger | {"iou": torch.minimum(self.iou, other.iou)})

    def chosen(self, other: Self, which: Tensor) -> Self:
        """The other's numbers for the frames that ``which`` ``(B,)`` bool says, else these."""
        columns = {f.name: torch.where(which, getattr(other, f.name), getattr(self, f.name)) for f in fields(self)}
        return replace(self, **columns)

    def select(self, rows: Tensor) -> Self:
        """Some of the frames."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def put(self, rows: Tensor, other: Self) -> None:
        """Write down what is known of some of the frames."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(other, f.name)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Of some frames and of those after them."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))


@dataclass(frozen=True)
class Tolerance:
    """How far a model's own reading of a protected frame may be from what it is to read. None: that does not matter.

    Each model is held to what it reads: a detector to box, score and points, whatever reads landmarks or gaze to those
    alone. A face that is not found is never within a tolerance.

    Args:
        iou: least overlap (IoU) of the boxes.
        nme: largest mean distance of landmarks, in face sizes (sqrt of the box's area): 0.015 is 1.5 %.
        gaze: largest angle between gaze directions, in degrees.
        score: largest fall of a detector's score.

    Raises:
        ValueError: nothing is asked for, or a number is out of its range.

    Example:
        >>> from deidlib.faces import Faces
        >>> wanted, read = (Faces(torch.tensor([[0.0, 0.0, 100.0, x]]), torch.ones(1)) for x in (100.0, 97.0))
        >>> error = ReadingError.between([wanted], [read], "boxes")
        >>> Tolerance(iou=0.95).met_by(error), Tolerance(iou=0.98).met_by(error)
        (tensor([True]), tensor([False]))
    """

    iou: float | None = None
    nme: float | None = None
    gaze: float | None = None
    score: float | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, f.name) is None for f in fields(self)):
            raise ValueError("Tolerance asks for nothing. Say what matters: Tolerance(iou=0.95, nme=0.015).")
        if self.iou is not None and not 0 <= self.iou <= 1:
            raise ValueError(f"iou is an overlap in [0, 1], got {self.iou}.")
        for name, unit in (("nme", "face sizes (1.5 % is 0.015)"), ("gaze", "degrees"), ("score", "scores")):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be >= 0, in {unit}, got {value}.")

    def met_by(self, error: ReadingError) -> Tensor:
        """Which frames are within: ``(B,)`` bool."""
        met = torch.ones_like(error.iou, dtype=torch.bool)
        if self.iou is not None:
            met &= error.iou >= self.iou
        for name in ("nme", "gaze", "score"):
            if (most := getattr(self, name)) is not None:
                met &= getattr(error, name) <= most
        return met

    def excess(self, error: ReadingError) -> Tensor:
        """How far off frames are in units of the tolerance, by the measure that is worst: ``(B,)``, 1 at its edge.

        It compares attempts: of two that are not within, the one that is nearer.
        """
        terms = [
            (off / most).nan_to_num(nan=0.0, posinf=torch.inf)
            for off, most in (
                (1 - error.iou, None if self.iou is None else 1 - self.iou),
                (error.nme, self.nme),
                (error.gaze, self.gaze),
                (error.score.clamp(min=0), self.score),
            )
            if most is not None
        ]
        return torch.stack(terms).amax(dim=0)


class Examiner(Goal):
    """Reads the frames of an attack as an authorised party would, and says which are within tolerance.

    Args:
        models: by name, told nothing of the frames' numbers.
        numbers: the frames' numbers in their clip, if there are any.
        wanted: per model what it is to read, one entry per frame of the batch.
        tolerances: per model that is held to one.
        threshold: another goal, by which a frame is done as well.
    """

    reads = True

    def __init__(
        self,
        models: Mapping[str, TargetModel[Any]],
        numbers: Sequence[int] | None,
        wanted: Mapping[str, Sequence[Faces]],
        tolerances: Mapping[str, Tolerance],
        threshold: Goal | None,
    ) -> None:
        self.models, self.numbers, self.wanted, self.tolerances = models, numbers, wanted, tolerances
        self.threshold = threshold
        frames, device = next((len(faces), faces[0].boxes.device) for faces in wanted.values())
        self.within = torch.zeros(frames, dtype=torch.bool, device=device)
        self.errors = {name: ReadingError.none(frames, device) for name in models}

    def reached(self, iterate: Iterate) -> Tensor:
        """Which frames are within tolerance, as ``predict`` reads them."""
        done = self._likely(iterate)
        rows = done.nonzero().squeeze(1)
        if len(rows):
            distortions = [distortion.select(rows) for distortion in iterate.active.distortions]
            done[rows] = self.examine(iterate.active.number[rows], iterate.images[rows], distortions)
        return done if self.threshold is None else done | self.threshold.reached(iterate)

    def finish(self, images: Tensor, distortions: Sequence[Distortion]) -> None:
        """Say of the frames that are not within tolerance how far off they are.

        Args:
            images: ``(B, 3, H, W)`` all frames, as they are returned.
            distortions: of all frames.
        """
        rows = (~self.within).nonzero().squeeze(1)
        if len(rows):
            self.examine(rows, images[rows], [distortion.select(rows) for distortion in distortions])

    def excess(self) -> Tensor:
        """How far off frames are in units of the tolerances, ``(B,)``: the worst model."""
        return torch.stack([one.excess(self.errors[name]) for name, one in self.tolerances.items()]).amax(dim=0)

    def _likely(self, iterate: Iterate) -> Tensor:
        """Which frames seem to be within tolerance, by what models read in their forward pass: ``(K,)`` bool.

        Whoever reads by the faces that detectors find (landmarks, gaze) is asked where those are within tolerance. A
        detector that does not read in its forward pass is believed every few steps: :meth:`examine` then asks it.
        """
        step, number, images, readings = iterate.step, iterate.active.number, iterate.images, iterate.readings
        likely = torch.ones(len(images), dtype=torch.bool, device=images.device)
        detectors = {name for name, model in self.models.items() if model.task == "boxes"}
        silent = False
        for name in self.models:
            for read in readings[name]:
                if read is not None and name in self.tolerances:
                    likely &= self._within(name, number, read)
                silent |= read is None and (name in detectors or not detectors)
        if silent:
            return likely if step % _EVERY == 0 else torch.zeros_like(likely)
        others = [name for name in self.tolerances if name not in detectors]
        rows = likely.nonzero().squeeze(1)
        # Seen through distortions they are read when the frame is examined.
        if others and len(rows) and len(next(iter(readings.values()))) == 1:
            places = rows.tolist()
            found = [[read[k] for k in places] for name in detectors if (read := readings[name][0]) is not None]
            told = self._told(number[rows])
            known = united(found)
            for name, model in sorted(told.items(), key=lambda item: item[1].task == "gaze"):
                if name not in detectors:
                    known = observe(images[rows], [model], known)
                    if name in self.tolerances:
                        likely[rows] &= self._within(name, number[rows], known)
        return likely

    def examine(self, number: Tensor, images: Tensor, distortions: Sequence[Distortion]) -> Tensor:
        """Read frames by ``predict``, as they would be saved, and note what is off.

        Args:
            number: ``(K,)`` long, the frames.
            images: ``(K, 3, H, W)`` on the uint8 grid.
            distortions: of these frames; each must leave them within tolerance.

        Returns:
            Which are within tolerance, ``(K,)`` bool.
        """
        told, errors = self._told(number), dict[str, ReadingError]()
        wanted = {name: [self.wanted[name][i] for i in number.tolist()] for name in told}
        given = None
        if not any(model.task == "boxes" for model in told.values()):
            # Nobody authorised looks for faces, so the places are known from elsewhere.
            given = next(iter(wanted.values()))
        with torch.no_grad():
            for seen in [distortion(images) for distortion in distortions] or [images]:
                for name, read in observe_each(seen, told, given).items():
                    error = ReadingError.between(wanted[name], read, told[name].task)
                    errors[name] = errors[name].worst(error) if name in errors else error
        within = torch.ones(len(images), dtype=torch.bool, device=images.device)
        for name, tolerance in self.tolerances.items():
            within &= tolerance.met_by(errors[name])
        self.within[number] = within
        for name, error in errors.items():
            self.errors[name].put(number, error)
        return within

    def _told(self, number: Tensor) -> dict[str, TargetModel[Any]]:
        """The models for those frames."""
        if self.numbers is None:
            return dict(self.models)
        numbers = [self.numbers[i] for i in number.tolist()]
        return {name: model.at(numbers) for name, model in self.models.items()}

    def _within(self, name: str, number: Tensor, read: Sequence[Faces]) -> Tensor:
        wanted = [self.wanted[name][i] for i in number.tolist()]
        return self.tolerances[name].met_by(ReadingError.between(wanted, read, self.models[name].task))


def _of_frame(wanted: Faces, read: Faces, task: str) -> tuple[float, float, float, float]:
    """IoU, NME, gaze and score: the worst of a frame's faces."""
    # torchmetrics takes a second to import, and only who has a tolerance needs it.
    from deidlib.metrics.functional import gaze_angle, nme_box

    if not len(wanted):
        return 1.0, 0.0, 0.0, 0.0
    pairs = match(wanted.boxes, read.boxes, min_iou=_FOUND)
    missed = len(pairs) < len(wanted)
    here, there = list(pairs), list(pairs.values())
    mine, found = wanted[here], read[there]
    least, nme, gaze, score = 1.0, 0.0, 0.0, 0.0
    if task == "boxes":
        least = min([0.0] * missed + [_overlap(a, b) for a, b in zip(mine.boxes, found.boxes, strict=True)])
        score = max([1.0] * missed + (mine.scores - found.scores).tolist())
    if task != "gaze" and wanted.landmarks is not None:
        nme = torch.inf if missed and bool(wanted.landmarks.isfinite().any()) else 0.0
        if here and mine.landmarks is not None:
            if found.landmarks is None:
                nme = torch.inf
            else:
                a, b = mine.landmarks, found.landmarks
                if a.shape != b.shape:
                    a, b = five_points(a), five_points(b)
                asked = a.isfinite().flatten(1).all(dim=1)
                far = nme_box(b[asked], a[asked], mine.boxes[asked]).nan_to_num(nan=torch.inf)
                nme = max([nme, *far.tolist()])
    if task == "gaze" and wanted.gaze is not None:
        asked = wanted.gaze.isfinite().all(dim=1)
        gaze = 180.0 if missed and bool(asked.any()) else 0.0
        if here and mine.gaze is not None:
            rows = mine.gaze.isfinite().all(dim=1)
            angles = None if found.gaze is None else gaze_angle(found.gaze[rows], mine.gaze[rows])
            gaze = max([gaze, *([180.0] if angles is None else angles.nan_to_num(nan=180.0).tolist())])
    return least, nme, gaze, score


def _overlap(a: Tensor, b: Tensor) -> float:
    return float(iou(a[None], b[None]))
