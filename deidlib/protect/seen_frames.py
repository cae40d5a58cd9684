"""``SeenFrames``: the frames of a clip, with what was found in them: recorded, or looked at now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from deidlib.faces import Faces
from deidlib.images import on_device, to_uint8
from deidlib.media.clip import FrameReader
from deidlib.protect.batches import DetectedBatch
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.frame_record import FrameRecord
from deidlib.protect.pace import Pace
from deidlib.protect.segments import SegmentStore
from deidlib.protect.source import ClipSource


class SeenFrames:
    """Reads a clip, as often as it is asked for; one that comes live, once.

    Args:
        deidentifier: who looks.
        source: the clip.
        pace: how many frames at a time.
        reader: the clip, opened already.
        faces: per frame where faces are, if that is known.
    """

    def __init__(
        self,
        deidentifier: Deidentifier,
        source: ClipSource,
        pace: Pace,
        reader: FrameReader,
        faces: Sequence[Faces] | None,
    ) -> None:
        self._deidentifier, self._source, self._pace, self._faces = deidentifier, source, pace, faces
        self._reader: FrameReader | None = reader

    def close(self) -> None:
        """Let go of the reader that is open already: others read."""
        if self._reader is not None:
            with self._reader:
                self._reader = None

    def batches(self, store: SegmentStore, upto: int, wanted: Callable[[int], bool]) -> Iterator[DetectedBatch]:
        """The whole clip: recorded where it is recorded, else looked at; pictures only where they are wanted.

        Args:
            store: the records.
            upto: the round that they may be of.
            wanted: told the number of a batch.

        Raises:
            ValueError: fewer faces are given than there are frames.
        """
        device, length, size = self._deidentifier.device(), self._deidentifier.part, self._pace.batch
        segment, records = -1, list[FrameRecord]()
        with self._opened() as reader:
            for batch, (images, pts) in enumerate(reader.selected(size, wanted)):
                first = batch * size
                number, offset = divmod(first, length)
                if store.latest(number, upto) is None:
                    assert images is not None
                    known = None if self._faces is None else self._given(self._faces, first, len(pts))
                    yield replace(self._deidentifier.detect(on_device(images, device), first, faces=known), pts=pts)
                    continue
                if number != segment:
                    segment, records = number, store.records(number, upto)
                rows = records[offset : offset + len(pts)]
                yield DetectedBatch(
                    first,
                    None if images is None else to_uint8(on_device(images, device)),
                    (reader.info.height, reader.info.width),
                    [record.faces.to(device) for record in rows],
                    [{name: known.to(device) for name, known in record.readings.items()} for record in rows],
                    pts,
                    [record.count for record in rows],
                )

    def _opened(self) -> FrameReader:
        """The reader that is open already, or a new one."""
        reader, self._reader = self._reader, None
        if reader is None:
            self._source.check()
            reader = self._source.open()
        return reader

    def _given(self, given: Sequence[Faces], first: int, count: int) -> Sequence[Faces]:
        faces = given[first : first + count]
        if len(faces) < count:
            raise ValueError(
                f"the clip has more frames than the {len(given)} that faces are given for. "
                "Give an entry for every frame, an empty one where there is no face."
            )
        return faces
