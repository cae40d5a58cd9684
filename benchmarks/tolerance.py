"""Gradients per frame where an attack ends when the models read well enough: ``python -m benchmarks.tolerance``.

Real clips from beside the project, frames in a row; each starts from the one before it, the first from its hidden self.
Quality is what the authorised models predict on the protected frames, as they would be saved.

    python -m benchmarks.tolerance                    the cases of docs/benchmarks.md
    python -m benchmarks.tolerance 12 gaze            twelve frames of the cases whose name has "gaze" in it
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from footage import SHARED
from footage import frames as frames_of
from torch import Tensor

from deidlib.attack.chain import Chain
from deidlib.attack.presets import recommended, recommended_detectors
from deidlib.attack.steps import MomentumSignStep, StepRule
from deidlib.attack.tolerance import Tolerance
from deidlib.models.base import TargetModel
from deidlib.models.gaze import GazeResNet
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Concealment, Pixelate, Solid
from deidlib.protect.deidentifier import Deidentifier

BOXES = Tolerance(iou=0.95, nme=0.015)
GAZE = Tolerance(iou=0.95, nme=0.015, gaze=3.0)
LOOSE = Tolerance(iou=0.93, nme=0.02)
MAKE: dict[str, Callable[[], TargetModel]] = {  # type: ignore[type-arg]
    "RetinaFace": RetinaFace,
    "MPIIGaze": GazeResNet.mpiigaze,
    "MTCNN": MTCNN,
}


@dataclass(frozen=True)
class Case:
    """What is protected, for whom, and how well it is to be read."""

    clip: str
    models: tuple[str, ...]
    until: Tolerance
    grey: bool = False
    step: float = 0.5

    @property
    def name(self) -> str:
        """A line's first columns."""
        hidden = "mid-grey" if self.grey else "4 blocks"
        limits = [f"IoU {self.until.iou}", f"NME {self.until.nme:.1%}"] + [f"{self.until.gaze} °"] * bool(
            self.until.gaze
        )
        return f"{self.clip}, {' + '.join(self.models)}, {hidden}, step {self.step} | {', '.join(limits)}"

    def hiding(self) -> Concealment:
        """How faces are hidden."""
        return Solid((0.5, 0.5, 0.5)) if self.grey else Pixelate(blocks=4)


CASES = [
    *(Case(clip, ("RetinaFace",), BOXES, grey) for clip in ("T002_talk", "T002_radio") for grey in (False, True)),
    Case("T002_radio", ("RetinaFace",), BOXES, step=1.0),
    Case("T002_talk", ("RetinaFace",), Tolerance(iou=0.98, nme=0.01)),
    *(Case(clip, ("RetinaFace", "MPIIGaze"), GAZE) for clip in ("T002_talk", "T002_radio")),
    Case("T002_radio", ("RetinaFace", "MPIIGaze"), GAZE, step=1.0),
    *(Case(clip, ("MTCNN",), LOOSE) for clip in ("T002_talk", "T002_radio")),
    Case("T002_talk", ("MTCNN",), LOOSE, step=1.0),
    Case("T002_talk", ("MTCNN",), BOXES),
]


def protected(case: Case, frames: Tensor) -> Iterator[tuple[int, bool, dict[str, tuple[float, float, float]]]]:
    """Frame by frame: gradients, whether it is within, and per model least IoU, worst NME and gaze."""
    attacker = recommended([MAKE[name]() for name in case.models], until=case.until)
    step: StepRule = MomentumSignStep(case.step / 255)  # type: ignore[type-arg]
    models = attacker.named_models().values()
    deidentifier = Deidentifier(
        attacker,
        case.hiding(),
        detectors=[model for model in recommended_detectors(models) if model.name in attacker.named_models()],
        chain=replace(Chain(), step=step),
    )
    for batch in deidentifier.frames(torch.split(frames, 1)):
        attack = batch.attack
        assert attack is not None
        assert attack.within is not None
        errors = {name: (float(e.iou), float(e.nme), float(e.gaze)) for name, e in attack.errors.items()}
        yield int(attack.gradients), bool(attack.within), errors


def main(count: int, wanted: str) -> None:
    """Print the table of docs/benchmarks.md."""
    if (SHARED / "weights").is_dir():
        os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {count} frames\n")
    print(
        "| clip, authorised, hidden by, step in 1/255 | tolerance | first frame | all frames: mean, p90, max | within ",
        end="",
    )
    print("| least IoU | worst NME | worst gaze | CPU s per frame |\n|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        if wanted.lower() not in case.name.lower():
            continue
        frames = frames_of(SHARED / "media" / f"{case.clip}.mp4", range(count))
        began = time.process_time()
        rows = list(protected(case, frames))
        spent = (time.process_time() - began) / len(rows)
        steps = torch.tensor([float(row[0]) for row in rows])
        errors = [error for row in rows for error in row[2].values()]
        share = sum(row[1] for row in rows)
        gaze = max(error[2] for error in errors)
        print(
            f"| {case.name} | {steps[0]:.0f} | {steps.mean():.2f}, {steps.quantile(0.9):.0f}, {steps.max():.0f} "
            f"| {share} of {len(rows)} | {min(error[0] for error in errors):.3f} | {max(e[1] for e in errors):.2%} "
            f"| {f'{gaze:.2f} °' if case.until.gaze else ''} | {spent:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40, sys.argv[2] if len(sys.argv) > 2 else "")
