"""Which file is the protection of which, and their frames in step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deidlib.media import MediaReadError
from deidlib.media.clip import Clip, Kind, in_pixels, kind_of
from deidlib.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES


class EvaluationError(ValueError):
    """Two files or folders cannot be compared; the message names both."""


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
                f"{a.path} has {in_pixels(a.size)} pixels and {b.path} has {in_pixels(b.size)}; they are compared "
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
    kinds = kind_of(original), kind_of(protected)
    if (kinds[0] == "image") != (kinds[1] == "image"):
        raise EvaluationError(
            f"{original} is {_in_words(kinds[0])} and {protected} is {_in_words(kinds[1])}. "
            "Compare an image with an image, a video with a video."
        )
    return Pair(name, Clip.open(original), Clip.open(protected))


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


def _in_words(kind: Kind) -> str:
    return {"image": "an image", "video": "a video", "frames": "a folder of frames"}[kind]


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
