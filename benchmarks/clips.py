"""Whole files, split by what is done, in floors per frame: ``python -m benchmarks clips``.

    python -m benchmarks clips                        both clips of T002, RetinaFace, until quick
    python -m benchmarks.clips mtcnn                  the cases of that name, below: other models, clips, codecs
    python -m benchmarks.clips talk_video00 120       its first 120 frames

All is CPU time of one run on one thread, without the start (imports, and weights that are loaded). What FFmpeg does in
threads of its own stands under "other". Beside it is what the same run gave: gradients per frame, and what RetinaFace
reads from the file.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from footage import SHARED, frames
from torch import Tensor

from benchmarks.floor import bare
from benchmarks.measure import Table, interleaved
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.attack.distortions import H264
from deidlib.attack.presets import TOLERANCES, Until, recommended, recommended_chain, recommended_detectors
from deidlib.attack.tolerance import Tolerance
from deidlib.keys.key import Key
from deidlib.media.reader import VideoReader
from deidlib.media.writer import VideoWriter
from deidlib.models.base import TargetModel
from deidlib.models.gaze import GazeResNet
from deidlib.models.mtcnn import MTCNN
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
class Case:
    """What is protected, for whom, how well it is to be read, and how it is stored.

    Args:
        clip: beside the project.
        models: by name.
        until: when a frame is done.
        frames: of the clip, the first; None: all.
        key: whether the models read by a key.
        crf: of H.264, which the attack is told of; None: without loss.
    """

    clip: str
    models: tuple[str, ...] = ("retinaface",)
    until: Until = field(default_factory=lambda: TOLERANCES["quick"])
    frames: int | None = None
    key: bool = False
    crf: int | None = None


MODELS: dict[str, Callable[[], TargetModel[Any]]] = {
    "retinaface": RetinaFace,
    "mtcnn": MTCNN,
    "mpiigaze": GazeResNet.mpiigaze,
}
_BOTH = ("retinaface", "mtcnn")
# As docs/benchmarks.md names them.
CASES: dict[str, Case] = {
    "mtcnn talk": Case("T002_talk", ("mtcnn",), Tolerance(iou=0.93, nme=0.02)),
    "mtcnn radio": Case("T002_radio", ("mtcnn",), Tolerance(iou=0.93, nme=0.02)),
    "talk_video00": Case("talk_video00", until=Tolerance(iou=0.95)),
    "gaze radio": Case("T002_radio", ("retinaface", "mpiigaze")),
    "gaze talk": Case("T002_talk", ("retinaface", "mpiigaze")),
    "h264 steps": Case("T002_radio", _BOTH, None, 40, crf=23),
    "h264 until": Case("T002_radio", _BOTH, Tolerance(iou=0.95, nme=0.015), 40, crf=23),
    "h264 key steps": Case("T002_radio", _BOTH, None, 40, key=True, crf=23),
    "h264 key until": Case("T002_radio", _BOTH, Tolerance(iou=0.95, nme=0.015), 40, key=True, crf=23),
}


@dataclass(frozen=True)
class Cost:
    """What one clip took, in CPU milliseconds per frame, and what it gave.

    Args:
        frames: in it.
        floor: the unit.
        total: from file to file.
        parts: the same by kind of work.
        steps: gradients of each frame, of each model; of one that is attacked again, once more.
        least_iou: the least overlap of the first detector's boxes, read from the file.
        within: frames within tolerance.
        faces: by model what was read of each face in the file, as in ``FaceTable.per_face``.
    """

    frames: int
    floor: float
    total: float
    parts: dict[str, float]
    steps: Sequence[int]
    least_iou: float
    within: int
    faces: Mapping[str, Mapping[str, Tensor]]

    @property
    def gradients(self) -> float:
        """Per frame, mean."""
        return sum(self.steps) / self.frames


def floor_of(clip: Path) -> float:
    """CPU milliseconds of forward and backward-to-input of the bare network, median over turns."""
    return interleaved({"floor": bare(frames(clip, [0]))}, turns=_TURNS)["floor"].median


def cost_of(clip: Path, folder: Path, case: Case | None = None) -> Cost:
    """Protect a clip as ``--silence none`` does, read the file, and say what that took and gave.

    Args:
        clip: the file.
        folder: where to write.
        case: how; as ``--until quick`` does for RetinaFace if not given.
    """
    case = Case(clip.stem) if case is None else case
    models = {name: MODELS[name]() for name in case.models}
    codec = "ffv1" if case.crf is None else "h264"
    deidentifier = Deidentifier(
        recommended(
            models,
            until=case.until,
            distortions=() if case.crf is None else [H264(case.crf)],
            epsilon=(16 if case.key and case.crf is not None else 8) / 255,
            keyed=case.key,
        ),
        obfuscator=Solid(),
        detectors=recommended_detectors(models.values()),
        chain=recommended_chain(codec, keyed=case.key, until=case.until),
    )
    shares, steps, readbacks = Shares(), list[int](), list[ReadbackComparison]()
    compute = ReadbackComparison.compute
    # Without a chain, the attacker itself is asked.
    owner_of_attack: type = IFGSMAttacker if deidentifier.chain is None else Chain
    called = "__call__" if deidentifier.chain is None else "attack"
    attack = getattr(owner_of_attack, called)

    def counted(*arguments: Any, **named: Any) -> Any:
        result = attack(*arguments, **named)
        for part in result if isinstance(result, list) else [result]:
            steps.extend(part.gradients.tolist())
        return result

    def computed(self: ReadbackComparison, repaired: int) -> Any:
        readbacks.append(self)
        return compute(self, repaired)

    methods: tuple[tuple[type, str, Any], ...] = (
        (VideoReader, "batches", shares.each("decode", VideoReader.batches)),
        (VideoReader, "selected", shares.each("decode", VideoReader.selected)),
        (Deidentifier, "detect", shares.of("detect", Deidentifier.detect)),
        (Lookout, "over", shares.each("look", Lookout.over)),
        (Deidentifier, "hide", shares.of("hide", Deidentifier.hide)),
        (owner_of_attack, called, shares.of("attack", counted)),
        (SegmentWriter, "add", shares.of("encode", SegmentWriter.add)),
        (VideoWriter, "write", shares.of("encode", VideoWriter.write)),
        (VideoWriter, "close", shares.of("encode", VideoWriter.close)),
        (LastLook, "__call__", shares.of("check", LastLook.__call__)),
        (ReadbackComparison, "update", shares.of("check", ReadbackComparison.update)),
        (ReadbackComparison, "compute", computed),
    )
    # The first call of many an operation is slow, and belongs to the start.
    next(iter(models.values())).predict(frames(clip, [0]))
    floor = [floor_of(clip)]
    target = folder / f"{clip.stem}.{'mkv' if case.crf is None else 'mp4'}"
    with ExitStack() as patched:
        # What is read of a detector's points is asked here, too.
        patched.enter_context(patch("deidlib.protect.readback._own", lambda faces, task: faces))
        for owner, name, timed in methods:
            patched.enter_context(patch.object(owner, name, timed))
        began = time.process_time()
        summary = protect_video(
            deidentifier,
            clip,
            target,
            output=Output(codec=codec, quality=case.crf),
            key=Key(bytes(range(32))) if case.key else None,
        )
        total = time.process_time() - began
    # The machine may do other work now than it did before.
    floor.append(floor_of(clip))
    count = summary.frames
    parts = {kind: 1000 * seconds / count for kind, seconds in shares.seconds.items()}
    parts["other"] = 1000 * total / count - sum(parts.values())
    assert summary.readback is not None
    overlap = summary.readback.models[case.models[0]].min_iou
    assert overlap is not None
    faces = {name: table.per_face() for name, table in readbacks[-1]._tables.items()}
    return Cost(
        count,
        sum(floor) / 2,
        1000 * total / count,
        parts,
        steps,
        overlap,
        count - (summary.beyond or 0),
        faces,
    )


def _beginning(clip: Path, folder: Path, count: int = _FEW) -> Path:
    """The first frames, in a file of their own, without loss."""
    images = frames(clip, range(count))
    path = folder / "sources" / f"{clip.stem}.mkv"
    path.parent.mkdir(exist_ok=True)
    with VideoWriter(path, Fraction(25), (images.shape[2], images.shape[3]), codec="ffv1") as writer:
        writer.write(images)
    return path


def main(wanted: str, count: int | None) -> None:
    """Print a line for each case whose name has that in it."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    torch.set_num_threads(1)
    for name, case in CASES.items():
        if wanted not in name:
            continue
        few = case.frames if count is None else count
        with tempfile.TemporaryDirectory() as folder:
            source = SHARED / "media" / f"{case.clip}.mp4"
            cost = cost_of(source if few is None else _beginning(source, Path(folder), few), Path(folder), case)
        print(f"{name}: {told(cost)}", flush=True)


