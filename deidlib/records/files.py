"""Files on disk that are there whole or not at all: atomic writing, JSON, and hashes of what lies there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file, or a folder, that appears under its name complete, with its bytes on the disk, or not at all.

    What is written goes by another name in the same folder. It is renamed when the ``with`` block ends, replacing an
    older file; an error in the block removes it and leaves the older file alone.

    Args:
        path: the name that it gets.

    Yields:
        The other name; nothing lies there yet.

    Raises:
        OSError: it cannot be written; nothing is left behind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.txt")
        >>> with atomic_write(path) as temporary:
        ...     _ = temporary.write_text("whole")
        ...     there = path.exists()
        >>> there, path.read_text()
        (False, 'whole')
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        commit(temporary, path)
    finally:
        remove(temporary)


def temporary_name(path: Path) -> Path:
    """A free name in the same folder, so that renaming is atomic; for what cannot be one ``with`` block.

    Of a long name it holds the beginning only: whatever name the file system takes can be written.
    """
    return name_beside(path, ".", f".{uuid.uuid4().hex[:12]}.partial")


def name_beside(path: Path, before: str, after: str) -> Path:
    """The name of a file in the same folder that belongs to this one: its own with something before and after.

    Where the file system does not take one so long, its end gives way to a hash of it: the same name gives the same
    one always, and two names two.

    Example:
        >>> name_beside(Path("/clips/out.mkv"), "", ".json").name
        'out.mkv.json'
        >>> long = name_beside(Path("/clips") / ("n" * 250 + ".mkv"), "", ".json").name
        >>> len(long), long[-25:]
        (255, 'nnnnnnn~64a86520b9d3.json')
    """
    folder = path.absolute().parent
    room, name, whole = longest_name(folder) - len(os.fsencode(before + after)), path.name, os.fsencode(path.name)
    if len(whole) > room:
        mark = f"~{hashlib.sha256(whole).hexdigest()[:12]}"
        # Cut between characters, not within one.
        name, after = whole[: room - len(mark)].decode(errors="ignore"), mark + after
    return folder / f"{before}{name}{after}"


def longest_name(folder: Path) -> int:
    """How many bytes a file's name may have there."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return 255


def commit(temporary: Path, path: Path) -> None:
    """Give a complete file its name, and not before its bytes are on the disk."""
    if temporary.is_file():
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.absolute().parent)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def write_json(path: Path, data: Mapping[str, Any], *, indent: int | None = None) -> None:
    r"""Write a JSON object by :func:`atomic_write`.

    Raises:
        OSError: it cannot be written; nothing is left behind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.json")
        >>> write_json(path, {"frames": 3})
        >>> path.read_text()
        '{"frames": 3}\n'
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=indent)
        file.write("\n")


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of its files' names and hashes.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_dir():
        return sha256_of_named((file.name, sha256_of(file)) for file in sorted(path.iterdir()))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_named(hashes: Iterable[tuple[str, str]]) -> str:
    """SHA-256 of names and hashes of files, as they follow each other.

    Args:
        hashes: names, and the SHA-256 of each.
    """
    return hashlib.sha256("".join(f"{sha256}  {name}\n" for name, sha256 in hashes).encode()).hexdigest()
