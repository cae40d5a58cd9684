"""``Spread``: the parts of one clip over workers, each of which reads, looks, hides, attacks and stores its own."""

from __future__ import annotations

import itertools
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from deidlib.faces import Faces
from deidlib.images import on_device, to_uint8
from deidlib.media import MediaWriteError
from deidlib.media.clip import FrameReader
from deidlib.media.errors import reporting
from deidlib.protect.batches import DetectedBatch
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.frame_record import FrameRecord
from deidlib.protect.protected_frames import ProtectedFrames
from deidlib.protect.segments import SegmentStore, SegmentWriter
from deidlib.protect.source import ClipSource
from deidlib.protect.workers import Died, Done, Event, Failed, Told, Workers
from deidlib.records.files import commit, remove
from deidlib.tracking import TrackedFrame

_log = logging.getLogger(__name__)
# Parts that a worker has looked at and holds in 8 bits, until it is known what is to be hidden in them.
_HELD = 2
# Workers that may be lost over the same part: whatever kills them would go on for ever.
_TRIES = 3


@dataclass(frozen=True)
class Plan:
    """How a clip is cut.

    Args:
        frame: its height and width in pixels.
        length: frames in a segment, which depends on no other.
        size: frames that are read at a time; a segment is of whole batches.
        chains: segments that are attacked side by side.
    """

    frame: tuple[int, int]
    length: int
    size: int
    chains: int

    @property
    def part(self) -> int:
        """Frames that a worker takes at a time."""
        return self.length * self.chains


@dataclass(frozen=True)
class _Look:
    """Look at the segments of a part that are not there yet."""

    part: int
    segments: frozenset[int]
    faces: Sequence[Faces] | None


@dataclass(frozen=True)
class _Seen:
    """What was found in these; nothing after the end of the clip."""

    part: int
    batches: list[DetectedBatch]


@dataclass(frozen=True)
class _Protect:
    """Hide and attack what was seen, and store it."""

    part: int
    segments: frozenset[int]
    frames: list[tuple[DetectedBatch, list[TrackedFrame]]]
    folder: Path


@dataclass(frozen=True)
class _Stored:
    """Segments, each with the records of its frames, which lie in a folder under names that are not theirs yet."""

    part: int
    segments: list[tuple[int, Path, list[FrameRecord]]]


