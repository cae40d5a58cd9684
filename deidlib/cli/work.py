"""The files of a run: one after the other, with bars, and for a folder with a manifest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from deidlib.cli.files import IMAGE_SUFFIXES, make_folder

MANIFEST = "deidlib-manifest.jsonl"

# Keywords of a video that an image has, too.
_OF_IMAGES = ("verify", "quality_wanted", "repairs", "key")


@dataclass(frozen=True)
class Work:
    """What is done to each file.

    Args:
        deidentifier: a :class:`deidlib.Deidentifier`.
        video: the keywords of its ``video``, but for those that differ from file to file.
        faces: per frame where faces are, if that is known.
    """

    deidentifier: Any
    video: dict[str, Any]
    faces: Sequence[Any] | None = None

    def one(self, source: Path | str | int, target: Path, label: str) -> None:
        """Protect a file, and say what happened.

        Raises:
            ValueError: a file cannot be read or written, or shows no face where there must be one.
        """
        make_folder(target.parent)
        if isinstance(source, Path) and source.suffix.lower() in IMAGE_SUFFIXES:
            faces = None if self.faces is None else self._single(source)
            settings = {name: value for name, value in self.video.items() if name in _OF_IMAGES}
            self.report(source, target, self.deidentifier.image(source, target, faces=faces, **settings))
        else:
            self.report(source, target, self._video(source, target, label))

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON."""
        from deidlib.records.fingerprint import described
        from deidlib.records.versions import versions

        return {"deidentifier": described(self.deidentifier), "video": self.video, "versions": versions()}

    def report(self, source: Path | str | int, target: Path, summary: Any) -> None:
        """Print what happened to a file."""
        report(source, target, summary)

    def _video(self, source: Path | str | int, target: Path, label: str) -> Any:
        from tqdm.auto import tqdm

        frames = None if isinstance(source, str | int) else self._announce(source)
        # The header's count may be wrong: it only scales the bar.
        with tqdm(total=frames, unit="frame", desc=label, file=sys.stderr) as bar:

            def stage(name: str) -> None:
                bar.set_description(f"{label} {name}")

            return self.deidentifier.video(
                source, target, **self.video, faces=self.faces, progress=bar.update, stage=stage
            )

    def _single(self, source: Path) -> Any:
        if self.faces is None or len(self.faces) != 1:
            raise ValueError(f"{source} is one image; faces are given for {len(self.faces or ())} frames.")
        return self.faces[0]

    def _announce(self, source: Path) -> int | None:
        from deidlib.media import VideoReader

        with VideoReader(source) as reader:
            info = reader.info
        if info.has_audio and self.video["audio"] == "copy":
            say(f"{source}: its sound is copied, and a voice identifies", err=True)
        elif info.has_audio:
            say(f"{source}: its sound is left out, since a voice identifies", err=True)
        if info.interlaced:
            say(f"{source}: interlaced; each frame holds two half-pictures and is hidden as it is", err=True)
        return info.frames


def run(work: Work, jobs: Sequence[tuple[Path, Path]], source: Path, target: Path) -> None:
    """Do the work on a file, or on all files of a folder, and end the program as it went.

    Raises:
        ValueError: a single file cannot be read or written, or shows no face where there must be one.
        typer.Exit: files of a folder failed, or the user interrupted.
    """
    failed = 0
    try:
        if source.is_dir():
            failed = run_folder(work, jobs, source, target)
        else:
            _run_one(work, source, target)
    except KeyboardInterrupt:
        typer.echo(
            "interrupted; nothing was left under an unfinished output's name. The same command goes on where it "
            "stopped.",
            err=True,
        )
        raise typer.Exit(130) from None
    if failed:
        typer.echo(f"{failed} of {len(jobs)} files failed", err=True)
        raise typer.Exit(1)


def _run_one(work: Work, source: Path, target: Path) -> None:
    try:
        work.one(source, target, source.name)
    except ValueError as error:
        raise ValueError(_named(error, source)) from error


