"""``Errand``: work in a thread of its own, of which the latest that it tells is seen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Errand(Generic[T, R]):
    """Work that tells how far it is, faster than anybody wants to know.

    Args:
        work: given what it is to call with whatever it tells.
        every: seconds from one look at it to the next.

    Example:
        >>> errand = Errand(lambda tell: [tell(k) for k in range(3)] and "done")
        >>> list(errand)[-1:], errand.result()
        ([2], 'done')
    """

    def __init__(self, work: Callable[[Callable[[T], object]], R], *, every: float = 0.3) -> None:
        self._work, self._every = work, every
        self._latest: list[T] = []
        self._result: list[R] = []
        self._error: BaseException | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def __iter__(self) -> Iterator[T]:
        """What it tells, from time to time, until it is done."""
        while not self._done.wait(self._every):
            yield from self._take()
        yield from self._take()

    def result(self) -> R:
        """What came of it, once it is done; or the error that ended it is raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _take(self) -> list[T]:
        known, self._latest = self._latest, []
        return known

    def _run(self) -> None:
        try:
            self._result = [self._work(self._tell)]
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def _tell(self, told: T) -> None:
        # A new list, so that nobody sees it grow.
        self._latest = [told]
