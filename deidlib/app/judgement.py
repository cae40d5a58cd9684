"""``Judgement``: what an evaluation means for somebody who wants to share the file, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from deidlib.app.protected import Protected
from deidlib.evaluation import Evaluation
from deidlib.evaluation.reading import ReaderResult, ReadingSettings
from deidlib.faces import Faces
from deidlib.geometry.matching import same_face
from deidlib.protect.sidecar import Sidecar

Kind = Literal["good", "note", "bad"]

# Below it the authorised models' reading serves no more: as the check of the written file has it.
_WELL = 0.9
# Pairs of different people, for one false acceptance in a thousand to mean something.
_PAIRS = 1000
# The likeness of a face that nothing was done to, as recognisers see it through a file.
_SAME = 0.9


@dataclass(frozen=True)
class Judgement:
    """One thing that was looked at.

    Args:
        kind: whether it is as it should be; ``note``: it is to be known.
        text: what was found.

    Example:
        >>> str(Judgement("bad", "a face was left as it is"))
        'look again: a face was left as it is'
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.word}: {self.text}"

    @property
    def word(self) -> str:
        """The kind for those who see no colour."""
        return {"good": "good", "note": "note", "bad": "look again"}[self.kind]


def judged(protected: Protected, evaluation: Evaluation) -> list[Judgement]:
    """What was found, what is bad first.

    Args:
        protected: the file.
        evaluation: of it, as it lies there.
    """
    found = [
        *_of_hiding(protected),
        *(_of_authorised(reader, protected.given) for reader in evaluation.of("authorised")),
        *_of_overlooked(protected, evaluation),
        *_of_strangers(protected, evaluation),
        *_of_identity(evaluation),
    ]
    return sorted(found, key=lambda one: ("bad", "note", "good").index(one.kind))


def headline(judgements: list[Judgement]) -> Judgement:
    """All of it in a sentence.

    Example:
        >>> headline([Judgement("good", "nobody is recognised")]).text
        'nothing speaks against it, as far as was measured here'
    """
    bad = sum(one.kind == "bad" for one in judgements)
    if bad:
        return Judgement("bad", f"{bad} {'thing speaks' if bad == 1 else 'things speak'} against sharing this file")
    return Judgement("good", "nothing speaks against it, as far as was measured here")


def _of_hiding(protected: Protected) -> Iterator[Judgement]:
    summary = protected.summary
    if protected.unchecked:
        yield Judgement(
            "bad", f"{_faces(protected.unchecked)} left as in the original, since you unchecked {_them(protected)}"
        )
    if summary.kept:
        yield Judgement("bad", f"{_frames(summary.kept)} left as in the original, with any face that was missed")
    if summary.whole_frame:
        yield Judgement("note", f"{_frames(summary.whole_frame)} hidden altogether, as no face was known there")
    if reasons := {name: count for name, count in summary.swaps.items() if name != "swapped"}:
        why = "; ".join(f"{count} since {name}" for name, count in reasons.items())
        yield Judgement("note", f"places where no face could be swapped are plain grey: {why}")
    if summary.beyond:
        yield Judgement("note", f"{_frames(summary.beyond)} not within the tolerance asked for")
    described = Sidecar.read(protected.path)
    if described is not None and described.proved:
        yield Judgement(
            "good",
            "by construction, no pixel of a hidden face has gone into the file; what was read of it has: box, points "
            "or gaze, as far as somebody may read them",
        )
    elif described is not None and described.why_not is not None:
        # Over a clip, what each frame shows of a face adds up.
        kind: Kind = "note" if summary.frames == 1 else "bad"
        yield Judgement(kind, f"it is not proved that nothing of the hidden faces is in the file: {described.why_not}")


@dataclass(frozen=True)
class _Reading:
    """How a reader reads the faces that are hidden; those that the user left are plain to see, and count for nothing.

    Args:
        name: the reader's.
        faces: that it reads on the original, and that are hidden.
        found: of them, in the protected file.
        values: by measure, one of each face; nothing where it reads no such thing.
    """

    name: str
    faces: int
    found: int
    values: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, reader: ReaderResult, hidden: Sequence[Faces]) -> _Reading:
        values: dict[str, list[float]] = {"iou": [], "nme_box": [], "gaze_deg": []}
        for seen, known, frame in zip(reader.originals, hidden, reader.frames, strict=True):
            counts = same_face(seen.boxes.cpu(), known.boxes).tolist()
            for measure, all_of_them in values.items():
                row = frame.values[measure]
                all_of_them += [] if row is None else [value for value, mine in zip(row, counts, strict=True) if mine]
        found = sum(value > ReadingSettings().min_iou for value in values["iou"])
        if reader.task != "boxes":
            # Its boxes are those of others.
            found = len(values["iou"]) if reader.found == reader.faces else found
        return cls(reader.name, len(values["iou"]), found, values)

    def mean(self, measure: str) -> float | None:
        """Of a measure; None without any."""
        values = self.values[measure]
        return sum(values) / len(values) if values else None


