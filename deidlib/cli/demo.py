"""``deidlib demo``."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deidlib.cli.errors import plain_errors
from deidlib.cli.voice import say

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
    from deidlib.media.files import make_folder

    with plain_errors():
        make_folder(folder)
        with tqdm(total=frames, unit="frame", desc="protecting", file=sys.stderr) as bar:
            report = run(folder, frames=frames, others=_at_hand(), progress=bar.update)
        show(report)
        say(f"Look at {folder / 'sheet.png'}, {folder / 'protected.mkv'} and {folder / 'demo.json'}.", hang=0)


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
    _show_others(report["others"])
    _paragraph(_of_others(report["others"]))
    typer.echo()


def _show_others(others: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """What those find whom nobody authorised."""
    typer.echo(f"\n{'others, who may not, find on':<30}{'the original':>14}{'hidden':>10}{'protected':>12}")
    for name, row in others.items():
        counts = [
            f"{row[stage]['found']} of {row[stage]['faces']}" for stage in ("original", "obfuscated", "protected")
        ]
        typer.echo(f"{_CALLED.get(name, name):<30}{counts[0]:>14}{counts[1]:>10}{counts[2]:>12}")


def _of_others(others: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """What that means."""
    seen = any(row["protected"]["found"] for row in others.values())
    if seen:
        words = "What one detector is made to see, others see too: that there is a face and where, not whose."
    else:
        words = (
            "These see nothing, but networks that were trained as MTCNN was, such as YuNet and RetinaFace, do see that "
            "there is a face and where: `deidlib weights fetch yunet` gets one, and the demo then asks it."
        )
    return (
        f"{words} With a key none of eleven detectors found any, on 17 frames of other clips: `deidlib key new`, "
        "`deidlib protect --key`."
    )


_CALLED = {
    "lbp": "scikit-image's cascade",
    "haar": "OpenCV's cascade",
    "dlib-hog": "dlib",
    "yunet": "YuNet (OpenCV)",
    "centerface": "CenterFace",
    "retinaface": "RetinaFace",
}


WORDS = {"original": "the original", "obfuscated": "the hidden frames", "protected": "the protected file"}
"""What the stages are called."""


def _at_hand() -> dict[str, FaceModel]:
    """Detectors that the clip is not protected for, whose weights are here: some come with other packages."""
    from deidlib import weights
    from deidlib.cli.names import readers

    table = readers()
    found: dict[str, FaceModel] = {}
    for name in _CALLED:
        checkpoint = table[name].checkpoint
        if checkpoint is None or weights.locate(checkpoint) is not None:
            # What needs a package that is not here is not asked.
            with contextlib.suppress(ModuleNotFoundError):
                found[name] = table[name].make()
    return found


def _paragraph(words: str) -> None:
    typer.echo()
    typer.echo(textwrap.fill(words, 79))