def run_folder(work: Work, jobs: Sequence[tuple[Path, Path]], source: Path, target: Path) -> int:
    """Protect all files of a folder; what is finished is not done again, and what fails does not stop the others.

    Args:
        work: what is done to each.
        jobs: inputs and outputs.
        source: the folder that the inputs lie in.
        target: the folder that the outputs go to; its manifest says what has been done.

    Returns:
        How many files failed.
    """
    from tqdm.auto import tqdm

    from deidlib.protect.manifest import Manifest
    from deidlib.records.files import sha256_of
    from deidlib.records.fingerprint import fingerprint

    make_folder(target)
    manifest, mark, failed, finished = Manifest(target / MANIFEST), fingerprint(work.settings()), 0, 0
    with tqdm(total=len(jobs), unit="file", desc="all files", file=sys.stderr) as bar:
        for number, (one, out) in enumerate(jobs):
            line = {"output": out.relative_to(target).as_posix(), "input": one.relative_to(source).as_posix()}
            line["fingerprint"] = mark
            try:
                line["input_sha256"] = _readable(sha256_of, one)
                if _is_done(manifest.last(line["output"]), line, out):
                    finished += 1
                else:
                    _replaceable(out)
                    work.one(one, out, f"{number + 1}/{len(jobs)} {one.name}")
                    size = {} if out.is_dir() else {"output_bytes": out.stat().st_size}
                    manifest.add(line | {"status": "done", "output_sha256": sha256_of(out)} | size)
            except Exception as error:
                # Whatever is wrong with one file does not stop the others; the exit code tells.
                message = _named(error, one)
                say(f"error: {message}", err=True)
                manifest.add(line | {"status": "failed", "error": message.replace(f"{source}/", "")})
                failed += 1
            bar.update()
    if finished:
        say(f"{finished} of {len(jobs)} files were finished before, and left as they are", err=True)
    return failed


def _named(error: Exception, path: Path) -> str:
    """What went wrong, and with which file."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"


def _is_done(last: dict[str, Any] | None, line: dict[str, Any], out: Path) -> bool:
    """The same work on the same file is finished, and its result is there."""
    if last is None or last.get("status") != "done" or any(last.get(key) != value for key, value in line.items()):
        return False
    return out.is_dir() or (out.is_file() and out.stat().st_size == last.get("output_bytes"))


def _replaceable(out: Path) -> None:
    """A folder of pictures that is there is not written over."""
    from deidlib.media import MediaWriteError

    if out.is_dir() and any(out.iterdir()):
        raise MediaWriteError(f"{out} is there from another run. Remove it, or choose another output folder.")


def _readable(read: Callable[[Path], str], path: Path) -> str:
    from deidlib.media import MediaReadError

    try:
        return read(path)
    except OSError as error:
        raise MediaReadError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error


def say(text: str, *, err: bool = False) -> None:
    """Print a line above the bars."""
    from tqdm.auto import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        typer.echo(text, err=err)


def report(source: Path | str | int, target: Path, summary: Any) -> None:
    """Print what happened to a file."""
    losses = ", ".join(f"{name} {value:.3f}" for name, value in summary.losses.items()) or "none"
    say(
        f"{target}: {summary.frames} frames, {summary.found} with faces hidden and attacked, "
        f"{summary.filled} filled in, {summary.held} held, "
        f"{summary.partly_held} with a lost face held besides, "
        f"{summary.whole_frame} wholly hidden, {summary.kept} kept as they were; final loss: {losses}"
    )
    if summary.readback is not None:
        for name, read in summary.readback.models.items():
            say(f"  {name} reads from the file: {_in_words(read)}")
        back = summary.readback
        say(
            f"  {back.frames_below} frames read below an overlap of {back.wanted:g}; "
            f"{back.repaired} were attacked again"
        )
    if not summary.found:
        say(f"warning: no face was found in {source}; nothing can be read from {target}", err=True)


def _in_words(read: Any) -> str:
    if not read.faces:
        return "nothing, as on the original"
    parts = [f"{read.found:.1%} of {read.faces} faces"]
    if read.mean_iou is not None:
        parts.append(f"overlap {read.mean_iou:.3f} on average, {read.min_iou:.3f} at least")
    if read.mean_nme is not None:
        parts.append(f"landmarks {read.mean_nme:.2%} of the face's size off")
    if read.mean_gaze is not None:
        parts.append(f"gaze {read.mean_gaze:.2f} degrees off")
    return ", ".join(parts)
