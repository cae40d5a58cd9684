"""``write_table``: a row for every reader, as CSV for a spreadsheet or LaTeX for a paper."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from deidlib.evaluation.goodness import arrow
from deidlib.evaluation.pairs import EvaluationError
from deidlib.evaluation.reading import ReaderResult
from deidlib.evaluation.result import Evaluation, spread
from deidlib.records.files import atomic_write

SUFFIXES = (".csv", ".tex")
"""What a table may be called by."""

COLUMNS = (
    *("reader", "role", "reads", "frames", "faces", "found", "missed", "extra", "coverage", "iou_mean", "iou_min"),
    *("nme_box_mean", "nme_box_p95", "nme_interocular_mean", "landmarks_px_mean", "gaze_deg_mean", "gaze_deg_p95"),
    *("head_pose_deg_mean", "head_pose_deg_p95", "diffscore", "diffscore_normalised"),
)
"""Of the CSV; units and meanings are those of :meth:`Evaluation.to_json`."""


def write_table(path: str | Path, evaluation: Evaluation) -> None:
    r"""Write a row for every reader, authorised first.

    Args:
        path: ``.csv``: all :data:`COLUMNS`, full precision, an empty cell where a value is not defined; ``.tex``: a
            ``tabular`` that needs no package, with arrows that say which way is good, for ``\input``.
        evaluation: what is told.

    Raises:
        EvaluationError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise EvaluationError(f"a table is written as {' or '.join(SUFFIXES)}, got {path}.")
    text = as_csv(evaluation) if path.suffix.lower() == ".csv" else as_latex(evaluation)
    try:
        with atomic_write(path) as temporary:
            # csv's own line ends are to stay.
            temporary.write_bytes(text.encode())
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror}). Choose another place.") from error


def as_csv(evaluation: Evaluation) -> str:
    """The table as CSV (RFC 4180); a name that a spreadsheet would take for a formula is quoted by an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for reader in _readers(evaluation):
        writer.writerow([_cell(value) for value in _row(reader, len(evaluation))])
    return file.getvalue()


def as_latex(evaluation: Evaluation) -> str:
    """The table as LaTeX."""
    names = ("found", "IoU", "points", "gaze", "head", "DiffScore")
    titles = {"points": r"points (\%)", "gaze": r"gaze (${}^\circ$)", "head": r"head (${}^\circ$)"}
    heads = [titles.get(name, name) for name in names]
    lines = [r"\begin{tabular}{l" + "r" * len(names) + "}", r"\hline", " & ".join(["reader", *heads]) + r" \\"]
    for role in ("authorised", "unauthorised"):
        readers = evaluation.of(role)
        if readers:
            ways = [{"↑": r"$\uparrow$", "↓": r"$\downarrow$"}[arrow(name, role)] for name in names]
            lines += [r"\hline", " & ".join([rf"\emph{{{role}}}", *ways]) + r" \\"]
            lines += [_latex_row(reader) for reader in readers]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def _readers(evaluation: Evaluation) -> list[ReaderResult]:
    return evaluation.of("authorised") + evaluation.of("unauthorised")


def _row(reader: ReaderResult, frames: int) -> list[str | float | None]:
    spreads = {name: spread(reader.all(name)) or {} for name in ("iou", "nme_box", "gaze_deg", "head_pose_deg")}
    return [
        *(reader.name, reader.role, reader.task, frames),
        *(reader.faces, reader.found, reader.faces - reader.found, reader.extra),
        reader.found / reader.faces if reader.faces else None,
        *(spreads["iou"].get(part) for part in ("mean", "min")),
        *(spreads["nme_box"].get(part) for part in ("mean", "p95")),
        *((spread(reader.all(name)) or {}).get("mean") for name in ("nme_interocular", "landmarks_px")),
        *(spreads[name].get(part) for name in ("gaze_deg", "head_pose_deg") for part in ("mean", "p95")),
        *(score["score"] if reader.faces else None for score in (reader.score, reader.normalised)),
    ]


def _cell(value: str | float | None) -> str | float:
    if isinstance(value, str):
        return f"'{value}" if value[:1] in ("=", "+", "-", "@") else value
    return "" if value is None or not math.isfinite(value) else value


def _latex_row(reader: ReaderResult) -> str:
    cells = [
        f"{reader.found}/{reader.faces}",
        _mean(reader.all("iou"), ".3f"),
        _mean([100 * value for value in reader.all("nme_box")], ".2f"),
        _mean(reader.all("gaze_deg"), ".2f"),
        _mean(reader.all("head_pose_deg"), ".2f"),
        f"{reader.score['score']:.3f}" if reader.faces else "--",
    ]
    return " & ".join([_escaped(reader.name), *cells]) + r" \\"


def _mean(values: Sequence[float], form: str) -> str:
    return format(sum(values) / len(values), form) if values else "--"


def _escaped(text: str) -> str:
    r"""Text as LaTeX sets it.

    Example:
        >>> _escaped("mtcnn_2+key")
        'mtcnn\\_2+key'
    """
    text = re.sub(r"[\\^~]", " ", text)
    return re.sub(r"([#$%&_{}])", r"\\\1", text)
