"""Which file is the protection of which, and their frames in step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deidlib.media import MediaReadError
from deidlib.media.clip import Clip, in_pixels
from deidlib.media.files import input_sha256
from deidlib.media.kind import Kind, kind_of
from deidlib.media.tree import PassedOver, Tree, stem_of
from deidlib.records.files import sha256_of_named


class EvaluationError(ValueError):
    """Two files or folders cannot be compared; the message names both."""


@dataclass(frozen=True)
class Pair:
    """An original and its protection.

    Args:
        name: what the protected file is called, relative to its folder and without suffix; in folders both are.
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


@dataclass(frozen=True)
class Pairs:
    """The files to compare, and what else lies beside the originals.

    Args:
        pairs: in the order of their names.
        passed_over: what is neither an image nor a video, and is in nobody's numbers.
        is_tree: whether they are those of two folders.
    """

    pairs: list[Pair]
    passed_over: tuple[PassedOver, ...] = ()
    is_tree: bool = False

    def sha256(self) -> dict[str, str]:
        """Hashes of the original and of the protected file; of folders, of the names and hashes of the files compared.

        Raises:
            MediaReadError: one cannot be read to its end.
        """
        hashes = {}
        for side in ("original", "protected"):
            each = [(pair.name, input_sha256(getattr(pair, side).path)) for pair in self.pairs]
            hashes[side] = sha256_of_named(each) if self.is_tree else each[0][1]
        return hashes


def pairs(original: Path, protected: Path) -> Pairs:
    """The files to compare.

    An image goes with an image. A video goes with a video, or with a folder of its frames, as the codec
    ``png-folder`` writes. Two folders go together file by file, by their names relative to the folder without suffix;
    what is passed over of them is what :class:`~deidlib.media.tree.Tree` passes over.

    Raises:
        EvaluationError: files without a counterpart, or with another length or size.
        MediaReadError: a file is missing or cannot be read.
    """
    for path in (original, protected):
        if not path.exists():
            raise MediaReadError(f"{path} does not exist. Expected an image, a video or a folder; check the path.")
    if _is_tree(original) and _is_tree(protected):
        mine = Tree.below(original)
        here, there = _files(mine), _files(Tree.below(protected))
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
            raise EvaluationError(f"{original} and {protected} hold no image or video.")
        passed = tuple(one for one in mine.passed_over if not _is_frames(one.path.parent))
        return Pairs([_pair(name, here[name], there[name]) for name in sorted(here)], passed, is_tree=True)
    # The protected file's name may be known to whom it is given, the original's need not.
    return Pairs([_pair(protected.stem, original, protected)])


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


def _files(tree: Tree) -> dict[str, Path]:
    """What is compared, by its name relative to the folder; a folder of frames is one clip."""
    found: dict[str, Path] = {}
    for path in tree.files:
        clip = path.parent if path.parent != tree.root and _is_frames(path.parent) else path
        inside = clip.relative_to(tree.root)
        name = inside.as_posix() if clip.is_dir() else inside.with_name(stem_of(inside)).as_posix()
        if found.setdefault(name, clip) != clip:
            raise EvaluationError(f"{found[name]} and {clip} have one name without suffix. Rename one.")
    return found


def _in_words(kind: Kind) -> str:
    return {"image": "an image", "video": "a video", "frames": "a folder of frames"}[kind]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
