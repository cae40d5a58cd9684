"""``FolderWork``: what is done to each file of a folder, and the manifest in which that is written down."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deidlib.attack.attack_step import AttackStep
from deidlib.keys.key import Key
from deidlib.media import MediaWriteError
from deidlib.media.errors import reporting
from deidlib.media.files import make_folder
from deidlib.media.tree import PassedOver
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.file_work import FileWork
from deidlib.protect.manifest import Manifest
from deidlib.protect.outcome import FileResult
from deidlib.protect.sidecar import Sidecar
from deidlib.protect.source import ClipSource
from deidlib.protect.work_folder import BusyError, discard
from deidlib.records.files import remove, sha256_of, temporary_name
from deidlib.records.fingerprint import described, fingerprint

MANIFEST = "deidlib-manifest.jsonl"


class FolderWork:
    """What is done to each file of a folder; of processes that have one each, one does a file.

    Args:
        files: what is done to each.
        source: the folder.
        target: the folder for the outputs; it is created.

    Raises:
        MediaError: the output folder cannot be made.
    """

    def __init__(self, files: FileWork, source: Path, target: Path) -> None:
        make_folder(target)
        self.files, self.source, self.target = files, source, target
        self._manifest = Manifest(target / MANIFEST)
        self._secret = files.key.derive("input") if files.key is not None else _secret_of(target)
        # Where faces are known, they are in it: as with inputs, a plain hash would confirm whoever guesses them.
        self._mark = self._secret.mac(fingerprint(files.settings | {"faces_of": described(files.faces_of)}))

    @property
    def deidentifier(self) -> Deidentifier:
        """What happens to the frames."""
        return self.files.deidentifier

    def pass_over(self, passed_over: Sequence[PassedOver]) -> None:
        """Note in the manifest what else lies in the folder."""
        for passed in passed_over:
            self._manifest.pass_over(passed.path.relative_to(self.source).as_posix(), passed.reason)

    def one(
        self,
        one: Path,
        out: Path,
        *,
        workers: int | None = None,
        progress: Callable[[int], object] | None = None,
        stage: Callable[[str], object] | None = None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> FileResult:
        """Do a file, unless it is finished, and say what became of it: nothing is raised that is the file's fault.

        Args:
            one: a file below the folder.
            out: its output, below the folder for outputs.
            workers: as for :func:`~deidlib.protect_video`.
            progress: as for :func:`~deidlib.protect_video`.
            stage: as for :func:`~deidlib.protect_video`.
            on_step: as for :func:`~deidlib.protect_video`.
        """
        manifest, line = self._manifest, self._line(one, out)

        def told(name: str) -> None:
            # From here on the file is locked: whoever had it before may have finished it.
            manifest.refresh()
            last = manifest.last(line["output"])
            if last is not None and last["status"] == "done" and _is_done(last, line, out):
                raise _FinishedMeanwhile
            if stage is not None:
                stage(name)

        try:
            clip = ClipSource.of_file(one)
            line["input_mac"] = self._secret.mac(str(clip.sha256))
            manifest.refresh()
            last = manifest.last(line["output"])
            summary = None
            if last is not None and _is_done(last, line, out):
                if last["status"] == "begun":
                    # Killed before it could say so.
                    discard(out)
                    manifest.add(line | {"status": "done", "output_sha256": sha256_of(out)})
            else:
                _make_room(out, ours=last is not None and _same(last, line))
                make_folder(out.parent)
                if not out.suffix:
                    # A folder of pictures is never written over, so that it must be known again for our own.
                    manifest.add(line | {"status": "begun"})
                summary = self.files.do(clip, out, workers=workers, progress=progress, stage=told, on_step=on_step)
                manifest.add(line | {"status": "done", "output_sha256": sha256_of(out)})
            return FileResult(one, out, summary)
        except _FinishedMeanwhile:
            return FileResult(one, out)
        except BusyError:
            return FileResult(one, out, elsewhere=True)
        except Exception as error:
            # Whatever is wrong with one file does not stop the others.
            return self._failed(one, out, str(error), line)

    def failed(self, one: Path, out: Path, why: str) -> FileResult:
        """Note that a file was not done, as nobody else can any more.

        Args:
            one: the file.
            out: its output.
            why: in words.
        """
        return self._failed(one, out, why, self._line(one, out))

    def _failed(self, one: Path, out: Path, why: str, line: Mapping[str, Any]) -> FileResult:
        result = self.files.failed(one, out, why)
        error = str(result.error).replace(f"{self.source}/", "")[:10_000]
        self._manifest.add({**line, "status": "failed", "error": error})
        return result

    def _line(self, one: Path, out: Path) -> dict[str, Any]:
        """What the manifest says of a file in any case."""
        return {
            "output": out.relative_to(self.target).as_posix(),
            "input": one.relative_to(self.source).as_posix(),
            "fingerprint": self._mark,
        }


def _secret_of(folder: Path) -> Key:
    """What inputs are known by in a folder's manifest: a plain hash would confirm whoever guesses one.

    Raises:
        MediaWriteError: it cannot be made, or is not ours.
        KeyFileError: what lies there is none.
    """
    path = folder / _SECRET
    with reporting(path, "what inputs are known by"):
        if not os.path.lexists(path):
            mine = temporary_name(path)
            try:
                Key.generate().save(mine)
                # Whole or not at all, and the first of several processes is right.
                with contextlib.suppress(FileExistsError):
                    os.link(mine, path)
            finally:
                remove(mine)
        known = path.lstat()
        if not stat.S_ISREG(known.st_mode) or (hasattr(os, "getuid") and known.st_uid != os.getuid()):
            # Of a secret that somebody else has put there he can confirm what he guesses of the inputs.
            raise MediaWriteError(
                f"{path} is no file of yours but a link or another's. Remove it, or choose another output folder."
            )
    return Key.load(path)


# Lost, every file is done again; it opens nothing.
_SECRET = ".deidlib-inputs.key"


class _FinishedMeanwhile(Exception):
    """Another process has finished the file since it was looked for."""


def _is_done(last: Mapping[str, Any] | None, line: Mapping[str, Any], out: Path) -> bool:
    """The same work on the same file is finished, and its result is there, byte for byte, with its description."""
    if last is None or not _same(last, line) or last["status"] not in ("done", "begun"):
        return False
    known = Sidecar.of_whole(out)
    # Where it was begun, nothing lay: the result is its own.
    return known is not None and (last["status"] == "begun" or last.get("output_sha256") == known.sha256)


def _same(last: Mapping[str, Any], line: Mapping[str, Any]) -> bool:
    return all(last.get(key) == value for key, value in line.items())


def _make_room(out: Path, ours: bool) -> None:
    """A folder of pictures that is there is not written over; one that was ours and has been spoiled is taken away."""
    if not out.is_dir() or out.is_symlink() or not any(out.iterdir()):
        return
    if not ours:
        raise MediaWriteError(f"{out} is there from another run. Remove it, or choose another output folder.")
    pictures = list(out.iterdir())
    for path in pictures:
        if not re.fullmatch(r"\d{6,}\.png|frames\.json", path.name) or path.is_symlink() or not path.is_file():
            raise MediaWriteError(
                f"{out} is not as it was written, and {path.name} in it is none of its frames. Take that out, or "
                "remove the folder."
            )
    for path in pictures:
        path.unlink()
    out.rmdir()
