"""How often the loop waits for what it computes, and how many operations it and the models launch: ``counting.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from counting import Work
from skimage.data import astronaut
from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import MomentumSignStep
from deidlib.attack.tolerance import Examiner, Tolerance
from deidlib.faces import FaceBatch, Faces
from deidlib.models.base import Reading, Target, TargetModel, frame_mean, frame_of, rows_of
from deidlib.models.cropped import CroppedDetector
from deidlib.models.gaze import GazeResNet
from deidlib.models.mtcnn import MTCNN
from deidlib.models.observe import read_originals
from deidlib.models.retinaface import RetinaFace
from deidlib.nets import max_pool
from deidlib.obfuscate import Solid


@dataclass(frozen=True, eq=False)
class Place(Target):
    x: Tensor


class Quiet(TargetModel[Place]):
    """Reads a face at the mean grey level, and says so in its forward pass without a look at it."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        return [Faces.empty()] * len(images)

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> Place:
        return Place(frame_of(reading), rows_of(reading)[:, 0])

    def loss(self, images: Tensor, target: Place) -> Tensor:
        rows = (255 * images.mean(dim=(1, 2, 3))[target.frame] - target.x).square()
        return frame_mean(rows, target.frame, len(images))

    def loss_and_reading(self, images: Tensor, target: Place) -> tuple[Tensor, Reading | None]:
        with torch.no_grad():
            x = 255 * images.mean(dim=(1, 2, 3))
            box = torch.stack([x, torch.zeros_like(x), x + 100, torch.full_like(x, 100.0)], dim=1)
        return self.loss(images, target), FaceBatch(box[:, None], torch.ones_like(x)[:, None])


def per_iteration(
    models: Sequence[TargetModel[Any]],
    hidden: Tensor,
    readings: Mapping[str, Sequence[Faces]],
    until: Tolerance | None = None,
    threshold: float | None = None,
) -> tuple[float, float]:
    """Operations and waits of an iteration, of which no frame is done."""
    counts = []
    for steps in (2, 6):
        attacker = IFGSMAttacker(
            models, max_iterations=steps, until=until, threshold=threshold, step=MomentumSignStep()
        )
        with Work() as work:
            result = attacker(hidden, readings)
        assert result.iterations.tolist() == [steps] * len(hidden)
        counts.append((work.operations, work.waits))
    (few, seldom), (many, often) = counts
    return (many - few) / 4, (often - seldom) / 4


def test_what_is_counted() -> None:
    values, at = torch.rand(8), torch.tensor([3, 1])
    with Work() as work:
        (values + 1)[at].where(at > 2, 0.0).amax()
    assert work.waits == 0
    assert work.by_name["add"] == 1
    for look in (
        lambda: float(values[0]),
        lambda: bool((values > 0).all()),
        lambda: values.tolist(),
        lambda: values.numpy(),
        lambda: values[values > 0.5],
        lambda: (values > 0.5).nonzero(),
        lambda: at.repeat_interleave(at),
        lambda: torch.tensor([1, 2]),
    ):
        with Work() as work:
            look()
        assert work.waits == 1, work.waited_for


def test_a_step_waits_once_to_know_which_frames_are_done_and_else_never() -> None:
    hidden = torch.zeros(2, 3, 8, 8)
    reading = {"quiet": [Faces(torch.tensor([[200.0, 0.0, 300.0, 100.0]]), torch.ones(1))] * 2}
    assert per_iteration([Quiet()], hidden, reading)[1] == 0
    assert per_iteration([Quiet()], hidden, reading, threshold=1.0)[1] == 1
    operations, waits = per_iteration([Quiet()], hidden, reading, Tolerance(iou=0.95, nme=0.01))
    assert waits == 1
    assert operations <= 150


# Operations and waits of an iteration: two frames of 256 x 256, one face each. Lower them; nothing raises them unseen.
BUDGETS: dict[str, tuple[Callable[[], list[TargetModel[Any]]], int, int]] = {
    "retinaface": (lambda: [RetinaFace()], 400, 0),
    "retinaface in windows": (lambda: [CroppedDetector(RetinaFace())], 400, 0),
    "mtcnn": (lambda: [MTCNN()], 800, 3),
    "retinaface and mpiigaze": (lambda: [RetinaFace(), GazeResNet.mpiigaze()], 700, 0),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_what_an_iteration_launches_and_waits_for(name: str, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What an accelerator is asked for; a CPU, which launches at no cost, is asked for more and smaller things.
    monkeypatch.setattr(max_pool, "_place_by_place", max_pool._at_once)
    make, operations, waits = BUDGETS[name]
    models = make()
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1).float() / 255
    frames = torch.stack([picture[:, :256, 96:352], picture[:, 8:264, 100:356]])
    readings = read_originals(frames, models)
    hidden = Solid()(frames, next(iter(readings.values())))
    launched, waited = per_iteration(models, hidden, readings)
    assert launched <= operations
    assert waited <= waits
    # Told when to end, it waits once to know, and asks nobody else while no frame is near.
    if len(models) == 1:
        # What is read at the very end hangs on how many faces are found there.
        monkeypatch.setattr(Examiner, "finish", lambda *_: None)
        told, asked = per_iteration(models, hidden, readings, Tolerance(iou=0.999, nme=0.0001))
        assert told <= operations + 150
        assert asked == waits + 1
