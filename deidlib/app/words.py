"""What the page says, as HTML: messages, how far the work is, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from deidlib.app.judgement import Judgement, headline
from deidlib.app.progress import Progress
from deidlib.evaluation import Evaluation
from deidlib.evaluation.reading import ReaderResult
from deidlib.evaluation.report.curves import Line, chart
from deidlib.records.templates import templates

Kind = Literal["good", "note", "bad", "plain"]

_STAGES = {
    "protecting": "attack",
    "writing": "the file is written",
    "checking": "the file is read back",
    "repairing": "frames that are read badly are attacked again",
}


def said(kind: Kind, text: str, detail: str = "") -> str:
    """A message.

    Example:
        >>> said("bad", "a <b> file")
        '<p class="said bad" role="alert">a &lt;b&gt; file</p>'
    """
    return str(_macros().said(kind, text, detail))


def going(progress: Progress) -> str:
    """How far an attack is: a bar, the time that is left, and the losses so far."""
    what = _STAGES.get(progress.name, progress.name)
    if progress.name == "protecting" and progress.most:
        frames = progress.at_work
        where = f"frame {frames[0]}" if len(frames) == 1 else f"frames {frames[0]} to {frames[-1]}"
        what = f"step {progress.step} of {progress.most} at {where} of {progress.frames}"
        if progress.frames == 1:
            what = f"step {progress.step} of {progress.most}"
    left = progress.left()
    return str(
        _macros().going(progress.share, what, "" if left is None else f"{in_time(left)} left", curves(progress.curves))
    )


def working(what: str, done: int, all_of_them: int) -> str:
    """How far it is where frames are only read."""
    return str(
        _macros().going(done / max(all_of_them, 1), f"{what}: frame {done} of {all_of_them}" if done else what, "", "")
    )


def curves(losses: Mapping[str, Sequence[float]]) -> str:
    """The loss of each model by step, as a share of what it was at first: losses of different models differ in size."""
    lines = [
        Line(name, [_share(value, values[0]) for value in list(values)], colour)
        for colour, (name, values) in enumerate(losses.items())
        if len(values) > 1
    ]
    if not lines:
        return ""
    return chart("Loss", "share of the first step's", lines, over="step")


def judgements(found: Sequence[Judgement], evaluation: Evaluation) -> str:
    """What came of it, in sentences and in a table."""
    rows = [_Row.of(reader) for reader in evaluation.readers.values()]
    return str(_macros().judgements(headline(list(found)), found, rows))


def in_time(seconds: float) -> str:
    """How long something takes.

    Example:
        >>> in_time(8.4), in_time(200), in_time(7300)
        ('about 8 s', 'about 3 min', 'about 2 h')
    """
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.0f} h"


@dataclass(frozen=True)
class _Row:
    """A reader in the table."""

    name: str
    may: str
    finds: str
    overlap: str
    landmarks: str
    gaze: str

    @classmethod
    def of(cls, reader: ReaderResult) -> _Row:
        boxes = reader.all("iou") if reader.task == "boxes" else []
        return cls(
            reader.name,
            "yes" if reader.role == "authorised" else "no",
            f"{reader.found} of {reader.faces}" + (f", and {reader.extra} more" if reader.extra else ""),
            _mean(boxes, ".2f"),
            _mean(reader.all("nme_box"), ".1%"),
            _mean(reader.all("gaze_deg"), ".1f"),
        )


def _mean(values: Sequence[float], form: str) -> str:
    return format(sum(values) / len(values), form) if values else "–"


def _share(value: float, first: float) -> float | None:
    return value / first if first > 0 and math.isfinite(value) and math.isfinite(first) else None


@cache
def _macros() -> Any:
    return templates("deidlib.app").get_template("words.html.j2").module
