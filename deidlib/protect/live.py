"""``Recording``: a camera or a pipe, read while it comes, as a clip that begins at time 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from torch import Tensor

from deidlib.media import VideoInfo, VideoReader


class Recording:
    """The frames of a source that can be read once only.

    Args:
        source: the number of a camera, or ``"-"``, a video from standard input.
        limit: frames after which it ends; None for as many as come.

    Raises:
        MediaReadError: the source cannot be read.
    """

    def __init__(self, source: str | Path | int, limit: int | None = None) -> None:
        self.reader, self.limit = VideoReader(source), limit
        self.info: VideoInfo = self.reader.info

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.reader.close()

    def selected(self, size: int, wanted: Callable[[int], bool]) -> Iterator[tuple[Tensor | None, tuple[int, ...]]]:
        """Batches of frames, with times that begin at 0: a camera's clock began long ago."""
        first, start = 0, None
        for images, pts in self.reader.selected(size, wanted):
            start = pts[0] if start is None else start
            count = len(pts) if self.limit is None else min(len(pts), self.limit - first)
            if count:
                yield None if images is None else images[:count], tuple(tick - start for tick in pts[:count])
            first += count
            if first == self.limit:
                return
