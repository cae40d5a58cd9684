"""A clip's work in segments, in its work folder: what is complete survives, whatever happens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from torch import Tensor

from deidlib.bounded import MOST_FRAMES, fields, listed, whole
from deidlib.media import VideoReader, VideoWriter
from deidlib.media.errors import reporting
from deidlib.protect.frame_record import RECORD, FrameRecord
from deidlib.protect.work_folder import ChangedError, WorkFolder
from deidlib.records.files import sha256_of

COUNTED = fields({"frames": whole(1, MOST_FRAMES)})
"""Of a clip: how many frames it has."""
CHECKED = fields({"bad": listed(whole(0, MOST_FRAMES), MOST_FRAMES)})
"""Of a round: the frames that are read badly after it."""


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

    def batches(self, upto: int, size: int) -> Iterator[tuple[list[FrameRecord], Tensor]]:
        """The protected frames of all complete segments, in batches, with their records."""
        for number in self.known():
            records = self.records(number, upto)
            for images in self.images(number, upto, size):
                yield records[: len(images)], images
                del records[: len(images)]

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
