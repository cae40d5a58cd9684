from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from deidlib.protect.prefetch import BackgroundSink, Prefetch


def running() -> int:
    return sum(thread.name.startswith("deidlib") for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert running() == 0


def test_all_items_in_order() -> None:
    done: list[int] = []
    with BackgroundSink(done.append, 2) as sink, Prefetch(range(100), 3) as items:
        for item in items:
            sink.put(item)
    assert done == list(range(100))


def test_no_more_than_asked_for_is_made_ahead() -> None:
    made, most, taken = [0], 0, 0

    def source() -> Iterator[int]:
        for k in range(50):
            made[0] += 1
            yield k

    with Prefetch(source(), 3) as items:
        for _ in items:
            taken += 1
            time.sleep(0.001)
            most = max(most, made[0] - taken)
    # Three in the queue, and one in the hand of the thread.
    assert 1 <= most <= 4


def test_no_more_than_asked_for_waits_behind() -> None:
    gate, put = threading.Semaphore(0), list[int]()

    def slow(_: int) -> None:
        gate.acquire()

    def produce() -> None:
        with BackgroundSink(slow, 2) as sink:
            for k in range(8):
                sink.put(k)
                put.append(k)

    producer = threading.Thread(target=produce)
    producer.start()
    time.sleep(0.1)
    # One at work, two waiting.
    assert len(put) == 3
    for _ in range(8):
        gate.release()
    producer.join()
    assert len(put) == 8


def test_an_error_in_the_source_comes_in_its_place() -> None:
    closed = []

    def source() -> Iterator[int]:
        try:
            yield 1
            yield 2
            raise OSError("unreadable")
        finally:
            closed.append(True)

    seen = list[int]()
    with pytest.raises(OSError, match="unreadable"), Prefetch(source(), 1) as items:
        seen.extend(items)
    assert seen == [1, 2]
    assert closed == [True]


def test_an_error_in_the_sink_comes_to_whoever_puts() -> None:
    def work(item: int) -> None:
        if item == 2:
            raise OSError("no space left")

    put = []

    def produce() -> None:
        with BackgroundSink(work, 1) as sink:
            for k in range(1000):
                sink.put(k)
                put.append(k)

    with pytest.raises(OSError, match="no space left"):
        produce()
    assert 2 <= len(put) < 1000
    # The very last one as well.
    with pytest.raises(OSError, match="no space left"), BackgroundSink(work, 5) as sink:
        sink.put(2)


def test_leaving_in_the_middle_stops_both() -> None:
    closed, done = list[bool](), list[int]()

    def endless() -> Iterator[int]:
        try:
            k = 0
            while True:
                yield (k := k + 1)
        finally:
            closed.append(True)

    def until_ten() -> None:
        with BackgroundSink(done.append, 2) as sink, Prefetch(endless(), 2) as items:
            for item in items:
                sink.put(item)
                if item == 10:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        until_ten()
    assert closed == [True]
    assert done == list(range(1, len(done) + 1))
    assert len(done) <= 10


def test_an_exhausted_source_stays_exhausted() -> None:
    with Prefetch([1], 1) as items:
        assert list(items) == [1]
        assert list(items) == []


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("waiting", ["for an item", "for room", "for the end"])
def test_an_interrupt_ends_it_at_once(waiting: str) -> None:
    release = threading.Event()

    def stuck(_: int = 0) -> int:
        release.wait(20)
        return 0

    def source() -> Iterator[int]:
        while True:
            yield stuck()

    def interrupt() -> None:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        release.set()

    threading.Thread(target=interrupt).start()
    began = time.monotonic()

    def wait() -> None:
        if waiting == "for an item":
            with Prefetch(source(), 1) as items:
                next(iter(items))
        else:
            with BackgroundSink(stuck, 1) as sink:
                for k in range(9 if waiting == "for room" else 2):
                    sink.put(k)

    with pytest.raises(KeyboardInterrupt):
        wait()
    assert time.monotonic() - began < 5
