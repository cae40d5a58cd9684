"""``write_report``: the page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Template

from deidlib.evaluation import Evaluation, EvaluationError
from deidlib.evaluation.goodness import LOWER, UPPER
from deidlib.evaluation.movement import LABELS
from deidlib.evaluation.pairs import pairs
from deidlib.evaluation.reading import ReaderResult, Role
from deidlib.evaluation.report.curves import Line, chart
from deidlib.evaluation.report.movements import followers, movements
from deidlib.evaluation.report.palette import DARK, LIGHT
from deidlib.evaluation.report.pictures import Panel, choose, encoded, panels
from deidlib.evaluation.result import spread
from deidlib.records.files import atomic_write
from deidlib.records.templates import templates


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    *,
    show_originals: bool = False,
    hidden: str | Path | None = None,
    worst: int = 6,
    note: str | None = None,
) -> None:
    """Write an evaluation as one HTML file that needs nothing else: no network, no script, no other file.

    It can be read on the screen, light or dark, and on paper. By default it holds pixels of the *protected* frames
    only; whoever gets the report learns no more than from the protected file and the numbers.

    Args:
        path: the file; an existing one is replaced when the new one is complete.
        evaluation: what to show.
        show_originals: embed the originals of the frames shown, faces included.
        hidden: the file hidden but not perturbed, if there is one: then the perturbation itself is shown.
        worst: how many frames are shown at most.
        note: what is known of how the file was hidden, in a sentence.

    Raises:
        EvaluationError: the file cannot be written, or ``hidden`` does not go with the original.
        ValueError: worst is negative.
    """
    if worst < 0:
        raise ValueError(f"worst must be >= 0 frames, got {worst}.")
    masked = None if hidden is None else pairs(evaluation.original, Path(hidden)).pairs
    choices = choose(evaluation, worst)
    rows = panels(evaluation, choices, show_originals=show_originals, hidden=masked)
    frames = [
        _Shown(_frame_name(evaluation, choice.number), choice.why, row)
        for choice, row in zip(choices, rows, strict=True)
    ]
    identity = evaluation.identity
    text = _template().render(
        evaluation=evaluation,
        beside=[] if identity is None else [value for frame in identity.beside for value in frame],
        charts=_charts(evaluation),
        followers=followers(evaluation),
        movements=movements(evaluation),
        attacked=[
            (attack, None if attack.control and not show_originals else encoded(attack.picture[0]))
            for attack in evaluation.attacks
        ],
        frames=frames,
        show_originals=show_originals,
        upper=UPPER,
        lower=LOWER,
        exact=hidden is not None,
        note=note,
        light=LIGHT,
        dark=DARK,
    )
    _write(Path(path), text)


class _Shown(NamedTuple):
    """A frame on the page."""

    name: str
    why: str
    panels: Sequence[Panel]


@cache
def _template() -> Template:
    environment = templates("deidlib.evaluation.report")
    environment.filters |= {"number": _number, "percent": _percent, "plain": _plain}
    environment.globals |= {"spread": spread, "labels": LABELS}
    environment.tests["nan"] = math.isnan
    return environment.get_template("page.html.j2")


_READ_BY = {
    "iou": ("boxes",),
    "nme_box": ("boxes", "landmarks"),
    "head_pose_deg": ("boxes", "landmarks"),
    "gaze_deg": ("gaze",),
}


def _charts(evaluation: Evaluation) -> list[str]:
    """The curves, as HTML; of a single frame there are none."""
    if len(evaluation) == 1:
        return []
    colours = {name: k for k, name in enumerate(evaluation.readers)}

    def lines(measure: str, readers: Sequence[ReaderResult]) -> list[Line]:
        # A reader of gaze repeats the landmarks that it was given; its line would only hide theirs.
        own = [reader for reader in readers if reader.task in _READ_BY[measure]] or readers
        made = [
            Line(
                reader.name,
                [frame.mean(measure) for frame in reader.frames],
                colours[reader.name],
                reader.role == "unauthorised",
            )
            for reader in own
        ]
        return [line for line in made if any(value is not None for value in line.values)]

    charts = []
    everybody = lines("iou", list(evaluation.readers.values()))
    if everybody:
        charts.append(chart("Overlap of boxes", "IoU, 1 is best, 0 a miss", everybody, top=1))
    for measure, title, unit in (
        ("nme_box", "Landmarks off", "share of the face's size"),
        ("gaze_deg", "Gaze off", "degrees"),
        ("head_pose_deg", "Head pose off", "degrees"),
    ):
        groups: tuple[tuple[Role, str], ...] = (("authorised", "authorised"), ("unauthorised", "not authorised"))
        for role, words in groups:
            some = lines(measure, evaluation.of(role))
            if some:
                charts.append(chart(f"{title}, {words}", unit, some))
    if evaluation.identity is not None and evaluation.identity.faces:
        alike = [max(frame) if frame else None for frame in evaluation.identity.cosines]
        title = "Likeness to the original of the same frame"
        line = Line("most alike face of the frame", alike, len(colours))
        mark = evaluation.identity.threshold
        unit = "cosine" if mark is None else "cosine; across: the threshold"
        charts.append(chart(title, unit, [line], mark=mark, top=1))
    return charts


def _frame_name(evaluation: Evaluation, number: int) -> str:
    pair, inside = evaluation.locate(number)
    return f"{pair.name}, frame {inside}" if len(evaluation.pairs) > 1 else f"Frame {inside}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _percent(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return _number(value)
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    return f"{100 * value:.2f} %" if value < 0.1 else f"{100 * value:.1f} %"


def _write(path: Path, text: str) -> None:
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror}). Choose another place.") from error
