"""Names and places of media files: what can be read, and what can be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from deidlib.media.codecs import CODEC_TABLE, CODECS
from deidlib.media.errors import MediaError, MediaReadError, MediaWriteError, reading
from deidlib.records.files import longest_name, remove, sha256_of, temporary_name


def check_paths(source: str | Path, target: str | Path, *, codec: str | None = None) -> None:
    """Make sure, before any work, that ``target`` can be written and is not ``source``.

    Args:
        source: the file to be read.
        target: the file (or for ``png-folder`` the folder) to be written.
        codec: one of ``CODECS`` for a video, None for an image.

    Raises:
        MediaWriteError: output equals input, the name does not fit the codec, or its folder is missing or not
            writable.
    """
    source, target = Path(source), Path(target)
    reached = exists(source, MediaReadError), exists(target, MediaWriteError)
    same = all(reached) and os.path.samefile(source, target)
    if same or source.resolve() == target.resolve():
        raise MediaWriteError(f"output equals input: {target}. Choose another name; the original is never overwritten.")
    if codec is None:
        image_format(target)
        check_writable(target)
    else:
        check_video_target(target, codec)


def exists(path: Path, error: type[MediaError]) -> bool:
    """Whether there is such a file; an error of that kind if a folder above it may not be looked into."""
    try:
        return path.exists()
    except OSError as cause:
        if cause.errno == errno.ENAMETOOLONG:
            raise error(
                f"{path}: the name is too long: it has {len(os.fsencode(path.name))} bytes, and at most "
                f"{longest_name(path.absolute().parent)} fit there. Choose a shorter one."
            ) from cause
        raise error(f"{path} cannot be reached ({cause.strerror}). Check the folders above it.") from cause


def make_folder(folder: Path) -> None:
    """Create it, and the folders above it, or say in one line why not.

    Raises:
        MediaWriteError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaWriteError(
            f"the output folder {folder} cannot be created ({error.strerror}). Choose another."
        ) from error


def check_readable(path: Path, kind: str) -> None:
    """Refuse what cannot be a media file, before FFmpeg says so in its words."""
    if not exists(path, MediaReadError):
        raise MediaReadError(f"{path} does not exist. Expected a {kind} file; check the path.")
    if path.is_dir():
        raise MediaReadError(f"{path} is a folder. Expected a {kind} file.")
    if path.is_file() and path.stat().st_size == 0:
        raise MediaReadError(f"{path} is empty (0 bytes). Expected a {kind} file; copy it again.")


def check_video_target(path: Path, codec: str) -> None:
    """Refuse a name that does not fit the codec, and a place that cannot be written."""
    if codec not in CODECS:
        raise MediaWriteError(f"unknown codec {codec!r}. Known: {', '.join(CODECS)}.")
    if codec == "png-folder":
        if path.suffix:
            raise MediaWriteError(f"{path}: codec 'png-folder' writes a folder; give a name without {path.suffix!r}.")
        if exists(path, MediaWriteError) and not (path.is_dir() and not any(path.iterdir())):
            raise MediaWriteError(f"{path} exists and is no empty folder. Choose another name, or remove it.")
    elif path.suffix.lower() not in CODEC_TABLE[codec].formats:
        fitting = [name for name, known in CODEC_TABLE.items() if path.suffix.lower() in known.formats]
        other = f", or for {path.suffix} take codec {' or '.join(map(repr, fitting))}" if fitting else ""
        raise MediaWriteError(
            f"{path}: codec {codec!r} goes into {' or '.join(CODEC_TABLE[codec].formats)}, not {path.suffix!r}. "
            f"Change the name{other}."
        )
    elif exists(path, MediaWriteError) and path.is_dir():
        raise MediaWriteError(f"{path} is a folder. Name the file to be written.")
    check_writable(path)


def image_format(path: Path) -> str:
    """``"PNG"`` or ``"JPEG"``, by the name."""
    form = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower())
    if form is None:
        raise MediaWriteError(f"{path}: images are written as .png (or .jpg, with a quality), not {path.suffix!r}.")
    return form


def check_writable(path: Path) -> None:
    """Try it: permissions alone do not tell of read-only disks."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise MediaWriteError(f"{path}: the folder {folder} does not exist. Create it first.")
    # A name that is too long would be found out at the end only: the probe has a name of its own.
    exists(path, MediaWriteError)
    probe = temporary_name(path)
    try:
        probe.touch(exist_ok=False)
    except OSError as error:
        raise MediaWriteError(
            f"{path}: cannot write into the folder {folder} ({error.strerror}). Choose another folder."
        ) from error
    finally:
        remove(probe)


def input_sha256(path: Path) -> str:
    """SHA-256 of an input, :func:`~deidlib.records.files.sha256_of`.

    Raises:
        MediaReadError: it cannot be read to its end.
    """
    with reading(path):
        return sha256_of(path)
