"""``Forwards``: progress that never goes back, however often work is begun again."""

from __future__ import annotations

from collections.abc import Callable


class Forwards:
    """Tells of frames once, although work that is begun again tells of them once more.

    Args:
        progress: told how many frames more are done.

    Example:
        >>> told = []
        >>> forwards = Forwards(told.append)
        >>> forwards(3)
        >>> forwards.again()
        >>> forwards(2), forwards(2)
        (None, None)
        >>> told
        [3, 1]
    """

    def __init__(self, progress: Callable[[int], object]) -> None:
        self._progress = progress
        self._now = self._most = 0

    def __call__(self, frames: int) -> None:
        """So many frames more are done."""
        self._now += frames
        if self._now > self._most:
            self._progress(self._now - self._most)
            self._most = self._now

    def again(self) -> None:
        """Work begins again."""
        self._now = 0