def told(cost: Cost) -> str:
    """A case's figures in a line."""
    steps = torch.tensor(cost.steps, dtype=torch.float64)
    words = [
        f"{cost.within} of {cost.frames} frames within",
        f"{cost.gradients:.2f} gradients a frame (p90 {steps.quantile(0.9):.0f}, most {steps.max():.0f})",
        f"{cost.total / cost.floor:.2f} floors of {cost.floor:.0f} ms ("
        + ", ".join(f"{kind} {spent / cost.floor:.2f}" for kind, spent in sorted(cost.parts.items()))
        + ")",
    ]
    for name, faces in cost.faces.items():
        overlap, points, gaze = (faces[what].double() for what in ("iou", "nme_box", "gaze_deg"))
        shares = " and ".join(f"{float((overlap >= least).double().mean()):.1%} at {least}" for least in (0.95, 0.93))
        words.append(
            f"{name} in the file: {len(overlap)} faces, IoU mean {overlap.mean():.3f}, "
            f"least {overlap.min():.3f}, {shares}"
        )
        if not points.isnan().all():
            words.append(f"points off by {points.nanmean():.2%}, most {points.nan_to_num(0).max():.2%}")
        if not gaze.isnan().all():
            words.append(f"gaze off by {gaze.nanmean():.2f} degrees, most {gaze.nan_to_num(0).max():.2f}")
    return "; ".join(words)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "", int(sys.argv[2]) if len(sys.argv) > 2 else None)
