"""Options that several commands take, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deidlib.cli.files import Codec

OnMissing = Literal["hold", "whole-frame", "error", "keep"]

HIDDEN, FILE, READS, RUNNING = "What is hidden, and how", "The file", "Who reads", "Running"
"""Groups of ``--help`` that several commands have."""

Hold = Annotated[
    int,
    typer.Option(rich_help_panel=HIDDEN, min=0, help="Frames for which the place of a lost face stays hidden."),
]
Window = Annotated[
    int, typer.Option(rich_help_panel=HIDDEN, min=0, help="Frames to look ahead for faces that are missed.")
]
Storage = Annotated[Codec, typer.Option(rich_help_panel=FILE, help="How video is stored; ffv1 loses nothing.")]
Quality = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=FILE,
        help="Of h264: 0 (best) to 51, its constant rate factor; of mjpeg: 2 (best) to 31.",
    ),
]
Audio = Annotated[
    Literal["drop", "copy"],
    typer.Option(rich_help_panel=FILE, help="Sound is left out, as a voice identifies, or copied."),
]
Json = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=FILE,
        help="Write what became of every file to this .json, or with - to standard output, and nothing else there.",
    ),
]
Description = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=READS, help="The description that was written with PROTECTED; by default PROTECTED.json."
    ),
]
Batch = Annotated[int, typer.Option(rich_help_panel=RUNNING, min=1, help="Frames at a time.")]
Attacked = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=RUNNING,
        min=1,
        help="Frames attacked at a time, with --until as many parts of a clip side by side. By default 1 on a CPU, "
        "which is no faster with more, and 16 elsewhere.",
    ),
]
Processes = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=RUNNING,
        help="Processes that do the work: a number, or auto, one for every core or GPU; on a CPU each has one thread. "
        "The file does not depend on how many they are. By default this one does it.",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", rich_help_panel=RUNNING, help="Replace files that lie where outputs are to lie.")
]
Device = Annotated[
    str, typer.Option(rich_help_panel=RUNNING, help="auto (a GPU if there is one), cpu, cuda, cuda:1 ..., mps.")
]
