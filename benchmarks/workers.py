"""What several processes make of two and more cores: ``python -m benchmarks workers``."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from footage import SHARED, frames

from benchmarks.measure import Spread, Table
from deidlib.attack.presets import TOLERANCES, recommended, recommended_chain
from deidlib.media import VideoWriter
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.file_work import FileWork
from deidlib.protect.folder_work import FolderWork
from deidlib.protect.workers import Done, Workers, one_thread
from deidlib.records.files import sha256_of


def table(quick: bool, device: str) -> Table:
    """Clips of T002_radio, ``quick``, from file to file, each by one worker, which has a core to itself."""
    result = Table(
        "Clips from file to file, RetinaFace, --until quick, on a CPU; what a worker begins with stands apart",
        [
            "workers, a thread and a core each",
            "clips",
            "CPU s until a worker is ready, a first clip of two frames among them",
            "CPU ms per frame: median (10th to 90th percentile)",
            "CPU s of the busiest worker",
            "times as fast, by that",
            "seconds by the clock",
            "times as fast, by the clock",
            "load",
            "the same files",
        ],
    )
    length = 16 if quick else 48
    counts, turns = ((1, 2), 3) if quick else ((1, 2, 4), 3)
    images = frames(SHARED / "media" / "T002_radio.mp4", range(4 * length))
    runs: dict[int, list[_Run]] = {count: [] for count in counts}
    with TemporaryDirectory() as folder:
        place = Path(folder, "in")
        place.mkdir()
        for name, some in (("first", images[:2]), *zip("0123", torch.split(images, length), strict=True)):
            with VideoWriter(place / f"{name}.mkv", Fraction(25), (some.shape[2], some.shape[3])) as writer:
                writer.write(some)
        # In turns, since other work on the machine changes what a second of a processor is worth.
        for turn in range(turns):
            for count in counts:
                runs[count].append(_run(place, Path(folder, f"{turn}-{count}"), count))
    whole = runs[1][0].hashes
    for count, mine in runs.items():
        ones = list(zip(runs[1], mine, strict=True))
        result.rows.append(
            [count, f"4 of {length}", Spread.of([seconds for run in mine for seconds in run.ready]),
             Spread.of([1000 * run.total / (4 * length) for run in mine]), Spread.of([run.busiest for run in mine]),
             Spread.of([one.busiest / run.busiest for one, run in ones]), Spread.of([run.clock for run in mine]),
             Spread.of([one.clock / run.clock for one, run in ones]), Spread.of([run.load for run in mine]),
             "yes" if all(run.hashes == whole for run in mine) else "NO"]
        )  # fmt: skip
    return result


class _Run(NamedTuple):
    """What it took: until each worker was ready, and then."""

    ready: list[float]
    total: float
    busiest: float
    clock: float
    load: float
    hashes: list[str]


class _Timed(NamedTuple):
    """A file, and what it took: seconds of the processor, and when it began and ended; for a number, a beginning."""

    work: FolderWork

    def __call__(self, order: tuple[Path, Path] | int, tell: Callable[[object], None], /) -> tuple[float, float, float]:
        if isinstance(order, int):
            return self._begin(order)
        began, spent = time.time(), time.process_time()
        result = self.work.one(*order)
        assert result.error is None, result.error
        return time.process_time() - spent, began, time.time()

    def _begin(self, number: int) -> tuple[float, float, float]:
        """The first call of many an operation is slow, and some packages are loaded by it."""
        if hasattr(os, "sched_setaffinity"):
            # Else one worker has part of its work done on another's core: what reads ahead and what writes behind.
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[number % len(cores)]})
        result = self.work.one(self.work.source / "first.mkv", self.work.target / f"first-{number}.mkv")
        assert result.error is None, result.error
        return time.process_time(), time.time(), time.time()


def _run(place: Path, target: Path, count: int) -> _Run:
    model, until = RetinaFace(), TOLERANCES["quick"]
    files = FileWork(
        Deidentifier(
            recommended([model], until=until), Solid(), detectors=[model], chain=recommended_chain("ffv1", until=until)
        )
    )
    pairs = [(place / f"{name}.mkv", target / f"{name}.mkv") for name in "0123"]
    spent, begun, ended = Counter[int](), list[float](), list[float]()
    with one_thread(torch.device("cpu")):
        work = FolderWork(files, place, target)
    with Workers(count, _Timed(work), torch.device("cpu")) as workers:
        ready = list[float]()
        for worker in range(count):
            workers.give(worker, worker)
        while len(ready) < count:
            for event in workers.events():
                assert isinstance(event, Done), event
                ready.append(event.result[0])
        for _, event in workers.over(pairs, lambda order: None):
            assert isinstance(event, Done), event
            seconds, start, end = event.result
            spent[event.worker] += seconds
            begun.append(start)
            ended.append(end)
    hashes = [sha256_of(out) for _, out in pairs]
    clock = max(ended) - min(begun)
    return _Run(ready, sum(spent.values()), max(spent.values()), clock, os.getloadavg()[0], hashes)
