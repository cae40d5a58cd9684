"""``Progress``: how far a file is, by frame and by step of the attack; its loss curves, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from deidlib.attack.attack_step import AttackStep


class Stopped(Exception):
    """The user wants no more of it."""


class Progress:
    """What :func:`deidlib.protect_video` tells: its :meth:`progress`, :meth:`stage` and :meth:`on_step`.

    Args:
        frames: how many there are.
        tell: told, with this object, whenever something has changed; what it raises ends the work.
        clock: seconds that have passed since some time.

    Example:
        >>> now = iter([0.0, 2.0])
        >>> progress = Progress(4, lambda known: None, clock=lambda: next(now))
        >>> progress.progress(1)
        >>> progress.share, progress.left()
        (0.25, 6.0)
    """

    def __init__(
        self, frames: int, tell: Callable[[Progress], object], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.frames, self.done, self.name = frames, 0, "protecting"
        self.share = 0.0
        self.step, self.most, self.at_work = 0, 0, range(0)
        self.curves: dict[str, list[float]] = {}
        self._tell, self._clock, self._began = tell, clock, clock()
        self._attacked: Sequence[int] = ()

    def progress(self, frames: int) -> None:
        """So many frames more are protected."""
        self.done += frames
        self._reach(self.done)
        self._tell(self)

    def stage(self, name: str) -> None:
        """What begins: ``"protecting"``, ``"writing"``, ``"checking"``, ``"repairing"``."""
        self.name = name
        self._tell(self)

    def on_step(self, step: AttackStep) -> None:
        """A step of an attack was taken."""
        if step.number == 0 and step.frames != self._attacked:
            # Others; where the same are attacked once more, from where they are, their curve goes on.
            self.curves, self._attacked = {}, step.frames
        for name, loss in step.mean_losses().items():
            self.curves.setdefault(name, []).append(loss)
        self.step, self.most = step.number, step.most
        first, last = min(self._attacked), max(self._attacked)
        self.at_work = range(first, last + 1)
        if self.name == "protecting":
            self._reach(last + 1 - len(step.working) * (1 - step.number / max(step.most, 1)))
        self._tell(self)

    def _reach(self, frames: float) -> None:
        """An attack that begins once more loses nothing that was reached."""
        self.share = max(self.share, min(frames / max(self.frames, 1), 1.0))

    @property
    def seconds(self) -> float:
        """That have passed."""
        return self._clock() - self._began

    def left(self) -> float | None:
        """Seconds that frames not yet protected will take at most, if they go on as so far; None if nobody can tell.

        Frames that are done before their last step make it less; to write the file and to check it is not in it.
        """
        if not 0 < self.share < 1:
            return None
        return self.seconds / self.share * (1 - self.share)
