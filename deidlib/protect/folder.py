"""``protect_folder``: all files of a folder; what is finished is not done again, and what fails stops no other."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from deidlib.attack.attack_step import AttackStep
from deidlib.keys.key import Key
from deidlib.media import MediaWriteError
from deidlib.media.errors import reporting
from deidlib.media.kind import kind_of
from deidlib.media.tree import PassedOver
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.given import Given
from deidlib.protect.image import protect_image
from deidlib.protect.inputs import Inputs
from deidlib.protect.manifest import Manifest
from deidlib.protect.outcome import FileResult
from deidlib.protect.output import Output
from deidlib.protect.segments import BusyError, discard
from deidlib.protect.sidecar import Sidecar
from deidlib.protect.source import ClipSource, path_of
from deidlib.protect.summary import Summary
from deidlib.protect.video import protect_video
from deidlib.protect.workers import Died, Done, Failed, Told, Workers, one_thread, workers_of
from deidlib.records.detections import Detections
from deidlib.records.files import remove, sha256_of, temporary_name
from deidlib.records.fingerprint import described, fingerprint
from deidlib.records.versions import versions

MANIFEST = "deidlib-manifest.jsonl"


@dataclass(frozen=True)
class FolderSummary:
    """What became of a folder.

    Args:
        files: one result per file, in order.
        passed_over: what else lies in the folder, and why it was left alone.
    """

    files: Sequence[FileResult] = field(default_factory=tuple)
    passed_over: Sequence[PassedOver] = ()

    def __repr__(self) -> str:
        done = sum(file.summary is not None for file in self.files)
        counts = {"done": done, "failed": len(self.failed), "finished before": self.finished_before,
                  "done elsewhere": self.elsewhere, "passed over": len(self.passed_over)}  # fmt: skip
        said = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
        return f"FolderSummary({len(self.files)} file{'s' * (len(self.files) != 1)}: {said or 'nothing to do'})"

    @property
    def failed(self) -> list[FileResult]:
        """Those that failed."""
        return [file for file in self.files if file.error is not None]

    @property
    def finished_before(self) -> int:
        """How many were finished before, and left as they are."""
        return sum(file.finished_before for file in self.files)

    @property
    def elsewhere(self) -> int:
        """How many were passed over, since other processes work on them."""
        return sum(file.elsewhere for file in self.files)


def protect_folder(
    deidentifier: Deidentifier,
    source: str | Path,
    target: str | Path,
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    key: Key | None = None,
    batch_size: int | None = None,
    workers: int | Literal["auto"] | None = None,
    faces_of: Callable[[Path], Given | None] | None = None,
    begin: Callable[[Path], object] | None = None,
    done: Callable[[FileResult], object] | None = None,
    inputs: Inputs | None = None,
    progress: Callable[[int], object] | None = None,
    stage: Callable[[str], object] | None = None,
    on_step: Callable[[AttackStep], object] | None = None,
) -> FolderSummary:
    """Protect all images and videos below a folder, file by file.

    A manifest in the output folder says what has been done with which settings, and what was passed over: called again,
    what is finished is left as it is, and what was interrupted goes on. Every file has a nonce of its own, so that no
    two are scrambled alike. Several processes may work on one folder: each file is done by one of them.

    Args:
        deidentifier: what happens to the frames.
        source: the folder.
        target: the folder for the outputs, with the same tree below; it is created.
        output: how videos are written.
        check: what the files must show their authorised readers.
        key: the models read for its holder only.
        batch_size: as for :func:`~deidlib.protect_video`.
        workers: as for :func:`~deidlib.protect_video`: each has a file of its own, or, of fewer files than workers,
            all of them have the same one.
        faces_of: told a file, where faces are in its frames, if that is known.
        begin: told the file that is begun.
        done: told what became of it.
        inputs: the files, if the folder has been looked through before.
        progress: as for :func:`~deidlib.protect_video`.
        stage: as for :func:`~deidlib.protect_video`; not told of files that workers have to themselves.
        on_step: as for :func:`~deidlib.protect_video`.

    Returns:
        What became of every file, in their order; one that fails stops no other.

    Raises:
        MediaError: there is nothing to be protected, or the output folder cannot be made.
    """
    source, target = Path(source), Path(target)
    inputs = Inputs.below(source, target, output.codec) if inputs is None else inputs
    work = FolderWork(
        deidentifier, source, target, output=output, check=check, key=key, batch_size=batch_size, faces_of=faces_of
    )
    work.pass_over(inputs.passed_over)
    count = None if workers is None else workers_of(workers, deidentifier.device())
    begin, done = begin or _ignore, done or _ignore
    if count is not None and count <= len(inputs.pairs):
        results = _over_files(work, inputs.pairs, count, begin, done, progress or _ignore)
        return FolderSummary(tuple(results), inputs.passed_over)
    results = []
    for one, out in inputs.pairs:
        begin(one)
        results.append(work.one(one, out, workers=count, progress=progress, stage=stage, on_step=on_step))
        done(results[-1])
    return FolderSummary(tuple(results), inputs.passed_over)


def _over_files(
    work: FolderWork,
    pairs: Sequence[tuple[Path, Path]],
    count: int,
    begin: Callable[[Path], object],
    done: Callable[[FileResult], object],
    progress: Callable[[int], object],
) -> list[FileResult]:
    """All files, each by one of the workers."""
    results: dict[int, FileResult] = {}
    with Workers(count, _OneFile(work), work.deidentifier.device()) as workers:
        for file, event in workers.over(pairs, lambda file: begin(pairs[file][0])):
            match event:
                case Told(_, frames):
                    progress(frames)
                    continue
                case Done(_, result):
                    results[file] = result
                case Failed(_, error):
                    results[file] = work.failed(*pairs[file], str(error))
                case Died(_, why):
                    again = "Run again: it goes on after its last complete part."
                    results[file] = work.failed(*pairs[file], f"the worker that did it {why}. {again}")
            done(results[file])
    return [results[file] for file in range(len(pairs))]


class _OneFile(NamedTuple):
    """What a worker does."""

    work: FolderWork

    def __call__(self, order: tuple[Path, Path], tell: Callable[[int], None], /) -> FileResult:
        return self.work.one(*order, progress=tell)


def _ignore(_: object) -> None:
    pass


class FolderWork:
    """What is done to each file of a folder; of processes that have one each, one does a file.

    Args:
        deidentifier: what happens to the frames.
        source: the folder.
        target: the folder for the outputs; it is created.
        output: how videos are written.
        check: what the files must show their authorised readers.
        key: the models read for its holder only.
        batch_size: as for :func:`~deidlib.protect_video`.
        faces_of: told a file, where faces are in its frames, if that is known.

    Raises:
        MediaError: the output folder cannot be made.
    """

    def __init__(
        self,
        deidentifier: Deidentifier,
        source: Path,
        target: Path,
        *,
        output: Output = Output(),
        check: Check | None = Check(),
        key: Key | None = None,
        batch_size: int | None = None,
        faces_of: Callable[[Path], Given | None] | None = None,
    ) -> None:
        make_folder(target)
        self.deidentifier, self.source, self.target = deidentifier, source, target
        self.output, self.check, self.key = output, check, key
        self.batch_size, self.faces_of = batch_size, faces_of
        self._manifest = Manifest(target / MANIFEST)
        self._secret = key.derive("input") if key is not None else _secret_of(target)
        settings: dict[str, Any] = {
            "deidentifier": described(deidentifier),
            "output": described(output),
            "check": described(check),
            "faces_of": described(faces_of),
            "key": None if key is None else key.id,
            "versions": versions(),
        }
        # Where faces are known, they are in it: as with inputs, a plain hash would confirm whoever guesses them.
        self._mark = self._secret.mac(fingerprint(settings))

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
                faces = None if self.faces_of is None else self.faces_of(one)
                summary = protect_file(
                    self.deidentifier, clip, out, output=self.output, check=self.check, faces=faces, key=self.key,
                    batch_size=self.batch_size, workers=workers, progress=progress, stage=told, on_step=on_step,
                )  # fmt: skip
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
        message = why if str(one) in why else f"{one}: {why}"
        self._manifest.add({**line, "status": "failed", "error": message.replace(f"{self.source}/", "")[:10_000]})
        return FileResult(one, out, error=message)

    def _line(self, one: Path, out: Path) -> dict[str, Any]:
        """What the manifest says of a file in any case."""
        return {
            "output": out.relative_to(self.target).as_posix(),
            "input": one.relative_to(self.source).as_posix(),
            "fingerprint": self._mark,
        }


def protect_file(
    deidentifier: Deidentifier,
    source: str | Path | int | ClipSource,
    target: str | Path,
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    faces: Given | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    workers: int | Literal["auto"] | None = None,
    limit: int | None = None,
    progress: Callable[[int], object] | None = None,
    stage: Callable[[str], object] | None = None,
    on_step: Callable[[AttackStep], object] | None = None,
) -> Summary:
    """Protect an image or a video, whichever it is; the arguments are those of :func:`~deidlib.protect_video`.

    Raises:
        MediaError: a file cannot be read or written.
        ValueError: ``faces`` of several frames for an image, or a setting that makes no sense.
    """
    if not isinstance(source, int) and source != "-" and kind_of(path_of(source)) == "image":
        if faces is not None and len(faces) != 1:
            raise ValueError(f"{path_of(source)} is one image; faces are given for {len(faces)} frames.")
        known = faces if faces is None or isinstance(faces, Detections) else faces[0]
        with one_thread(deidentifier.device()) if workers is not None else contextlib.nullcontext():
            summary = protect_image(deidentifier, source, target, check=check, faces=known, key=key, on_step=on_step)
        if progress is not None:
            progress(1)
        return summary
    return protect_video(
        deidentifier, source, target, output=output, check=check, faces=faces, key=key,
        batch_size=batch_size, workers=workers, limit=limit, progress=progress, stage=stage, on_step=on_step,
    )  # fmt: skip


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
