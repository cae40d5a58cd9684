"""``Tree``: the images and videos of a folder and of those in it, and what else lies there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deidlib.media.errors import MediaReadError, NoVideoError
from deidlib.media.kind import pictured
from deidlib.media.reader import VideoReader
from deidlib.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

# Files named when several are passed over for one reason.
_NAMED = 5


@dataclass(frozen=True)
class PassedOver:
    """What lies in a folder and is neither an image nor a video to be worked on.

    Args:
        path: a file, or a folder with all that is in it.
        reason: why, in a few words.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Tree:
    """What lies below a folder.

    A file is taken if its name is that of an image or a video, so that a damaged one is no loss without a word, or if
    it can be read as one, whatever its name. Hidden ones are nobody's recordings: work folders, thumbnails, what other
    systems leave behind.

    Args:
        root: the folder.
        files: images and videos, by name.
        passed_over: all others.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = [(folder / name).write_text("...") for name in ("a.mp4", "b.txt", ".c")]
        >>> tree = Tree.below(folder)
        >>> [path.name for path in tree.files], passed_over_in_words(tree.passed_over, folder)
        (['a.mp4'], '1 file hidden: .c; 1 file neither an image nor a video: b.txt')
    """

    root: Path
    files: tuple[Path, ...]
    passed_over: tuple[PassedOver, ...]

    @classmethod
    def below(cls, root: Path) -> Tree:
        """Look through a folder, and all folders in it, once.

        Raises:
            MediaReadError: a folder cannot be read, so that what is in it would be left out.
        """
        files: list[Path] = []
        passed: list[PassedOver] = []
        for path, reason in _walk(root):
            reason = reason or _unsuited(path)
            if reason is None:
                files.append(path)
            else:
                passed.append(PassedOver(path, reason))
        return cls(root, tuple(sorted(files)), tuple(sorted(passed, key=lambda one: one.path)))


def passed_over_in_words(passed: Iterable[PassedOver], root: Path) -> str:
    """By reasons, with the names of a few of each."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for one in passed:
        by_reason[one.reason].append(one.path.relative_to(root).as_posix())
    return "; ".join(
        f"{len(names)} file{'s' * (len(names) > 1)} {reason}: {', '.join(names[:_NAMED])}"
        + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        for reason, names in sorted(by_reason.items())
    )


def stem_of(path: Path) -> str:
    """The name without the suffix of an image or a video; any other ending is part of it.

    Example:
        >>> stem_of(Path("clips/drive.MTS")), stem_of(Path("cam-12.30"))
        ('drive', 'cam-12.30')
    """
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES else path.name


def is_picture(path: Path) -> bool:
    """Whether a file is an image, by its name or by its content."""
    return path.suffix.lower() in IMAGE_SUFFIXES or pictured(path) == "image"


def _walk(root: Path) -> Iterator[tuple[Path, str | None]]:
    """All files, and why what is none, or not to be looked into, is passed over."""

    def refuse(error: OSError) -> None:
        raise MediaReadError(
            f"the folder {error.filename} cannot be read ({error.strerror}), so what is in it would be left out. "
            "Make it readable, or move it away."
        ) from error

    for place, folders, names in os.walk(root, onerror=refuse):
        for name in (*folders, *names):
            path = Path(place, name)
            if name.startswith("."):
                yield path, "hidden"
            elif path.is_symlink() and path.is_dir():
                yield path, "linked to a folder, which is not followed"
            elif name in names:
                yield path, None if path.is_file() else "linked to nothing, or no file"
        folders[:] = [name for name in folders if not name.startswith(".")]


def _unsuited(path: Path) -> str | None:
    """Why a file is not to be worked on; None if it is."""
    if path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES or pictured(path) is not None:
        return None
    return _why_no_video(path)


def _why_no_video(path: Path) -> str | None:
    """Why a file is no video that can be read, in a few words; None if it is one."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        return f"unreadable ({error.strerror})"
    try:
        VideoReader(path, strict=False).close()
    except NoVideoError as error:
        return "with sound alone" if "audio" in error.streams else "neither an image nor a video"
    except MediaReadError:
        return "neither an image nor a video"
    return None
