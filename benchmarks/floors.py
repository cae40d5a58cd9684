"""What a clip costs from file to file, in floors per frame: ``python -m benchmarks.floors``.

A floor is forward and backward-to-input of the bare RetinaFace network, weights frozen, on the whole frame, channels
last: nobody who looks at the whole frame has a gradient for less. All is CPU time of one run on one thread, without the
start (imports, and weights that are loaded). What FFmpeg does in threads of its own stands under "other". Beside it is
what the same run gave: gradients per frame, and what RetinaFace reads from the file.

    python -m benchmarks.floors                 T002_talk and T002_radio whole
    python -m benchmarks.floors T002_radio      one of them
    python -m benchmarks.floors --json          one line of JSON for each clip

Needs the shared weights and media beside the project.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from face_alignment.detection.retinaface.net_retinaface import RetinaFace as Net
from footage import SHARED
from footage import frames as frames_of

from deidlib.attack.chain import Chain
from deidlib.attack.presets import TOLERANCES, recommended, recommended_chain, recommended_detectors
from deidlib.media.reader import VideoReader
from deidlib.media.writer import VideoWriter
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.look import LastLook
from deidlib.protect.output import Output
from deidlib.protect.readback import ReadbackComparison
from deidlib.protect.segments import SegmentWriter
from deidlib.protect.video import protect_video

CLIPS = ("T002_talk", "T002_radio")
_TURNS = 15


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
        clip: its name.
        frames: in it.
        floor: the unit.
        total: from file to file.
        parts: the same by kind of work.
        gradients: per frame, mean.
        least_iou: the least overlap of RetinaFace's boxes, read from the file.
        within: frames within tolerance.
    """

    clip: str
    frames: int
    floor: float
    total: float
    parts: dict[str, float]
    gradients: float
    least_iou: float
    within: int

    def row(self) -> str:
        """A line of the table, in floors."""
        parts = " | ".join(f"{self.parts[kind] / self.floor:.2f}" for kind in sorted(self.parts))
        return (
            f"| {self.clip} | {self.floor:.1f} ms | {self.total / self.floor:.2f} | {parts} | {self.gradients:.2f} | "
            f"{self.within} of {self.frames} | {self.least_iou:.3f} |"
        )


def floor_of(clip: Path) -> float:
    """CPU milliseconds of forward and backward-to-input of the bare network, median over turns."""
    net = Net().eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
    frame = (frames_of(clip, [0]) * 255 - 110).contiguous(memory_format=torch.channels_last)
    spent = []
    for _ in range(_TURNS + 2):
        leaf = frame.detach().requires_grad_()
        began = time.process_time()
        box, score, points = net(leaf)
        torch.autograd.grad(box.sum() + score.square().sum() + points.sum(), leaf)
        spent.append(1000 * (time.process_time() - began))
    return median(spent[2:])


def cost_of(clip: Path, folder: Path) -> Cost:
    """Protect the clip for RetinaFace, as ``deidlib protect --until quick`` does, and say what that took."""
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
        steps.append(int(result.iterations.sum()))
        return result

    methods: tuple[tuple[type, str, Any], ...] = (
        (VideoReader, "batches", shares.each("decode", VideoReader.batches)),
        (VideoReader, "selected", shares.each("decode", VideoReader.selected)),
        (Deidentifier, "detect", shares.of("detect", Deidentifier.detect)),
        (Deidentifier, "hide", shares.of("hide", Deidentifier.hide)),
        (Chain, "attack", shares.of("attack", counted)),
        (SegmentWriter, "add", shares.of("encode", SegmentWriter.add)),
        (VideoWriter, "write", shares.of("encode", VideoWriter.write)),
        (VideoWriter, "close", shares.of("encode", VideoWriter.close)),
        (LastLook, "__call__", shares.of("check", LastLook.__call__)),
        (ReadbackComparison, "update", shares.of("check", ReadbackComparison.update)),
    )
    # The first call of many an operation is slow, and belongs to the start.
    models[0].predict(frames_of(clip, [0]))
    floor = [floor_of(clip)]
    with ExitStack() as patched:
        for owner, name, timed in methods:
            patched.enter_context(patch.object(owner, name, timed))
        began = time.process_time()
        summary = protect_video(deidentifier, clip, folder / f"{clip.stem}.mkv", output=Output(codec="ffv1"))
        total = time.process_time() - began
    # The machine may do other work now than it did before.
    floor.append(floor_of(clip))
    frames = len(steps)
    parts = {kind: 1000 * seconds / frames for kind, seconds in shares.seconds.items()}
    parts["other"] = 1000 * total / frames - sum(parts.values())
    assert summary.readback is not None
    overlap = summary.readback.models["retinaface"].min_iou
    assert overlap is not None
    within = frames - (summary.beyond or 0)
    return Cost(clip.stem, frames, sum(floor) / 2, 1000 * total / frames, parts, sum(steps) / frames, overlap, within)


def main(arguments: list[str]) -> None:
    """Print the table, or JSON."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    torch.set_num_threads(1)
    wanted = [name for name in arguments if not name.startswith("-")] or list(CLIPS)
    first = True
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            cost = cost_of(SHARED / "media" / f"{name}.mp4", Path(folder))
            if "--json" in arguments:
                print(json.dumps(asdict(cost)))
                continue
            if first:
                kinds = " | ".join(sorted(cost.parts))
                print(f"| clip | floor | floors per frame | {kinds} | gradients | within | least IoU |")
                print("|---" * (len(cost.parts) + 6) + "|")
            print(cost.row(), flush=True)
            first = False


if __name__ == "__main__":
    main(sys.argv[1:])
