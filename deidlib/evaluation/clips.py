"""Which file is the protection of which, and their frames in step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deidlib.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from deidlib.video import MediaReadError, VideoReader, read_image

Kind = Literal["image", "video", "frames"]


class EvaluationError(ValueError):
    """Two files or folders cannot be compared; the message names both."""


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
                f"{path} has {_in_pixels(_size(image))} pixels, the first picture of {self.path} "
                f"{_in_pixels(self.size)}. The frames of a clip must have one size."
            )
        return image


@dataclass(frozen=True)
class Pair:
    """An original and its protection.

    Args:
        name: what both are called, relative to the folders and without suffix.
        original: the original.
        protected: as many frames of the same size.
    """

    name: str
    original: Clip
    protected: Clip

    def __post_init__(self) -> None:
        a, b = self.original, self.protected
        if a.frames != b.frames:
            raise EvaluationError(
                f"{a.path} has {a.frames} frames and {b.path} has {b.frames}; they are compared frame by frame and "
                "must have as many. Compare with the file that was protected, from its first frame to its last."
            )
        if a.size != b.size:
            raise EvaluationError(
                f"{a.path} has {_in_pixels(a.size)} pixels and {b.path} has {_in_pixels(b.size)}; they are compared "
                "pixel by pixel and must have one size."
            )

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Frames of both, ``(B, 3, H, W)`` each."""
        yield from zip(self.original.batches(size), self.protected.batches(size), strict=True)


def pairs(original: Path, protected: Path) -> list[Pair]:
    """The files to compare.

    An image goes with an image. A video goes with a video, or with a folder of its frames, as the codec
    ``png-folder`` writes. Two folders go together file by file, by their names relative to the folder without suffix;
    hidden files and what is neither image nor video are passed over.

    Raises:
        EvaluationError: files without a counterpart, or with another length or size.
        MediaReadError: a file is missing or cannot be read.
    """
    for path in (original, protected):
        if not path.exists():
            raise MediaReadError(f"{path} does not exist. Expected an image, a video or a folder; check the path.")
    if _is_tree(original) and _is_tree(protected):
        here, there = _files(original), _files(protected)
        if here.keys() != there.keys():
            lone = [(root, sorted(a.keys() - b.keys())) for root, a, b in
                    ((original, here, there), (protected, there, here))]  # fmt: skip
            raise EvaluationError(
                f"{original} holds {len(here)} files and {protected} {len(there)}, which go together by their names "
                "without suffix; "
                + "; ".join(f"only in {root}: {_listed(names)}" for root, names in lone if names)
                + ". Compare folders with the same files."
            )
        if not here:
            raise EvaluationError(f"{original} and {protected} hold no image or video ({_listed(_SUFFIXES)}).")
        return [_pair(name, here[name], there[name]) for name in sorted(here)]
    return [_pair(original.stem, original, protected)]


_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)


def _pair(name: str, original: Path, protected: Path) -> Pair:
    kinds = _kind(original), _kind(protected)
    if (kinds[0] == "image") != (kinds[1] == "image"):
        raise EvaluationError(
            f"{original} is {_in_words(kinds[0])} and {protected} is {_in_words(kinds[1])}. "
            "Compare an image with an image, a video with a video."
        )
    return Pair(name, Clip.open(original, kinds[0]), Clip.open(protected, kinds[1]))


def _kind(path: Path) -> Kind:
    if path.is_dir():
        return "frames"
    return "image" if path.suffix.lower() in IMAGE_SUFFIXES else "video"


def _is_tree(path: Path) -> bool:
    """A folder of files that each stand for themselves."""
    return path.is_dir() and not _is_frames(path)


def _is_frames(path: Path) -> bool:
    """A folder that the codec png-folder has written."""
    return (path / "frames.json").is_file()


def _files(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    folders = {path for path in root.rglob("*") if path.is_dir() and _is_frames(path)}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if any(part.startswith(".") for part in inside.parts) or folders & set(path.parents):
            continue
        if path in folders:
            name = inside.as_posix()
        elif path.is_file() and path.suffix.lower() in _SUFFIXES:
            name = inside.with_suffix("").as_posix()
        else:
            continue
        if name in found:
            raise EvaluationError(f"{found[name]} and {path} have one name without suffix. Rename one.")
        found[name] = path
    return found


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


def _in_pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _in_words(kind: Kind) -> str:
    return {"image": "an image", "video": "a video", "frames": "a folder of frames"}[kind]


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
