"""``protect_remote``: all clips below a URL, each fetched, protected, and published whole under another URL."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from deidlib.attack.attack_step import AttackStep
from deidlib.bounded import BoundsError, fields, json_of, listed, maybe, text
from deidlib.keys.key import Key
from deidlib.media.errors import MediaWriteError
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.file_work import FileWork
from deidlib.protect.outcome import ClipResult, RunSummary
from deidlib.protect.output import Output
from deidlib.protect.remote_pairs import RemotePair, remote_pairs
from deidlib.protect.sidecar import MOST_BYTES, PREVIOUS, Sidecar, is_ours, said_of
from deidlib.protect.source import ClipSource
from deidlib.protect.summary import Summary
from deidlib.protect.work_folder import BusyError
from deidlib.records.files import sha256_of
from deidlib.records.fingerprint import fingerprint
from deidlib.storage.errors import StorageError
from deidlib.storage.place import Place, Stat
from deidlib.storage.scratch import ORIGINAL, WORK, Scratch, ScratchBusyError

RECORDS = ".deidlib"
"""The folder beside the outputs with a record of each: ``.deidlib/drive.mkv.json``."""
_MOST_RECORD = 1 << 16
_TEXT = text(_MOST_RECORD)
_RECORD = fields(
    {"status": _TEXT, "input": _TEXT, "fingerprint": _TEXT},
    {"input_version": _TEXT, "output_sha256": maybe(_TEXT), "output_version": listed(_TEXT), "error": _TEXT},
)


class RemoteWork:
    """What is done to each clip below a URL, by whichever process or machine.

    A clip is copied into a scratch folder, protected there, and published: first the description, then the file, each
    appearing whole; so whoever finds the file finds what describes it, and nothing else ever has its name. Then a
    record says that it is done, by which a later run knows it without reading either file.

    Args:
        files: what is done to each.
        source: the file or folder.
        target: the file, or the folder for the outputs.
        workers: processes that do the parts of each clip, as for :func:`~deidlib.protect_video`.
        scratch: where clips lie while they are worked on.
    """

    def __init__(
        self,
        files: FileWork,
        source: Place,
        target: Place,
        *,
        workers: int | Literal["auto"] | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        self.files, self.source, self.target = files, source, target
        self.workers, self.scratch = workers, scratch or Scratch()
        self._secret = None if files.key is None else files.key.derive("input")
        self._mark = fingerprint(files.settings)

    def one(
        self,
        pair: RemotePair,
        *,
        progress: Callable[[int], object] | None = None,
        stage: Callable[[str], object] | None = None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> ClipResult:
        """Do a clip, unless it is finished, and say what became of it: nothing is raised that is the clip's fault.

        Args:
            pair: the clip.
            progress: as for :func:`~deidlib.protect_video`.
            stage: as for :func:`~deidlib.protect_video`.
            on_step: as for :func:`~deidlib.protect_video`.
        """
        source = self.source / pair.source if pair.source else self.source
        target = self.target / pair.target if pair.target else self.target
        try:
            return ClipResult(str(source), str(target), self._one(source, target, progress, stage, on_step))
        except (BusyError, ScratchBusyError):
            return ClipResult(str(source), str(target), elsewhere=True)
        except Exception as error:
            # Whatever is wrong with one clip does not stop the others.
            message = " ".join(str(error).split())
            return ClipResult(
                str(source), str(target), error=message if str(source) in message else f"{source}: {message}"
            )

    def _one(
        self,
        source: Place,
        target: Place,
        progress: Callable[[int], object] | None,
        stage: Callable[[str], object] | None,
        on_step: Callable[[AttackStep], object] | None,
    ) -> Summary | None:
        stat = source.stat()
        if stat is None:
            raise StorageError(f"{source} is gone since it was listed.")
        record_place = self._record_of(target)
        line = {"input": source.name, "fingerprint": self._mark, "input_version": self._version(source, stat)}
        if self._is_done(_record(record_place), line, target):
            return None
        description = Sidecar.path_of(Path(target.name)).name
        known = _description(_beside(target, description))
        with self.scratch.folder(target.url) as folder:
            # What it is called tells nothing, and fits every file system.
            original = folder / ORIGINAL / f"clip{Path(source.name).suffix}"
            made = folder / WORK / f"clip{Path(target.name).suffix}"
            try:
                if stage is not None:
                    stage("fetching")
                source.fetch(original)
                clip = ClipSource.of_file(original)
                summary = self.files.do(
                    clip, made, workers=self.workers, progress=progress, stage=stage, on_step=on_step
                )
                if source.stat() != stat:
                    raise StorageError(
                        f"{source} was changed or removed while it was worked on, so that nothing was published. "
                        "Leave it alone and run again."
                    )
                if stage is not None:
                    stage("publishing")
                self._publish(made, target, _beside(target, description), known, folder)
                written = target.stat()
                record_place.write(
                    json.dumps(
                        line
                        | {
                            "status": "done",
                            "output_sha256": sha256_of(made),
                            "output_version": [] if written is None else [*written.times, *written.content],
                        }
                    ).encode()
                )
            except BusyError:
                raise
            except Exception as error:
                message = str(error).replace(str(original), str(source)).replace(str(made), str(target))
                raise StorageError(message.replace(str(folder), "the scratch folder")) from error
        return summary

    def _publish(self, made: Path, target: Place, place: Place, known: dict[str, Any] | None, folder: Path) -> None:
        """The description, then the file: until that is there, the description carries that of the file before it."""
        last, first = Sidecar.path_of(made), folder / "both.json"
        before = known
        if known is not None and target.stat() is not None:
            if PREVIOUS in known:
                # An earlier run was killed in between: which of the two it is, its bytes decide.
                copy = folder / "before"
                target.fetch(copy)
                before = said_of(copy, known)
                copy.unlink()
            both = json.loads(last.read_text(encoding="utf-8")) | {PREVIOUS: before}
            first.write_text(json.dumps(both, indent=2) + "\n", encoding="utf-8")
        else:
            first = last
        place.put(first)
        try:
            target.put(made)
        except BaseException:
            # If the store is gone, what stays describes the old file as well, or no file at all.
            if before is None:
                place.remove()
            else:
                place.write((json.dumps(before, indent=2) + "\n").encode())
            raise
        if first is not last:
            place.put(last)

    def _record_of(self, target: Place) -> Place:
        inside = target.url.removeprefix(self.target.url).lstrip("/")
        if inside:
            return self.target / f"{RECORDS}/{inside}.json"
        return _beside(target, f"{RECORDS}/{target.name}.json")

    def _version(self, source: Place, stat: Stat) -> str:
        """What an original is known by: for the holder of the key its bytes, too; a plain hash confirms who guesses."""
        if self._secret is None:
            return fingerprint([source.url, *stat.times])
        return self._secret.mac(json.dumps([source.url, *stat.times, *stat.content]))

    def _is_done(self, record: dict[str, Any] | None, line: dict[str, Any], target: Place) -> bool:
        if record is None or record["status"] != "done" or any(record.get(name) != line[name] for name in line):
            return False
        written = target.stat()
        if written is None or record.get("output_version") != [*written.times, *written.content]:
            return False
        return _beside(target, Sidecar.path_of(Path(target.name)).name).stat() is not None


def protect_remote(
    deidentifier: Deidentifier,
    source: str | Path,
    target: str | Path,
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    key: Key | None = None,
    batch_size: int | None = None,
    workers: int | Literal["auto"] | None = None,
    options: Mapping[str, Any] | None = None,
    scratch: str | Path | None = None,
    patience: float = 60.0,
    begin: Callable[[str], object] | None = None,
    done: Callable[[ClipResult], object] | None = None,
    progress: Callable[[int], object] | None = None,
    stage: Callable[[str], object] | None = None,
    on_step: Callable[[AttackStep], object] | None = None,
) -> RunSummary:
    """Protect a clip, or all images and videos below a folder, from store to store: ``s3://``, ``gs://``, paths.

    One clip at a time is copied to this machine and worked on. Its output appears whole under its name, with its
    description. A record in the folder ``.deidlib`` beside the outputs says that it is done: called again, what is
    finished with the same settings is left as it is. :func:`deidlib.cluster.protect` does the same on many machines.

    Args:
        deidentifier: what happens to the frames.
        source: a file or folder, by URL or path.
        target: the file, or the folder for the outputs, with the same tree below.
        output: how videos are written; no ``png-folder``.
        check: what the files must show their authorised readers; None: they are not read back.
        key: the models read for its holder only.
        batch_size: as for :func:`~deidlib.protect_video`.
        workers: processes that do the parts of each clip, as for :func:`~deidlib.protect_video`.
        options: as for :func:`~deidlib.protect_video`.
        scratch: where clips lie while they are worked on; by default in the system's folder for temporary files.
        patience: seconds for which a store that does not answer is asked again.
        begin: told the clip that is begun.
        done: told what became of it.
        progress: as for :func:`~deidlib.protect_video`.
        stage: as for :func:`~deidlib.protect_video`, and ``"fetching"`` and ``"publishing"``.
        on_step: as for :func:`~deidlib.protect_video`.

    Returns:
        What became of all, in numbers; a clip that fails stops no other.

    Raises:
        MediaError: there is nothing to be protected, or the outputs would lie among the inputs.
        StorageError: a store is not known, or its folder cannot be listed.

    Example:
        >>> from deidlib import MTCNN, IFGSMAttacker, write_image
        >>> import tempfile, torch
        >>> hide = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0))
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_image(folder / "a.png", torch.rand(1, 3, 32, 32))
        >>> protect_remote(hide, folder, "memory://protected").finished
        1
        >>> sorted(listed.name for listed in Place("memory://protected").files())
        ['.deidlib/a.png.json', 'a.png', 'a.png.json']
    """
    summary, places = RunSummary(), (Place(str(source), patience), Place(str(target), patience))
    files = FileWork(deidentifier, output, check, key=key, batch_size=batch_size, options=dict(options or {}))
    work = RemoteWork(files, *places, workers=workers, scratch=Scratch(None if scratch is None else Path(scratch)))
    for pair in remote_pairs(*places, output.codec, summary):
        if begin is not None:
            begin(str(places[0] / pair.source if pair.source else places[0]))
        result = work.one(pair, progress=progress, stage=stage, on_step=on_step)
        summary.add(result)
        if done is not None:
            done(result)
    return summary


def _beside(target: Place, name: str) -> Place:
    return Place(f"{target.url.rpartition('/')[0]}/{name}", target.patience)


def _record(place: Place) -> dict[str, Any] | None:
    """The record of an output; None if there is none, or something else."""
    content = place.read(_MOST_RECORD)
    try:
        record: dict[str, Any] = json_of((content or b"").decode())
        _RECORD(record, "it")
    except (BoundsError, UnicodeDecodeError):
        return None
    return record


def _description(place: Place) -> dict[str, Any] | None:
    """What describes the output that is there; None if nothing does.

    Raises:
        MediaWriteError: something else lies there, and would be lost.
    """
    content = place.read(MOST_BYTES)
    if content is None:
        return None
    try:
        known: dict[str, Any] = json_of(content.decode())
    except (BoundsError, UnicodeDecodeError):
        known = {}
    if not is_ours(known):
        raise MediaWriteError(
            f"{place} is no description of a protected file, and would be replaced by one. Move it, or choose another "
            "place."
        )
    return known
