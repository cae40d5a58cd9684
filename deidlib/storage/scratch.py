"""``Scratch``: where a clip of another store lies while it is worked on, for its owner's eyes only, and no longer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from deidlib.storage.errors import StorageError

ORIGINAL, WORK = "original", "work"
"""Folders of a clip: what was fetched, and what is made of it."""
# Seconds after which what a killed process left is gone on from by nobody.
_KEPT = 24 * 3600


class ScratchBusyError(StorageError):
    """Another process on this machine works on the same clip."""


class Scratch:
    """A folder with a folder for each clip that is worked on.

    When a clip is done, or has failed, its folder goes. What was interrupted leaves its work, not the original, so that
    whoever comes next on this machine, or on this shared disk, goes on. What a killed process leaves is cleared up by
    the next one: the original at once, the work after a day.

    Args:
        root: the folder; by default one of this user in the system's folder for temporary files.

    Raises:
        StorageError: it cannot be made, or is another's.

    Example:
        >>> with Scratch(Path(tempfile.mkdtemp())).folder("s3://bucket/drive.mp4") as folder:
        ...     sorted(path.name for path in folder.iterdir())
        ['original', 'work']
        >>> folder.exists()
        False
    """

    def __init__(self, root: Path | None = None) -> None:
        user = os.getuid() if hasattr(os, "getuid") else os.getlogin()
        self.root = root or Path(tempfile.gettempdir(), f"deidlib-{user}")
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            known = self.root.lstat()
            if not stat.S_ISDIR(known.st_mode) or (hasattr(os, "getuid") and known.st_uid != os.getuid()):
                raise StorageError(
                    f"the scratch folder {self.root} is a link or another's. Remove it, or name one: --scratch."
                )
            if root is None and known.st_mode & 0o077:
                self.root.chmod(0o700)
        except OSError as error:
            raise StorageError(
                f"the scratch folder {self.root} cannot be made ({error.strerror}). Name another one: --scratch."
            ) from error
        self.sweep()

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """The folder of a clip, with two in it, ``original`` and ``work``.

        Args:
            name: of the clip's output: the same one finds what was left.

        Raises:
            ScratchBusyError: another process has it.
            StorageError: it cannot be made.
        """
        place = self.root / hashlib.sha256(name.encode()).hexdigest()[:32]
        with self._locked(place) as got:
            if not got:
                raise ScratchBusyError(f"{name} is being made by another process on this machine. Wait for it.")
            try:
                shutil.rmtree(place / ORIGINAL, ignore_errors=True)
                for part in (place, place / ORIGINAL, place / WORK):
                    part.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise StorageError(f"no scratch for {name} in {self.root} ({error.strerror}). Make space.") from error
            try:
                yield place
            except Exception:
                shutil.rmtree(place, ignore_errors=True)
                raise
            except BaseException:
                shutil.rmtree(place / ORIGINAL, ignore_errors=True)
                raise
            shutil.rmtree(place, ignore_errors=True)

    def sweep(self) -> None:
        """Clear up what killed processes left."""
        for place in self.root.glob("[0-9a-f]" * 32):
            with self._locked(place) as got, contextlib.suppress(OSError):
                if got:
                    shutil.rmtree(place / ORIGINAL, ignore_errors=True)
                    if time.time() - place.stat().st_mtime > _KEPT:
                        shutil.rmtree(place, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, place: Path) -> Iterator[bool]:
        lock = FileLock(place.with_suffix(".lock"), timeout=0, mode=0o600, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            # Whoever waits for a lock that is unlinked would hold one that nobody else sees; nobody waits here.
            with contextlib.suppress(OSError):
                if not place.exists():
                    place.with_suffix(".lock").unlink()
            lock.release()
