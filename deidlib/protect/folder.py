"""``protect_folder``: all files of a folder; what is finished is not done again, and what fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from deidlib.attack.attack_step import AttackStep
from deidlib.keys.key import Key
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder_work import FolderWork
from deidlib.protect.given import Given
from deidlib.protect.inputs import Inputs
from deidlib.protect.outcome import FileResult, FolderSummary
from deidlib.protect.output import Output
from deidlib.protect.workers import Died, Done, Failed, Told, Workers, workers_of


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
