"""Steps until a frame reads well enough, by step rule: ``python -m benchmarks rules``."""

from __future__ import annotations

import time
from typing import Any

import torch
from footage import SHARED, frames
from torch import Tensor

from benchmarks.measure import Spread, Table
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.presets import TOLERANCES
from deidlib.attack.steps import APGDStep, MomentumSignStep, OptimizerStep, SignStep, StepRule
from deidlib.models.cropped import CroppedDetector
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Solid

MOST = 60
RULES: dict[str, StepRule[Any]] = {
    "I-FGSM": SignStep(),
    "MI-FGSM": MomentumSignStep(),
    "NI-FGSM": MomentumSignStep(nesterov=True),
    "APGD": APGDStep(),
    "RMSprop, 0.004": OptimizerStep(lambda p: torch.optim.RMSprop(p, lr=0.004)),
    "Adam, 0.004": OptimizerStep(lambda p: torch.optim.Adam(p, lr=0.004)),
}


def table(quick: bool, device: str) -> Table:
    """RetinaFace on frames far apart of two clips, each from its hidden self, by every rule; curves of who is done."""
    count = 4 if quick else 12
    originals = torch.cat(
        [
            frames(SHARED / "media" / f"{clip}.mp4", range(0, step * count // 2, step))
            for clip, step in (("T002_talk", 40), ("T002_radio", 24))
        ]
    ).to(device)
    model = CroppedDetector(RetinaFace().to(device))
    faces = model.predict(originals)
    hide = Solid()
    hidden, mask = hide(originals, faces), hide.mask(faces, *originals.shape[-2:])
    result = Table(
        f"Steps to IoU 0.95 and points within 1.5 %, RetinaFace, {len(originals)} frames of T002_talk and T002_radio, "
        f"{MOST} at most",
        [
            "step rule",
            "steps: median (10th to 90th percentile)",
            "most",
            "frames within",
            "least IoU of those",
            "CPU ms per step",
        ],
        axes=("steps", "share of frames within"),
    )
    for name, rule in RULES.items():
        attacker = IFGSMAttacker([model], max_iterations=MOST, step=rule, until=TOLERANCES["quick"])
        began = time.process_time()
        attack = attacker(hidden, faces, mask=mask)
        spent = 1000 * (time.process_time() - began)
        assert attack.within is not None
        steps = attack.iterations.where(attack.within, torch.full_like(attack.iterations, MOST + 1)).float()
        error = attack.errors[model.name]
        least = float(error.iou[attack.within].min()) if bool(attack.within.any()) else float("nan")
        result.rows.append(
            [name, Spread.of(attack.iterations.float().tolist()), int(attack.iterations.max()),
             f"{int(attack.within.sum())} of {len(steps)}", least, spent / float(attack.iterations.sum().clamp(min=1))]
        )  # fmt: skip
        result.curves[name] = _share(steps)
    return result


def _share(steps: Tensor) -> tuple[list[float], list[float]]:
    numbers = list(range(MOST + 1))
    return [float(n) for n in numbers], [float((steps <= n).float().mean()) for n in numbers]
