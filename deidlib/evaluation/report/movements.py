"""What moves, as curves: the original's over the protected file's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from deidlib.evaluation import Evaluation
from deidlib.evaluation.movement import LABELS
from deidlib.evaluation.reading import ReaderResult
from deidlib.evaluation.report.curves import Line, chart
from deidlib.evaluation.report.palette import LIGHT
from deidlib.metrics import FollowedFace

_DRAWN: tuple[tuple[str, str, Callable[[Tensor], Tensor]], ...] = (
    ("centre_px", "Box centre, to the right", lambda signal: signal[:, 0]),
    ("centre_px", "Box centre, downwards", lambda signal: signal[:, 1]),
    *(
        (name, label[0].upper() + label[1:], lambda signal: signal)
        for name, label in LABELS.items()
        if name not in ("centre_px", "points_px")
    ),
)
# The original is grey, whoever reads it.
_GREY = len(LIGHT) - 1


@dataclass(frozen=True)
class Movements:
    """The curves of one reader.

    Args:
        reader: whose.
        face: which face is drawn.
        charts: HTML.
    """

    reader: ReaderResult
    face: str
    charts: Sequence[str]


def movements(evaluation: Evaluation) -> list[Movements]:
    """Of each authorised reader the face that is compared in most frames; without any, of the others."""
    drawn = []
    for number, reader in enumerate(evaluation.readers.values()):
        found = reader.movement.longest
        if found is None or reader not in followers(evaluation):
            continue
        clip, face = found
        where = f" of {evaluation.pairs[clip].name}" if len(evaluation.pairs) > 1 else ""
        words = f"face {reader.movement.clips[clip].index(face) + 1}{where}, {face.compared} frames compared"
        charts = [
            chart(
                f"{title}, {reader.name}",
                "degrees" if name.endswith("_deg") else "pixels",
                [
                    Line("original", _values(face, part(face.original[name])), _GREY),
                    Line("protected", _values(face, part(face.protected[name])), number, dashed=True),
                ],
                bottom=None,
            )
            for name, title, part in _DRAWN
            if name in reader.movement.own
        ]
        drawn.append(Movements(reader, words, charts))
    return drawn


def followers(evaluation: Evaluation) -> list[ReaderResult]:
    """Those whose movements are shown: who is not authorised is to follow nothing."""
    return evaluation.of("authorised") or evaluation.of("unauthorised")


def _values(face: FollowedFace, signal: Tensor) -> list[float | None]:
    before: list[float | None] = [None] * face.first
    return before + [None if math.isnan(value) else value for value in signal.tolist()]
