"""Whole files, split by what is done: ``python -m benchmarks clips``; the measuring itself is in ``floors.py``."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

from footage import SHARED, frames

from benchmarks.floors import CLIPS, cost_of
from benchmarks.measure import Table
from deidlib.media import VideoWriter

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


def _beginning(clip: Path, folder: Path) -> Path:
    """The first frames, in a file of their own, without loss."""
    images = frames(clip, range(_FEW))
    path = folder / "sources" / f"{clip.stem}.mkv"
    path.parent.mkdir(exist_ok=True)
    with VideoWriter(path, Fraction(25), (images.shape[2], images.shape[3]), codec="ffv1") as writer:
        writer.write(images)
    return path
