"""Where frames come from: a file, a camera, or a pipe."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from deidlib.media.errors import MediaReadError


@dataclass(frozen=True)
class Source:
    """What FFmpeg is asked to open.

    Args:
        name: for messages.
        path: the file; None for a live source, which can be read once only.
        address: what FFmpeg calls it.
        kind: the input format, where FFmpeg cannot guess it.
    """

    name: str
    path: Path | None
    address: str
    kind: str | None = None


def source_of(given: str | Path | int) -> Source:
    """A file by its path, a camera by its number, standard input as the string ``"-"``.

    Raises:
        MediaReadError: cameras have no number here.

    Example:
        >>> source_of("-").name, source_of("drive.mp4").name
        ('standard input', 'drive.mp4')
    """
    if isinstance(given, int):
        system = platform.system()
        if system == "Linux":
            return Source(f"camera {given}", None, f"/dev/video{given}", "v4l2")
        if system == "Darwin":
            return Source(f"camera {given}", None, str(given), "avfoundation")
        raise MediaReadError(
            f"camera {given}: cameras are opened by number on Linux and macOS only. Read it with your own "
            "program and hand its frames to Deidentifier.frames."
        )
    if given == "-":
        return Source("standard input", None, "pipe:0")
    return Source(str(given), Path(given), str(given))
