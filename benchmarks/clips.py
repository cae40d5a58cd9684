"""Whole files, split by what is done, in floors per frame: ``python -m benchmarks clips``.

All is CPU time of one run on one thread, without the start (imports, and weights that are loaded). What FFmpeg does in
threads of its own stands under "other". Beside it is what the same run gave: gradients per frame, and what RetinaFace
reads from the file.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

from footage import SHARED, frames

from benchmarks.floor import bare
from benchmarks.measure import Table, interleaved
from deidlib.attack.chain import Chain
from deidlib.attack.presets import TOLERANCES, recommended, recommended_chain, recommended_detectors
from deidlib.media.reader import VideoReader
from deidlib.media.writer import VideoWriter
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.look import LastLook
from deidlib.protect.lookout import Lookout
from deidlib.protect.output import Output
from deidlib.protect.readback import ReadbackComparison
from deidlib.protect.segments import SegmentWriter
from deidlib.protect.video import protect_video

CLIPS = ("T002_talk", "T002_radio")
_TURNS = 15
# Of each clip, where it is to be quick.
_FEW = 24


def table(quick: bool, device: str) -> Table:
    """``protect`` with ``--until quick`` for RetinaFace, stored without loss and read back; on the processor only."""
    result: Table | None = None
    with tempfile.TemporaryDirectory() as folder:
        for name in CLIPS:
            source = SHARED / "media" / f"{name}.mp4"
            cost = cost_of(_beginning(source, Path(folder)) if quick else source, Path(folder))
            kinds = sorted(cost.parts)
            if result is None:
                result = Table(
                    "Whole files, `--until quick`, RetinaFace, FFV1, in floors per frame"
                    + (f": the first {_FEW} frames" if quick else ""),
                    ["clip", "frames", "floor, ms", "all", *kinds, "gradients", "within", "least IoU in the file"],
                )
            result.rows.append(
                [name, cost.frames, cost.floor, cost.total / cost.floor, *(cost.parts[k] / cost.floor for k in kinds),
                 cost.gradients, f"{cost.within} of {cost.frames}", cost.least_iou]
            )  # fmt: skip
    assert result is not None
    return result


class Shares:
    """CPU seconds by kind of work, each without what it calls of the others; threads are told apart."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock, self._here = threading.Lock(), threading.local()

    def of(self, kind: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function or method, whose time is added up."""

        def timed(*arguments: Any, **named: Any) -> Any:
            inner: list[float] = getattr(self._here, "inner", [])
            self._here.inner = [*inner, 0.0]
            began = time.thread_time()
            try:
                return work(*arguments, **named)
            finally:
                spent = time.thread_time() - began
                own = self._here.inner[-1]
                self._here.inner = inner
                if inner:
                    inner[-1] += spent
                with self._lock:
                    self.seconds[kind] += spent - own

        return timed

    def each(self, kind: str, work: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The same generator, the time of whose items is added up."""

        def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
            item = self.of(kind, work(*arguments, **named).__next__)
            while True:
                try:
                    yield item()
                except StopIteration:
                    return

        return timed


@dataclass(frozen=True)
class Cost:
    """What one clip took, in CPU milliseconds per frame, and what it gave.

    Args:
        frames: in it.
        floor: the unit.
        total: from file to file.
        parts: the same by kind of work.
        gradients: per frame, mean.
        least_iou: the least overlap of RetinaFace's boxes, read from the file.
        within: frames within tolerance.
    """

    frames: int
    floor: float
    total: float
    parts: dict[str, float]
    gradients: float
    least_iou: float
    within: int


def floor_of(clip: Path) -> float:
    """CPU milliseconds of forward and backward-to-input of the bare network, median over turns."""
    return interleaved({"floor": bare(frames(clip, [0]))}, turns=_TURNS)["floor"].median


def cost_of(clip: Path, folder: Path) -> Cost:
    """Protect the clip for RetinaFace, as ``--until quick --silence none`` does, and say what that took."""
    models = [RetinaFace()]
    deidentifier = Deidentifier(
        recommended(models, until=TOLERANCES["quick"]),
        obfuscator=Solid(),
        detectors=recommended_detectors(models),
        chain=recommended_chain("ffv1", until=TOLERANCES["quick"]),
    )
    shares, steps = Shares(), list[int]()
    attack = Chain.attack

    def counted(*arguments: Any, **named: Any) -> Any:
        result = attack(*arguments, **named)
        steps.extend(int(frame.gradients.sum()) for frame in result)
        return result

    methods: tuple[tuple[type, str, Any], ...] = (
        (VideoReader, "batches", shares.each("decode", VideoReader.batches)),
        (VideoReader, "selected", shares.each("decode", VideoReader.selected)),
        (Deidentifier, "detect", shares.of("detect", Deidentifier.detect)),
        (Lookout, "over", shares.each("look", Lookout.over)),
        (Deidentifier, "hide", shares.of("hide", Deidentifier.hide)),
        (Chain, "attack", shares.of("attack", counted)),
        (SegmentWriter, "add", shares.of("encode", SegmentWriter.add)),
        (VideoWriter, "write", shares.of("encode", VideoWriter.write)),
        (VideoWriter, "close", shares.of("encode", VideoWriter.close)),
        (LastLook, "__call__", shares.of("check", LastLook.__call__)),
        (ReadbackComparison, "update", shares.of("check", ReadbackComparison.update)),
    )
    # The first call of many an operation is slow, and belongs to the start.
    models[0].predict(frames(clip, [0]))
    floor = [floor_of(clip)]
    with ExitStack() as patched:
        for owner, name, timed in methods:
            patched.enter_context(patch.object(owner, name, timed))
        began = time.process_time()
        summary = protect_video(deidentifier, clip, folder / f"{clip.stem}.mkv", output=Output(codec="ffv1"))
        total = time.process_time() - began
    # The machine may do other work now than it did before.
    floor.append(floor_of(clip))
    count = len(steps)
    parts = {kind: 1000 * seconds / count for kind, seconds in shares.seconds.items()}
    parts["other"] = 1000 * total / count - sum(parts.values())
    assert summary.readback is not None
    overlap = summary.readback.models["retinaface"].min_iou
    assert overlap is not None
    within = count - (summary.beyond or 0)
    return Cost(count, sum(floor) / 2, 1000 * total / count, parts, sum(steps) / count, overlap, within)


def _beginning(clip: Path, folder: Path) -> Path:
    """The first frames, in a file of their own, without loss."""
    images = frames(clip, range(_FEW))
    path = folder / "sources" / f"{clip.stem}.mkv"
    path.parent.mkdir(exist_ok=True)
    with VideoWriter(path, Fraction(25), (images.shape[2], images.shape[3]), codec="ffv1") as writer:
        writer.write(images)
    return path
