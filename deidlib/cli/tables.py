"""What ``deidlib evaluate`` prints: tables that fit 80 columns, and which way is good."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deidlib.cli.voice import say, silent

if TYPE_CHECKING:
    from deidlib.evaluation import Evaluation
    from deidlib.evaluation.identity import IdentityResult
    from deidlib.evaluation.reading import ReaderResult, Role

_DEGREE = "\N{DEGREE SIGN}"


def show(result: Evaluation) -> None:
    """Print an evaluation as tables."""
    if silent():
        return
    from deidlib.evaluation.goodness import LOWER, UPPER
    from deidlib.media.tree import passed_over_in_words

    say(f"{len(result)} frame{'s' * (len(result) != 1)}")
    _show_readers(result, "authorised", "Who may read, and should read as on the original:")
    _show_readers(result, "unauthorised", "Who may not, and should find nothing:")
    _tell(
        f"\n{UPPER} the higher the better, {LOWER} the lower the better. A face that is not found counts as the worst "
        "reading. least: IoU; points: distance as a share of the face's size; gaze, head: degrees off; score: the "
        "paper's DiffScore; extra: faces that are none."
    )
    if result.passed_over:
        _tell(f"passed over: {passed_over_in_words(result.passed_over, result.original)}")
    _show_movements(result)
    if result.identity is not None:
        _show_identity(result.identity)
    _show_attacks(result)
    _show_quality(result)


def _show_readers(result: Evaluation, role: Role, title: str) -> None:
    """A row for each of them."""
    from deidlib.evaluation.goodness import arrow

    readers = result.of(role)
    if not readers:
        return
    # In 80 columns there is no room for it where there is nothing to say.
    extra = any(reader.extra for reader in readers)
    names = ("found", *["extra"] * extra, "IoU", "least", "points", "gaze", "head", "score")
    say(f"\n{title}")
    _table(
        ["reader", *(f"{name} {arrow(name, role)}".strip() for name in names)],
        [_reader(reader, extra=extra) for reader in readers],
        left=1,
    )


def _reader(reader: ReaderResult, *, extra: bool) -> list[str]:
    overlaps = reader.all("iou")
    return [
        reader.name,
        f"{reader.found}/{reader.faces}",
        *[str(reader.extra)] * extra,
        _mean(overlaps, ".3f"),
        f"{min(overlaps):.3f}" if overlaps else "-",
        _mean(reader.all("nme_box"), ".1%"),
        _mean(reader.all("gaze_deg"), ".1f", _DEGREE),
        _mean(reader.all("head_pose_deg"), ".1f", _DEGREE),
        _or_dash(reader.score["score"], ".2f"),
    ]


def _show_movements(result: Evaluation) -> None:
    """Print how far what moves on the originals is followed by those who are authorised."""
    from deidlib.evaluation.goodness import LOWER, UPPER
    from deidlib.evaluation.movement import LABELS

    rows = [
        [
            reader.name,
            LABELS[name],
            f"{found.values.correlation:.3f}",
            _or_dash(found.changes.correlation, ".3f"),
            f"{found.values.rmse:.2f}{_DEGREE if name.endswith('_deg') else ' px'}",
            _or_dash(round(found.values.lag, 1) + 0.0, ".1f"),
            str(found.values.compared),
        ]
        for reader in result.of("authorised")
        for name, found in reader.movement.own.items()
    ]
    if rows:
        say("\nWhat moves, and is it followed:")
        heads = ["reader", "what", f"follows {UPPER}", f"its changes {UPPER}", f"off by {LOWER}", "late", "frames"]
        _table(heads, rows, left=2)
        _tell(
            "\nfollows: correlation with the original over time, 1 every movement, 0 none; late: by frames, 0 is best"
        )


def _show_identity(identity: IdentityResult) -> None:
    if identity.mean is not None:
        _tell(
            f"identity: cosine to the original {identity.mean:.3f} on average, {identity.greatest:.3f} at most; the "
            "lower the better, as between strangers"
        )
        if identity.accepted is None:
            _tell(f"identity: no threshold, since {identity.threshold_from}")
        else:
            _tell(
                f"identity: {identity.accepted:.1%} of {identity.faces} faces above the threshold "
                f"{identity.threshold:.3f} ({identity.threshold_from}); none is best"
            )
    else:
        say("identity: no face could be compared")
    beside = [value for frame in identity.beside for value in frame]
    if beside:
        _tell(
            f"identity: unauthorised detectors take {len(beside)} more places of the originals for faces, which were "
            f"overlooked or are none: cosine {max(beside):.3f} at most"
        )


def _show_attacks(result: Evaluation) -> None:
    for tried in result.attacks:
        on = "control, 8 blocks on the original" if tried.control else tried.attack
        place = tried.ranking
        others = "no strangers" if place.other is None else f"{place.other:.2f} the most alike stranger"
        _tell(
            f"{on}, read as {tried.read_as}: the person is number {place.place} of {place.of} (a grey picture: "
            f"{place.blank}), cosine {place.cosine:.2f}, {others}"
        )


def _show_quality(result: Evaluation) -> None:
    if result.quality is None:
        return
    words = [
        f"{label} {_number(result.quality.mean(name))}"
        for name, label in (("psnr_inside", "PSNR inside"), ("psnr_outside", "outside"),
                            ("ssim_inside", "SSIM inside"), ("ssim_outside", "outside"),
                            ("flicker_inside", "flicker inside"), ("lpips", "LPIPS"), ("lpips_inside", "inside"))
        if name in result.quality.frames
    ]  # fmt: skip
    what = "what was hidden" if result.quality.known else "an estimate, 1.2 times the faces' boxes"
    _tell(
        f"picture: {', '.join(words)}; outside nothing should change, PSNR inf and SSIM 1; flicker is best at 0 "
        f"(inside: {what})"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> None:
    """Columns two spaces apart, the first so many to the left, the others to the right."""
    widths = [max(len(row[k]) for row in (heads, *rows)) for k in range(len(heads))]
    for row in (heads, *rows):
        cells = [
            text.ljust(width) if k < left else text.rjust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


def _tell(text: str) -> None:
    """Say it in lines that fit the terminal; in a pipe in one, for programs that look for it."""
    if sys.stdout.isatty():
        width = max(min(shutil.get_terminal_size().columns, 100) - 1, 40)
        text = "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in text.split("\n"))
    say(text)


def _mean(values: Sequence[float], form: str, unit: str = "") -> str:
    return f"{format(sum(values) / len(values), form)}{unit}" if values else "-"


def _or_dash(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
