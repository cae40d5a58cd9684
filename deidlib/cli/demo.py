"""``deidlib demo``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deidlib.cli.errors import plain_errors

if TYPE_CHECKING:
    from deidlib.models.base import FaceModel


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the clip, the sheet and the numbers go.")
    ] = Path("demo-output"),
    frames: Annotated[int, typer.Option(min=3, help="Length of the clip.")] = 12,
) -> None:
    """Protect a short clip of an astronaut, and say who can read it: MTCNN may, others may not. No download."""
    from tqdm.auto import tqdm

    from deidlib.cli.astronaut import run
    from deidlib.protect.folder import make_folder

    with plain_errors():
        make_folder(folder)
        with tqdm(total=frames, unit="frame", desc="protecting", file=sys.stderr) as bar:
            report = run(folder, frames=frames, others=_at_hand(), progress=bar.update)
        show(report)
        typer.echo(f"Look at {folder / 'sheet.png'}, {folder / 'protected.mkv'} and {folder / 'demo.json'}.")


def show(report: Mapping[str, Any]) -> None:
    """Say what was done, and what came of it, in lines of at most 79 characters."""
    stages, change, asked = report["stages"], report["perturbation"], report["tolerance"]
    frames, attacked = report["frames"]["all"], stages["original"]["faces"]
    typer.echo(f"{frames} frames were protected and read back from the file, in {report['seconds']:.0f} seconds.\n")
    typer.echo(f"{'MTCNN, who may read, on':<24}{'finds':>11}{'box overlap':>13}{'points off':>12}{'head turned':>13}")
    for stage, row in stages.items():
        found = f"{row['found']} of {row['faces']}"
        line = f"{WORDS.get(stage, stage):<24}{found:>11}"
        if row["points"] is not None:
            line += f"{row['iou']:>13.3f}{row['points']:>11.1%}{row['head_pose_deg']:>12.1f}\N{DEGREE SIGN}"
        typer.echo(line)
    _paragraph(
        "Hidden: plain grey covers the face, and nothing of its looks is left. Protected: the grey was changed by "
        f"{change['mean_inside']:.1f} of 255 levels on average, {change['largest']:.0f} at most, and "
        f"{change['outside']:.0f} outside it, until MTCNN read the face that was there: boxes that overlap by "
        f"{asked['iou']:.0%}, points off by {asked['points']:.0%} of the face's size at most. That was reached in "
        f"{report['within']} of {attacked} frames."
    )
    _paragraph(_of_others(report["others"]))
    typer.echo()


def _of_others(others: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """What those see whom nobody authorised."""
    if not others:
        return (
            "Do other detectors see the face? None is on this machine to be asked: "
            "`deidlib weights fetch yunet` gets one."
        )
    told = [f"{name} {row['protected']['found']} of {row['protected']['faces']}" for name, row in others.items()]
    hidden = sum(row["obfuscated"]["found"] for row in others.values())
    words = (
        f"Others, whom nobody authorised, find on the protected frames: {', '.join(told)}; "
        f"on those only hidden: {hidden or 'none'}."
    )
    if any(row["protected"]["found"] for row in others.values()):
        words += (
            " What one detector is made to see, others see too: that there is a face and where, not whose. A key keeps "
            "them out: `deidlib key new`, `deidlib protect --key`."
        )
    return words


WORDS = {"original": "the original", "obfuscated": "the hidden frames", "protected": "the protected file"}
"""What the stages are called."""


def _at_hand() -> dict[str, FaceModel]:
    """Detectors whose weights are on this machine, that the clip is not protected for."""
    from deidlib import weights
    from deidlib.cli.names import readers

    table = {name: entry for name, entry in readers().items() if name in ("yunet", "retinaface")}
    return {
        name: entry.make()
        for name, entry in table.items()
        if entry.checkpoint is not None and weights.locate(entry.checkpoint) is not None
    }


def _paragraph(words: str) -> None:
    typer.echo()
    typer.echo(textwrap.fill(words, 79))
