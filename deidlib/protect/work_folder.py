"""``WorkFolder``: a folder beside an output in which it comes about, locked, sealed, and for its owner's eyes only."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from deidlib.bounded import Shape, fields, json_of, read_bounded, read_json, text
from deidlib.keys.key import Key, KeyFileError
from deidlib.media import MediaWriteError
from deidlib.media.errors import reporting
from deidlib.records.files import atomic_write, name_beside
from deidlib.records.fingerprint import fingerprint


class BusyError(MediaWriteError):
    """Another process works on the same output."""


class ChangedError(MediaWriteError):
    """Unfinished work, or what was made of it, is not as it was left: it is thrown away, and nothing is published."""


_SEALED = fields({"sealed": text(1 << 28)})
_JOB = fields({"mac": text(32, r"[0-9a-f]{32}")})
_LOCK, _OWNER, _KEY = "lock", "owner", "key"
# What the user's key is derived for, when it seals a work folder.
_PURPOSE = "work folder"
# Seconds: a lock whose last owner is just removing it is gone by then.
_PATIENCE = 0.25


class WorkFolder:
    """The folder in which a clip is worked on: locked, and begun anew unless it is about the same work.

    It holds protected frames, and what authorised models read on the originals; only its owner may look into it. The
    lock is the system's: it ends with the process that holds it, however that ends, so that none is ever left behind.

    Args:
        target: the output; the folder lies beside it.
        job: what the work is: settings and input. Work on anything else is thrown away.
        key: for whose holder alone the notes are readable; else a key that lies in the folder, and serves only to
            show that they are this job's and unchanged.

    Raises:
        MediaWriteError: another process works on the same output, or the folder cannot be made, or something else lies
            there.
    """

    def __init__(self, target: Path, job: Mapping[str, Any], key: Key | None = None) -> None:
        self.target = target
        self.path = _folder_of(target)
        self._lock: FileLock | None = None
        with reporting(target, "its work folder"):
            self._lock = _locked(self.path, target)
            self._job = fingerprint(dict(job))
            known = self._known_key(key)
            if known is None:
                _empty(self.path, but=(_LOCK, _OWNER))
                known = key.derive(_PURPOSE) if key is not None else Key.generate()
                if key is None:
                    known.save(self.path / _KEY)
                # A hash of the input would confirm whoever guesses it.
                _write(self.path / "job.json", json.dumps({"mac": known.mac(self._job)}))
            self._key = known
            self._sweep()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(keep=any(self.path.glob("*.mkv")))

    def close(self, *, keep: bool) -> None:
        """Let go of the folder, and remove it unless it is to be gone on from."""
        if self._lock is None:
            return
        if not keep:
            _remove(self.path)
        self._lock.release()
        self._lock = None

    def note(self, name: str, shape: Shape) -> dict[str, Any] | None:
        """A note left here before by this job; None if there is none, or it is not as this job left it.

        Args:
            name: of the note.
            shape: what it must be; one that is not is as good as none.
        """
        stored = read_json(self.path / f"{name}.json", _SEALED)
        if stored is None:
            return None
        try:
            sealed = base64.b64decode(stored["sealed"], validate=True)
            note: dict[str, Any] = json_of(self._key.decrypt(sealed, f"{self._job} {name}").decode())
            shape(note, name)
        except ValueError:
            return None
        return note

    def leave(self, name: str, note: Mapping[str, Any]) -> None:
        """Leave a note, sealed: whoever changes it, or gives it another name or job, makes it nobody's."""
        sealed = self._key.encrypt(json.dumps(dict(note)).encode(), f"{self._job} {name}")
        with reporting(self.target, "its notes"):
            _write(self.path / f"{name}.json", json.dumps({"sealed": base64.b64encode(sealed).decode()}))

    def output(self) -> Path:
        """Where the output may be written before it gets its name; nothing lies there."""
        path = self.path / "output" / self.target.name
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        return path

    def _known_key(self, key: Key | None) -> Key | None:
        """The key of the work that lies here; None if it is other work, or nobody's."""
        try:
            known = key.derive(_PURPOSE) if key is not None else Key.load(self.path / _KEY)
        except KeyFileError:
            return None
        stored = read_json(self.path / "job.json", _JOB)
        return known if stored is not None and known.verify(self._job, stored["mac"]) else None

    def _sweep(self) -> None:
        """What a killed process was writing."""
        for path in self.path.glob("*.partial"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def discard(target: Path) -> None:
    """Remove the work folder of an output that is finished, unless another process has it."""
    path = _folder_of(target)
    if os.path.lexists(path):
        with contextlib.suppress(BusyError):
            lock = _locked(path, target)
            _remove(path)
            lock.release()


def _folder_of(target: Path) -> Path:
    return name_beside(target, ".", ".deidlib-work")


def _write(path: Path, content: str) -> None:
    """A file that appears complete, for its owner's eyes only."""
    with atomic_write(path) as temporary:
        temporary.touch(0o600, exist_ok=False)
        temporary.write_text(content, encoding="utf-8")


def _empty(folder: Path, *, but: Sequence[str]) -> None:
    for path in folder.iterdir():
        if path.name not in but:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _remove(folder: Path) -> None:
    """The lock last: whoever gets it then finds nothing beside it that is just being removed."""
    with contextlib.suppress(OSError):
        _empty(folder, but=(_LOCK,))
    shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path, target: Path) -> FileLock:
    """The lock of a folder that nobody else has."""
    _make(folder, target)
    # A thread may close what another one has opened.
    lock = FileLock(folder / _LOCK, timeout=_PATIENCE, mode=0o600, thread_local=False)
    try:
        lock.acquire(poll_interval=0.02)
        # Its last owner may have removed it since; a lock makes it anew, for everybody to see.
        _make(folder, target)
        _write(folder / _OWNER, f"process {os.getpid()}\n")
    except (Timeout, FileNotFoundError):
        # Of a folder that is gone by now there may be a lock.
        lock.release()
        try:
            known = read_bounded(folder / _OWNER, 100).decode().strip()
        except (OSError, ValueError):
            known = "unknown"
        raise BusyError(
            f"{target} is being written by another process ({known}). Wait for it, or choose another name."
        ) from None
    except BaseException:
        lock.release()
        raise
    return lock


def _make(folder: Path, target: Path) -> None:
    """Make the folder for its owner's eyes only; what somebody else has put there is refused."""
    try:
        folder.mkdir(mode=0o700)
        return
    except FileExistsError:
        pass
    # If it is gone by now, its last owner has just removed it.
    with contextlib.suppress(FileNotFoundError):
        known = folder.lstat()
        if not stat.S_ISDIR(known.st_mode) or (hasattr(os, "getuid") and known.st_uid != os.getuid()):
            raise MediaWriteError(
                f"{target}: {folder} is no work folder of yours but a link or another's file. Remove it."
            )
        if known.st_mode & 0o077:
            folder.chmod(known.st_mode & 0o700)
        # Whoever could write here before may have put links: nothing is to be read or written through one. From here on
        # nobody else can.
        for path in list(folder.iterdir()):
            mode, links = path.lstat().st_mode, path.lstat().st_nlink
            if not stat.S_ISDIR(mode) and not (stat.S_ISREG(mode) and links == 1):
                path.unlink()
