"""``Workers``: processes in which work goes on side by side, whatever becomes of one of them."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self

import torch

from deidlib.protect.memory import available
from deidlib.protect.parcel import pickled
from deidlib.protect.worker import serve

# Bytes of memory that a worker takes beside its frames, measured with all the detectors (docs/benchmarks.md).
_EACH = 1_500_000_000
# Begun anew, they inherit neither torch's threads and their locks nor anybody's open files.
_START = "spawn"
# Seconds that a worker has to put down what it is at, before it is killed: all is safe even then.
_PATIENCE = 10.0


class Task(Protocol):
    """What workers do, one thing after the other; it is sent to each of them once."""

    def __call__(self, order: Any, tell: Callable[[Any], None], /) -> Any:
        """Do one thing.

        Args:
            order: what.
            tell: whatever it is called with is told to who gave the order.
        """
        ...


@dataclass(frozen=True)
class Event:
    """What a worker has to say.

    Args:
        worker: its number.
    """

    worker: int


@dataclass(frozen=True)
class Told(Event):
    """A word in between."""

    word: Any


@dataclass(frozen=True)
class Done(Event):
    """The order is done, and the worker waits for another one."""

    result: Any


@dataclass(frozen=True)
class Failed(Event):
    """The order has failed, and the worker waits for another one."""

    error: Exception


@dataclass(frozen=True)
class Died(Event):
    """The worker is gone, with its order; another one is on its way in its place.

    Args:
        why: in words.
    """

    why: str


def workers_of(wanted: int | Literal["auto"], device: torch.device) -> int:
    """How many workers there are to be.

    Args:
        wanted: so many; or as many as suit the machine: one for every core that we may use and that has memory, or for
            every accelerator.
        device: where the models are.

    Raises:
        ValueError: less than one.

    Example:
        >>> workers_of(3, torch.device("cpu"))
        3
    """
    if wanted != "auto":
        if wanted < 1:
            raise ValueError(f"workers must be 'auto' or at least 1, got {wanted}.")
        return wanted
    if device.type != "cpu":
        return torch.cuda.device_count() if device.type == "cuda" else 1
    free = available(device)
    return max(1, min(_cores(), _cores() if free is None else free // _EACH))


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Within it torch works as in a worker: on a CPU on one thread."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker(NamedTuple):
    process: Any
    pipe: Connection


class Workers:
    """Processes that do what they are told, each with a pipe of its own to us.

    What is done is sent to each of them once, through the pipe: weights, settings, and keys, which so lie in memory
    only. On a CPU each works on one thread, so that what comes out does not hang on how many they are: for torch, other
    threads are other last bits. FFmpeg has as many. With several GPUs they take turns at them.

    A pool of ``concurrent.futures`` shares queues among its processes, so that one that is killed takes all the others
    with it, and they live on if this process is killed. Here one that dies is replaced, and says so by an event; those
    whose pipe is closed, by whatever, end.

    What they write to the log ``deidlib`` is handled here, as it would be if this process had done the work.

    Ctrl-C is for this process to hear; leaving the ``with`` block ends those that are still at work as SIGTERM ends any
    of ours.

    Args:
        count: how many.
        task: what they do.
        device: where the models are.

    Raises:
        ValueError: the task cannot be sent.
        RuntimeError: they cannot be started.
    """

    def __init__(self, count: int, task: Task, device: torch.device) -> None:
        self.count, self._sent = count, pickled(task)
        self._context: Any = get_context(_START)
        self._places = [_place(device, i) for i in range(count)]
        self._workers: list[_Worker] = []
        self._ready: set[int] = set()
        self._kept: dict[int, list[bytes]] = {}
        # How many orders each has not answered yet.
        self._open = Counter[int]()

    def __enter__(self) -> Self:
        try:
            for i in range(self.count):
                self._workers.append(self._started(i))
        except BaseException:
            self._end(kindly=False)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end(kindly=True)
        except BaseException:
            self._end(kindly=False)
            raise

    def give(self, worker: int, order: object) -> None:
        """Give a worker something to do, which it does after what it has been given before."""
        content = pickled(order)
        self._open[worker] += 1
        if worker in self._ready:
            _send(self._workers[worker].pipe, content)
        else:
            # After what is to be done, which a thread is sending.
            self._kept.setdefault(worker, []).append(content)

    def events(self) -> Iterator[Event]:
        """What they have to say next: waits until there is something.

        Raises:
            RuntimeError: they die as they start.
        """
        pipes = {id(worker.pipe): i for i, worker in enumerate(self._workers)}
        for pipe in wait([worker.pipe for worker in self._workers]):
            i = pipes[id(pipe)]
            try:
                kind, word = pickle.loads(self._workers[i].pipe.recv_bytes())
            except (EOFError, OSError):
                yield self._replaced(i)
                continue
            if kind == "ready":
                self._ready.add(i)
                for content in self._kept.pop(i, []):
                    _send(self._workers[i].pipe, content)
            elif kind == "log":
                _handle(word)
            elif kind == "unfit":
                raise RuntimeError(f"workers cannot begin: {word}")
            else:
                if kind != "told":
                    self._open[i] -= 1
                yield _KINDS[kind](i, word)

    def over(self, orders: Sequence[object], begin: Callable[[int], object]) -> Iterator[tuple[int, Event]]:
        """Have each order done by whichever worker is free.

        Args:
            orders: what there is to do.
            begin: told the number of an order that is given out.

        Yields:
            Every event, with the number of the order that it is about; the last about each is how it ended.
        """
        ahead, at = iter(range(len(orders))), dict[int, int]()

        def next_for(worker: int) -> None:
            at.pop(worker, None)
            if (order := next(ahead, None)) is not None:
                at[worker] = order
                begin(order)
                self.give(worker, orders[order])

        for worker in range(self.count):
            next_for(worker)
        while at:
            for event in self.events():
                # Who has nothing to do may die, too.
                if event.worker in at:
                    yield at[event.worker], event
                    if not isinstance(event, Told):
                        next_for(event.worker)

    def _started(self, i: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        threads = 1 if self._places[i].type == "cpu" else max(1, torch.get_num_threads() // self.count)
        level = logging.getLogger("deidlib").getEffectiveLevel()
        process = self._context.Process(
            target=serve, args=(theirs, str(self._places[i]), threads, level), name=f"deidlib-worker-{i}", daemon=True
        )
        process.start()
        # Ours alone from here on: it is closed when the process ends.
        theirs.close()
        # Its imports take seconds, and until then nobody reads what is more than a pipe holds.
        threading.Thread(target=_send, args=(ours, self._sent), daemon=True).start()
        return _Worker(process, ours)

    def _replaced(self, i: int) -> Died:
        process, pipe = self._workers[i]
        pipe.close()
        process.join()
        code = process.exitcode
        why = f"ended with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        if i not in self._ready:
            raise RuntimeError(
                f"a worker {why} before it began. If this is a script of yours, what starts workers must stand under "
                "`if __name__ == '__main__':`, since each of them imports the script."
            )
        self._ready.discard(i)
        self._open[i] = 0
        self._workers[i] = self._started(i)
        return Died(i, why)

    def _end(self, *, kindly: bool) -> None:
        for i, (process, pipe) in enumerate(self._workers):
            # Whoever has nothing to do ends by that.
            pipe.close()
            if i not in self._ready or not kindly:
                # Of what has not begun there is nothing to put down.
                process.kill()
            elif self._open[i]:
                process.terminate()
        for process, _ in self._workers:
            process.join(_PATIENCE)
            if process.exitcode is None:
                process.kill()
                process.join()


def _place(device: torch.device, i: int) -> torch.device:
    """Where a worker works: on a device that was named, or each on another one."""
    if device.type != "cuda" or device.index:
        return device
    return torch.device("cuda", i % max(1, torch.cuda.device_count()))


def _handle(record: logging.LogRecord) -> None:
    """A record of a worker's log, as if it had been written here."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _send(pipe: Connection, content: bytes) -> None:
    # If nobody is there any more, the next event says so.
    with contextlib.suppress(OSError):
        pipe.send_bytes(content)


_KINDS: dict[str, Callable[[int, Any], Event]] = {"told": Told, "done": Done, "failed": Failed}
