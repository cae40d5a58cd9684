"""What a gradient costs beyond the floor: forward and backward of the bare network. ``python -m benchmarks floor``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from face_alignment.detection.retinaface.net_retinaface import RetinaFace as Net
from footage import SHARED, frames
from torch import Tensor

from benchmarks.measure import Table, interleaved
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.geometry.matching import best_iou
from deidlib.metrics.functional import gaze_angle
from deidlib.models.base import TargetModel
from deidlib.models.cropped import CroppedDetector
from deidlib.models.gaze import GazeResNet
from deidlib.models.mtcnn import MTCNN
from deidlib.models.observe import observe
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Solid

BATCH = 4
# What one iteration takes is the difference of two attacks.
_STEPS = 2, 8


def table(quick: bool, device: str) -> Table:
    """Per model the loss with its gradient and a whole iteration, on 480 x 480 frames of T002_talk.

    Beside each iteration is what that model reads after the longer attack.
    """
    result = Table(
        f"A gradient and an iteration, ms per frame of 480 x 480, batch of {BATCH}",
        ["work", "ms: median (10th to 90th percentile)", "of the floor", f"read after {_STEPS[1]} iterations"],
    )
    originals = frames(SHARED / "media" / "T002_talk.mp4", range(0, 8 * BATCH, 8)).to(device)
    models: dict[str, TargetModel[Any]] = {
        "RetinaFace, whole frames": RetinaFace().to(device),
        "RetinaFace, windows": CroppedDetector(RetinaFace().to(device)),
        "MTCNN": MTCNN().to(device),
        "MPIIGaze": GazeResNet.mpiigaze().to(device),
    }
    detector = RetinaFace().to(device)
    faces = detector.predict(originals)
    hidden = Solid()(originals, faces)
    turns = 3 if quick else 9
    works: dict[str, Callable[[], object]] = {"floor": bare(hidden)}
    reads = {}
    for name, model in models.items():
        readings = observe(originals, [model] if model.task == "boxes" else [detector, model])
        target = model.target(readings, (480, 480))
        works[f"{name}: loss with gradient"] = _gradient(model, hidden, target)
        few, many = (IFGSMAttacker([model], max_iterations=steps) for steps in _STEPS)
        works[f"{name}: few"] = lambda few=few, r=readings: few(hidden, r)  # type: ignore[misc]
        works[f"{name}: many"] = lambda many=many, r=readings: many(hidden, r)  # type: ignore[misc]
        reads[name] = _read(model, many(hidden, readings).images, readings)
    spent = interleaved(works, turns=turns, device=device)
    floor = spent["floor"].median
    result.rows.append(
        [
            "floor: bare RetinaFace, frozen, channels last, forward and backward",
            spent["floor"].times(1 / BATCH),
            1.0,
            "",
        ]
    )
    for name in models:
        gradient = spent[f"{name}: loss with gradient"]
        result.rows.append([f"{name}: loss with gradient", gradient.times(1 / BATCH), gradient.median / floor, ""])
        per = (spent[f"{name}: many"].median - spent[f"{name}: few"].median) / (_STEPS[1] - _STEPS[0])
        result.rows.append([f"{name}: an iteration", per / BATCH, per / floor, reads[name]])
    return result


def bare(hidden: Tensor) -> Callable[[], object]:
    """The unit: forward and backward-to-input of the bare network, weights frozen, on whole frames, channels last."""
    net = Net().eval().requires_grad_(requires_grad=False).to(hidden.device, memory_format=torch.channels_last)
    frame = (hidden * 255 - 110).contiguous(memory_format=torch.channels_last)

    def work() -> object:
        leaf = frame.detach().requires_grad_()
        box, score, points = net(leaf)
        return torch.autograd.grad(box.sum() + score.square().sum() + points.sum(), leaf)

    return work


def _gradient(model: TargetModel[Any], hidden: Tensor, target: Any) -> Callable[[], object]:
    def work() -> object:
        leaf = hidden.detach().clone().requires_grad_()
        return torch.autograd.grad(model.loss(leaf, target).sum(), leaf)

    return work


def _read(model: TargetModel[Any], images: Tensor, readings: Any) -> str:
    """What the model itself makes of the frames."""
    if model.task == "gaze":
        seen = model.predict(images, readings)
        pairs = [
            (a.gaze, b.gaze) for a, b in zip(readings, seen, strict=True) if a.gaze is not None and b.gaze is not None
        ]
        return f"gaze {float(torch.cat([gaze_angle(a, b) for a, b in pairs]).mean()):.1f} degrees off"
    overlaps = torch.cat([best_iou(a.boxes, b.boxes) for a, b in zip(readings, model.predict(images), strict=True)])
    return f"IoU {float(overlaps.mean()):.3f}, least {float(overlaps.min()):.3f}"
