"""``VideoReader``: the frames of a video file, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from torch import Tensor

from deidlib.images import Pixels, from_pixels
from deidlib.media.decoding import Decoding, VideoInfo
from deidlib.media.errors import MediaReadError
from deidlib.media.sources import source_of


class Frame(NamedTuple):
    """One frame ``(3, H, W)`` in [0, 1] and its time stamp in ticks of the video's time base."""

    image: Tensor
    pts: int


class Batch(NamedTuple):
    """Frames ``(B, 3, H, W)`` in [0, 1] and their time stamps in ticks of the video's time base."""

    images: Tensor
    pts: tuple[int, ...]


class VideoReader:
    """The frames of a video file, in order, each exactly once, upright, RGB float32 in [0, 1].

    Memory does not grow with the length of the video. Time stamps increase strictly;
    :class:`~deidlib.media.clock.Clock` says what becomes of those that do not. What is transparent is shown on white;
    HDR is tone-mapped to SDR. Of several videos in a file the one that it says is to be shown is read, or the largest;
    ``info`` says how many there are besides. A reader may be iterated again; it then starts anew.

    Args:
        path: the video; or the number of a camera; or ``"-"``, a video from standard input. Those two can be
            iterated only once.
        strict: a frame that cannot be decoded or that the decoder reports as damaged, and an end before the time
            that the header promises, are errors, and so is, at once, a file shorter than it says it is. Otherwise
            what can be decoded is returned and the rest passed over. (Some damage decoders mend without a word,
            and nobody can tell.)

    Raises:
        MediaReadError: on opening, not a video or no frame in it; on iterating, damage (see ``strict``) or a
            change of frame size.

    Example:
        >>> import tempfile, torch
        >>> from fractions import Fraction
        >>> from deidlib.media import VideoWriter
        >>> path = Path(tempfile.mkdtemp(), "drive.mkv")
        >>> with VideoWriter(path, fps=Fraction(25), size=(8, 10)) as writer:
        ...     writer.write(torch.zeros(5, 3, 8, 10))
        >>> with VideoReader(path) as reader:
        ...     for images, pts in reader.batches(3):
        ...         print(tuple(images.shape), [float(tick * reader.info.time_base) for tick in pts])
        (3, 3, 8, 10) [0.0, 0.04, 0.08]
        (2, 3, 8, 10) [0.12, 0.16]
    """

    def __init__(self, path: str | Path | int, *, strict: bool = True) -> None:
        self.source = source_of(path)
        self.strict = strict
        # The first frame is decoded at once: only it shows rotation, and that there are frames at all.
        self._opened: Decoding | None = Decoding(self.source, strict)
        self.info: VideoInfo = self._opened.info

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, if no iteration is under way."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __iter__(self) -> Iterator[Frame]:
        """Frames one by one, ``(3, H, W)``."""
        for pixels, pts in self._pixels(lambda frame: True):
            assert pixels is not None
            yield Frame(from_pixels(pixels), pts)

    def batches(self, size: int) -> Iterator[Batch]:
        """Frames in batches of ``size``; the last batch holds what is left.

        Raises:
            ValueError: size is not at least 1.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1 frame, got {size}.")
        for images, times in self.selected(size, lambda batch: True):
            assert images is not None
            yield Batch(images, times)

    def selected(self, size: int, wanted: Callable[[int], bool]) -> Iterator[tuple[Tensor | None, tuple[int, ...]]]:
        """Batches as :meth:`batches`, but None in place of images that are not wanted, which saves converting them.

        Args:
            size: frames in a batch.
            wanted: told the number of a batch, from 0.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1 frame, got {size}.")
        images: list[Pixels | None] = []
        times: list[int] = []
        for pixels, pts in self._pixels(lambda frame: wanted(frame // size)):
            images.append(pixels)
            times.append(pts)
            if len(images) == size:
                yield _stacked(images), tuple(times)
                images, times = [], []
        if images:
            yield _stacked(images), tuple(times)

    def _pixels(self, wanted: Callable[[int], bool]) -> Iterator[tuple[Pixels | None, int]]:
        if self._opened is None and self.source.path is None:
            raise MediaReadError(f"{self.source.name} can be read once only.")
        decoding = self._opened or Decoding(self.source, self.strict)
        self._opened = None
        try:
            yield from decoding.pixels(wanted)
        finally:
            decoding.close()


def _stacked(images: list[Pixels | None]) -> Tensor | None:
    known = [pixels for pixels in images if pixels is not None]
    return from_pixels(np.stack(known)) if known else None
