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

from benchmarks.measure import Table
from deidlib.attack.presets import TOLERANCES, recommended, recommended_chain
from deidlib.media import VideoWriter
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import FolderWork
from deidlib.protect.workers import Done, Workers, one_thread
from deidlib.records.files import sha256_of


def table(quick: bool, device: str) -> Table:
    """Clips of T002_radio, ``quick``, from file to file, each by one worker."""
    result = Table(
        "Clips from file to file, RetinaFace, --until quick, a thread for each worker, on a CPU",
        [
            "workers",
            "clips",
            "CPU ms per frame, all workers",
            "CPU s of the busiest worker",
            "as many times as fast with cores of their own",
            "seconds by the clock",
            "times as fast by the clock",
            "load before and after",
            "the same files",
        ],
    )
    length = 6 if quick else 24
    images = frames(SHARED / "media" / "T002_radio.mp4", range(4 * length))
    first: tuple[float, float, list[str]] | None = None
    with TemporaryDirectory() as folder:
        place = Path(folder, "in")
        place.mkdir()
        for i, some in enumerate(torch.split(images, length)):
            with VideoWriter(place / f"{i}.mkv", Fraction(25), (some.shape[2], some.shape[3])) as writer:
                writer.write(some)
        for count in (1, 2) if quick else (1, 2, 4):
            run = _run(place, Path(folder, str(count)), count)
            first = first or (run.busiest, run.clock, run.hashes)
            result.rows.append(
                [count, f"4 of {length}", 1000 * run.total / (4 * length), run.busiest, first[0] / run.busiest,
                 run.clock, first[1] / run.clock, f"{run.before:.1f}, {run.after:.1f}",
                 "yes" if run.hashes == first[2] else "NO"]
            )  # fmt: skip
    return result


class _Run(NamedTuple):
    """What it took, without the start of the workers."""

    total: float
    busiest: float
    clock: float
    before: float
    after: float
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
    before = os.getloadavg()[0]
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
    after = os.getloadavg()[0]
    return _Run(sum(spent.values()), max(spent.values()), max(ended) - min(begun), before, after, hashes)
