"""``ClusterPlan``: what every node is told about the work; no key is in it, only where each node finds its own."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from deidlib.cluster.errors import ClusterError
from deidlib.keys.key import Key
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.file_work import FileWork
from deidlib.protect.folder_work import FolderWork
from deidlib.protect.inputs import Inputs
from deidlib.protect.outcome import ClipResult, RunSummary
from deidlib.protect.output import Output
from deidlib.protect.remote import RemoteWork
from deidlib.protect.remote_pairs import RemotePair, remote_pairs
from deidlib.records.versions import versions
from deidlib.storage.place import Place
from deidlib.storage.scratch import Scratch


class Clips(Protocol):
    """What is done to each clip."""

    def one(self, pair: RemotePair) -> ClipResult:
        """Do a clip, and say what became of it."""


@dataclass(frozen=True)
class ClusterPlan:
    """The work on the clips of one folder, or on one clip.

    Args:
        source: the file or folder, a URL or path.
        target: the file, or the folder for the outputs.
        output: how videos are written.
        check: what the files must show their authorised readers; None: they are not read back.
        key_file: where each node finds the key; None: everybody may read.
        batch_size: as for :func:`~deidlib.protect_video`.
        options: as for :func:`~deidlib.protect_video`.
        scratch: where nodes keep clips of other stores while they work; None: their folder for temporary files.
        patience: seconds for which a store that does not answer is asked again.
        versions: of what computes, where the work was planned.
    """

    source: str
    target: str
    output: Output = Output()
    check: Check | None = Check()
    key_file: str | None = None
    batch_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    scratch: str | None = None
    patience: float = 60.0
    versions: Mapping[str, str | None] = field(default_factory=versions)

    @property
    def places(self) -> tuple[Place, Place]:
        """Where clips come from, and where they go."""
        return Place(self.source, self.patience), Place(self.target, self.patience)

    @property
    def shared(self) -> tuple[Path, Path] | None:
        """The two folders, if both are paths, which all nodes must see; None if a store is between."""
        source, target = self.places
        return None if source.local is None or target.local is None else (source.local, target.local)

    def pairs(self, summary: RunSummary) -> Iterator[RemotePair]:
        """The clips, as they are listed; what is passed over is counted.

        Raises:
            MediaError: there is nothing to be protected.
            StorageError: the folder cannot be listed.
        """
        if self.shared is None:
            yield from remote_pairs(*self.places, self.output.codec, summary)
            return
        source, target = self.shared
        inputs = Inputs.below(source, target, self.output.codec)
        root, out = (source, target) if source.is_dir() else (source.parent, target.parent)
        for passed in inputs.passed_over:
            summary.pass_over(passed.path.relative_to(root).as_posix(), passed.reason)
        for one, made in inputs.pairs:
            yield RemotePair(one.relative_to(root).as_posix(), made.relative_to(out).as_posix())

    def open(self, deidentifier: Deidentifier) -> Clips:
        """Begin the work, on a node.

        Raises:
            ClusterError: another version of deidlib is installed here, or the folder cannot be seen.
            KeyFileError: the key is not here.
            MediaError: the output folder cannot be made.
        """
        if (why := mismatch(versions(), self.versions)) is not None:
            raise ClusterError(why)
        key = None if self.key_file is None else Key.load(self.key_file)
        files = FileWork(
            deidentifier, self.output, self.check, key=key, batch_size=self.batch_size, options=self.options
        )
        if self.shared is None:
            scratch = Scratch(None if self.scratch is None else Path(self.scratch))
            return RemoteWork(files, *self.places, scratch=scratch)
        source, target = self.shared
        if not source.exists():
            raise ClusterError(unseen(source))
        if not source.is_dir():
            source, target = source.parent, target.parent
        return _Shared(FolderWork(files, source, target))


class _Shared:
    """Clips in a folder that all nodes see."""

    def __init__(self, work: FolderWork) -> None:
        self.work = work

    def one(self, pair: RemotePair) -> ClipResult:
        """Do a clip, and say what became of it."""
        done = self.work.one(self.work.source / pair.source, self.work.target / pair.target)
        return ClipResult(str(done.source), str(done.target), done.summary, done.error, done.elsewhere)


def mismatch(here: Mapping[str, str | None], planned: Mapping[str, str | None]) -> str | None:
    """Why a node with these versions cannot do the work; None if it can."""
    mine, theirs = here.get("deidlib"), planned.get("deidlib")
    if mine == theirs:
        return None
    return f"deidlib {mine or 'is missing'} here, {theirs} where the run was started: install the same on both"


def unseen(folder: Path) -> str:
    """Why a node cannot do the work."""
    return f"{folder} is not there: a folder must lie on a disk that all nodes mount, or be given by URL (s3://...)"


def shipped(deidentifier: Deidentifier) -> bytes:
    """A deidentifier as bytes, which may go to other machines; no key is in them, as a :class:`Key` is never pickled.

    Raises:
        ClusterError: it holds a key, or something else that cannot be sent.
    """
    from ray import cloudpickle

    content = io.BytesIO()
    try:
        torch.save(deidentifier, content, pickle_module=cloudpickle)
    except TypeError as error:
        raise ClusterError(
            f"this deidentifier cannot be sent to other machines: {error} Give the plain one, and the key by its file: "
            "key_file=."
        ) from error
    return content.getvalue()


def unpacked(content: bytes, device: str) -> Deidentifier:
    """The deidentifier that :func:`shipped` packed, its weights on a device.

    Raises:
        Exception: whatever its classes raise.
    """
    # Ray's own channel, from the driver of this very run, which may run what it likes here anyway.
    loaded: Deidentifier = torch.load(io.BytesIO(content), map_location=device, weights_only=False)
    return loaded
