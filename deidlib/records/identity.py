"""``FileIdentity``: which file lies under a name, told without reading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileIdentity:
    """Device, inode, size and time of change of a file, or of every file in a folder.

    A file that was replaced by another one, or written to, has another identity. Who sets its times back can write
    into it without that: only its hash tells.

    Args:
        files: one row per file: name, device, inode, bytes, nanoseconds of the last change.

    Example:
        >>> import os, tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.txt")
        >>> _ = path.write_text("a")
        >>> before = FileIdentity.of(path)
        >>> other = path.with_name("b.txt")
        >>> _ = other.write_text("b")
        >>> os.replace(other, path)
        >>> FileIdentity.of(path) == before
        False
    """

    files: tuple[tuple[str, int, int, int, int], ...]

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """What lies there now; links are followed.

        Raises:
            OSError: it cannot be reached.
        """
        paths = sorted(path.iterdir()) if path.is_dir() else [path]
        rows = []
        for file in paths:
            known = file.stat()
            rows.append((file.name, known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns))
        return cls(tuple(rows))
