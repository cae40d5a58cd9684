"""A clip's work in segments, in a folder beside the output: what is complete survives, whatever happens."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, get_args

from filelock import FileLock, Timeout
from torch import Tensor

from deidlib.bounded import (
    MOST_FRAMES,
    SHA256,
    Shape,
    fields,
    json_of,
    listed,
    mapped,
    maybe,
    number,
    read_bounded,
    read_json,
    text,
    truth,
    whole,
)
from deidlib.faces import Faces
from deidlib.keys.key import Key, KeyFileError
from deidlib.media import MediaWriteError, VideoReader, VideoWriter
from deidlib.media.errors import reporting
from deidlib.protect.batches import FaceCount
from deidlib.records.faces_json import faces_from_json, faces_to_json
from deidlib.records.files import atomic_write, name_beside, sha256_of
from deidlib.records.fingerprint import fingerprint
from deidlib.tracking import Treatment


class BusyError(MediaWriteError):
    """Another process works on the same output."""


class ChangedError(MediaWriteError):
    """Unfinished work, or what was made of it, is not as it was left: it is thrown away, and nothing is published."""


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """What is known about a frame of a clip, and is needed to go on or to check the result.

    Args:
        pts: its time stamp, in ticks of the clip's time base.
        faces: that the hiding detectors found in the original.
        treatment: what happened to it; see :class:`~deidlib.protect.batches.ProtectedBatch`.
        others: how many lost faces were hidden besides.
        readings: what each authorised model reads on the original of the faces that were hidden, by name.
        losses: each model's final loss, by name.
        within: whether every model reads it within its tolerance, before it is stored; None if there is none.
        hidden: faces hidden one by one, and places of lost ones; 0 in a frame that was hidden altogether or kept.
        count: how many faces were found in the original, by whom.
        regions: rectangles outside of which nothing was changed, left, top, right, bottom; None if that is not known.
        swaps: how many of them were swapped, and how many not, by the reason.
    """

    pts: int
    faces: Faces
    treatment: str
    others: int
    readings: Mapping[str, Faces]
    losses: Mapping[str, float]
    within: bool | None = None
    hidden: int = 0
    count: FaceCount = field(default_factory=FaceCount)
    swaps: Mapping[str, int] = field(default_factory=dict)
    regions: Sequence[Sequence[int]] | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON; floats come back bit for bit, a loss that is not finite as NaN."""
        return {
            "pts": self.pts,
            "faces": faces_to_json(self.faces),
            "treatment": self.treatment,
            "others": self.others,
            "readings": {name: faces_to_json(faces) for name, faces in self.readings.items()},
            "losses": {name: loss if math.isfinite(loss) else None for name, loss in self.losses.items()},
            "within": self.within,
            "hidden": self.hidden,
            "count": asdict(self.count),
            "swaps": dict(self.swaps),
            "regions": None if self.regions is None else [list(region) for region in self.regions],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FrameRecord:
        """The record that :meth:`to_json` gave."""
        readings = {name: faces_from_json(faces) for name, faces in data["readings"].items()}
        return cls(
            data["pts"],
            faces_from_json(data["faces"]),
            data["treatment"],
            data["others"],
            readings,
            {name: math.nan if loss is None else loss for name, loss in data["losses"].items()},
            data["within"],
            data["hidden"],
            FaceCount(**data["count"]),
            data["swaps"],
            data["regions"],
        )


_FACES = fields({})
REGIONS = listed(listed(whole(0, 1 << 20), 4, 4), 10_000)
"""Of a frame: rectangles outside of which nothing was changed."""
_FRAME = fields(
    {
        "pts": whole(-(2**62), 2**62),
        "faces": _FACES,
        "treatment": text(20, "|".join(get_args(Treatment))),
        "others": whole(0, 1_000_000),
        "readings": mapped(_FACES),
        "losses": mapped(maybe(number)),
        "within": maybe(truth),
        "hidden": whole(0, 1_000_000),
        "count": fields({"upright": mapped(whole(0, 1_000_000)), "turned": whole(0, 1_000_000)}),
        "swaps": mapped(whole(0, 1_000_000)),
        "regions": maybe(REGIONS),
    }
)
RECORD = fields({"sha256": SHA256, "frames": listed(_FRAME, 100_000)})
"""Of a segment: the hash of its video, and :meth:`FrameRecord.to_json` of its frames."""
COUNTED = fields({"frames": whole(1, MOST_FRAMES)})
"""Of a clip: how many frames it has."""
CHECKED = fields({"bad": listed(whole(0, MOST_FRAMES), MOST_FRAMES)})
"""Of a round: the frames that are read badly after it."""
_SEALED = fields({"sealed": text(1 << 28)})
_JOB = fields({"mac": text(32, r"[0-9a-f]{32}")})


class WorkFolder:
    """The folder in which a clip is worked on: locked, and begun anew unless it is about the same work.

    It holds protected frames, and what authorised models read on the originals; only its owner may look into it. The
    lock is the system's: it ends with the process that holds it, however that ends, so that none is ever left behind.

    Args:
        target: the output; the folder lies beside it.
        job: what the work is: settings and input. Work on anything else is thrown away.
        key: for whose holder alone the notes are readable; else a key that lies in the folder, and serves only to
            show that they are this job's and unchanged.

    Raises:
        MediaWriteError: another process works on the same output, or the folder cannot be made, or something else lies
            there.
    """

    def __init__(self, target: Path, job: Mapping[str, Any], key: Key | None = None) -> None:
        self.target = target
        self.path = _folder_of(target)
        self._lock: FileLock | None = None
        with reporting(target, "its work folder"):
            self._lock = _locked(self.path, target)
            self._job = fingerprint(dict(job))
            known = self._known_key(key)
            if known is None:
                _empty(self.path, but=(_LOCK, _OWNER))
                known = key.derive(_PURPOSE) if key is not None else Key.generate()
                if key is None:
                    known.save(self.path / _KEY)
                # A hash of the input would confirm whoever guesses it.
                _write(self.path / "job.json", json.dumps({"mac": known.mac(self._job)}))
            self._key = known
            self._sweep()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(keep=any(self.path.glob("*.mkv")))

    def close(self, *, keep: bool) -> None:
        """Let go of the folder, and remove it unless it is to be gone on from."""
        if self._lock is None:
            return
        if not keep:
            _remove(self.path)
        self._lock.release()
        self._lock = None

    def note(self, name: str, shape: Shape) -> dict[str, Any] | None:
        """A note left here before by this job; None if there is none, or it is not as this job left it.

        Args:
            name: of the note.
            shape: what it must be; one that is not is as good as none.
        """
        stored = read_json(self.path / f"{name}.json", _SEALED)
        if stored is None:
            return None
        try:
            sealed = base64.b64decode(stored["sealed"], validate=True)
            note: dict[str, Any] = json_of(self._key.decrypt(sealed, f"{self._job} {name}").decode())
            shape(note, name)
        except ValueError:
            return None
        return note

    def leave(self, name: str, note: Mapping[str, Any]) -> None:
        """Leave a note, sealed: whoever changes it, or gives it another name or job, makes it nobody's."""
        sealed = self._key.encrypt(json.dumps(dict(note)).encode(), f"{self._job} {name}")
        with reporting(self.target, "its notes"):
            _write(self.path / f"{name}.json", json.dumps({"sealed": base64.b64encode(sealed).decode()}))

    def output(self) -> Path:
        """Where the output may be written before it gets its name; nothing lies there."""
        path = self.path / "output" / self.target.name
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        return path

    def _known_key(self, key: Key | None) -> Key | None:
        """The key of the work that lies here; None if it is other work, or nobody's."""
        try:
            known = key.derive(_PURPOSE) if key is not None else Key.load(self.path / _KEY)
        except KeyFileError:
            return None
        stored = read_json(self.path / "job.json", _JOB)
        return known if stored is not None and known.verify(self._job, stored["mac"]) else None

    def _sweep(self) -> None:
        """What a killed process was writing."""
        for path in self.path.glob("*.partial"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def discard(target: Path) -> None:
    """Remove the work folder of an output that is finished, unless another process has it."""
    path = _folder_of(target)
    if os.path.lexists(path):
        with contextlib.suppress(BusyError):
            lock = _locked(path, target)
            _remove(path)
            lock.release()


def _folder_of(target: Path) -> Path:
    return name_beside(target, ".", ".deidlib-work")


class _Hashes(NamedTuple):
    video: str
    record: str


class SegmentStore:
    """The segments of a clip: each a lossless video and a record, complete together or not there.

    A segment may be rewritten in later *rounds*; earlier rounds stay until the folder is removed.

    Args:
        folder: where they lie.
        length: frames in each but the last.
    """

    def __init__(self, folder: WorkFolder, length: int) -> None:
        self.folder = folder
        self.length: int = length
        self._rounds: dict[int, list[int]] = {}
        # Of every segment and round that is sound: what lies there later must be the same.
        self._hashes: dict[tuple[int, int], _Hashes] = {}
        for path in sorted(folder.path.glob("*.json")):
            match = re.fullmatch(r"(\d{6})\.(\d+)\.json", path.name)
            hashes = self._sound(path) if match else None
            if match and hashes is not None:
                self._rounds.setdefault(int(match[1]), []).append(int(match[2]))
                self._hashes[int(match[1]), int(match[2])] = hashes

    def latest(self, number: int, upto: int) -> int | None:
        """The last complete round of a segment that is not after ``upto``; None if there is none."""
        return max((n for n in self._rounds.get(number, []) if n <= upto), default=None)

    def known(self) -> list[int]:
        """The numbers of the segments that are complete in some round."""
        return sorted(self._rounds)

    def frames(self) -> int:
        """Frames in all complete segments."""
        return sum(len(self.records(number, max(self._rounds[number]))) for number in self.known())

    def records(self, number: int, upto: int) -> list[FrameRecord]:
        """The records of a complete segment's frames."""
        round_ = self._known(number, upto)
        self._check(self.path(number, round_, "json"), self._hashes[number, round_].record)
        data = self.folder.note(_name(number, round_), RECORD)
        assert data is not None, "a sound record is one that opens"
        return [FrameRecord.from_json(frame) for frame in data["frames"]]

    def images(self, number: int, upto: int, size: int) -> Iterator[Tensor]:
        """The protected frames of a complete segment, in batches."""
        round_ = self._known(number, upto)
        video = self.path(number, round_, "mkv")
        self._check(video, self._hashes[number, round_].video)
        with VideoReader(video) as reader:
            for images, _ in reader.batches(size):
                yield images

    def add(self, number: int, round_: int, records: list[FrameRecord]) -> None:
        """Declare a segment complete whose video has been written."""
        video = self.path(number, round_, "mkv")
        video.chmod(0o600)
        sha256 = sha256_of(video)
        self.folder.leave(_name(number, round_), {"sha256": sha256, "frames": [record.to_json() for record in records]})
        self._hashes[number, round_] = _Hashes(sha256, sha256_of(self.path(number, round_, "json")))
        self._rounds.setdefault(number, []).append(round_)

    def _known(self, number: int, upto: int) -> int:
        latest = self.latest(number, upto)
        assert latest is not None, f"segment {number} is not complete"
        return latest

    def path(self, number: int, round_: int, suffix: str) -> Path:
        """Where a file of a segment lies."""
        return self.folder.path / f"{_name(number, round_)}.{suffix}"

    def _check(self, path: Path, sha256: str) -> None:
        with reporting(self.folder.target, "what is protected"):
            if sha256_of(path) != sha256:
                raise ChangedError(
                    f"{path} was changed while it was worked with, so that nothing was published and the unfinished "
                    "work was removed. Run again."
                )

    def _sound(self, record: Path) -> _Hashes | None:
        """The hashes of a segment; None if a disk has lost or changed it, or others have put it there."""
        sha256, video = sha256_of(record), record.with_suffix(".mkv")
        data = self.folder.note(record.stem, RECORD)
        if data is None or not video.is_file() or data["sha256"] != sha256_of(video):
            return None
        try:
            records = [FrameRecord.from_json(frame) for frame in data["frames"]]
        except ValueError:
            return None
        if not 0 < len(records) <= self.length:
            return None
        return _Hashes(data["sha256"], sha256)


class _Open(NamedTuple):
    """A segment that is being written."""

    writer: VideoWriter
    records: list[FrameRecord]


class Segments(Protocol):
    """Where segments are written."""

    @property
    def length(self) -> int:
        """Frames in each but the last."""
        ...

    def path(self, number: int, round_: int, suffix: str) -> Path:
        """Where a file of a segment lies."""
        ...

    def add(self, number: int, round_: int, records: list[FrameRecord]) -> None:
        """Take a segment whose video has been written."""
        ...


class SegmentWriter:
    """Writes frames into the segments that they belong to; those of a segment come in order, segments in any.

    Args:
        segments: where they go.
        round_: the round that is written.
    """

    def __init__(self, segments: Segments, round_: int) -> None:
        self.segments, self.round = segments, round_
        self._open: dict[int, _Open] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        for segment in self._open.values():
            segment.writer.abort()

    def add(self, first: int, images: Tensor, records: Sequence[FrameRecord]) -> None:
        """Append protected frames ``(B, 3, H, W)`` of one segment, and what is known about them.

        Args:
            first: the number of the first of them in the clip.
            images: on the uint8 grid.
            records: one per frame.

        Raises:
            MediaWriteError: they cannot be written.
        """
        number = first // self.segments.length
        if number not in self._open:
            # The true times are in the records.
            path = self.segments.path(number, self.round, "mkv")
            self._open[number] = _Open(VideoWriter(path, Fraction(25), (images.shape[2], images.shape[3])), [])
        segment = self._open[number]
        segment.writer.write(images)
        segment.records.extend(records)
        if len(segment.records) == self.segments.length:
            self._complete(number)

    def close(self) -> None:
        """Complete what was begun.

        Raises:
            MediaWriteError: it cannot be written.
        """
        for segment in sorted(self._open):
            self._complete(segment)

    def _complete(self, number: int) -> None:
        self._open[number].writer.close()
        self.segments.add(number, self.round, self._open.pop(number).records)


def _name(number: int, round_: int) -> str:
    """Of a segment's files, without their suffix."""
    return f"{number:06d}.{round_}"


_LOCK, _OWNER, _KEY = "lock", "owner", "key"
# What the user's key is derived for, when it seals a work folder.
_PURPOSE = "work folder"
# Seconds: a lock whose last owner is just removing it is gone by then.
_PATIENCE = 0.25


def _write(path: Path, content: str) -> None:
    """A file that appears complete, for its owner's eyes only."""
    with atomic_write(path) as temporary:
        temporary.touch(0o600, exist_ok=False)
        temporary.write_text(content, encoding="utf-8")


def _empty(folder: Path, *, but: Sequence[str]) -> None:
    for path in folder.iterdir():
        if path.name not in but:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _remove(folder: Path) -> None:
    """The lock last: whoever gets it then finds nothing beside it that is just being removed."""
    with contextlib.suppress(OSError):
        _empty(folder, but=(_LOCK,))
    shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path, target: Path) -> FileLock:
    """The lock of a folder that nobody else has."""
    _make(folder, target)
    # A thread may close what another one has opened.
    lock = FileLock(folder / _LOCK, timeout=_PATIENCE, mode=0o600, thread_local=False)
    try:
        lock.acquire(poll_interval=0.02)
        # Its last owner may have removed it since; a lock makes it anew, for everybody to see.
        _make(folder, target)
        _write(folder / _OWNER, f"process {os.getpid()}\n")
    except (Timeout, FileNotFoundError):
        # Of a folder that is gone by now there may be a lock.
        lock.release()
        try:
            known = read_bounded(folder / _OWNER, 100).decode().strip()
        except (OSError, ValueError):
            known = "unknown"
        raise BusyError(
            f"{target} is being written by another process ({known}). Wait for it, or choose another name."
        ) from None
    except BaseException:
        lock.release()
        raise
    return lock


def _make(folder: Path, target: Path) -> None:
    """Make the folder for its owner's eyes only; what somebody else has put there is refused."""
    try:
        folder.mkdir(mode=0o700)
        return
    except FileExistsError:
        pass
    # If it is gone by now, its last owner has just removed it.
    with contextlib.suppress(FileNotFoundError):
        known = folder.lstat()
        if not stat.S_ISDIR(known.st_mode) or (hasattr(os, "getuid") and known.st_uid != os.getuid()):
            raise MediaWriteError(
                f"{target}: {folder} is no work folder of yours but a link or another's file. Remove it."
            )
        if known.st_mode & 0o077:
            folder.chmod(known.st_mode & 0o700)
        # Whoever could write here before may have put links: nothing is to be read or written through one. From here on
        # nobody else can.
        for path in list(folder.iterdir()):
            mode, links = path.lstat().st_mode, path.lstat().st_nlink
            if not stat.S_ISDIR(mode) and not (stat.S_ISREG(mode) and links == 1):
                path.unlink()
