"""The promise of the library: what is written is a function of the readings and of what lies around the face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from face_alignment.models.fan import FAN as FANNet
from recipe import filled
from skimage.data import astronaut
from torch import Tensor

from deidlib import FAN, MTCNN, Deidentifier, Faces, GazeResNet, IFGSMAttacker, Keyed, Pixelate, RetinaFace, Solid
from deidlib.geometry.face_model import face_model
from deidlib.geometry.warp import crop_resize
from deidlib.keys.key import Key
from deidlib.models.base import TargetModel
from deidlib.models.cropped import CroppedDetector
from deidlib.models.observe import read_originals
from deidlib.obfuscate import Obfuscator
from deidlib.tracking import FaceTracker

SIZE = 160
MODELS: dict[str, Callable[[], TargetModel[Any]]] = {
    "retinaface": RetinaFace,
    "mtcnn": MTCNN,
    "fan": lambda: FAN(filled(FANNet(1)), modules=1),
    "mpiigaze": GazeResNet.mpiigaze,
}
SETS: dict[str, Callable[[], dict[str, TargetModel[Any]]]] = {
    **{name: lambda name=name: {name: MODELS[name]()} for name in MODELS},  # type: ignore[misc]
    "the paper's sum": lambda: {name: make() for name, make in MODELS.items()},
    "cropped": lambda: {"cropped": CroppedDetector(RetinaFace(), context=16)},
    "keyed": lambda: {"keyed": Keyed(MTCNN(), Key(bytes(32)))},
}


@pytest.fixture(scope="module", params=SETS)
def models(request: pytest.FixtureRequest, shared: object) -> dict[str, TargetModel[Any]]:
    return SETS[request.param]()


@pytest.fixture(scope="module")
def reading() -> list[Faces]:
    """The astronaut's face, with the mean face's landmarks and a gaze far from straight ahead, which is what
    a grey patch is read as; an annotator might have said so."""
    box, mean = torch.tensor([[58.0, 28.0, 106.0, 96.0]]), face_model(68)[:, :2].float()
    low, high = mean.amin(dim=0), mean.amax(dim=0)
    landmarks = box[:, None, :2] + (box[:, 2:] - box[:, :2])[:, None] * (mean - low) / (high - low)
    return [Faces(box, torch.ones(1), landmarks, torch.tensor([[0.48, 0.36, -0.8]]))]


@pytest.fixture(scope="module")
def frames() -> Tensor:
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255
    return crop_resize(picture, torch.tensor([[90.0, 0, 410, 320]]), (SIZE, SIZE)).mul(255).round() / 255


@pytest.fixture(scope="module")
def others(frames: Tensor, reading: Sequence[Faces]) -> dict[str, Tensor]:
    """The same frame with another face, and with noise, in the place of the face."""
    inside = Solid().mask(reading, SIZE, SIZE) > 0
    return {
        name: torch.where(inside, other, frames)
        for name, other in {
            "mirrored, upside down": frames.flip(-1).flip(-2),
            "noise": torch.rand(frames.shape).mul(255).round() / 255,
        }.items()
    }


def protected(
    models: dict[str, TargetModel[Any]], frames: Tensor, reading: Sequence[Faces], hide: Obfuscator
) -> Tensor:
    """Through the whole pipeline, told the reading."""
    attacker = IFGSMAttacker(models, max_iterations=2)
    # A detector has to be named for frames whose reading is not known; here none is asked.
    told = Deidentifier(attacker, hide, detectors=[MTCNN()], tracker=FaceTracker(smoothing=0))
    (batch,) = told.frames([frames], faces=reading)
    assert batch.treatment == ["found"]
    assert not torch.equal(batch.images, batch.hidden), "the attack did something"
    return batch.images


def test_other_faces_under_the_same_readings_give_the_same_bits(
    models: dict[str, TargetModel[Any]], frames: Tensor, others: dict[str, Tensor], reading: Sequence[Faces]
) -> None:
    first = protected(models, frames, reading, Solid())
    for name, other in others.items():
        assert not torch.equal(other, frames)
        assert torch.equal(protected(models, other, reading, Solid()), first), name


def test_a_mosaic_tells_them_apart(frames: Tensor, others: dict[str, Tensor], reading: Sequence[Faces]) -> None:
    # So it is the way of hiding that takes from the face, and the test above would notice.
    results = [protected({"mtcnn": MTCNN()}, images, reading, Pixelate()) for images in (frames, *others.values())]
    assert not any(torch.equal(a, b) for a, b in pairwise(results))


def test_a_target_takes_from_the_reading_alone(models: dict[str, TargetModel[Any]], reading: Sequence[Faces]) -> None:
    # No image is in reach: whatever a model knows of the original, it knows from here.
    hidden = torch.full((1, 3, SIZE, SIZE), 0.5)
    for model in models.values():
        assert model.loss(hidden, model.target(reading, (SIZE, SIZE))).item() > 0


def test_without_being_told_each_model_reads_for_itself(shared: object, frames: Tensor) -> None:
    detectors: dict[str, TargetModel[Any]] = {"retinaface": RetinaFace(), "mtcnn": MTCNN()}
    readings = read_originals(frames, detectors)
    for name, model in detectors.items():
        for known, own in zip(readings[name], model.predict(frames), strict=True):
            assert torch.equal(known.boxes, own.boxes)
    assert not torch.equal(readings["retinaface"][0].boxes, readings["mtcnn"][0].boxes)
