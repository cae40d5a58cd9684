"""``VideoReader``: the frames of a video file, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from torch import Tensor

from deidlib.video.decoding import Decoding, VideoInfo
from deidlib.video.pixels import Pixels, to_float


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

    Memory does not grow with the length of the video. Time stamps increase strictly: a frame without one is
    placed one frame's duration after its predecessor, one that is not later than its predecessor one tick after it.
    A reader may be iterated again; it then starts anew.

    Args:
        path: the video.
        strict: a frame that cannot be decoded or that the decoder reports as damaged, and an end before the time
            that the header promises, are errors. Otherwise what can be decoded is returned and the rest passed
            over. (Some damage decoders mend without a word, and nobody can tell.)

    Raises:
        MediaReadError: on opening, not a video or no frame in it; on iterating, damage (see ``strict``) or a
            change of frame size.

    Example:
        >>> import tempfile, torch
        >>> from fractions import Fraction
        >>> from deidlib.video import VideoWriter
        >>> path = Path(tempfile.mkdtemp(), "drive.mkv")
        >>> with VideoWriter(path, fps=Fraction(25), size=(8, 10)) as writer:
        ...     writer.write(torch.zeros(5, 3, 8, 10))
        >>> with VideoReader(path) as reader:
        ...     for images, pts in reader.batches(3):
        ...         print(tuple(images.shape), [float(tick * reader.info.time_base) for tick in pts])
        (3, 3, 8, 10) [0.0, 0.04, 0.08]
        (2, 3, 8, 10) [0.12, 0.16]
    """

    def __init__(self, path: str | Path, *, strict: bool = True) -> None:
        self.path = Path(path)
        self.strict = strict
        # The first frame is decoded at once: only it shows rotation, and that there are frames at all.
        self._opened: Decoding | None = Decoding(self.path, strict)
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
        for pixels, pts in self._pixels():
            yield Frame(to_float(pixels), pts)

    def batches(self, size: int) -> Iterator[Batch]:
        """Frames in batches of ``size``; the last batch holds what is left.

        Raises:
            ValueError: size is not at least 1.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1 frame, got {size}.")
        images: list[Pixels] = []
        times: list[int] = []
        for pixels, pts in self._pixels():
            images.append(pixels)
            times.append(pts)
            if len(images) == size:
                yield Batch(to_float(np.stack(images)), tuple(times))
                images, times = [], []
        if images:
            yield Batch(to_float(np.stack(images)), tuple(times))

    def _pixels(self) -> Iterator[tuple[Pixels, int]]:
        decoding = self._opened or Decoding(self.path, self.strict)
        self._opened = None
        try:
            yield from decoding
        finally:
            decoding.close()
