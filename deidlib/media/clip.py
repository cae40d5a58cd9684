"""``Clip``: an image, a video, or a folder of numbered frames, read from its first frame to its last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from deidlib.bounded import MOST_FRAMES, fields, json_of, listed, read_bounded, text, whole
from deidlib.images import check_images
from deidlib.media.decoding import VideoInfo
from deidlib.media.errors import MediaReadError
from deidlib.media.images import read_image
from deidlib.media.kind import Kind, kind_of
from deidlib.media.presentation import Presentation
from deidlib.media.reader import Batch, VideoReader
from deidlib.media.tree import is_picture

# Of pictures that say nothing of their times.
_FPS = Fraction(25)


class FrameReader(Protocol):
    """The frames of a clip of any kind, in order, each exactly once; see :class:`~deidlib.media.VideoReader`."""

    info: VideoInfo

    def selected(self, size: int, wanted: Callable[[int], bool]) -> Iterator[tuple[Tensor | None, tuple[int, ...]]]:
        """Batches of frames and their time stamps; None in place of those whose batch is not wanted."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class PictureReader:
    """Pictures read as the frames of a clip: one image, or a folder of them in the order of their names.

    Args:
        path: the image, or the folder. Times are those of its ``frames.json``, as the codec ``png-folder`` writes it;
            without one there are 25 frames a second.

    Raises:
        MediaReadError: no picture there, or one that cannot be read, or of another size than the first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pictures = _pictures(path) if path.is_dir() else [path]
        self._first: Tensor | None = read_image(self.pictures[0])
        self.size = (self._first.shape[-2], self._first.shape[-1])
        fps, base, self.pts, shown = _told(path, len(self.pictures))
        self.info = _info_of(self.size, len(self.pictures), fps, base, shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._first = None

    def batches(self, size: int) -> Iterator[Batch]:
        """Frames in batches of ``size``; the last batch holds what is left."""
        for images, times in self.selected(size, lambda batch: True):
            assert images is not None
            yield Batch(images, times)

    def selected(self, size: int, wanted: Callable[[int], bool]) -> Iterator[tuple[Tensor | None, tuple[int, ...]]]:
        """Batches as :meth:`batches`, but None in place of images that are not wanted, which are not opened."""
        for batch, start in enumerate(range(0, len(self.pictures), size)):
            rows = range(start, min(start + size, len(self.pictures)))
            images = torch.cat([self._picture(row) for row in rows]) if wanted(batch) else None
            yield images, tuple(self.pts[row] for row in rows)

    def _picture(self, row: int) -> Tensor:
        if row == 0 and self._first is not None:
            image, self._first = self._first, None
            return image
        image = read_image(self.pictures[row])
        size = (image.shape[-2], image.shape[-1])
        if size != self.size:
            raise MediaReadError(
                f"{self.pictures[row]} has {in_pixels(size)} pixels, the first picture of {self.path} "
                f"{in_pixels(self.size)}. The frames of a clip must have one size."
            )
        return image


class MemoryReader:
    """A picture in memory, read as a clip of one frame; it may be read any number of times, by a new reader each.

    Args:
        image: ``(1, 3, H, W)`` in [0, 1].
    """

    def __init__(self, image: Tensor) -> None:
        self.image = check_images(image, name="image")
        self.info = _info_of((image.shape[2], image.shape[3]), 1, _FPS, 1 / _FPS, Presentation())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def selected(self, size: int, wanted: Callable[[int], bool]) -> Iterator[tuple[Tensor | None, tuple[int, ...]]]:
        """The picture, at time 0; None in its place if it is not wanted."""
        yield self.image if wanted(0) else None, (0,)


def open_frames(path: Path) -> PictureReader | VideoReader:
    """The frames of a file or folder, whatever its kind.

    Raises:
        MediaReadError: it cannot be read.
    """
    return VideoReader(path) if kind_of(path) == "video" else PictureReader(path)


@dataclass(frozen=True)
class Clip:
    """A file, or a folder of numbered frames, whose frames have been counted.

    Args:
        path: where it lies.
        kind: an ``"image"``, a ``"video"``, or ``"frames"``: a folder of pictures, in the order of their names.
        frames: how many there are, counted.
        size: (height, width) in pixels.
        pts: time stamps of a video in ticks of ``time_base``.
        time_base: seconds per tick.
    """

    path: Path
    kind: Kind
    frames: int
    size: tuple[int, int]
    pts: tuple[int, ...] | None = None
    time_base: Fraction | None = None

    @classmethod
    def open(cls, path: Path) -> Clip:
        """Count the frames of a file.

        Raises:
            MediaReadError: it cannot be read to its end.
        """
        kind = kind_of(path)
        with open_frames(path) as reader:
            info = reader.info
            # The header's count may be wrong; decoding without converting is quick beside reading the faces.
            pts = tuple(tick for _, ticks in reader.selected(64, lambda batch: False) for tick in ticks)
        size = (info.height, info.width)
        return cls(path, kind, len(pts), size, *((pts, info.time_base) if kind == "video" else ()))

    def batches(self, size: int) -> Iterator[Tensor]:
        """Frames ``(B, 3, H, W)``, ``size`` at a time; memory does not grow with the length."""
        with open_frames(self.path) as reader:
            yield from (batch.images for batch in reader.batches(size))

    def some(self, numbers: set[int]) -> dict[int, Tensor]:
        """Single frames ``(3, H, W)`` by their number."""
        found: dict[int, Tensor] = {}
        with open_frames(self.path) as reader:
            for number, (images, _) in enumerate(reader.selected(1, numbers.__contains__)):
                if images is not None:
                    found[number] = images[0]
                if len(found) == len(numbers):
                    break
        return found


def _pictures(folder: Path) -> list[Path]:
    found = sorted(
        path for path in folder.iterdir()
        if not path.name.startswith(".") and is_picture(path)
    )  # fmt: skip
    if not found:
        raise MediaReadError(f"{folder} holds no picture (PNG, JPEG, BMP, TIFF, WebP, AVIF, HEIC ...).")
    return found


def _info_of(size: tuple[int, int], count: int, fps: Fraction, base: Fraction, shown: Presentation) -> VideoInfo:
    """What is known of pictures."""
    return VideoInfo(
        width=size[1],
        height=size[0],
        fps=fps,
        time_base=base,
        frames=count,
        codec="pictures",
        pixel_format="rgb24",
        rotation=0,
        interlaced=shown.fields != "progressive",
        has_audio=False,
        shown=shown,
    )


def in_pixels(size: tuple[int, int]) -> str:
    """(height, width) as it is written: ``1280x720``."""
    return f"{size[1]}x{size[0]}"


def _told(path: Path, count: int) -> tuple[Fraction, Fraction, tuple[int, ...], Presentation]:
    """Of the pictures of a folder: frames per second, seconds per tick, the time stamps, and how they are shown."""
    place = path / "frames.json"
    if not path.is_dir() or not place.exists():
        return _FPS, 1 / _FPS, tuple(range(count)), Presentation()
    try:
        known = json_of(read_bounded(place).decode())
        _TIMES(known, place.name)
        fps, base, pts = Fraction(known["fps"]), Fraction(known["time_base"]), tuple(known["pts"])
        shown = Presentation.from_json(known)
        if len(pts) != count:
            raise ValueError(f"it tells of {len(pts)} pictures, and there are {count}")
        if any(later <= tick for tick, later in pairwise(pts)):
            raise ValueError("its time stamps do not increase")
    except OSError as error:
        raise MediaReadError(f"{place} cannot be read ({error.strerror}). Check its permissions.") from error
    except ValueError as error:
        raise MediaReadError(
            f"{place} does not say when the pictures are shown: {error}. Get the folder as it was written, or remove "
            "that file: they then are shown 25 a second."
        ) from error
    return fps, base, pts, shown


# Of positive numbers below a billion.
_SHARE = text(21, r"0*[1-9]\d{0,8}(/0*[1-9]\d{0,8})?")
_TIMES = fields(
    {"fps": _SHARE, "time_base": _SHARE, "pts": listed(whole(-(2**62), 2**62), MOST_FRAMES)},
    {"pixel_aspect": _SHARE, "fields": text(11), "primaries": whole(0, 255), "transfer": whole(0, 255)},
)
