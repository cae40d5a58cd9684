"""``Tolerance``: an attack ends when the authorised models read what they are to read, and not before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from deidlib.attack.distortion import Distortion
from deidlib.attack.loop import Goal, Iterate
from deidlib.faces import FaceBatch, Faces, comparable_points
from deidlib.geometry.boxes import iou_of_pairs
from deidlib.geometry.matching import assign
from deidlib.images import in_double
from deidlib.metrics.functional import gaze_angle, nme_box
from deidlib.models.base import Reading, TargetModel
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
        """Compare what was to be read with what is read: faces are paired by overlap, each at most once.

        Args:
            wanted: per frame what it is to read; what is NaN is not asked for.
            read: per frame what it reads, in any order.
            task: what the model reads: ``"boxes"``, and with them scores and perhaps five points; ``"landmarks"``; or
                ``"gaze"``.
        """
        if max(len(_layouts(wanted)), len(_layouts(read))) > 1:
            # Some frames have more points than others: in a table, all would have the fewer.
            return cls.cat([cls.of(*_paired([a], [b]), task) for a, b in zip(wanted, read, strict=True)])
        return cls.of(*_paired(wanted, read), task) if wanted else cls.none(0)

    @classmethod
    def of(cls, wanted: FaceBatch, read: FaceBatch, task: str) -> Self:
        """The same where it is known which face is which: tables of as many frames and places; without a wait.

        Args:
            wanted: what is to be read; a place without a box is none.
            read: what is read in its places, NaN where nothing is.
            task: as for :meth:`between`.
        """
        there = wanted.boxes.isfinite().all(dim=2)
        error = cls.none(len(wanted), wanted.boxes.device)
        if task == "boxes":
            overlap = iou_of_pairs(read.boxes, wanted.boxes)
            fall = (wanted.scores - read.scores).where(read.scores.isfinite(), torch.ones_like(overlap))
            error = replace(
                error,
                iou=overlap.where(there, torch.ones_like(overlap)).amin(dim=1),
                # A score that has risen is no fall of it, and the least of them is still one where there is a face.
                score=_worst(fall, there & wanted.scores.isfinite()),
            )
        if task != "gaze" and wanted.landmarks is not None:
            error = replace(error, nme=_worst(*_points_off(wanted.landmarks, read.landmarks, wanted.boxes)))
        if task == "gaze" and wanted.gaze is not None:
            error = replace(error, gaze=_worst(*_gaze_off(wanted.gaze, read.gaze)))
        return error

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
        self._tables = {name: FaceBatch.of(faces) for name, faces in wanted.items() if name in tolerances}
        frames, device = next((len(faces), faces[0].boxes.device) for faces in wanted.values())
        self.within = torch.zeros(frames, dtype=torch.bool, device=device)
        self.errors = {name: ReadingError.none(frames, device) for name in models}

    def reached(self, iterate: Iterate) -> list[bool]:
        """Which frames are within tolerance, as ``predict`` reads them."""
        done = self._likely(iterate)
        rows = [k for k, seems in enumerate(done) if seems]
        if rows:
            at = torch.tensor(rows, device=iterate.images.device)
            distortions = [distortion.select(at) for distortion in iterate.active.distortions]
            within = self.examine([iterate.numbers[k] for k in rows], iterate.frames(at), distortions)
            done = [False] * len(done)
            for k, sure in zip(rows, within, strict=True):
                done[k] = sure
        if self.threshold is None:
            return done
        return [a or b for a, b in zip(done, self.threshold.reached(iterate), strict=True)]

    def offsets(self, iterate: Iterate) -> dict[str, Tensor] | None:
        """What every model reads less what it is to read, as far as its tolerance asks for it: :func:`offsets_of`.

        None if one of which something is asked does not say so differentiably.
        """
        if iterate.active.distortions:
            return None
        result = {}
        for name, model in self.models.items():
            (read,) = iterate.readings[name]
            if read is None or name not in self.tolerances:
                return None
            if isinstance(read, FaceBatch):
                wanted = self._tables[name].select(iterate.active.number)
            else:
                wanted, read = _paired([self.wanted[name][i] for i in iterate.numbers], read)
            result[name] = offsets_of(wanted, read, model.task, self.tolerances[name])
        followed = [offset.requires_grad for name, offset in result.items() if self._is_asked(name)]
        return result if followed and all(followed) else None

    def _is_asked(self, name: str) -> bool:
        """Whether a model's tolerance is about numbers that steps can follow."""
        return bool(_followed(self.tolerances[name], self.models[name].task))

    def finish(self, images: Tensor, distortions: Sequence[Distortion]) -> None:
        """Say of the frames that are not within tolerance how far off they are.

        Args:
            images: ``(B, 3, H, W)`` all frames, as they are returned.
            distortions: of all frames.
        """
        numbers = [i for i, within in enumerate(self.within.tolist()) if not within]
        if numbers:
            at = torch.tensor(numbers, device=images.device)
            self.examine(numbers, images[at], [distortion.select(at) for distortion in distortions])

    def excess(self) -> Tensor:
        """How far off frames are in units of the tolerances, ``(B,)``: the worst model."""
        return torch.stack([one.excess(self.errors[name]) for name, one in self.tolerances.items()]).amax(dim=0)

    @torch.no_grad()
    def _likely(self, iterate: Iterate) -> list[bool]:
        """Which frames seem to be within tolerance, by what models read in their forward pass.

        Whoever reads by the faces that detectors find (landmarks, gaze) is asked where those are within tolerance. A
        detector that does not read in its forward pass is believed every few steps: :meth:`examine` then asks it.
        """
        readings = iterate.readings
        detectors = {name for name, model in self.models.items() if model.task == "boxes"}
        heard = detectors or self.models.keys()
        if iterate.step % _EVERY and any(read is None for name in heard for read in readings[name]):
            return [False] * len(iterate.numbers)
        within = [
            self.tolerances[name].met_by(self._error(name, iterate, read))
            for name in self.tolerances
            for read in readings[name]
            if read is not None
        ]
        # The one wait of a step.
        likely = torch.stack(within).all(dim=0).tolist() if within else [True] * len(iterate.numbers)
        others = [name for name in self.tolerances if name not in detectors]
        rows = [k for k, seems in enumerate(likely) if seems]
        said = [read[0] for name in detectors if (read := readings[name])[0] is not None]
        # Seen through distortions they are read when the frame is examined.
        if others and rows and said and len(said) == len(detectors) and not iterate.active.distortions:
            at = torch.tensor(rows, device=iterate.images.device)
            numbers, images = [iterate.numbers[k] for k in rows], iterate.frames(at)
            told = self._told(numbers)
            known = united([_frames(read, at) for read in said])
            for name, model in sorted(told.items(), key=lambda item: item[1].task == "gaze"):
                if name not in detectors:
                    known = observe(images, [model], known)
                    if name in self.tolerances:
                        error = ReadingError.between([self.wanted[name][i] for i in numbers], known, model.task)
                        for k, sure in zip(rows, self.tolerances[name].met_by(error).tolist(), strict=True):
                            likely[k] &= sure
        return likely

    def examine(self, numbers: Sequence[int], images: Tensor, distortions: Sequence[Distortion]) -> list[bool]:
        """Read frames by ``predict``, as they would be saved, and note what is off.

        Args:
            numbers: K frames of the batch.
            images: ``(K, 3, H, W)`` on the uint8 grid.
            distortions: of these frames; each must leave them within tolerance.

        Returns:
            Which are within tolerance.
        """
        told, errors = self._told(numbers), dict[str, ReadingError]()
        wanted = {name: [self.wanted[name][i] for i in numbers] for name in told}
        given = None
        if not any(model.task == "boxes" for model in told.values()):
            # Nobody authorised looks for faces, so the places are known from elsewhere.
            given = next(iter(wanted.values()))
        with torch.no_grad():
            for seen in [distortion(images) for distortion in distortions] or [images]:
                for name, read in observe_each(seen, told, given).items():
                    error = ReadingError.between(wanted[name], read, told[name].task)
                    errors[name] = errors[name].worst(error) if name in errors else error
        within = torch.stack([one.met_by(errors[name]) for name, one in self.tolerances.items()]).all(dim=0)
        at = torch.tensor(numbers, device=images.device)
        self.within[at] = within
        for name, error in errors.items():
            self.errors[name].put(at, error)
        return [bool(sure) for sure in within.tolist()]

    def _told(self, numbers: Sequence[int]) -> dict[str, TargetModel[Any]]:
        """The models for those frames of the batch."""
        if self.numbers is None:
            return dict(self.models)
        in_clip = [self.numbers[i] for i in numbers]
        return {name: model.at(in_clip) for name, model in self.models.items()}

    def _error(self, name: str, iterate: Iterate, read: Reading) -> ReadingError:
        """How far off a model is in its forward pass."""
        task = self.models[name].task
        if isinstance(read, FaceBatch):
            return ReadingError.of(self._tables[name].select(iterate.active.number), read, task)
        return ReadingError.between([self.wanted[name][i] for i in iterate.numbers], read, task)


