"""What many clips cost, and where more machines stop helping: ``python -m benchmarks.scale [PART]``.

``measure`` takes CPU seconds, which other work on the machine hardly changes: per frame from file to file, to start a
worker, and, with Ray, per clip in the process that gives them out; each of the three has a name of its own, too:
``per_frame``, ``start``, ``handing_out``. ``simulate`` plays a cluster through, event by
event, on times that were measured, with nodes that fail.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch

from benchmarks.measure import Table

_FRAMES = 24


@dataclass(frozen=True)
class Farm:
    """A cluster, and the clips that it is to do.

    Args:
        workers: actors, one a core.
        on_node: of them on one node, which fail together.
        clips: how many.
        seconds: of work in a clip, on average; clips differ, with a standard deviation of half as much.
        start: seconds until a worker can begin: its process, imports, weights.
        give: seconds that the driver takes for a clip, one after the other.
        between: seconds between failures of one node, on average; 0: none ever fails.
        repair: seconds until a node is there again.
        segment: seconds of work that are lost with a worker, at most; 0: all that it has done of the clip.
        window: clips per worker that are known at a time; when all are done, workers start anew for the next ones.
    """

    workers: int
    on_node: int = 16
    clips: int = 100_000
    seconds: float = 400.0
    start: float = 10.0
    give: float = 0.006
    between: float = 0.0
    repair: float = 300.0
    segment: float = 0.0
    window: int = 50


@dataclass(frozen=True)
class Play:
    """What came of it.

    Args:
        seconds: until all clips were done.
        efficiency: of the cores' time, the share in which a clip was worked on that was then finished.
        lost: the share in which work was done that was lost.
        failures: of nodes.
    """

    seconds: float
    efficiency: float
    lost: float
    failures: int


def simulate(farm: Farm, seed: int = 0) -> Play:
    """Play a run through.

    A worker that is free asks the driver, which gives out one clip after the other. A node fails after a random time
    that has no memory; its workers' clips go back to the head of the line, what is left of them if segments survive.
    """
    dice = random.Random(seed)
    nodes = -(-farm.workers // farm.on_node)
    # Of a clip's length: log-normal, with this mean, and half as much standard deviation.
    spread = math.sqrt(math.log(1.25))
    now = free = lost = useful = 0.0
    failures, left = 0, farm.clips
    downs = [(dice.expovariate(1 / farm.between), node) for node in range(nodes)] if farm.between else []
    heapq.heapify(downs)
    up = [0.0] * nodes
    while left:
        window = min(left, max(10_000, farm.window * farm.workers))
        left -= window
        again: list[float] = []
        # Per worker, when it can take the next clip; what it works on: began, ends, seconds of work.
        ready = [(max(now, up[worker // farm.on_node]) + farm.start, worker, 0) for worker in range(farm.workers)]
        heapq.heapify(ready)
        life = [0] * farm.workers
        busy: dict[int, tuple[float, float]] = {}
        idle = set[int]()
        given, open_ = 0, window
        while open_:
            failing = downs[0][0] if downs else float("inf")
            if ready and ready[0][0] <= failing:
                at, worker, birth = heapq.heappop(ready)
                if birth != life[worker]:
                    continue
                now = at
                if worker in busy:
                    useful += busy.pop(worker)[1]
                    open_ -= 1
                if again:
                    work = again.pop()
                elif given < window:
                    given += 1
                    work = dice.lognormvariate(0, spread) * farm.seconds / math.sqrt(1.25)
                else:
                    # Nothing to do, unless somebody fails.
                    idle.add(worker)
                    continue
                free = max(now, free) + farm.give
                busy[worker] = (free, work)
                heapq.heappush(ready, (free + work, worker, birth))
                continue
            now, node = heapq.heappop(downs)
            failures += 1
            up[node] = now + farm.repair
            heapq.heappush(downs, (up[node] + dice.expovariate(1 / farm.between), node))
            for worker in range(node * farm.on_node, min((node + 1) * farm.on_node, farm.workers)):
                life[worker] += 1
                idle.discard(worker)
                heapq.heappush(ready, (up[node] + farm.start, worker, life[worker]))
                if worker in busy:
                    began, work = busy.pop(worker)
                    done = max(0.0, min(work, now - began))
                    kept = done - done % farm.segment if farm.segment else 0.0
                    lost += done - kept
                    useful += kept
                    again.append(work - kept)
            # Who had nothing to do takes what was left behind.
            for _ in range(min(len(again), len(idle))):
                worker = idle.pop()
                heapq.heappush(ready, (now, worker, life[worker]))
    whole = now * farm.workers
    return Play(now, useful / whole, lost / whole, failures)


SIZES = (10, 100, 1_000, 3_000, 10_000, 30_000)


def tables(clips: int) -> Iterator[Table]:
    """What is on docs/scale.md."""
    day = 24 * 3600.0
    plain = Farm(1, clips=clips)
    rows = {
        "clips of 400 s, no failures": plain,
        "a node fails once a day": replace(plain, between=day),
        "once an hour, clips begin anew": replace(plain, between=3600.0),
        "once an hour, segments of 15 s survive": replace(plain, between=3600.0, segment=15.0),
        "clips of 60 s": replace(plain, seconds=60.0),
        "clips of 2 s, one at a time": replace(plain, seconds=2.0),
    }
    plays = {name: [simulate(replace(farm, workers=size)) for size in SIZES] for name, farm in rows.items()}
    yield Table(
        f"Share of the cores' time that becomes protected frames; {clips} clips, simulated",
        ["", *(f"{size} workers" for size in SIZES)],
        [[name, *(f"{play.efficiency:.0%}" for play in row)] for name, row in plays.items()],
        {name: ([float(size) for size in SIZES], [play.efficiency for play in row]) for name, row in plays.items()},
        ("workers", "share of the cores' time"),
    )
    yield Table(
        "A thousand workers on nodes of 16",
        ["", "hours", "useful", "lost to failures", "failures"],
        [
            [name, f"{play.seconds / 3600:.1f}", f"{play.efficiency:.1%}", f"{play.lost:.1%}", play.failures]
            for name, play in ((name, row[SIZES.index(1_000)]) for name, row in plays.items())
        ],
    )


# What is measured


def per_frame() -> Table:
    """CPU seconds from file to file, for RetinaFace, ``--until quick``, read back: the beginning of each clip."""
    from footage import SHARED, frames

    from deidlib.attack.presets import TOLERANCES, recommended, recommended_chain, recommended_detectors
    from deidlib.media.writer import VideoWriter
    from deidlib.models.retinaface import RetinaFace
    from deidlib.protect.deidentifier import Deidentifier
    from deidlib.protect.video import protect_video

    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    torch.set_num_threads(1)
    models, rows = [RetinaFace()], list[Sequence[object]]()
    quick = TOLERANCES["quick"]
    hide = Deidentifier(
        recommended(models, until=quick),
        detectors=recommended_detectors(models),
        chain=recommended_chain("ffv1", until=quick),
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("T002_talk", "talk_video00"):
            images = frames(SHARED / "media" / f"{name}.mp4", range(_FRAMES))
            clip = Path(folder, f"{name}.mkv")
            with VideoWriter(clip, Fraction(25), (images.shape[2], images.shape[3])) as writer:
                writer.write(images)
            began = time.process_time()
            summary = protect_video(hide, clip, clip.with_suffix(".out.mkv"))
            spent = time.process_time() - began
            rows.append(
                [
                    name,
                    f"{images.shape[3]} x {images.shape[2]}",
                    _FRAMES,
                    spent / _FRAMES,
                    _FRAMES / spent,
                    summary.beyond,
                ]
            )
    return Table(
        f"From file to file, the first {_FRAMES} frames, RetinaFace, --until quick, FFV1, one thread",
        ["clip", "frame", "frames", "CPU s a frame", "frames a second and core", "beyond tolerance"],
        rows,
    )


def start() -> Table:
    """CPU seconds until a worker can begin."""
    from footage import SHARED

    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    code = "import deidlib.protect.video; from deidlib import MTCNN, RetinaFace; MTCNN(); RetinaFace()"
    before = _children()
    subprocess.run([sys.executable, "-c", code], check=True)
    return Table("To start a worker", ["what", "CPU s"], [["process, imports, weights", _children() - before]])


def handing_out(few: int = 200, many: int = 1200) -> Table:
    """CPU seconds of the driver per clip that takes no time at all."""
    import logging

    import ray
    import ray.data

    ray.init(address="local", num_cpus=1, log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    class Nothing:
        def __call__(self, row: dict[str, int]) -> dict[str, int]:
            return row

    spent = []
    for count in (few, many):
        began = time.process_time()
        data = ray.data.from_items([{"number": k} for k in range(count)], override_num_blocks=count)
        pool = ray.data.ActorPoolStrategy(size=1, max_tasks_in_flight_per_actor=1)
        assert sum(1 for _ in data.map(Nothing, compute=pool).iter_rows()) == count
        spent.append(time.process_time() - began)
    ray.shutdown()
    each = (spent[1] - spent[0]) / (many - few)
    return Table(
        "The process that gives clips out, Ray Data",
        ["", "CPU ms a clip", "clips a second at most"],
        [[f"{ray.__version__}", 1000 * each, 1 / each]],
    )


MEASURED = {"per_frame": per_frame, "start": start, "handing_out": handing_out}
"""What is measured, by name."""


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def draw(path: Path, table: Table) -> None:
    """The curves, over workers ten times as many each time; matplotlib must be there."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (name, (x, y)), style in zip(table.curves.items(), ("-o", "--s", ":^", "-.x", "-v", "--D"), strict=True):
        axes.semilogx(x, y, style, label=name)
    axes.set_xlabel(table.axes[0])
    axes.set_ylabel(table.axes[1])
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, or simulate; without a word both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("measure", *MEASURED, "simulate"))
    parser.add_argument("--clips", type=int, default=100_000, help="clips of the simulated run")
    parser.add_argument("--picture", type=Path, help="where the curves are drawn")
    options = parser.parse_args()
    if options.part != "simulate":
        for name, table in MEASURED.items():
            if options.part in (None, "measure", name):
                print(table().markdown(), flush=True)
    if options.part in (None, "simulate"):
        for result in tables(options.clips):
            print(result.markdown(), flush=True)
            if options.picture is not None and result.curves:
                draw(options.picture, result)


if __name__ == "__main__":
    main()
