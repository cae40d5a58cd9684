"""``Clip``: an image, a video, or a folder of numbered frames, read from its first frame to its last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deidlib.media import MediaReadError, VideoReader, read_image
from deidlib.media.suffixes import IMAGE_SUFFIXES

Kind = Literal["image", "video", "frames"]


@dataclass(frozen=True)
class Clip:
    """A file, or a folder of numbered frames, that is read from its first frame to its last.

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
    def open(cls, path: Path, kind: Kind) -> Clip:
        """Count the frames of a file.

        Raises:
            MediaReadError: it cannot be read to its end.
        """
        if kind == "image":
            return cls(path, kind, 1, _size(read_image(path)))
        if kind == "frames":
            pictures = _pictures(path)
            return cls(path, kind, len(pictures), _size(read_image(pictures[0])))
        with VideoReader(path) as reader:
            info = reader.info
            # The header's count may be wrong; decoding without converting is quick beside reading the faces.
            pts = [tick for _, ticks in reader.selected(64, lambda batch: False) for tick in ticks]
        return cls(path, kind, len(pts), (info.height, info.width), tuple(pts), info.time_base)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Frames ``(B, 3, H, W)``, ``size`` at a time; memory does not grow with the length."""
        if self.kind == "video":
            with VideoReader(self.path) as reader:
                yield from (batch.images for batch in reader.batches(size))
            return
        pictures = [self.path] if self.kind == "image" else _pictures(self.path)
        for start in range(0, len(pictures), size):
            yield torch.cat([self._picture(path) for path in pictures[start : start + size]])

    def some(self, numbers: set[int]) -> dict[int, Tensor]:
        """Single frames ``(3, H, W)`` by their number."""
        if self.kind == "video":
            found = {}
            with VideoReader(self.path) as reader:
                for number, (images, _) in enumerate(reader.selected(1, numbers.__contains__)):
                    if images is not None:
                        found[number] = images[0]
                    if len(found) == len(numbers):
                        break
            return found
        pictures = [self.path] if self.kind == "image" else _pictures(self.path)
        return {number: self._picture(pictures[number])[0] for number in numbers}

    def _picture(self, path: Path) -> Tensor:
        image = read_image(path)
        if _size(image) != self.size:
            raise MediaReadError(
                f"{path} has {in_pixels(_size(image))} pixels, the first picture of {self.path} "
                f"{in_pixels(self.size)}. The frames of a clip must have one size."
            )
        return image


def kind_of(path: Path) -> Kind:
    """What a path holds, by its suffix; a folder holds frames."""
    if path.is_dir():
        return "frames"
    return "image" if path.suffix.lower() in IMAGE_SUFFIXES else "video"


def _pictures(folder: Path) -> list[Path]:
    found = sorted(
        path for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )  # fmt: skip
    if not found:
        raise MediaReadError(f"{folder} holds no picture ({', '.join(IMAGE_SUFFIXES)}).")
    return found


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def in_pixels(size: tuple[int, int]) -> str:
    """(height, width) as it is written: ``1280x720``."""
    return f"{size[1]}x{size[0]}"
