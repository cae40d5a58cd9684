"""``protect_folder``: all files of a folder; what is finished is not done again, and what fails stops no other."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deidlib.keys.key import Key
from deidlib.media import MediaWriteError
from deidlib.media.kind import kind_of
from deidlib.media.tree import PassedOver
from deidlib.protect.check import Check
from deidlib.protect.clip import ClipSource, path_of
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.given import Given
from deidlib.protect.image import protect_image
from deidlib.protect.inputs import Inputs
from deidlib.protect.output import Output
from deidlib.protect.summary import Summary
from deidlib.protect.video import protect_video
from deidlib.records.detections import Detections
from deidlib.records.files import sha256_of
from deidlib.records.fingerprint import described, fingerprint
from deidlib.records.versions import versions

MANIFEST = "deidlib-manifest.jsonl"


@dataclass(frozen=True)
class FileResult:
    """What became of one file of a folder.

    Args:
        source: the input.
        target: the output.
        summary: what happened; None if it failed or was finished before.
        error: why it failed, naming the file; None if it did not.
    """

    source: Path
    target: Path
    summary: Summary | None = None
    error: str | None = None

    @property
    def finished_before(self) -> bool:
        """Whether nothing was left to be done."""
        return self.summary is None and self.error is None


@dataclass(frozen=True)
class FolderSummary:
    """What became of a folder.

    Args:
        files: one result per file, in order.
        passed_over: what else lies in the folder, and why it was left alone.
    """

    files: Sequence[FileResult] = field(default_factory=tuple)
    passed_over: Sequence[PassedOver] = ()

    @property
    def failed(self) -> list[FileResult]:
        """Those that failed."""
        return [file for file in self.files if file.error is not None]

    @property
    def finished_before(self) -> int:
        """How many were finished before, and left as they are."""
        return sum(file.finished_before for file in self.files)


def protect_folder(
    deidentifier: Deidentifier,
    source: str | Path,
    target: str | Path,
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    key: Key | None = None,
    batch_size: int = 8,
    faces_of: Callable[[Path], Given | None] | None = None,
    begin: Callable[[Path], object] | None = None,
    done: Callable[[FileResult], object] | None = None,
    inputs: Inputs | None = None,
    progress: Callable[[int], object] | None = None,
    stage: Callable[[str], object] | None = None,
) -> FolderSummary:
    """Protect all images and videos below a folder, file by file.

    A manifest in the output folder says what has been done with which settings, and what was passed over: called again,
    what is finished is left as it is, and what was interrupted goes on. Every file has a nonce of its own, so that no
    two are scrambled alike.

    Args:
        deidentifier: what happens to the frames.
        source: the folder.
        target: the folder for the outputs, with the same tree below; it is created.
        output: how videos are written.
        check: what the files must show their authorised readers.
        key: the models read for its holder only.
        batch_size: frames attacked at a time.
        faces_of: told a file, where faces are in its frames, if that is known.
        begin: told the file that is begun.
        done: told what became of it.
        inputs: the files, if the folder has been looked through before.
        progress: as for :func:`~deidlib.protect_video`.
        stage: as for :func:`~deidlib.protect_video`.

    Returns:
        What became of every file; one that fails stops no other.

    Raises:
        MediaError: there is nothing to be protected, or the output folder cannot be made.
    """
    source, target = Path(source), Path(target)
    inputs = Inputs.below(source, target, output.codec) if inputs is None else inputs
    make_folder(target)
    manifest = Manifest(target / MANIFEST)
    for passed in inputs.passed_over:
        manifest.pass_over(passed.path.relative_to(source).as_posix(), passed.reason)
    settings: dict[str, Any] = {
        "deidentifier": described(deidentifier),
        "output": described(output),
        "check": described(check),
        "faces_of": described(faces_of),
        "key": None if key is None else key.id,
        "versions": versions(),
    }
    mark, results = fingerprint(settings), []
    for one, out in inputs.pairs:
        if begin is not None:
            begin(one)
        line: dict[str, Any] = {
            "output": out.relative_to(target).as_posix(),
            "input": one.relative_to(source).as_posix(),
        }
        line["fingerprint"] = mark
        try:
            clip = ClipSource.of_file(one)
            line["input_sha256"] = clip.sha256
            summary = None
            if not _is_done(manifest.last(line["output"]), line, out):
                _replaceable(out)
                make_folder(out.parent)
                faces = None if faces_of is None else faces_of(one)
                summary = protect_file(
                    deidentifier, clip, out, output=output, check=check, faces=faces, key=key,
                    batch_size=batch_size, progress=progress, stage=stage,
                )  # fmt: skip
                size = {} if out.is_dir() else {"output_bytes": out.stat().st_size}
                manifest.add(line | {"status": "done", "output_sha256": sha256_of(out)} | size)
            result = FileResult(one, out, summary)
        except Exception as error:
            # Whatever is wrong with one file does not stop the others.
            message = str(error) if str(one) in str(error) else f"{one}: {error}"
            manifest.add(line | {"status": "failed", "error": message.replace(f"{source}/", "")})
            result = FileResult(one, out, error=message)
        results.append(result)
        if done is not None:
            done(result)
    return FolderSummary(tuple(results), inputs.passed_over)


def protect_file(
    deidentifier: Deidentifier,
    source: str | Path | int | ClipSource,
    target: str | Path,
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    faces: Given | None = None,
    key: Key | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    progress: Callable[[int], object] | None = None,
    stage: Callable[[str], object] | None = None,
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
        return protect_image(deidentifier, source, target, check=check, faces=known, key=key)
    return protect_video(
        deidentifier, source, target, output=output, check=check, faces=faces, key=key,
        batch_size=batch_size, limit=limit, progress=progress, stage=stage,
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


def _is_done(last: dict[str, Any] | None, line: dict[str, Any], out: Path) -> bool:
    """The same work on the same file is finished, and its result is there."""
    if last is None or last.get("status") != "done" or any(last.get(key) != value for key, value in line.items()):
        return False
    return out.is_dir() or (out.is_file() and out.stat().st_size == last.get("output_bytes"))


def _replaceable(out: Path) -> None:
    """A folder of pictures that is there is not written over."""
    if out.is_dir() and any(out.iterdir()):
        raise MediaWriteError(f"{out} is there from another run. Remove it, or choose another output folder.")


class Manifest:
    """What happened to the files of a folder, one JSON object a line; the last line about an output counts.

    Lines are only ever added, each one synchronised with the disk. A line cut short by a crash is passed over.

    Args:
        path: the file; it need not exist.

    Example:
        >>> import tempfile
        >>> manifest = Manifest(Path(tempfile.mkdtemp(), "manifest.jsonl"))
        >>> manifest.add({"output": "a.mkv", "status": "failed"})
        >>> manifest.add({"output": "a.mkv", "status": "done"})
        >>> manifest.last("a.mkv")
        {'output': 'a.mkv', 'status': 'done'}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = list(self._lines())
        self._last = {line["output"]: line for line in lines if isinstance(line.get("output"), str)}
        self._passed_over = {line.get("input"): line.get("reason") for line in lines if "output" not in line}

    def last(self, output: str) -> dict[str, Any] | None:
        """The last line about an output."""
        return self._last.get(output)

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line, which must have an ``"output"``.

        Raises:
            OSError: it cannot be written.
        """
        self._append(line)
        self._last[str(line["output"])] = dict(line)

    def pass_over(self, name: str, reason: str) -> None:
        """Append a line about what is no input, unless the last one about it says the same.

        Raises:
            OSError: it cannot be written.
        """
        if self._passed_over.get(name) != reason:
            self._append({"input": name, "status": "passed-over", "reason": reason})
            self._passed_over[name] = reason

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a+b") as file:
            # After a line cut short, the next one begins on its own.
            torn = file.tell() > 0 and _last_byte(self.path) != b"\n"
            file.write(("\n" * torn + json.dumps(line) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