def offsets_of(wanted: FaceBatch, read: FaceBatch, task: str, tolerance: Tolerance) -> Tensor:
    """What is read less what is to be read, face by face: ``(B, N, R)``, differentiable in what is read.

    Args:
        wanted: what is to be read.
        read: what is read in its places.
        task: as for :meth:`ReadingError.between`.
        tolerance: edges are among the numbers if it limits the overlap, points if it limits NME, gaze likewise. A step
            that brings what nobody asked for as well has less freedom for what is.

    Returns:
        A detector's edges and points in hundredths of the face's size (sqrt of the box's area); directions of gaze in
        degrees. 0 for what is not wanted of a face, NaN for what is and is not read. One 0 if there is no number.
    """
    corners = wanted.boxes.view(*wanted.boxes.shape[:2], 2, 2)
    size = (corners[:, :, 1] - corners[:, :, 0]).prod(dim=2).sqrt()[:, :, None, None] / 100
    parts: list[tuple[Tensor, Tensor, Tensor | float]] = []
    asked = _followed(tolerance, task)
    if "edges" in asked:
        parts.append((corners, read.boxes.view(corners.shape), size))
    if "points" in asked and wanted.landmarks is not None:
        parts.append((*_points_of_both(wanted.landmarks, read.landmarks), size))
    if "gaze" in asked and wanted.gaze is not None and read.gaze is not None:
        parts.append((wanted.gaze, read.gaze, torch.pi / 180))
    columns = []
    for goal, now, unit in parts:
        off = (now - goal) / unit
        columns.append(torch.where(goal.isfinite(), off, torch.zeros_like(off)).flatten(2))
    return torch.cat(columns, dim=2) if columns else wanted.scores.new_zeros(*wanted.scores.shape, 1)


