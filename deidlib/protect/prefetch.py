"""Work that overlaps: a source that runs ahead and a sink that follows, each in a thread, with a bounded queue."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

WAITING = 2
"""Batches that wait between two stages, which work at the same time."""


class _End:
    """The last thing in a queue: how it ended."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Prefetch(Generic[T]):
    """The items of an iterable, made in a thread, at most ``size`` of them before they are asked for.

    An error in the source is raised where its item would have been. Leaving the ``with`` block stops the source, also
    in the middle: nothing runs on afterwards.

    Args:
        source: iterated in the thread; a generator is closed there.
        size: how many items may wait.

    Example:
        >>> with Prefetch(range(3), size=2) as items:
        ...     list(items)
        [0, 1, 2]
    """

    def __init__(self, source: Iterable[T], size: int) -> None:
        self._source = source
        self._queue: queue.Queue[T | _End] = queue.Queue(size)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="deidlib-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # Whoever waits for room in the queue gets some, sees the sign and ends.
        while self._thread.is_alive():
            _drain(self._queue)
            self._thread.join(0.005)

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                # Asked again, it ends again.
                self._queue.put(_End())
                if item.error is not None:
                    raise item.error
                return
            yield item

    def _work(self) -> None:
        end = _End()
        try:
            for item in self._source:
                self._queue.put(item)
                if self._stop.is_set():
                    break
        except BaseException as error:
            end = _End(error)
        finally:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
            self._queue.put(end)


class BackgroundSink(Generic[T]):
    """Hand items to a function that works in a thread, in order; at most ``size`` of them wait.

    An error of the function is raised by the next ``put``, or at the end of the ``with`` block, which otherwise waits
    until all is done. If the block ends in an error, what waits is dropped.

    Args:
        work: called with each item.
        size: how many items may wait.

    Example:
        >>> done = []
        >>> with BackgroundSink(done.append, size=2) as sink:
        ...     sink.put(1)
        ...     sink.put(2)
        >>> done
        [1, 2]
    """

    def __init__(self, work: Callable[[T], object], size: int) -> None:
        self._call = work
        self._queue: queue.Queue[T | _End] = queue.Queue(size)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="deidlib-behind", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._queue.put(_End())
            self._thread.join()
        except BaseException:
            # Interrupted while waiting: stop all the same, and leave no thread behind.
            self._abandon()
            raise
        self._raise()

    def _abandon(self) -> None:
        self._stop.set()
        while self._thread.is_alive():
            _drain(self._queue)
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(_End())
            self._thread.join(0.005)

    def put(self, item: T) -> None:
        """Hand on an item; waits while the queue is full."""
        self._raise()
        self._queue.put(item)

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while not isinstance(item := self._queue.get(), _End):
            # After an error the queue is emptied, so that nobody waits for room in it for ever.
            if self._error is None and not self._stop.is_set():
                try:
                    self._call(item)
                except BaseException as error:
                    self._error = error
                    self._stop.set()


def _drain(items: queue.Queue[T | _End]) -> None:
    while True:
        try:
            items.get_nowait()
        except queue.Empty:
            return