class Spread:
    """Fills the segments of a clip by workers.

    Workers look at parts of the clip, in order. We follow the faces through all of it, as what is hidden in a part
    hangs on the faces before and after it, and tell whoever has looked at a part what to hide there. A worker that dies
    loses its parts to the others.

    Args:
        deidentifier: what happens to the frames.
        source: the clip; a file or a folder.
        store: the segments.
        plan: how the clip is cut.
        faces: per frame where faces are, if that is known.
        progress: told how many frames more are protected.
    """

    def __init__(
        self,
        deidentifier: Deidentifier,
        source: ClipSource,
        store: SegmentStore,
        plan: Plan,
        faces: Sequence[Faces] | None,
        progress: Callable[[int], object],
    ) -> None:
        self.deidentifier, self.source, self.store, self.plan = deidentifier, source, store, plan
        self.faces, self.progress = faces, progress
        self._folder = store.folder.path / "parts.partial"
        self._done = {k for k in store.known() if store.latest(k, 0) is not None}
        # Of parts: to be looked at (before those that nobody has begun), seen, and told what to hide.
        self._again: deque[int] = deque()
        self._next, self._end = 0, False
        self._seen: dict[int, list[DetectedBatch]] = {}
        self._coming: dict[int, list[tuple[DetectedBatch, list[TrackedFrame]]]] = {}
        self._verdicts: dict[int, list[tuple[DetectedBatch, list[TrackedFrame]]]] = {}
        # Of workers: what they are at, and which parts they hold; parts that nobody holds any more.
        self._at: dict[int, _Look | _Protect] = {}
        self._holds: dict[int, set[int]] = {}
        self._lost: set[int] = set()
        self._losses, self._told, self._counted = Counter[int](), Counter[int](), Counter[int]()

    def fill(self, count: int) -> int:
        """Complete all segments.

        Args:
            count: of workers.

        Returns:
            The frames of the clip.

        Raises:
            MediaError: a file cannot be read or written.
            NoFaceError: a frame without a face, with ``on_missing="error"``.
        """
        frames = 0
        remove(self._folder)
        self._folder.mkdir(mode=0o700)
        self._holds = {worker: set() for worker in range(count)}
        work = _PartWork(self.deidentifier, self.source, self.plan)
        with Workers(count, work, self.deidentifier.device()) as workers:
            for batch, tracked in self.deidentifier.follow(self._detected(workers)):
                frames += len(tracked)
                self._follow(batch, tracked)
            # The last one may be short.
            self._verdicts |= self._coming
            while self._verdicts or any(isinstance(order, _Protect) for order in self._at.values()):
                self._go_on(workers)
        remove(self._folder)
        return frames

    def _follow(self, batch: DetectedBatch, tracked: list[TrackedFrame]) -> None:
        """Some more frames of which it is known what is to be hidden."""
        part = batch.first // self.plan.part
        if batch.first // self.plan.length in self._done:
            self.progress(len(tracked))
        else:
            self._coming.setdefault(part, []).append((batch, tracked))
        if batch.first + len(tracked) == (part + 1) * self.plan.part and part in self._coming:
            self._verdicts[part] = self._coming.pop(part)

    def _detected(self, workers: Workers) -> Iterator[DetectedBatch]:
        """The whole clip, without its pictures: recorded where it is recorded, else as workers see it."""
        for part in itertools.count():
            numbers = range(part * self.plan.chains, (part + 1) * self.plan.chains)
            if self._missing(part):
                while part not in self._seen:
                    self._go_on(workers)
                seen = self._seen.pop(part)
            else:
                seen = []
            frames = 0
            for number in numbers:
                batches = [batch for batch in seen if batch.first // self.plan.length == number]
                if number in self._done:
                    batches = self._recorded(number)
                frames += sum(len(batch.faces) for batch in batches)
                yield from batches
            if frames < self.plan.part:
                self._end = True
                return

    def _missing(self, part: int) -> frozenset[int]:
        """The segments of a part that are not there; of the last one there may be none."""
        numbers = range(part * self.plan.chains, (part + 1) * self.plan.chains)
        return frozenset(number for number in numbers if number not in self._done)

    def _recorded(self, number: int) -> list[DetectedBatch]:
        """A finished segment."""
        records, size = self.store.records(number, 0), self.plan.size
        return [
            DetectedBatch(
                number * self.plan.length + start,
                None,
                self.plan.frame,
                [record.faces for record in rows],
                [record.readings for record in rows],
                [record.pts for record in rows],
                [record.count for record in rows],
            )
            for start in range(0, len(records), size)
            if (rows := records[start : start + size])
        ]

    # Who does what

    def _go_on(self, workers: Workers) -> None:
        """Give everybody something to do, and hear what they say."""
        idle = [worker for worker in self._holds if worker not in self._at]
        for most in (_HELD, None):
            for worker in sorted(idle, key=lambda worker: len(self._holds[worker])):
                if (order := self._order_for(self._holds[worker], most)) is not None:
                    self._at[worker] = order
                    workers.give(worker, order)
                    if most is None:
                        break
            if self._at:
                break
            # Everybody waits for what nobody has looked at: short parts, of which the tracker looks several ahead.
        for event in workers.events():
            self._hear(event)

    def _order_for(self, held: set[int], most: int | None) -> _Look | _Protect | None:
        ready = sorted((held | self._lost) & self._verdicts.keys())
        if ready:
            part = ready[0]
            self._lost.discard(part)
            held.add(part)
            self._counted[part] = 0
            return _Protect(part, self._missing(part), self._verdicts.pop(part), self._folder)
        if (most is not None and len(held) >= most) or (self._end and not self._again):
            return None
        part = self._again.popleft() if self._again else self._next_part()
        held.add(part)
        first = part * self.plan.part
        known = None if self.faces is None else self.faces[first : first + self.plan.part]
        return _Look(part, self._missing(part), known)

    def _next_part(self) -> int:
        while not self._missing(self._next):
            self._next += 1
        self._next += 1
        return self._next - 1

    def _hear(self, event: Event) -> None:
        worker = event.worker
        match event:
            case Told(_, (part, frames)):
                self._counted[part] += frames
                if (more := self._counted[part] - self._told[part]) > 0:
                    # Of a part that is done again, what was told before is not told twice.
                    self._told[part] += more
                    self.progress(more)
            case Failed(_, error):
                raise error
            case Done(_, _Seen(part, batches)):
                del self._at[worker]
                self._seen[part] = batches
                if not batches:
                    self._end = True
                    self._holds[worker].discard(part)
            case Done(_, _Stored(part, segments)):
                del self._at[worker]
                self._holds[worker].discard(part)
                for number, path, records in segments:
                    with reporting(self.store.folder.target, "what is protected"):
                        commit(path, self.store.path(number, 0, "mkv"))
                    self.store.add(number, 0, records)
            case Died(_, why):
                self._bury(worker, why)

    def _bury(self, worker: int, why: str) -> None:
        order = self._at.pop(worker, None)
        _log.warning("%s: a worker %s; what it did is done again", self.store.folder.target.name, why)
        if order is not None:
            self._losses[order.part] += 1
            if self._losses[order.part] >= _TRIES:
                raise MediaWriteError(
                    f"{self.store.folder.target}: {_TRIES} workers were lost over the same frames, the last one "
                    f"{why}. Fewer of them take less memory; what is finished is kept, so run again."
                )
        match order:
            case _Look(part):
                self._holds[worker].discard(part)
                self._again.append(part)
            case _Protect(part, _, frames):
                self._verdicts[part] = frames
        self._lost |= self._holds[worker]
        self._holds[worker] = set()


class _Target(NamedTuple):
    """Where a worker stores segments, as :class:`SegmentWriter` sees it."""

    length: int
    folder: Path
    stored: list[tuple[int, Path, list[FrameRecord]]]

    def path(self, number: int, round_: int, suffix: str) -> Path:
        return self.folder / f"{number:06d}.{round_}.{suffix}"

    def add(self, number: int, round_: int, records: list[FrameRecord]) -> None:
        self.stored.append((number, self.path(number, round_, "mkv"), records))


@dataclass
class _PartWork:
    """What a worker does."""

    deidentifier: Deidentifier
    source: ClipSource
    plan: Plan
    _held: dict[int, list[Tensor]] = field(default_factory=dict)
    _reader: FrameReader | None = None
    _frames: Iterator[tuple[Tensor | None, tuple[int, ...]]] | None = None
    # The first frame that has not been read, and what is wanted of those that come.
    _at: int = 0
    _wanted: range = range(0)

    def __call__(self, order: _Look | _Protect, tell: Callable[[tuple[int, int]], None], /) -> _Seen | _Stored:
        return self._look(order) if isinstance(order, _Look) else self._protect(order, tell)

    def _look(self, order: _Look) -> _Seen:
        batches = []
        start = order.part * self.plan.part
        for first, images, pts in self._read(order.part, order.segments):
            known = None
            if order.faces is not None:
                known = order.faces[first - start : first - start + len(pts)]
                if len(known) < len(pts):
                    raise ValueError(
                        "the clip has more frames than faces are given for. Give an entry for every frame, an empty "
                        "one where there is no face."
                    )
            batch = self.deidentifier.detect(on_device(images, self.deidentifier.device()), first, faces=known)
            batches.append(replace(batch, pts=pts))
        seen = list(self.deidentifier.looked_over(batches))
        self._held[order.part] = [batch.levels.cpu() for batch in seen if batch.levels is not None]
        return _Seen(order.part, [replace(batch, levels=None).to("cpu") for batch in seen])

    def _protect(self, order: _Protect, tell: Callable[[tuple[int, int]], None]) -> _Stored:
        device = self.deidentifier.device()
        levels = self._held.pop(order.part, None)
        if levels is None:
            # Somebody else has looked, who is no more.
            levels = [to_uint8(images) for _, images, _ in self._read(order.part, order.segments)]
        target = _Target(self.plan.length, order.folder, [])
        frames = (
            (replace(batch, levels=kept).to(device), [frame.to(device) for frame in tracked])
            for (batch, tracked), kept in zip(order.frames, levels, strict=True)
        )
        with SegmentWriter(target, 0) as writer:
            for some in ProtectedFrames.of(self.deidentifier, frames, self.plan.chains):
                writer.add(*some)
                tell((order.part, len(some.records)))
        return _Stored(order.part, target.stored)

    def _read(self, part: int, segments: frozenset[int]) -> Iterator[tuple[int, Tensor, tuple[int, ...]]]:
        """The frames of some segments of a part, in batches; none after the end."""
        start, end = part * self.plan.part, (part + 1) * self.plan.part
        if self._frames is None or self._at > start:
            self._open()
        assert self._frames is not None
        self._wanted = range(start, end)
        while self._at < end:
            images, pts = next(self._frames, (None, ()))
            first, self._at = self._at, self._at + len(pts)
            if not pts:
                # At its end: whoever wants something from before begins anew.
                self._at = end
                return
            if first >= start and first // self.plan.length in segments:
                assert images is not None
                yield first, images, pts

    def _open(self) -> None:
        if self._reader is not None:
            self._reader.__exit__(None, None, None)
        self.source.check()
        self._reader, self._at = self.source.open(), 0
        self._frames = self._reader.selected(self.plan.size, lambda batch: batch * self.plan.size in self._wanted)
