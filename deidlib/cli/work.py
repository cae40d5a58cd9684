"""The files of a run, one or several, with bars, and what happened in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deidlib.cli.bar import Bar, video_info
from deidlib.cli.closing import close, tell_left, to_be_continued
from deidlib.cli.ledger import Ledger
from deidlib.cli.voice import is_quiet, note, say, warn

if TYPE_CHECKING:
    from deidlib.cli.ledger import Status
    from deidlib.cli.paths import Paths
    from deidlib.keys.key import Key
    from deidlib.protect.check import Check
    from deidlib.protect.deidentifier import Deidentifier
    from deidlib.protect.given import Given
    from deidlib.protect.inputs import Inputs
    from deidlib.protect.outcome import FileResult
    from deidlib.protect.output import Output
    from deidlib.protect.readback import ModelReadback
    from deidlib.protect.summary import Summary


@dataclass(frozen=True)
class Audit:
    """Contact sheets for somebody to look through; see :func:`deidlib.protect.audit.write_audit`.

    Args:
        place: a folder, or a file that ends in ``.html``.
        every: so many frames from one that is shown in any case to the next.
    """

    place: Path
    every: int

    def write(self, protected: Path, summary: Summary, name: Path | None = None) -> None:
        """Write the sheet of a file, one of several in a folder of that name."""
        from deidlib.protect.audit import write_audit

        place = self.place if name is None else self.place / name
        shown = write_audit(place, protected, summary.doubtful, every=self.every)
        say(f"  {shown} frames to be looked through, {len(summary.doubtful)} in doubt: {place}")


@dataclass(frozen=True)
class Work:
    """What is done to each file; all but the last as for :func:`deidlib.protect_video`.

    Args:
        deidentifier: what happens to the frames.
        output: how videos are written.
        check: what the files must show their readers.
        key: for whose holder they are protected.
        batch_size: frames at a time; None: as suits the device.
        faces_of: told a file, where faces are in its frames, if that is known.
        tell: prints what happened to a file: input, output, summary.
        audit: where a contact sheet of each protected file is written, if that is asked for.
        ledger: what became of the files is entered there.
        options: noted in each file's description, so that it serves as ``--config``.
        workers: processes that do it, if it is not this one.
    """

    deidentifier: Deidentifier
    output: Output
    check: Check | None
    key: Key | None
    batch_size: int | None
    faces_of: Callable[[Path], Given | None] | None
    tell: Callable[[Path | str | int, Path | str, Summary], object]
    audit: Audit | None = None
    ledger: Ledger = field(default_factory=Ledger)
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int | Literal["auto"] | None = None

    def one(self, source: Path | str | int, target: Path, limit: int | None = None) -> None:
        """Protect a file, or what comes live, and say what happened.

        Raises:
            ValueError: a file cannot be read or written, or shows no face where there must be one.
        """
        from deidlib.media.files import make_folder
        from deidlib.protect.file import protect_file

        make_folder(target.parent)
        name = target.name if isinstance(source, str | int) else source.name
        self._announce(source)
        bar = Bar(shown=not is_quiet())
        try:
            bar.begin(source, name)
            faces = None if self.faces_of is None or not isinstance(source, Path) else self.faces_of(source)
            summary = protect_file(
                self.deidentifier, source, target, output=self.output, check=self.check, faces=faces, key=self.key,
                batch_size=self.batch_size, workers=self.workers, options=self.options, limit=limit,
                progress=bar.progress, stage=bar.stage, on_step=bar.on_step,
            )  # fmt: skip
        except (ValueError, OSError) as error:
            self.ledger.add(source, target, "failed", error=str(error))
            raise
        finally:
            bar.end()
        self.ledger.add(source, target, summary=summary)
        self.report(source, target, summary)
        if self.audit is not None:
            self.audit.write(target, summary)

    def several(self, inputs: Inputs, source: Path, target: Path | None) -> tuple[int, int]:
        """Protect several files, and say what happened; how many failed, and how many there were.

        Args:
            inputs: the files.
            source: the folder that holds them all.
            target: the folder for the outputs; None: they lie beside the files.
        """
        from tqdm.auto import tqdm

        from deidlib.media.tree import passed_over_in_words
        from deidlib.protect.files import protect_files
        from deidlib.protect.folder import protect_folder

        count = len(inputs.pairs)
        bar = Bar(shown=not is_quiet())
        with tqdm(total=count, unit="file", desc="all files", file=sys.stderr, disable=is_quiet()) as total:
            # Of files that are done at the same time, frames are counted together.
            together = None
            if self.workers is not None:
                together = tqdm(unit="frame", desc="frames", file=sys.stderr, disable=is_quiet())

            def first(one: Path) -> None:
                self._announce(one)
                if together is None:
                    bar.begin(one, f"{total.n + 1}/{count} {one.name}")

            def progress(frames: int) -> None:
                bar.progress(frames) if together is None else together.update(frames)

            def done(result: FileResult) -> None:
                bar.end()
                total.update()
                self.ledger.add(
                    result.source, result.target, _status(result), summary=result.summary, error=result.error
                )
                if result.error is not None:
                    warn(f"error: {result.error}")
                elif result.summary is not None:
                    self.report(result.source, result.target, result.summary)
                    if self.audit is not None:
                        name = result.target.relative_to(source if target is None else target)
                        self.audit.write(result.target, result.summary, name)

            settings: dict[str, Any] = {
                "output": self.output, "check": self.check, "faces_of": self.faces_of, "key": self.key,
                "batch_size": self.batch_size, "workers": self.workers, "options": self.options, "begin": first,
                "done": done, "progress": progress, "stage": bar.stage, "on_step": bar.on_step,
            }  # fmt: skip
            if target is None:
                summary = protect_files(self.deidentifier, inputs.pairs, **settings)
            else:
                summary = protect_folder(self.deidentifier, source, target, inputs=inputs, **settings)
            if together is not None:
                together.close()
        tell_left(summary, count, "files", passed_over_in_words(summary.passed_over, source))
        return len(summary.failed), count

    def report(self, source: Path | str | int, target: Path, summary: Summary) -> None:
        """Print what happened to a file."""
        self.tell(source, target, summary)
        if self.key is not None:
            say(f"  only key {self.key.id} opens it: deidlib read {target} --key FILE")

    def _announce(self, source: Path | str | int) -> None:
        """What a user should know before it begins."""
        info = video_info(source)
        if info is None:
            return
        if info.has_audio and self.output.audio == "copy":
            note(f"{source}: its sound is copied, and a voice identifies")
        elif info.has_audio:
            note(f"{source}: its sound is left out, since a voice identifies")
        if info.interlaced:
            note(f"{source}: interlaced; each frame holds two half-pictures and is hidden as it is")
        if info.hdr is not None:
            note(f"{source}: HDR ({info.hdr}); it is read, and written, as SDR")
        if info.left_out:
            others = f"{info.left_out} other video{'s' * (info.left_out > 1)}"
            note(f"{source}: holds {others}, left out; the one of {info.width}x{info.height} pixels is taken")


def run(work: Work, paths: Paths) -> None:
    """Do the work on a file, or on several, and end the program as it went.

    Args:
        work: what is done.
        paths: to which files.

    Raises:
        ValueError: a single file cannot be read or written, or shows no face where there must be one.
        typer.Exit: some of several files failed, or the user interrupted.
    """
    assert paths.inputs is not None
    with to_be_continued():
        if paths.target is None or paths.source.is_dir():
            failed, count = work.several(paths.inputs, paths.source, paths.target)
        else:
            failed, count = 0, 1
            try:
                work.one(paths.source, paths.target)
            except ValueError as error:
                raise _naming(paths.source, error) from error
    close(failed, count, "files")


def _status(result: FileResult) -> Status:
    if result.error is not None:
        return "failed"
    return "elsewhere" if result.elsewhere else "finished before" if result.finished_before else "done"


def _naming(source: Path, error: Exception) -> ValueError:
    """The same error, which says whose it is."""
    return ValueError(str(error) if str(source) in str(error) else f"{source}: {error}")


def report_frames(target: Path | str, summary: Summary, found: str) -> None:
    """Print how many frames were treated in which way, if there are any.

    Args:
        target: what was written.
        summary: what happened.
        found: in words, what happened to those with faces.
    """
    counts = [
        f"{count} {words}"
        for count, words in (
            (summary.found, found),
            (summary.filled, "filled in"),
            (summary.held, "held"),
            (summary.partly_held, "with a lost face held besides"),
            (summary.whole_frame, "wholly hidden"),
            (summary.kept, "kept as they were"),
        )
        if count
    ]
    say(f"{target}: {summary.frames} frame{'s' * (summary.frames != 1)}, {', '.join(counts) or 'none changed'}")


def report_swaps(summary: Summary) -> None:
    """Print how many faces were swapped, and how many were hidden instead, and why."""
    if summary.swaps:
        reasons = {name: count for name, count in summary.swaps.items() if name != "swapped"}
        why = "; ".join(f"{count} because {name}" for name, count in sorted(reasons.items(), key=lambda row: -row[1]))
        total = sum(summary.swaps.values())
        say(
            f"  of {total} faces and places of lost ones, {summary.swaps.get('swapped', 0)} swapped and "
            f"{sum(reasons.values())} hidden instead{': ' * bool(why)}{why}"
        )


def report(source: Path | str | int, target: Path | str, summary: Summary, *, attacked: bool = True) -> None:
    """Print what happened to a file.

    Args:
        source: what was protected.
        target: what was written.
        summary: what happened.
        attacked: whether anybody was to read it.
    """
    report_frames(target, summary, f"with faces hidden{' and attacked' * attacked}")
    if summary.losses and attacked:
        say(f"  final loss: {', '.join(f'{name} {value:.3f}' for name, value in summary.losses.items())}")
    if summary.most is not None:
        say(f"  hidden in a frame, faces and places of lost ones: {summary.fewest} at least, {summary.most} at most")
    report_swaps(summary)
    if summary.beyond:
        say(f"  not within tolerance before it was stored: {summary.beyond} of {summary.found} frames")
    if summary.readback is not None:
        for name, read in summary.readback.models.items():
            say(f"  {name} reads from the file: {_in_words(read)}")
        back = summary.readback
        if back.frames_below or back.repaired:
            say(
                f"  {back.frames_below} frames read below an overlap of {back.wanted:g}; "
                f"{back.repaired} were attacked again"
            )
    for doubt in _doubts(summary):
        warn(f"warning: {doubt}")
    if not summary.found:
        warn(f"warning: no face was found in {source}; nothing can be read from {target}")


def _doubts(summary: Summary) -> Iterator[str]:
    """Why somebody should look through the file before it is shared."""
    if summary.turned:
        yield (
            f"faces that lie on their side or upside down, or what looks like some, in {summary.turned} frames: found "
            "only in the turned frame, they are hidden, and nothing of them can be read"
        )
    if summary.disputed:
        yield (
            f"detectors disagree about the number of faces in {summary.disputed} frames; whatever one of them finds is "
            "hidden, but look through the file before you share it"
        )


def _in_words(read: ModelReadback) -> str:
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
