"""``protect_folder``: all files of a folder; what is finished is not done again, and what fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from deidlib.attack.attack_step import AttackStep
from deidlib.keys.key import Key
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.file_work import FileWork
from deidlib.protect.files import over_files
from deidlib.protect.folder_work import FolderWork
from deidlib.protect.given import Given
from deidlib.protect.inputs import Inputs
from deidlib.protect.outcome import FileResult, FolderSummary
from deidlib.protect.output import Output


def protect_folder(
    deidentifier: Deidentifier,
    source: str | Path,
    target: str | Path,
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    faces_of: Callable[[Path], Given | None] | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    workers: int | Literal["auto"] | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Inputs | None = None,
    begin: Callable[[Path], object] | None = None,
    done: Callable[[FileResult], object] | None = None,
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
        check: what the files must show their authorised readers; None: they are not read back.
        faces_of: told a file, where faces are in its frames, if that is known.
        key: the models read for its holder only.
        batch_size: as for :func:`~deidlib.protect_video`.
        workers: as for :func:`~deidlib.protect_video`: each has a file of its own, or, of fewer files than workers,
            all of them have the same one.
        options: as for :func:`~deidlib.protect_video`.
        inputs: the files, if the folder has been looked through before.
        begin: told the file that is begun.
        done: told what became of it.
        progress: as for :func:`~deidlib.protect_video`.
        stage: as for :func:`~deidlib.protect_video`; not told of files that workers have to themselves.
        on_step: as for :func:`~deidlib.protect_video`; likewise.

    Returns:
        What became of every file, in their order; one that fails stops no other.

    Raises:
        MediaError: there is nothing to be protected, or the output folder cannot be made.
    """
    source, target = Path(source), Path(target)
    inputs = Inputs.below(source, target, output.codec) if inputs is None else inputs
    files = FileWork(deidentifier, output, check, faces_of, key, batch_size, dict(options or {}))
    work = FolderWork(files, source, target)
    work.pass_over(inputs.passed_over)
    results = over_files(
        work, inputs.pairs, workers=workers, begin=begin, done=done, progress=progress, stage=stage, on_step=on_step
    )
    return FolderSummary(tuple(results), inputs.passed_over)
