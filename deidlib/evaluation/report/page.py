"""``write_report``: the page."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from deidlib.evaluation import Evaluation, EvaluationError
from deidlib.evaluation.identity import IdentityResult
from deidlib.evaluation.pairs import pairs
from deidlib.evaluation.reading import ReaderResult, Role
from deidlib.evaluation.report.curves import Line, chart
from deidlib.evaluation.report.pictures import choose, panels
from deidlib.evaluation.report.style import STYLE
from deidlib.evaluation.result import QualityResult, spread
from deidlib.records.files import sync_folder


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    *,
    show_originals: bool = False,
    hidden: str | Path | None = None,
    worst: int = 6,
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

    Raises:
        EvaluationError: the file cannot be written, or ``hidden`` does not go with the original.
        ValueError: worst is negative.
    """
    if worst < 0:
        raise ValueError(f"worst must be >= 0 frames, got {worst}.")
    masked = None if hidden is None else pairs(evaluation.original, Path(hidden))
    choices = choose(evaluation, worst)
    rows = panels(evaluation, choices, show_originals=show_originals, hidden=masked)
    shown = []
    for choice, row in zip(choices, rows, strict=True):
        figures = "".join(
            f'<figure><img src="{panel.source}" alt="{escape(panel.title)}"><figcaption>{escape(panel.title)}'
            "</figcaption></figure>"
            for panel in row
        )
        shown.append(
            f"<section><h3>{escape(_frame_name(evaluation, choice.number))}</h3><p>Shown because "
            f'{escape(choice.why)}.</p><div class="panels">{figures}</div></section>'
        )
    _write(Path(path), _page(evaluation, shown, show_originals, exact=hidden is not None))


def _page(evaluation: Evaluation, frames: Sequence[str], show_originals: bool, *, exact: bool) -> str:
    title = f"{evaluation.protected.name}: who can read it"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{len(evaluation)} frames of <b>{escape(evaluation.protected.name)}</b>, compared with "
        f"<b>{escape(evaluation.original.name)}</b>, as the files are stored.</p>",
        _notice(show_originals),
        "<h2>In short</h2>",
        _in_short(evaluation),
        "<h2>Who reads it</h2>",
        _readers(evaluation),
        "<h2>Who is recognised</h2>",
        _identity(evaluation.identity),
        "<h2>What it costs</h2>",
        _quality(evaluation.quality, evaluation.covered),
        "<h2>Over time</h2>",
        _curves(evaluation),
        "<h2>Frames</h2>",
        _legend(show_originals, exact) if frames else "<p>No frame shows a face.</p>",
        *frames,
        "<h2>Settings and versions</h2>",
        _settings(evaluation),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _notice(show_originals: bool) -> str:
    if show_originals:
        return (
            '<p class="notice"><b>This report shows original frames, faces included.</b> '
            "Treat it like the originals themselves.</p>"
        )
    return (
        '<p class="notice">This report shows protected frames only. Original frames are put in only when that is '
        "asked for (<code>--show-originals</code>).</p>"
    )


def _in_short(evaluation: Evaluation) -> str:
    lines = []
    for reader in evaluation.readers.values():
        role = "authorised" if reader.role == "authorised" else "not authorised"
        if not reader.faces:
            lines.append(f"<b>{escape(reader.name)}</b> ({role}) has no face to read.")
            continue
        overlap = sum(reader.all("iou")) / reader.faces
        if reader.found:
            much = "this file" if reader.found > reader.faces / 2 else "a part of this file"
            wrong = "" if reader.role == "authorised" else f" It can read {much}."
            lines.append(
                f"<b>{escape(reader.name)}</b> ({role}) finds {_percent(reader.found / reader.faces)} of "
                f"{reader.faces} faces, mean overlap {overlap:.3f}.{wrong}"
            )
        else:
            lines.append(f"<b>{escape(reader.name)}</b> ({role}) finds none of {reader.faces} faces.")
    identity = evaluation.identity
    if identity is not None and identity.mean is not None:
        share = (
            "" if identity.accepted is None else f"; {_percent(identity.accepted)} would be taken for their original"
        )
        if any(identity.beside):
            count = sum(map(len, identity.beside))
            lines.append(
                f"Faces on the originals that only unauthorised detectors see: {count}. Look at them: they may have "
                "been overlooked."
            )
        lines.append(f"Identity: mean cosine {identity.mean:.3f}, at most {_text(identity.greatest)}{share}.")
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"


