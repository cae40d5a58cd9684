"""``remote_pairs``: the clips below a URL and what their outputs are called, as they are listed, however many."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from deidlib.media.errors import MediaReadError, MediaWriteError
from deidlib.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from deidlib.protect.inputs import suffix_for
from deidlib.protect.outcome import ClipResult, RunSummary
from deidlib.storage.place import Place

# Names that begin with a stem and a dot and are known at a time.
_MOST_OF_A_STEM = 1000


@dataclass(frozen=True)
class RemotePair:
    """A clip to be done, by the names below the two folders.

    Args:
        source: the input; empty if the folder is the file itself.
        target: the output, likewise.
    """

    source: str
    target: str


def remote_pairs(source: Place, target: Place, codec: str, summary: RunSummary) -> Iterator[RemotePair]:
    """The clips below a URL, as they are listed: images and videos by their names.

    Of several that would get one name each keeps its suffix, as in a folder (:meth:`Inputs.below`); what two would be
    written to even so is a failure of the second. All else, and what is hidden, is passed over. Both are counted in the
    summary.

    Args:
        source: the file or folder.
        target: the file, or the folder for the outputs.
        codec: one of ``deidlib.media.CODECS``.
        summary: where they are counted.

    Raises:
        MediaReadError: there is nothing to be protected.
        MediaWriteError: the outputs would lie among the inputs, or the codec writes a folder.
        StorageError: the folder cannot be listed.
    """
    if codec == "png-folder":
        raise MediaWriteError(
            "png-folder writes a folder of files, which no store publishes as one. Choose --codec ffv1, which loses "
            "nothing either."
        )
    if source.stat() is not None:
        yield RemotePair("", "")
        return
    if source.holds(target):
        raise MediaWriteError(
            f"the output folder {target} must not be the input folder or lie inside it. Choose another place."
        )
    found, names = False, _Names()
    for name, stem, out in _each_its_own(_called(source, codec, summary)):
        found = True
        if (other := names.taken(name, stem, out)) is None:
            yield RemotePair(name, out)
        else:
            error = f"{source / name}: {other} would be written to {target / out} too. Rename one."
            summary.add(ClipResult(str(source / name), str(target / out), error=error))
    if not found:
        also = f" Passed over: {summary.passed_over_in_words()}." if summary.passed_over else ""
        raise MediaReadError(f"{source} holds no image or video, or does not exist.{also}")


def _called(source: Place, codec: str, summary: RunSummary) -> Iterator[tuple[str, str]]:
    """The names of images and videos, and how those of their outputs end; all else is counted."""
    for one in source.files():
        if any(part.startswith(".") for part in one.name.split("/")):
            summary.pass_over(one.name, "hidden")
            continue
        # No paths: Python remembers all of their parts.
        suffix = os.path.splitext(one.name)[1].lower()
        if suffix in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
            yield one.name, suffix_for(suffix in IMAGE_SUFFIXES, codec)
        else:
            summary.pass_over(one.name, "not called as an image or a video")


def _each_its_own(called: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Names, their stems, and outputs; those of one stem and ending keep their suffixes.

    They come in the order of their names, so that those of one stem follow each other: no more are known at a time.
    """
    group: list[tuple[str, str, str]] = []

    def told() -> Iterator[tuple[str, str, str]]:
        wanted = Counter(stem + ending for _, stem, ending in group)
        for name, stem, ending in group:
            yield name, stem, (name if wanted[stem + ending] > 1 else stem) + ending
        group.clear()

    for name, ending in called:
        if group and not (name.startswith(f"{group[0][1]}.") and len(group) < _MOST_OF_A_STEM):
            yield from told()
        group.append((name, os.path.splitext(name)[0], ending))
    yield from told()


class _Names:
    """Which outputs are taken, of inputs that come in the order of their names: as many as one name has beginnings.

    Inputs of one output begin alike, with its stem; so when a name comes that begins otherwise, no other of that stem
    comes any more.
    """

    def __init__(self) -> None:
        self._open: list[tuple[str, str, str]] = []

    def taken(self, name: str, stem: str, out: str) -> str | None:
        """The input that an output belongs to already; None if it is free, and from now on it is this one's."""
        while self._open and not name.startswith(self._open[-1][0]):
            self._open.pop()
        for _, other, known in self._open:
            if known == out:
                return other
        self._open.append((stem, name, out))
        return None