def _followed(tolerance: Tolerance, task: str) -> set[str]:
    """Which numbers of a model a tolerance limits that steps can follow."""
    limits = {
        "boxes": {"edges": tolerance.iou, "points": tolerance.nme},
        "landmarks": {"points": tolerance.nme},
        "gaze": {"gaze": tolerance.gaze},
    }
    return {name for name, limit in limits[task].items() if limit is not None}


def _frames(read: Reading, rows: Tensor) -> list[Faces]:
    """The faces read on some of the frames."""
    return read.select(rows).frames() if isinstance(read, FaceBatch) else [read[k] for k in rows.tolist()]


def _paired(wanted: Sequence[Faces], read: Sequence[Faces]) -> tuple[FaceBatch, FaceBatch]:
    """Tables of what is wanted, and of what is read in its places: of pairs that overlap, those that overlap most."""
    goal, found = FaceBatch.of(wanted), FaceBatch.of(read)
    # One wait for all frames, rather than one for each.
    overlap = iou_of_pairs(in_double(goal.boxes[:, :, None]), in_double(found.boxes.detach()[:, None])).cpu()
    partner = torch.full(goal.scores.shape, found.boxes.shape[1])
    for i, gain in enumerate(overlap):
        rows, columns = assign(gain, gain >= _FOUND)
        partner[i, rows] = columns
    # One place more, which is nobody's.
    partner, frame = partner.to(goal.boxes.device), torch.arange(len(goal), device=goal.boxes.device)[:, None]

    def chosen(values: Tensor) -> Tensor:
        nobody = values.new_full((len(values), 1, *values.shape[2:]), torch.nan)
        return torch.cat([values, nobody], dim=1)[frame, partner]

    return goal, found.map(chosen)


def _points_of_both(wanted: Tensor, read: Tensor | None) -> tuple[Tensor, Tensor]:
    """As many points on either side; NaN where none are read."""
    return comparable_points(wanted, torch.full_like(wanted, torch.nan) if read is None else read)


def _points_off(wanted: Tensor, read: Tensor | None, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance of points ``(B, N, P, 2)`` in face sizes, infinite where none are read; and where it is asked."""
    wanted, read = _points_of_both(wanted, read)
    asked = wanted.isfinite().all(dim=3).all(dim=2)
    off = nme_box(read.flatten(0, 1), wanted.flatten(0, 1), boxes.flatten(0, 1)).view(asked.shape)
    return off.nan_to_num(nan=torch.inf), asked


def _gaze_off(wanted: Tensor, read: Tensor | None) -> tuple[Tensor, Tensor]:
    """Angle between directions ``(B, N, 3)`` in degrees, 180 where none is read; and where it is asked."""
    if read is None:
        read = torch.full_like(wanted, torch.nan)
    off = gaze_angle(read.flatten(0, 1), wanted.flatten(0, 1)).view(wanted.shape[:2])
    return off.nan_to_num(nan=180.0), wanted.isfinite().all(dim=2)


def _worst(off: Tensor, asked: Tensor) -> Tensor:
    """The greatest of each row where it is asked, 0 where nothing is: ``(B,)``."""
    most = off.where(asked, torch.full_like(off, -torch.inf)).amax(dim=1)
    return most.where(most > -torch.inf, torch.zeros_like(most))


def _layouts(frames: Sequence[Faces]) -> set[int]:
    """How many points faces have."""
    return {faces.landmarks.shape[1] for faces in frames if faces.landmarks is not None and len(faces)}
