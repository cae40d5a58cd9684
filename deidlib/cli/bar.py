"""``Bar``: how far a file is, by frame, and within a batch by step of its attack; with the time that is left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

    from deidlib.attack.attack_step import AttackStep
    from deidlib.media import VideoInfo

# Frames may be fractions here: those of a batch, by the steps of its attack.
_KNOWN = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total_fmt} frames [{elapsed}<{remaining}{postfix}]"
_UNKNOWN = "{desc}: {n:.1f} frames [{elapsed}{postfix}]"
# Seconds from one line to the next where nobody looks on, as in a log.
_IN_A_LOG = 30.0


class Bar:
    """A bar of frames, a new one for every file.

    Its parts are what :func:`deidlib.protect_video` calls: :meth:`progress`, :meth:`stage`, :meth:`on_step`.

    Args:
        shown: whether there is one; else all of this does nothing.
    """

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown
        self._bar: tqdm[Any] | None = None
        self._label, self._stage = "", ""
        self._frames = 0
        # Of the frames after those: attacked already, and under attack.
        self._before = 0
        self._attacked: Sequence[int] = ()

    def begin(self, source: Path | str | int, label: str, *, frames: int | None = None) -> None:
        """Begin a file, of so many frames if that is known."""
        if not self._shown:
            return
        from tqdm.auto import tqdm

        info = video_info(source) if frames is None else None
        self._label, self._stage, self._frames = label, "", 0
        self._before, self._attacked = 0, ()
        # The header's count may be wrong: it only scales the bar.
        total = info.frames_about if info is not None else 1 if frames is None and _is_image(source) else frames
        self._bar = tqdm(
            total=total,
            desc=label,
            file=sys.stderr,
            bar_format=_UNKNOWN if total is None else _KNOWN,
            dynamic_ncols=True,
            miniters=0,
            mininterval=0.2 if sys.stderr.isatty() else _IN_A_LOG,
        )

    def end(self) -> None:
        """The file is done."""
        if self._bar is not None:
            self._bar.set_postfix_str("", refresh=False)
            self._bar.close()
        self._bar = None

    def progress(self, frames: int) -> None:
        """So many frames more."""
        self._frames += frames
        self._before, self._attacked = 0, ()
        self._reach(self._frames)

    def stage(self, name: str) -> None:
        """What is being done to the file."""
        self._stage = name
        if self._bar is not None:
            self._bar.set_postfix_str("", refresh=False)
            self._bar.set_description_str(f"{self._label} {name}")

    def on_step(self, step: AttackStep) -> None:
        """A step of an attack; a frame counts by the share of its steps that were taken."""
        if self._bar is None:
            return
        if not self._attacked or (step.number == 0 and step.frames[0] not in self._attacked):
            self._before += len(self._attacked)
            self._attacked = step.frames
        first, last = min(self._attacked), max(self._attacked)
        which = f"frame {first}" if first == last else f"frames {first}-{last}"
        if last - first >= len(self._attacked):
            which = f"{len(self._attacked)} frames side by side"
        self._bar.set_postfix_str(f"{which}, step {step.number}/{step.most}", refresh=False)
        if self._stage in ("", "protecting"):
            left = len(step.working) * (1 - step.number / max(step.most, 1))
            self._reach(self._frames + self._before + len(self._attacked) - left)
        else:
            self._bar.update(0)

    def _reach(self, frames: float) -> None:
        """So many frames are done, unless more were before: an attack that begins once more loses none."""
        if self._bar is not None:
            self._bar.update(max(frames - self._bar.n, 0))


def _is_image(source: Path | str | int) -> bool:
    from deidlib.media.kind import kind_of

    return isinstance(source, Path) and kind_of(source) == "image"


def video_info(source: Path | str | int) -> VideoInfo | None:
    """What a video says about itself; None of anything else, and of what cannot be read: that is told in its turn."""
    from deidlib.media import MediaError, VideoReader
    from deidlib.media.kind import kind_of

    if not isinstance(source, Path) or kind_of(source) != "video":
        return None
    try:
        with VideoReader(source) as reader:
            return reader.info
    except MediaError:
        return None
