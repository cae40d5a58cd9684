"""``Evaluation``: everything measured on a protected file, and its JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deidlib.evaluation.attacks.clip import Attempt
from deidlib.evaluation.identity import IdentityResult
from deidlib.evaluation.movement import MovementResult
from deidlib.evaluation.pairs import EvaluationError, Pair
from deidlib.evaluation.quality import QualityResult
from deidlib.evaluation.reading import MEASURES, FrameComparison, ReaderResult, Role
from deidlib.media.tree import PassedOver
from deidlib.metrics import Agreement, Fidelity, FollowedFace
from deidlib.records.detections import Detections
from deidlib.records.files import write_json
from deidlib.records.html_table import html_table
from deidlib.visualize import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "deidlib-evaluation/1"
"""What the JSON says that it is."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything measured on a protected file or folder; see :func:`~deidlib.evaluation.evaluate`.

    Args:
        original: the original.
        protected: the protected file.
        sha256: hash of each, under those two words.
        pairs: the clips that were compared; their frames follow each other in everything below.
        readers: by name, authorised first.
        identity: None if no embedder was given.
        quality: None if it was left out.
        settings: what the numbers depend on.
        versions: of everything that computed them.
        attacks: what was tried on each clip as a whole.
        passed_over: what lies beside the originals of a folder, and is in none of the numbers.
    """

    original: Path
    protected: Path
    sha256: Mapping[str, str]
    pairs: Sequence[Pair]
    readers: Mapping[str, ReaderResult]
    identity: IdentityResult | None
    quality: QualityResult | None
    settings: Mapping[str, Any]
    versions: Mapping[str, str | None]
    attacks: Sequence[Attempt] = ()
    passed_over: Sequence[PassedOver] = ()

    def __len__(self) -> int:
        return sum(pair.original.frames for pair in self.pairs)

    def __repr__(self) -> str:
        said = [f"{name} {reader.role} {reader.found}/{reader.faces}" for name, reader in self.readers.items()]
        return f"Evaluation({self.protected.name}, {self._length()}; {', '.join(said)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: a row per reader; what it reads off by, in the mean over the faces."""
        head = ("reader", "role", "reads", "faces found", "IoU", "landmarks (% of the face)", "gaze (degrees)")

        def mean(reader: ReaderResult, measure: str, factor: float = 1.0) -> float | None:
            values = [value for value in reader.all(measure) if math.isfinite(value)]
            return factor * sum(values) / len(values) if values else None

        rows: list[tuple[object, ...]] = [
            (name, reader.role, reader.task, f"{reader.found} of {reader.faces}", mean(reader, "iou"),
             mean(reader, "nme_box", 100), mean(reader, "gaze_deg"))
            for name, reader in self.readers.items()
        ]  # fmt: skip
        caption = f"{self.protected.name}, {self._length()}"
        if self.identity is not None and self.identity.accepted is not None:
            caption += f"; {self.identity.accepted:.0%} of the faces taken for the person"
        return html_table(rows, head=head, caption=caption)

    def _length(self) -> str:
        return f"{len(self)} frame{'s' * (len(self) != 1)}"

    def plot(self) -> Figure:
        """Who still finds the faces: the share found, a bar per reader.

        Returns:
            A figure of matplotlib (extra ``[notebook]``), which a notebook shows; ``.savefig("readers.png")`` keeps it.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        readers = list(self.readers.values())[::-1]
        drawing = figure(6.4, 1.2 + 0.35 * len(readers))
        axes = drawing.add_subplot()
        shares = [100 * reader.found / reader.faces if reader.faces else 0.0 for reader in readers]
        colours = [f"C{int(reader.role != 'authorised')}" for reader in readers]
        bars = axes.barh([f"{reader.name} ({reader.role})" for reader in readers], shares, color=colours)
        axes.bar_label(bars, [f"{reader.found} of {reader.faces}" for reader in readers], padding=4)
        axes.set(title="Who still finds the faces", xlabel="faces found (% of the original's)", xlim=(0, 118))
        axes.set_xticks(range(0, 101, 25))
        return drawing

    def of(self, role: Role) -> list[ReaderResult]:
        """The authorised or the unauthorised readers."""
        return [reader for reader in self.readers.values() if reader.role == role]

    def locate(self, number: int) -> tuple[Pair, int]:
        """The clip that a frame belongs to, and its number there; all frames are counted through, from 0.

        Raises:
            IndexError: there is no such frame.
        """
        start = 0
        for pair in self.pairs:
            if start <= number < start + pair.original.frames:
                return pair, number - start
            start += pair.original.frames
        raise IndexError(f"there are {start} frames, got number {number}.")

    def detections(self, name: str) -> dict[str, Detections]:
        """What a reader has read, for :func:`deidlib.records.detections.write_detections`.

        Args:
            name: of the reader.

        Returns:
            Under ``"original"`` and ``"protected"`` the frames of all clips in their order.
        """
        reader = self.readers[name]
        sizes = {pair.original.size for pair in self.pairs}
        # Time stamps of several clips would begin anew in the middle.
        clips = {"original": self.pairs[0].original, "protected": self.pairs[0].protected}
        timed = len(self.pairs) == 1
        return {
            side: Detections(
                frames,
                size=next(iter(sizes)) if len(sizes) == 1 else None,
                sha256=self.sha256[side],
                readers=(name,),
                pts=clips[side].pts if timed else None,
                time_base=clips[side].time_base if timed else None,
            )
            for side, frames in (("original", reader.originals), ("protected", reader.protected))
        }

    def to_json(self) -> dict[str, Any]:
        """As JSON of the format ``deidlib-evaluation/1``, described in ``docs/evaluate.md``.

        A value that is not defined is null, and the object that holds it says why under ``"undefined"``. There is no
        NaN and no infinity. Neither name nor hash of the original is in it: numbers may be shared, and either would
        confirm whoever guesses which recording it was.
        """
        reasons = Counter(one.reason for one in self.passed_over)
        data: dict[str, Any] = {
            "format": FORMAT,
            "protected": {"name": self.protected.name, "sha256": self.sha256["protected"]},
            "frames": len(self),
            "clips": [
                {"name": pair.name, "frames": pair.original.frames, "size": list(pair.original.size)}
                for pair in self.pairs
            ],
            "passed_over": [{"reason": reason, "files": count} for reason, count in sorted(reasons.items())],
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "readers": {name: _reader(reader) for name, reader in self.readers.items()},
        }
        parts = {
            "identity": (self.identity and _identity(self.identity), "no embedder was given"),
            "quality": (self.quality and _quality(self.quality), "it was left out"),
            "attacks": (
                [_attack(attack) for attack in self.attacks] or None,
                "no attack was asked for, or shows a face",
            ),
        }
        return data | _explained(parts)


def write_evaluation(path: str | Path, evaluation: Evaluation) -> None:
    """Write :meth:`Evaluation.to_json`; the file appears complete or not at all.

    Raises:
        EvaluationError: the file cannot be written.
    """
    try:
        write_json(Path(path), evaluation.to_json())
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror}). Choose another place.") from error


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, least and greatest value, and the 5th, 50th and 95th percentile; None without values.

    A percentile that falls between two values is the one farther out, as numpy's quantiles ``"lower"`` for the 5th and
    ``"higher"`` for the 95th: what more than a twentieth of the faces shows, a miss above all, is never rounded away.
    The median is the mean of the two values in the middle.

    Example:
        >>> spread([0.0] * 19 + [1.0])["p95"]
        1.0
        >>> spread([1.0, 2.0, 6.0])["median"]
        2.0
    """
    if not values:
        return None
    table = torch.tensor(values, dtype=torch.float64)
    # torch.quantile refuses more than 2**24 values, and interpolating has no meaning for misses: values that occur.
    ordered, last = table.sort().values, len(values) - 1
    # In whole numbers, lest a product be rounded beyond the value that it names.
    low, high = ordered[5 * last // 100].item(), ordered[-(-95 * last // 100)].item()
    middle = ordered[[last // 2, (last + 1) // 2]]
    return {
        "mean": table.mean().item(),
        "min": ordered[0].item(),
        "p05": low,
        "median": middle.mean().item(),
        "p95": high,
        "max": ordered[-1].item(),
    }


_LACKS = {
    "landmarks_px": "the original reading has no landmarks",
    "nme_interocular": "the original reading has no landmarks",
    "nme_box": "the original reading has no landmarks",
    "gaze_deg": "the original reading has no gaze",
    "head_pose_deg": "the original reading has no landmarks",
}
_NO_FACE = "the originals show no face"


def _reader(reader: ReaderResult) -> dict[str, Any]:
    faces = reader.faces
    measures = {name: (_finite_spread(reader.all(name)), _LACKS.get(name) if faces else None) for name in MEASURES}
    summary = {
        "faces": faces,
        "found": reader.found,
        "missed": faces - reader.found,
        "extra": reader.extra,
    } | _explained({
        "coverage": (reader.found / faces if faces else None, _NO_FACE),
        **{name: (value, why or _NO_FACE) for name, (value, why) in measures.items()},
    })  # fmt: skip
    return {
        "role": reader.role,
        "reads": reader.task,
        **reader.about,
        "summary": summary,
        "diffscore": _score(reader.score, faces),
        "diffscore_normalised": _score(reader.normalised, faces),
        "frames": [_frame(frame) for frame in reader.frames],
        "movement": _movement(reader.movement),
    }


def _movement(movement: MovementResult) -> dict[str, Any]:
    faces = movement.faces
    return {
        "faces": len(faces),
        **{count: sum(getattr(face, count) for face in faces) for count in _COUNTS},
        "signals": _signals(movement.all),
        "followed": [
            {"clip": clip} | _followed(face) | {"signals": _signals(movement.of(face))}
            for clip, inside in enumerate(movement.clips)
            for face in inside
            if len(face) > 1
        ],
    }


_COUNTS = ("compared", "missed", "unread")


def _followed(face: FollowedFace) -> dict[str, Any]:
    return {"first": face.first, "frames": len(face)} | {count: getattr(face, count) for count in _COUNTS}


def _signals(fidelities: Mapping[str, Fidelity]) -> dict[str, Any]:
    return {
        name: _agreement(fidelity.values) | {"changes": _agreement(fidelity.changes)}
        for name, fidelity in fidelities.items()
    }


def _agreement(found: Agreement) -> dict[str, Any]:
    unread = "it is not read on both files" if not found.compared else None
    few = unread or ("fewer than three frames are compared" if found.compared < 3 else None)
    still = few or ("the original does not move" if math.isnan(found.correlation) else None)
    return {"compared": found.compared} | _explained({
        "correlation": (found.correlation, still or ""),
        "rmse": (found.rmse, unread or ""),
        "lag": (found.lag, still or "nothing correlates"),
    })  # fmt: skip


def _score(score: Mapping[str, float], faces: int) -> dict[str, Any]:
    why = {"landmarks": _LACKS["landmarks_px"], "gaze": _LACKS["gaze_deg"]} if faces else {}
    wanted = ("score", "box", "landmarks", "gaze", "coverage", "spurious")
    return _explained({name: (score[name], why.get(name, _NO_FACE)) for name in wanted})


def _frame(frame: FrameComparison) -> dict[str, Any]:
    why = _LACKS if frame.faces else {}
    values: dict[str, tuple[Any, str]] = {
        name: (None if column is None else [_finite(value) for value in column], why.get(name, _NO_FACE))
        for name, column in frame.values.items()
    }
    values["diffscore"] = (frame.score, _NO_FACE)
    values["diffscore_normalised"] = (frame.normalised, _NO_FACE)
    return {"faces": frame.faces, "found": frame.found, "extra": frame.extra} | _explained(values)


def _identity(identity: IdentityResult) -> dict[str, Any]:
    return {
        "faces": identity.faces,
        "unaligned": identity.unaligned,
        "impostors": identity.impostors,
        "beside": sum(map(len, identity.beside)),
        "reidentification_every": identity.every,
        "threshold_from": identity.threshold_from,
    } | _explained({
        "cosine": (_finite_spread([value for frame in identity.cosines for value in frame]), _NO_FACE),
        "cosine_beside": (
            _finite_spread([value for frame in identity.beside for value in frame]),
            "unauthorised detectors find no face that the authorised ones do not find",
        ),
        "threshold": (identity.threshold, identity.threshold_from),
        "accepted": (
            identity.accepted,
            identity.threshold_from if identity.threshold is None else "no face could be compared",
        ),
        "attackers": (
            {
                name: _explained({key: (value, "there are no such pairs") for key, value in values.items()})
                for name, values in identity.attackers.items()
            }
            or None,
            identity.why_no_attackers or "",
        ),
    }) | {"frames": [
        {"cosine": list(sure), "cosine_beside": list(beside)}
        for sure, beside in zip(identity.cosines, identity.beside, strict=True)
    ]}  # fmt: skip


def _attack(attack: Attempt) -> dict[str, Any]:
    ranking = attack.ranking
    return {
        "attack": attack.attack,
        "read_as": attack.read_as,
        "control": attack.control,
        "clip": attack.clip,
        "frames": attack.frames,
        "place": ranking.place,
        "place_of_a_grey_picture": ranking.blank,
        "of": ranking.of,
        "cosine": ranking.cosine,
    } | _explained({"cosine_other": (ranking.other, "no strangers were given")})


def _quality(quality: QualityResult) -> dict[str, Any]:
    names = list(quality.frames)
    rows = zip(*(quality.frames[name] for name in names), strict=True)

    def why(name: str, value: float | None) -> str:
        if value is not None and math.isinf(value):
            return "infinite: the frames are equal there"
        if name.startswith("flicker"):
            return "there is no frame before it, or no pixels count"
        return "no pixels count"

    means = {name: quality.mean(name) for name in names}
    return {
        "summary": _explained({name: (value, why(name, value)) for name, value in means.items()}),
        "frames": [
            {"face_area": area} | _explained({name: (x, why(name, x)) for name, x in zip(names, row, strict=True)})
            for row, area in zip(rows, quality.covered, strict=True)
        ],
    }


def _explained(values: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """Values, null where they are not defined, and the reasons for it under ``"undefined"``."""
    result = {name: _finite(value) if isinstance(value, float) else value for name, (value, _) in values.items()}
    reasons = {name: why for name, (_, why) in values.items() if result[name] is None}
    return result | ({"undefined": reasons} if reasons else {})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite_spread(values: Sequence[float]) -> dict[str, float | None] | None:
    known = spread(values)
    return None if known is None else {name: _finite(value) for name, value in known.items()}
