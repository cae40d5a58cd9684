"""``Workplace``: the temporary folder of the page, which nobody else may enter, and of which nothing is left."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX, _LOCK = "deidlib-app-", "lock"


class Workplace:
    """A folder of mode 0700, in which every session has one of its own by a name that cannot be guessed.

    It is removed when it is closed, and when the program ends. What a program that was killed has left, the next one
    removes: whoever is alive holds the lock of his own.

    Args:
        parent: where it is made; by default where the system keeps temporary files.

    Raises:
        OSError: it cannot be made.

    Example:
        >>> with Workplace() as place:
        ...     room = place.room()
        ...     oct(room.stat().st_mode & 0o777), room.parent == place.path
        ('0o700', True)
        >>> place.path.exists()
        False
    """

    def __init__(self, parent: Path | None = None) -> None:
        where = Path(parent or tempfile.gettempdir())
        _sweep(where)
        # Resolved, since links in between would make paths of one file look like two.
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=where)).resolve()
        self._lock = FileLock(self.path / _LOCK)
        self._lock.acquire()
        atexit.register(self.close)

    def room(self) -> Path:
        """A new folder within, for one session."""
        room = self.path / secrets.token_urlsafe(24)
        room.mkdir(mode=0o700)
        return room

    def close(self) -> None:
        """Remove everything; twice does no harm."""
        atexit.unregister(self.close)
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        # The lock's own file is there until it is released where open files cannot be removed.
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Workplace:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _sweep(where: Path) -> None:
    """Remove the workplaces that killed programs of this user have left."""
    for left in where.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):
            mine = not hasattr(os, "getuid") or left.lstat().st_uid == os.getuid()
            # Without a lock it is being made at this moment.
            if left.is_symlink() or not mine or not (left / _LOCK).exists():
                continue
            with FileLock(left / _LOCK, timeout=0):
                shutil.rmtree(left, ignore_errors=True)
