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
from deidlib.media import MediaReadError, MediaWriteError
from deidlib.media.clip import kind_of
from deidlib.media.files import exists, input_sha256
from deidlib.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.given import Given
from deidlib.protect.image import protect_image
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
    """

    files: Sequence[FileResult] = field(default_factory=tuple)

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
    progress: Callable[[int], object] | None = None,
    stage: Callable[[str], object] | None = None,
) -> FolderSummary:
    """Protect all images and videos below a folder, file by file.

    A manifest in the output folder says what has been done with which settings: called again, what is finished is left
    as it is, and what was interrupted goes on. Every file has a nonce of its own, so that no two are scrambled alike.

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
        progress: as for :func:`~deidlib.protect_video`.
        stage: as for :func:`~deidlib.protect_video`.

    Returns:
        What became of every file; one that fails stops no other.

    Raises:
        MediaError: there is nothing to be protected, or the output folder cannot be made.
    """
    source, target = Path(source), Path(target)
    pairs = pairs_below(source, target, output.codec)
    make_folder(target)
    manifest = Manifest(target / MANIFEST)
    settings: dict[str, Any] = {
        "deidentifier": described(deidentifier),
        "output": described(output),
        "check": described(check),
        "faces_of": described(faces_of),
        "key": None if key is None else key.id,
        "versions": versions(),
    }
    mark, results = fingerprint(settings), []
    for one, out in pairs:
        if begin is not None:
            begin(one)
        line = {"output": out.relative_to(target).as_posix(), "input": one.relative_to(source).as_posix()}
        line["fingerprint"] = mark
        try:
            line["input_sha256"] = input_sha256(one)
            summary = None
            if not _is_done(manifest.last(line["output"]), line, out):
                _replaceable(out)
                make_folder(out.parent)
                faces = None if faces_of is None else faces_of(one)
                summary = protect_file(
                    deidentifier, one, out, output=output, check=check, faces=faces, key=key,
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
    return FolderSummary(tuple(results))


def protect_file(
    deidentifier: Deidentifier,
    source: str | Path | int,
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
    if isinstance(source, str | Path) and source != "-" and kind_of(Path(source)) == "image":
        if faces is not None and len(faces) != 1:
            raise ValueError(f"{source} is one image; faces are given for {len(faces)} frames.")
        known = faces if faces is None or isinstance(faces, Detections) else faces[0]
        return protect_image(deidentifier, source, target, check=check, faces=known, key=key)
    return protect_video(
        deidentifier, source, target, output=output, check=check, faces=faces, key=key,
        batch_size=batch_size, limit=limit, progress=progress, stage=stage,
    )  # fmt: skip


def pairs_below(source: Path, target: Path, codec: str) -> list[tuple[Path, Path]]:
    """Inputs and outputs: of a file, or of all files below a folder, whose tree is kept.

    Images become ``.png``, videos what the codec needs. Hidden files and what is neither are passed over.

    Args:
        source: the file or folder.
        target: the file, or the folder for the outputs.
        codec: one of ``deidlib.media.CODECS``.

    Raises:
        MediaError: there is nothing to be protected, a folder cannot be read, or two files would get one name.
    """
    exists(target, MediaWriteError)
    if not exists(source, MediaReadError):
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

    def refuse(error: OSError) -> None:
        raise MediaReadError(
            f"the folder {error.filename} cannot be read ({error.strerror}), so what is in it would be left out. "
            "Make it readable, or move it away."
        ) from error

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (path for name in names if (path := Path(place, name)).is_file())


def suffix_of(source: Path, codec: str) -> str:
    """How the output for a file is called."""
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return ".png"
    return {"ffv1": ".mkv", "h264": ".mp4", "h264-lossless": ".mp4", "mjpeg": ".avi", "png-folder": ""}[codec]


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
        self._last = {line["output"]: line for line in self._lines()}

    def last(self, output: str) -> dict[str, Any] | None:
        """The last line about an output."""
        return self._last.get(output)

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line, which must have an ``"output"``.

        Raises:
            OSError: it cannot be written.
        """
        output = str(line["output"])
        with self.path.open("a+b") as file:
            # After a line cut short, the next one begins on its own.
            torn = file.tell() > 0 and _last_byte(self.path) != b"\n"
            file.write(("\n" * torn + json.dumps(line) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        self._last[output] = dict(line)

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and isinstance(line.get("output"), str):
                    yield line


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
