"""``record``: protect what comes from a camera or a pipe while it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from deidlib.media import VideoReader
from deidlib.protect.prefetch import Ahead, Behind
from deidlib.protect.settings import VideoSettings
from deidlib.protect.stream import ProtectedBatch, Sighting, Stream, lost_beside
from deidlib.protect.summary import Summary, Tally
from deidlib.tracking import Tracked

_WAITING = 2


def record(
    stream: Stream,
    reader: VideoReader,
    target: Path,
    settings: VideoSettings,
    limit: int | None,
    progress: Callable[[int], object],
) -> Summary:
    """Protect a source that can be read once only.

    Nothing can be continued or checked afterwards, as the originals are gone. An interrupt ends the recording: the
    output then holds what was protected until then, and what was still waiting is dropped.

    Args:
        stream: what happens to the frames.
        reader: the source.
        target: the file to write; it appears when it is complete.
        settings: how it is written.
        limit: frames after which the recording ends; None for as many as come.
        progress: told how many frames more are written.

    Raises:
        MediaError: the source cannot be read, or the file cannot be written.
        NoFaceError: a frame without a face, with ``on_missing="error"``.
    """
    tally, before = Tally(), None
    with settings.writer(target, reader.info) as writer:

        def write(item: tuple[Sighting, Sequence[Tracked], ProtectedBatch]) -> None:
            sighting, tracked, batch = item
            writer.write(batch.images.cpu(), sighting.pts)
            for frame, losses in zip(tracked, batch.losses(), strict=True):
                tally.add(frame.treatment, lost_beside(frame), losses)

        try:
            with (
                Behind(write, _WAITING) as sink,
                Ahead(_sightings(stream, reader, settings.batch_size, limit), _WAITING) as seen,
            ):
                for sighting, tracked in stream.follow(seen):
                    batch = stream.protect(sighting, tracked, before=before)
                    before = batch.last()
                    sink.put((sighting, tracked, batch))
                    progress(len(tracked))
        except KeyboardInterrupt:
            if not tally.frames:
                raise
    return tally.summary()


def _sightings(stream: Stream, reader: VideoReader, size: int, limit: int | None) -> Iterator[Sighting]:
    first, start = 0, None
    for images, pts in reader.batches(size):
        # A camera's clock began long ago.
        start = pts[0] if start is None else start
        count = len(pts) if limit is None else min(len(pts), limit - first)
        if count:
            yield replace(
                stream.look(images[:count].to(stream.device()), first), pts=[tick - start for tick in pts[:count]]
            )
        first += count
        if first == limit:
            return
