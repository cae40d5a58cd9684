"""In whatever mode the caller's code is, and of whatever precision what it brings: the same result, or one line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from torch import Tensor

from deidlib import MTCNN, Deidentifier, Faces, IFGSMAttacker
from deidlib.attack.arithmetic import plain_arithmetic
from deidlib.attack.presets import recommended
from deidlib.protect.batches import ProtectedBatch

FRAME = torch.from_numpy(astronaut()[:160, 150:330].copy()).permute(2, 0, 1)[None] / 255
BOX = torch.tensor([[40.0, 30.0, 110.0, 130.0]])


@contextlib.contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64 as default": lambda: default(torch.float64),
    "float16 as default": lambda: default(torch.float16),
}


@pytest.fixture(scope="module")
def deidentifier() -> Deidentifier:
    return Deidentifier(recommended([MTCNN()], max_iterations=3))


@pytest.fixture(scope="module")
def plain(deidentifier: Deidentifier) -> ProtectedBatch:
    (batch,) = deidentifier.frames([FRAME])
    # It is attacked: the test would be none otherwise.
    assert (batch.images != batch.hidden).any()
    return batch


def same(batch: ProtectedBatch, plain: ProtectedBatch) -> None:
    assert batch.treatment == ["found"]
    assert torch.equal(batch.images, plain.images)
    assert torch.equal(batch.faces[0].boxes, plain.faces[0].boxes)
    assert batch.losses() == plain.losses()


@pytest.mark.parametrize("mode", MODES)
def test_frames_come_out_the_same_in_every_mode(deidentifier: Deidentifier, plain: ProtectedBatch, mode: str) -> None:
    with MODES[mode]():
        (batch,) = deidentifier.frames([FRAME.clone()])
        same(batch, plain)


@pytest.mark.parametrize("mode", MODES)
def test_the_attack_alone_is_the_same_in_every_mode(mode: str) -> None:
    model = MTCNN()
    attacker, hidden = IFGSMAttacker([model], max_iterations=2), torch.full_like(FRAME, 128 / 255)
    mask = torch.ones(1, 1, *FRAME.shape[2:])
    expected = attacker(hidden, model.predict(FRAME), mask=mask, init=hidden)
    assert (expected.images != hidden).any()
    with MODES[mode]():
        readings = [Faces(faces.boxes.clone(), faces.scores.clone(), faces.landmarks) for faces in model.predict(FRAME)]
        if mode == "autocast":
            with plain_arithmetic(torch.device("cpu")):
                readings = model.predict(FRAME)
        result = attacker(hidden.clone(), readings, mask=mask.clone(), init=hidden.clone())
    assert torch.equal(result.images, expected.images)
    assert result.images.dtype == torch.float32


def test_as_a_decorator(deidentifier: Deidentifier, plain: ProtectedBatch) -> None:
    @torch.inference_mode()
    def protect(frame: Tensor) -> list[ProtectedBatch]:
        return list(deidentifier.frames([frame.clone()]))

    same(protect(FRAME)[0], plain)


def test_frames_in_float64_are_taken(deidentifier: Deidentifier, plain: ProtectedBatch) -> None:
    (batch,) = deidentifier.frames([FRAME.double()])
    same(batch, plain)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_faces_in_another_precision_are_taken(deidentifier: Deidentifier, dtype: torch.dtype) -> None:
    wanted, given = (Faces(BOX.to(kind), torch.ones(1, dtype=kind)) for kind in (torch.float32, dtype))
    one, other = (next(iter(deidentifier.frames([FRAME], faces=[faces]))) for faces in (wanted, given))
    assert torch.equal(one.images, other.images)
    assert other.faces[0].boxes.dtype == torch.float32


def test_what_cannot_be_taken_is_named_in_one_line(deidentifier: Deidentifier) -> None:
    def refused(error: type[Exception], match: str, frame: Any = FRAME, faces: Any = None, model: Any = None) -> None:
        used = deidentifier if model is None else Deidentifier(IFGSMAttacker([model], max_iterations=1))
        with pytest.raises(error, match=match) as info:
            list(used.frames([frame], faces=faces))
        assert "\n" not in str(info.value)

    for dtype in (torch.float16, torch.bfloat16):
        refused(TypeError, rf"must be float32 .*got {dtype}.*images\.float\(\)", frame=FRAME.to(dtype))
    refused(TypeError, "must be a float tensor .*got ndarray", frame=FRAME.numpy())
    refused(TypeError, r"got ndarray for frame 0. Write Faces\(boxes, scores\)", faces=[BOX.numpy()])
    refused(
        ValueError, r"'mtcnn' computes in float16, and the images are float32.*model\.float\(\)", model=MTCNN().half()
    )
    refused(ValueError, r"'mtcnn' computes in float64, and the images are float32", model=MTCNN().double())
    for boxes, what in ((BOX.numpy(), "ndarray"), (BOX.tolist(), "list"), (BOX.long(), "torch.int64")):
        with pytest.raises(TypeError, match=rf"Faces\.boxes must be a floating tensor, got {what}"):
            Faces(boxes, torch.ones(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'mtcnn' computes in float32, and the images are float64"):
        IFGSMAttacker([MTCNN()])(FRAME.double(), [Faces(BOX, torch.ones(1))])


def test_a_model_in_float64_attacks_frames_in_float64() -> None:
    model = MTCNN().double()
    readings = model.predict(FRAME.double())
    result = IFGSMAttacker([model], max_iterations=1)(FRAME.double(), readings)
    assert result.images.dtype == torch.float64


def test_a_model_made_in_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = MTCNN()
    with pytest.raises(ValueError, match=r"made within torch\.inference_mode\(\).*Make it outside"):
        list(Deidentifier(IFGSMAttacker([model], max_iterations=1)).frames([FRAME]))


def test_numpy_faces_become_faces(deidentifier: Deidentifier) -> None:
    """What the error advises works."""
    faces = Faces(torch.from_numpy(BOX.numpy().astype(np.float64)), torch.ones(1))
    (batch,) = deidentifier.frames([FRAME], faces=[faces])
    assert batch.treatment == ["found"]