def _of_authorised(reader: ReaderResult, hidden: Sequence[Faces]) -> Judgement:
    read = _Reading.of(reader, hidden)
    overlap, points, gaze = (read.mean(measure) for measure in ("iou", "nme_box", "gaze_deg"))
    if overlap is None:
        return Judgement("note", f"{read.name} may read, and finds none of the hidden faces in the original either")
    told = [f"{read.name} may read, and finds {read.found} of {_faces(read.faces)}"]
    if reader.task == "boxes":
        told.append(f"boxes overlap by {overlap:.0%}")
    if points is not None:
        told.append(f"landmarks are off by {points:.1%} of the face's size")
    if gaze is not None:
        told.append(f"gaze by {gaze:.1f} degrees")
    well = read.found == read.faces and (reader.task != "boxes" or overlap >= _WELL)
    if not well:
        told.append("which is not well; more steps or a larger change may help (under More)")
    return Judgement("good" if well else "bad", ", ".join(told))


def _of_overlooked(protected: Protected, evaluation: Evaluation) -> Iterator[Judgement]:
    """What detectors that had no say in it take for faces on the original, and is neither hidden nor unchecked."""
    for reader in evaluation.of("unauthorised"):
        frames = [
            number
            for number, (seen, hidden, left) in enumerate(
                zip(reader.originals, protected.given, protected.left, strict=True)
            )
            if reader.task == "boxes"
            and bool((~same_face(seen.boxes.cpu(), torch.cat([hidden.boxes, left.boxes]))).any())
        ]
        if frames:
            where = "" if len(evaluation) == 1 else f" in {_frames(len(frames))}, first in frame {frames[0]}"
            yield Judgement(
                "bad",
                f"{reader.name} takes a place for a face that is not marked{where}: look at the original once more",
            )


def _of_strangers(protected: Protected, evaluation: Evaluation) -> Iterator[Judgement]:
    strangers = [_Reading.of(reader, protected.given) for reader in evaluation.of("unauthorised")]
    if not strangers:
        yield Judgement("note", "what strangers find was not measured: none is here to be asked")
    blind = [reader.name for reader in strangers if reader.faces and not reader.found]
    if blind:
        yield Judgement("good", f"{', '.join(blind)} may not read, and find{'s' * (len(blind) == 1)} no hidden face")
    seeing = [f"{reader.name} {reader.found} of {reader.faces}" for reader in strangers if reader.found]
    if seeing:
        # With a key, that is what the key was to prevent.
        advice = "" if protected.key else "; that there is a face and where, not whose. A key keeps strangers out"
        yield Judgement("note", f"who may not read, and finds hidden faces: {', '.join(seeing)}{advice}")


def _of_identity(evaluation: Evaluation) -> Iterator[Judgement]:
    identity = evaluation.identity
    if identity is None:
        yield Judgement("note", "whether people are recognised was not measured: nobody is here who could tell")
    elif identity.mean is None or identity.greatest is None:
        yield Judgement("note", "whether people are recognised could not be measured: no face could be compared")
    else:
        alike = (
            f"likeness to the original face {identity.greatest:.2f}{' at most' * (identity.faces > 1)} (1: the same)"
        )
        if identity.accepted is None or identity.impostors < _PAIRS:
            # Pixels that stay as they are give 1.
            kind: Kind = "bad" if identity.greatest > _SAME else "note"
            yield Judgement(kind, f"{alike}; from where on it counts as recognised cannot be measured on this file")
        else:
            kind = "bad" if identity.accepted else "good"
            said = f"{identity.accepted:.0%} of {_faces(identity.faces)} recognised"
            yield Judgement(kind, f"{said}; {alike}, from {identity.threshold or 1:.2f} on it counts as recognised")


def _them(protected: Protected) -> str:
    return "it" if protected.unchecked == 1 else "them"


def _faces(count: int) -> str:
    return f"{count} face{'s' * (count != 1)}"


def _frames(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"
