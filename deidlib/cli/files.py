"""What the first argument of a command may be beside a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Codec = Literal["ffv1", "h264", "h264-lossless", "mjpeg", "png-folder"]


def live_source(source: Path) -> str | int | None:
    """The camera or the pipe that a name stands for: a number or ``-``, unless there is such a file."""
    name = str(source)
    if name == "-":
        return "-"
    return int(name) if name.isdecimal() and not source.exists() else None
