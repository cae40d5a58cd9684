"""Whether what moves is read as moving where an attack ends at a tolerance: ``python -m benchmarks.movement``.

Gradients per frame, and how far box centre, size, head yaw and gaze yaw of the protected frames follow those of the
originals from frame to frame: correlation of the first differences (:class:`~deidlib.metrics.TemporalFidelity`).

    python -m benchmarks.movement 40 iou:0.99,nme:0.5%                     RetinaFace on T002_radio, mid-grey
    python -m benchmarks.movement 40 iou:0.99,nme:0.5%,gaze:2 gaze         and MPIIGaze
    python -m benchmarks.movement 40 iou:0.99,nme:0.5% sign                by sign steps alone
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from footage import SHARED
from footage import frames as frames_of

from deidlib.attack.chain import Chain
from deidlib.attack.presets import recommended
from deidlib.cli.names import tolerance_of
from deidlib.geometry.camera import Camera
from deidlib.metrics.temporal_fidelity import TemporalFidelity
from deidlib.models.base import TargetModel
from deidlib.models.gaze import GazeResNet
from deidlib.models.observe import observe
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier


def main(count: int, until: str, *options: str) -> None:
    """Print one line of the table of docs/benchmarks.md."""
    if (SHARED / "weights").is_dir():
        os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    models: list[TargetModel[Any]] = [RetinaFace(), *([GazeResNet.mpiigaze()] if "gaze" in options else [])]
    attacker = recommended(models, until=tolerance_of(until))
    if "sign" in options:
        attacker = replace(attacker, fine=None)
    deidentifier = Deidentifier(attacker, Solid(), chain=Chain())
    originals = frames_of(SHARED / "media" / "T002_radio.mp4", range(count))
    camera = Camera.default(originals.shape[3], originals.shape[2])
    fidelity, steps, within = TemporalFidelity(), [], 0
    began = time.process_time()
    spent = 0.0
    for batch in deidentifier.frames(torch.split(originals, 1)):
        spent += time.process_time() - began
        assert batch.attack is not None
        assert batch.attack.within is not None
        steps.append(float(batch.attack.gradients))
        within += int(batch.attack.within)
        fidelity.update(observe(batch.originals, models), observe(batch.images, models), camera=camera)
        began = time.process_time()
    values, taken = fidelity.compute(), torch.tensor(steps)
    followed = [float(values[f"{name}_change_correlation"]) for name in ("centre_px", "size_px")]
    turned = [float(values[f"{name}_yaw_deg_change_correlation"]) for name in ("head", "gaze")]
    print(
        f"| {' '.join((until, *options))} | {taken.mean():.2f}, {taken.quantile(0.9):.0f}, {taken.max():.0f} "
        f"| {within} of {count} | {' | '.join(f'{value:.2f}' for value in followed + turned)} | {spent / count:.2f} |"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
