"""Compare step rules at the same budget, on one face and one detector."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from skimage.data import astronaut

from deidlib import MTCNN, APGDStep, IFGSMAttacker, MomentumSignStep, Pixelate, SignStep
from deidlib.attack import OptimizerStep, StepRule
from deidlib.geometry.boxes import iou


def main(iterations: int = 40) -> None:
    rules: dict[str, StepRule[Any]] = {
        "I-FGSM": SignStep(1 / 255),
        "MI-FGSM": MomentumSignStep(1 / 255),
        "NI-FGSM": MomentumSignStep(1 / 255, nesterov=True),
        "RMSprop": OptimizerStep(lambda parameters: torch.optim.RMSprop(parameters, lr=0.004)),
        "APGDStep": APGDStep(),
    }
    picture = torch.from_numpy(astronaut()[:256, 96:352]).permute(2, 0, 1)[None] / 255
    model, hide = MTCNN(), Pixelate(blocks=4)
    faces = model.predict(picture)
    hidden, mask = hide(picture, faces), hide.mask(faces, 256, 256)

    print(f"{'':<10}{'loss':>8}{'IoU':>8}{'at step':>9}{'seconds':>9}")
    for name, rule in rules.items():
        began = time.perf_counter()
        attack = IFGSMAttacker([model], max_iterations=iterations, step=rule)
        result = attack(hidden, faces, mask=mask)
        seconds = time.perf_counter() - began
        (seen,) = model.predict(result.images)
        overlap = float(iou(faces[0].boxes, seen.boxes).max()) if len(seen) else 0.0
        loss, step = float(result.final_losses()["mtcnn"]), int(result.best)
        print(f"{name:<10}{loss:>8.2f}{overlap:>8.3f}{step:>9}{seconds:>9.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=40)
    main(parser.parse_args().iterations)