def _readers(evaluation: Evaluation) -> str:
    head = (
        "reader", "", "faces found", "IoU mean / least", "landmarks off, of face size, mean / p95",
        "of eye distance, mean", "pixels, mean", "gaze off, mean / p95", "head pose off, mean / p95",
        "DiffScore", "normalised",
    )  # fmt: skip
    rows = [_reader_row(reader) for role in ("authorised", "unauthorised") for reader in evaluation.of(role)]
    settings = evaluation.settings
    note = (
        "Every face that a reader finds on the original counts, found again or not: a miss counts as an overlap of 0, "
        f"landmarks {_text(settings['miss']['landmarks_in_face_sizes'])} × the face's size off and gaze "
        f"{_text(settings['miss']['gaze_deg'])}° off. Extra: found where the original has no face. Boxes that "
        f"overlap by no more than {_text(settings['min_iou'])} are not of one face. DiffScore: 0 is read as on the "
        "original; the normalised one reaches 1 for each term that is there. A row is what the chain up to that reader "
        "reads."
    )
    if evaluation.settings["truth"] is not None:
        note += " Authorised readers are compared with the truth that was given, others with their own reading."
    return _table(head, rows) + f"<p>{escape(note)}</p>"


def _reader_row(reader: ReaderResult) -> list[str]:
    faces = reader.faces
    wide = {name: spread(reader.all(name)) for name in reader.frames[0].values} if reader.frames else {}

    def show(name: str, *keys: str, share: bool = False, unit: str = "") -> str:
        known = wide.get(name)
        if known is None:
            return "–"
        return " / ".join(_percent(known[key]) if share else _text(known[key]) + unit for key in keys)

    return [
        escape(reader.name),
        "authorised" if reader.role == "authorised" else "not authorised",
        (f"{reader.found} of {faces} ({_percent(reader.found / faces)})" if faces else "none to find")
        + (f", {reader.extra} extra" if reader.extra else ""),
        show("iou", "mean", "min"),
        show("nme_box", "mean", "p95", share=True),
        show("nme_interocular", "mean", share=True),
        show("landmarks_px", "mean"),
        show("gaze_deg", "mean", "p95", unit="°"),
        show("head_pose_deg", "mean", "p95", unit="°"),
        _text(reader.score["score"]),
        _text(reader.normalised["score"]),
    ]


def _identity(identity: IdentityResult | None) -> str:
    if identity is None:
        return "<p>Not measured: no embedder was given.</p>"
    if identity.mean is None:
        return "<p>No face could be compared.</p>"
    rows = [
        ["cosine with the face of the same original frame, mean", _text(identity.mean)],
        ["the same, greatest", _text(identity.greatest)],
        ["threshold", f"{_text(identity.threshold)} ({escape(identity.threshold_from)})"],
        ["taken for the original at that threshold", _percent(identity.accepted)],
        ["faces compared; without points, not compared", f"{identity.faces}; {identity.unaligned}"],
    ]
    beside = [value for frame in identity.beside for value in frame]
    if beside:
        rows.append(
            [
                "beside them, what only unauthorised detectors take for a face on the original: overlooked, or no face",
                f"{len(beside)}, greatest cosine {_text(max(beside))}",
            ]
        )
    every = "every frame" if identity.every == 1 else f"one frame in {identity.every}"
    for name, values in identity.attackers.items():
        rows.append([
            f"{name}: cosine with the same person in other frames, mean",
            f"{_text(values['cosine_genuine'])} ({values['genuine']:.0f} pairs, {every})",
        ])  # fmt: skip
        if not math.isnan(values["cosine_impostor"]):
            rows.append([f"{name}: right person most alike (by chance)",
                         f"{_percent(values['rank1'])} ({_percent(values['chance'])})"])  # fmt: skip
            rows.append([f"{name}: same person accepted (others accepted)",
                         f"{_percent(values['accepted'])} ({_percent(values['false_accepted'])})"])  # fmt: skip
    note = (
        "The attacker is told where the faces of the originals are, his best case. Naive: he compares with clear "
        "pictures. Linkage: he compares protected faces with each other."
    )
    if identity.why_no_attackers:
        note += f" Re-identification was not measured: {identity.why_no_attackers}."
    return _table(("identity", "value"), rows) + f"<p>{escape(note)}</p>"


