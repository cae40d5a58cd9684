"""``FileWork``: what is done to each file of a run, by whichever process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deidlib.attack.attack_step import AttackStep
from deidlib.keys.key import Key
from deidlib.media.files import make_folder
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.file import protect_file
from deidlib.protect.given import Given
from deidlib.protect.outcome import FileResult
from deidlib.protect.output import Output
from deidlib.protect.source import ClipSource
from deidlib.protect.summary import Summary
from deidlib.protect.work_folder import BusyError
from deidlib.records.fingerprint import described
from deidlib.records.versions import versions


@dataclass(frozen=True)
class FileWork:
    """What is done to each file of a run; of processes that have one each, one does a file.

    Args:
        deidentifier: what happens to the frames.
        output: how videos are written.
        check: what the files must show their authorised readers; None: they are not read back.
        faces_of: told a file, where faces are in its frames, if that is known.
        key: the models read for its holder only.
        batch_size: as for :func:`~deidlib.protect_video`.
        options: as for :func:`~deidlib.protect_video`.
    """

    deidentifier: Deidentifier
    output: Output = Output()
    check: Check | None = Check()
    faces_of: Callable[[Path], Given | None] | None = None
    key: Key | None = None
    batch_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What the outputs hang on beside their inputs, and the faces that are given, for a fingerprint."""
        return {
            "deidentifier": described(self.deidentifier),
            "output": described(self.output),
            "check": described(self.check),
            "key": None if self.key is None else self.key.id,
            "versions": versions(),
        }

    def do(
        self,
        source: ClipSource,
        target: Path,
        *,
        workers: int | Literal["auto"] | None = None,
        progress: Callable[[int], object] | None = None,
        stage: Callable[[str], object] | None = None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> Summary:
        """Protect a file; the arguments are those of :func:`~deidlib.protect_video`.

        Raises:
            Exception: as :func:`~deidlib.protect.protect_file`.
        """
        faces = None if self.faces_of is None or source.path is None else self.faces_of(source.path)
        return protect_file(
            self.deidentifier, source, target, output=self.output, check=self.check, faces=faces, key=self.key,
            batch_size=self.batch_size, workers=workers, options=self.options,
            progress=progress, stage=stage, on_step=on_step,
        )  # fmt: skip

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
        """Do a file, and say what became of it: nothing is raised that is the file's fault.

        Args:
            one: the file.
            out: its output, whose folder is created.
            workers: as for :func:`~deidlib.protect_video`.
            progress: as for :func:`~deidlib.protect_video`.
            stage: as for :func:`~deidlib.protect_video`.
            on_step: as for :func:`~deidlib.protect_video`.
        """
        try:
            make_folder(out.parent)
            summary = self.do(
                ClipSource.of_file(one), out, workers=workers, progress=progress, stage=stage, on_step=on_step
            )
            return FileResult(one, out, summary)
        except BusyError:
            return FileResult(one, out, elsewhere=True)
        except Exception as error:
            # Whatever is wrong with one file does not stop the others.
            return self.failed(one, out, str(error))

    def failed(self, one: Path, out: Path, why: str) -> FileResult:
        """What became of a file that was not done.

        Args:
            one: the file.
            out: its output.
            why: in words.
        """
        return FileResult(one, out, error=why if str(one) in why else f"{one}: {why}")
