"""Which files a command works on, and how their outputs are called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from deidlib.media.suffixes import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from deidlib.media.suffixes import VIDEO_SUFFIXES as VIDEO_SUFFIXES

Codec = Literal["ffv1", "h264", "h264-lossless", "mjpeg", "png-folder"]


def live_source(source: Path) -> str | int | None:
    """The camera or the pipe that a name stands for: a number or ``-``, unless there is such a file."""
    name = str(source)
    if name == "-":
        return "-"
    return int(name) if name.isdecimal() and not source.exists() else None


def jobs_of(source: Path, target: Path, codec: Codec) -> list[tuple[Path, Path]]:
    """Pairs of input and output; a folder keeps its tree, images become .png, videos what the codec needs."""
    from deidlib.media import MediaReadError, MediaWriteError

    if not source.exists():
        raise MediaReadError(f"{source} does not exist. Expected an image, a video or a folder; check the path.")
    if not source.is_dir():
        if target.is_dir() and (codec != "png-folder" or source.suffix.lower() in IMAGE_SUFFIXES):
            raise MediaWriteError(
                f"{source} is a file, so the output must be one too; {target} is a folder. "
                f"Name the file: {target / source.with_suffix(suffix_of(source, codec)).name}."
            )
        return [(source, target)]
    if target.exists() and not target.is_dir():
        raise MediaWriteError(
            f"{source} is a folder, so the output must be one too; {target} is a file. Name a folder."
        )
    if target.resolve() == source.resolve() or source.resolve() in target.resolve().parents:
        raise MediaWriteError(
            f"the output folder {target} must not be the input folder or lie inside it. Choose another place."
        )
    jobs: dict[Path, Path] = {}
    for path in sorted(_files_below(source)):
        inside = path.relative_to(source)
        # Hidden ones are nobody's recordings: work folders, thumbnails, what other systems leave behind.
        if any(part.startswith(".") for part in inside.parts):
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
            out = (target / inside).with_suffix(suffix_of(path, codec))
            if out in jobs:
                raise MediaWriteError(f"{jobs[out]} and {path} would both be written to {out}. Rename one.")
            jobs[out] = path
    if not jobs:
        raise MediaReadError(f"{source} holds no image or video ({', '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)}).")
    return [(path, out) for out, path in jobs.items()]


def _files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and the folders in it. One that cannot be read is an error, not an empty one."""
    from deidlib.media import MediaReadError

    def refuse(error: OSError) -> None:
        raise MediaReadError(
            f"the folder {error.filename} cannot be read ({error.strerror}), so what is in it would be left out. "
            "Make it readable, or move it away."
        ) from error

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (path for name in names if (path := Path(place, name)).is_file())


def suffix_of(source: Path, codec: Codec) -> str:
    """How the output for a file is called."""
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return ".png"
    return {"ffv1": ".mkv", "h264": ".mp4", "h264-lossless": ".mp4", "mjpeg": ".avi", "png-folder": ""}[codec]


def make_folder(folder: Path) -> None:
    """Create it, and the folders above it, or say in one line why not."""
    from deidlib.media import MediaWriteError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaWriteError(
            f"the output folder {folder} cannot be created ({error.strerror}). Choose another."
        ) from error