def _quality(quality: QualityResult | None, covered: Sequence[float]) -> str:
    if quality is None:
        return "<p>Not measured.</p>"
    rows = []
    for name, label in (("psnr", "PSNR, dB"), ("ssim", "SSIM")):
        rows.append([label, *(_text(quality.mean(name + place)) for place in ("", "_inside", "_outside"))])
    rows.append([
        "flicker of the change, grey levels", _text(quality.mean("flicker")), _text(quality.mean("flicker_inside")), "–"
    ])  # fmt: skip
    if "lpips" in quality.frames:
        rows.append(["LPIPS", *(_text(quality.mean("lpips" + place)) for place in ("", "_inside", "_outside"))])
    area = sum(covered) / len(covered)
    return _table(("against the original", "whole frame", "inside the faces' region", "outside"), rows) + (
        f"<p>The region covers {_percent(area)} of the frames. ∞: unchanged.</p>"
    )


_READ_BY = {
    "iou": ("boxes",),
    "nme_box": ("boxes", "landmarks"),
    "head_pose_deg": ("boxes", "landmarks"),
    "gaze_deg": ("gaze",),
}


def _curves(evaluation: Evaluation) -> str:
    if len(evaluation) == 1:
        return "<p>One frame only.</p>"
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
    note = (
        "Means over a frame's faces, misses included, of the readers that read it themselves. "
        "Solid: authorised. Dashed: not authorised."
    )
    return f"<p>{note}</p>" + "".join(charts)


def _legend(show_originals: bool, exact: bool) -> str:
    first = "the original" if show_originals else "the protected frame"
    third = (
        "Right: what the attack added to the hidden frame."
        if exact
        else "Right: the protected frame without its smooth part. Inside a hidden face that is the perturbation and "
        "the edges of the mosaic; beside it, it is the picture's own detail."
    )
    return (
        "<p>Those that authorised readers read worst, that others read best, and whose faces resemble the original "
        f"most, in turn. Left: {first}, with what is to be read. Middle: what is read on the protected frame. Green "
        f"boxes, light blue landmarks, the head's axes red, green and blue, gaze yellow. {third}</p>"
    )


def _settings(evaluation: Evaluation) -> str:
    files = [
        [escape(name), str(pair.original.frames), f"{pair.original.size[1]} × {pair.original.size[0]}"]
        for name, pair in ((pair.name, pair) for pair in evaluation.pairs[:50])
    ]
    more = len(evaluation.pairs) - len(files)
    about = [
        [escape(reader.name), escape(str(reader.about.get("class"))), escape(str(reader.about.get("fingerprint", "–")))]
        for reader in evaluation.readers.values()
    ]
    settings = [[escape(key), f"<code>{escape(_plain(value))}</code>"] for key, value in evaluation.settings.items()]
    versions = [[escape(key), escape(value or "not installed")] for key, value in evaluation.versions.items()]
    hashes = [[escape(key), f"<code>{escape(value)}</code>"] for key, value in evaluation.sha256.items()]
    return (
        _table(("file", "sha256"), hashes)
        + _table(("clip", "frames", "size"), files)
        + (f"<p>and {more} more.</p>" if more > 0 else "")
        + _table(("reader", "class", "fingerprint of its weights and settings"), about)
        + _table(("setting", "value"), settings)
        + _table(("package", "version"), versions)
    )


def _frame_name(evaluation: Evaluation, number: int) -> str:
    pair, inside = evaluation.locate(number)
    return f"{pair.name}, frame {inside}" if len(evaluation.pairs) > 1 else f"Frame {inside}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already; the head is text."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{cell}</td>" if k else f'<th scope="row">{cell}</th>' for k, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _text(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _percent(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return _text(value)
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    return f"{100 * value:.2f} %" if value < 0.1 else f"{100 * value:.1f} %"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror}). Choose another place.") from error
