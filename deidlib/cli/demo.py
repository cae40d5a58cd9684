"""``deidlib demo``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from deidlib.cli.errors import plain_errors


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the clip, the sheet and the numbers go.")
    ] = Path("demo-output"),
    frames: Annotated[int, typer.Option(min=3, help="Length of the clip.")] = 12,
) -> None:
    """Run the main job on the embedded default: MTCNN authorised, a clip of the astronaut, no download."""
    from tqdm.auto import tqdm

    from deidlib.cli.astronaut import run
    from deidlib.protect.folder import make_folder

    with plain_errors():
        make_folder(folder)
        with tqdm(total=frames, unit="frame", desc="protecting", file=sys.stderr) as bar:
            report = run(folder, frames=frames, progress=bar.update)
        typer.echo(f"{'MTCNN reads from':<20}{'faces found':>14}{'mean IoU':>11}")
        for stage, row in report["stages"].items():
            typer.echo(f"{stage:<20}{row['found']:>14.0%}{row['iou']:>11.3f}")
        change = report["perturbation"]
        typer.echo(
            f"perturbation: {change['mean_inside']:.1f} grey levels on average inside the face region, "
            f"{change['largest']:.0f} at most, {change['outside']:.0f} outside it"
        )
        typer.echo(f"{report['seconds']} s for {report['frames']['all']} frames")
        typer.echo(f"see {folder / 'sheet.png'}, {folder / 'protected.mkv'}, {folder / 'demo.json'}")
