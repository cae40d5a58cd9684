"""``protect_files``: files that are named, one after the other or side by side; what fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from deidlib.attack.attack_step import AttackStep
from deidlib.keys.key import Key
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.file_work import FileWork
from deidlib.protect.given import Given
from deidlib.protect.outcome import FileResult, FolderSummary
from deidlib.protect.output import Output
from deidlib.protect.workers import Died, Done, Failed, Told, Workers, workers_of


def protect_files(
    deidentifier: Deidentifier,
    pairs: Sequence[tuple[str | Path, str | Path]],
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    faces_of: Callable[[Path], Given | None] | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    workers: int | Literal["auto"] | None = None,
    options: Mapping[str, Any] | None = None,
    begin: Callable[[Path], object] | None = None,
    done: Callable[[FileResult], object] | None = None,
    progress: Callable[[int], object] | None = None,
    stage: Callable[[str], object] | None = None,
    on_step: Callable[[AttackStep], object] | None = None,
) -> FolderSummary:
    """Protect images and videos wherever they lie, each into a file that is named.

    Nothing is written down of what is finished, as :func:`~deidlib.protect.protect_folder` does: called again, every
    file is done again, and one that was interrupted goes on.

    Args:
        deidentifier: what happens to the frames.
        pairs: inputs and their outputs.
        output: how videos are written.
        check: what the files must show their authorised readers; None: they are not read back.
        faces_of: told a file, where faces are in its frames, if that is known.
        key: the models read for its holder only.
        batch_size: as for :func:`~deidlib.protect_video`.
        workers: as for :func:`~deidlib.protect_video`: each has a file of its own, or, of fewer files than workers,
            all of them have the same one.
        options: as for :func:`~deidlib.protect_video`.
        begin: told the file that is begun.
        done: told what became of it.
        progress: as for :func:`~deidlib.protect_video`.
        stage: as for :func:`~deidlib.protect_video`; not told of files that workers have to themselves.
        on_step: as for :func:`~deidlib.protect_video`; likewise.

    Returns:
        What became of every file, in their order; one that fails stops no other.

    Raises:
        ValueError: two files have one output, or one that is an input; or ``workers`` that make no sense.

    Example:
        >>> import tempfile, torch
        >>> from deidlib import MTCNN, IFGSMAttacker, write_image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a.png", "b.png"):
        ...     write_image(folder / name, torch.rand(1, 3, 32, 32))
        >>> hide = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0))
        >>> pairs = [(folder / name, folder / "out" / name) for name in ("a.png", "b.png", "c.png")]
        >>> result = protect_files(hide, pairs)
        >>> result, result.failed[0].source.name
        (FolderSummary(3 files: 2 done, 1 failed), 'c.png')
    """
    files = [(Path(one), Path(out)) for one, out in pairs]
    outputs = {out.absolute() for _, out in files}
    if len(outputs) < len(files) or outputs & {one.absolute() for one, _ in files}:
        raise ValueError("each file needs an output of its own, which is none of the inputs; name another one.")
    work = FileWork(deidentifier, output, check, faces_of, key, batch_size, dict(options or {}))
    return FolderSummary(
        tuple(
            over_files(
                work, files, workers=workers, begin=begin, done=done, progress=progress, stage=stage, on_step=on_step
            )
        )
    )


class Files(Protocol):
    """What is done to each file, and what is noted of one that nobody did."""

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
        """Do a file, and say what became of it."""
        ...

    def failed(self, one: Path, out: Path, why: str) -> FileResult:
        """Nobody did it."""
        ...

    @property
    def deidentifier(self) -> Deidentifier:
        """What happens to the frames."""
        ...


def over_files(
    work: Files,
    pairs: Sequence[tuple[Path, Path]],
    *,
    workers: int | Literal["auto"] | None,
    begin: Callable[[Path], object] | None,
    done: Callable[[FileResult], object] | None,
    progress: Callable[[int], object] | None,
    stage: Callable[[str], object] | None,
    on_step: Callable[[AttackStep], object] | None,
) -> list[FileResult]:
    """Do all files, here or by workers; the arguments are those of :func:`protect_files`.

    Args:
        work: what is done to each.
        pairs: inputs and their outputs.

    Returns:
        What became of each, in their order.
    """
    begin, done = begin or _ignore, done or _ignore
    count = None if workers is None else workers_of(workers, work.deidentifier.device())
    if count is not None and 0 < count <= len(pairs):
        return _side_by_side(work, pairs, count, begin, done, progress or _ignore)
    results = []
    for one, out in pairs:
        begin(one)
        results.append(work.one(one, out, workers=count, progress=progress, stage=stage, on_step=on_step))
        done(results[-1])
    return results


def _side_by_side(
    work: Files,
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

    work: Files

    def __call__(self, order: tuple[Path, Path], tell: Callable[[int], None], /) -> FileResult:
        return self.work.one(*order, progress=tell)


def _ignore(_: object) -> None:
    pass
