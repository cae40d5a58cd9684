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
from deidlib.protect.folder_work import FolderWork
from deidlib.protect.workers import Done, Workers, one_thread
from deidlib.records.files import sha256_of


def table(quick: bool, device: str) -> Table:
    """Clips of T002_radio, ``quick``, from file to file, each by one worker."""
    result = Table(
        "Clips from file to file, RetinaFace, --until quick, on a CPU; the workers' start is taken off",
        [
            "workers, a thread each",
            "clips",
            "CPU ms per frame: median (10th to 90th percentile)",
            "CPU s of the busiest worker",
            "times as fast, where each has a core of its own",
            "seconds by the clock",
            "load",
            "the same files",
        ],
    )
    length = 6 if quick else 24
    counts, turns = ((1, 2), 2) if quick else ((1, 2, 4), 3)
    images = frames(SHARED / "media" / "T002_radio.mp4", range(4 * length))
    runs: dict[int, list[_Run]] = {count: [] for count in counts}
    with TemporaryDirectory() as folder:
        place = Path(folder, "in")
        place.mkdir()
        for i, some in enumerate(torch.split(images, length)):
            with VideoWriter(place / f"{i}.mkv", Fraction(25), (some.shape[2], some.shape[3])) as writer:
                writer.write(some)
        # In turns, since other work on the machine changes what a second of a processor is worth.
        for turn in range(turns):
            for count in counts:
                runs[count].append(_run(place, Path(folder, f"{turn}-{count}"), count))
    whole = runs[1][0].hashes
    for count, mine in runs.items():
        times = [one.busiest / run.busiest for one, run in zip(runs[1], mine, strict=True)]
        result.rows.append(
            [count, f"4 of {length}", Spread.of([1000 * run.total / (4 * length) for run in mine]),
             Spread.of([run.busiest for run in mine]), Spread.of(times), Spread.of([run.clock for run in mine]),
             Spread.of([run.load for run in mine]), "yes" if all(run.hashes == whole for run in mine) else "NO"]
        )  # fmt: skip
    return result


class _Run(NamedTuple):
    """What it took, without the start of the workers."""

    total: float
    busiest: float
    clock: float
    load: float
    hashes: list[str]


class _Timed(NamedTuple):
    """A file, and what it took: seconds of the processor, and when it began and ended."""

    work: FolderWork

    def __call__(self, order: tuple[Path, Path], tell: Callable[[object], None], /) -> tuple[float, float, float]:
        began, spent = time.time(), time.process_time()
        result = self.work.one(*order)
        assert result.error is None, result.error
        return time.process_time() - spent, began, time.time()


class _Warm(NamedTuple):
    """The same, after a first reading: the first call of many an operation is slow, and belongs to the start."""

    timed: _Timed

    def __call__(self, order: tuple[Path, Path] | None, tell: Callable[[object], None], /) -> tuple[float, ...]:
        if order is None:
            for model in self.timed.work.deidentifier.attacker.named_models().values():
                model.predict(torch.rand(1, 3, 480, 480))
            return ()
        return self.timed(order, tell)


def _run(place: Path, target: Path, count: int) -> _Run:
    model, until = RetinaFace(), TOLERANCES["quick"]
    deidentifier = Deidentifier(
        recommended([model], until=until), Solid(), detectors=[model], chain=recommended_chain("ffv1", until=until)
    )
    pairs = [(one, target / one.name) for one in sorted(place.iterdir())]
    spent, begun, ended = Counter[int](), list[float](), list[float]()
    with one_thread(torch.device("cpu")):
        work = FolderWork(deidentifier, place, target)
    with Workers(count, _Warm(_Timed(work)), torch.device("cpu")) as workers:
        for worker in range(count):
            workers.give(worker, None)
        ready = 0
        while ready < count:
            ready += sum(isinstance(event, Done) for event in workers.events())
        for _, event in workers.over(pairs, lambda order: None):
            assert isinstance(event, Done), event
            seconds, start, end = event.result
            spent[event.worker] += seconds
            begun.append(start)
            ended.append(end)
    hashes = [sha256_of(out) for _, out in pairs]
    clock = max(ended) - min(begun)
    return _Run(sum(spent.values()), max(spent.values()), clock, os.getloadavg()[0], hashes)
