from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from deidlib import Faces, GazeResNet, IFGSMAttacker, MomentumSignStep, Pixelate, RetinaFace, Target, TargetModel
from deidlib.images import to_grid
from deidlib.media import VideoReader
from deidlib.metrics import difference
from deidlib.models.base import frame_mean, frame_of, rows_of
from deidlib.models.cropped import CroppedDetector

Box = tuple[float, float, float, float]


def faces(*boxes: Box) -> Faces:
    return Faces(torch.tensor(boxes).reshape(-1, 4).float(), torch.ones(len(boxes)))


@dataclass(frozen=True, eq=False)
class Patch(Target):
    box: Tensor
    mean: Tensor


class Local(TargetModel[Patch]):
    """Reads bright squares of side 8 on a grid of 8; the loss of one is how far its mean colour is from white."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        cells = torch.nn.functional.avg_pool2d(images.mean(dim=1, keepdim=True), 8)[:, 0]
        found = []
        for frame in cells:
            rows = [(8.0 * x, 8.0 * y, 8.0 * x + 8, 8.0 * y + 8) for y, x in (frame > 0.9).nonzero().tolist()]
            found.append(Faces(torch.tensor(rows).reshape(-1, 4), torch.ones(len(rows))))
        return found

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> Patch:
        boxes = rows_of(reading)
        assert not len(boxes) or bool((boxes >= 0).all() and (boxes <= torch.tensor([*size, *size]).flip(0)).all())
        return Patch(frame_of(reading), boxes, torch.ones(len(boxes), 3))

    def loss(self, images: Tensor, target: Patch) -> Tensor:
        self.seen.append(tuple(images.shape))
        means = self._means(images, target.frame, target.box)
        return frame_mean((means - target.mean).square().sum(dim=1), target.frame, len(images))

    def _means(self, images: Tensor, frame: Tensor, boxes: Tensor) -> Tensor:
        rows = [
            images[i, :, y1:y2, x1:x2].mean(dim=(1, 2))
            for i, (x1, y1, x2, y2) in zip(frame.tolist(), boxes.long().tolist(), strict=True)
        ]
        return torch.stack(rows) if rows else images.new_zeros(0, 3)


def squares(*where: Sequence[Box], height: int = 128, width: int = 320) -> Tensor:
    frames = torch.rand(len(where), 3, height, width) / 2
    for frame, boxes in zip(frames, where, strict=True):
        for x1, y1, x2, y2 in boxes:
            frame[:, int(y1) : int(y2), int(x1) : int(x2)] = 1
    return frames


LEFT, BELOW, RIGHT = (16.0, 16.0, 24.0, 24.0), (32.0, 32.0, 40.0, 40.0), (280.0, 80.0, 288.0, 88.0)


def test_where_windows_lie() -> None:
    known = [faces(LEFT, RIGHT), faces(), faces(LEFT, BELOW)]
    target = CroppedDetector(Local(), context=8).target(known, (128, 320))
    windows = {place: part.extent for part in target.windows for place in part.places}
    # 8 pixels around, from a multiple of 32 to another, within the frame; two that would overlap are one.
    assert windows == {(0, 0, 0): (32, 32), (0, 256, 64): (32, 64), (2, 0, 0): (64, 64)}
    large = CroppedDetector(Local(), context=8).target([faces((0, 0, 64, 64))], (128, 320))
    # Half of its longer side around a large face.
    assert [part.extent for part in large.windows] == [(96, 96)]


def test_the_loss_of_what_is_local_is_the_same() -> None:
    model = Local()
    images = squares([LEFT, RIGHT], [], [LEFT, BELOW], [RIGHT])
    known = [faces(LEFT, RIGHT, (160, 16, 168, 24)), faces(), faces(LEFT, BELOW), faces(RIGHT)]
    changed = images + 0.3 * torch.rand_like(images)
    windowed = CroppedDetector(model, context=8)
    whole, cut = model.target(known, (128, 320)), windowed.target(known, (128, 320))
    for frames in (torch.arange(4), torch.tensor([3, 0]), torch.tensor([1])):
        shown = changed[frames].requires_grad_()
        a = model.loss(shown, whole.select(frames))
        b = windowed.loss(shown, cut.select(frames))
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
        if len(frames) > 1:
            (expected,), (got,) = (torch.autograd.grad(loss.sum(), shown) for loss in (a, b))
            assert float(expected.abs().amax()) > 0
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)
    model.seen.clear()
    windowed.loss(changed, cut)
    assert max(height * width for _, _, height, width in model.seen) < 128 * 320 / 8


def test_a_window_that_covers_most_of_the_frame_is_the_frame() -> None:
    target = CroppedDetector(Local(), context=100).target([faces(LEFT)], (32, 48))
    assert [(part.extent, part.places) for part in target.windows] == [((32, 48), ((0, 0, 0),))]


def test_it_reads_as_the_detector_does_and_refuses_others() -> None:
    model = Local()
    images = squares([LEFT, RIGHT])
    windowed = CroppedDetector(model)
    assert torch.equal(windowed.predict(images)[0].boxes, model.predict(images)[0].boxes)
    assert (windowed.name, windowed.task, windowed.for_originals) == ("local", "boxes", model)
    assert windowed.at([3]) is windowed

    class Told(Local):
        number = -1

        def at(self, numbers: Sequence[int]) -> Told:
            told = Told()
            told.number = numbers[0]
            return told

    told = CroppedDetector(Told(), context=5).at([7])
    assert isinstance(told.model, Told)
    assert (told.model.number, told.context) == (7, 5)
    with pytest.raises(ValueError, match="CroppedDetector is for detectors, got mpiigaze, which reads gaze"):
        CroppedDetector(GazeResNet(torch.nn.Linear(1, 1), "mpiigaze"))
    with pytest.raises(ValueError, match="context must be >= 0 pixels, got -1"):
        CroppedDetector(model, context=-1)


# The detector that it is made for


@pytest.fixture(scope="module")
def scene(shared: Path) -> tuple[RetinaFace, Tensor, list[Faces]]:
    """A frame of 1280 x 720 with one face of 137 x 195."""
    with VideoReader(shared / "media/talk_video00.mp4") as reader:
        frame = next(frame for k, frame in enumerate(reader) if k == 100)
    model = RetinaFace()
    images = frame.image[None]
    return model, images, model.predict(images)


def test_retinaface_sees_the_same_in_a_window(scene: tuple[RetinaFace, Tensor, list[Faces]]) -> None:
    model, images, known = scene
    hide = Pixelate(blocks=4)
    hidden = to_grid(hide(images, known))
    mask = hide.mask(known, *images.shape[-2:])

    def gradient(reader: TargetModel[Any]) -> Tensor:
        x = (hidden + 4 / 255 * mask).clamp(0, 1).requires_grad_()
        (slope,) = torch.autograd.grad(reader.loss(x, reader.target(known, (720, 1280))).sum(), x)
        return slope[mask.expand_as(slope) > 0]

    whole, cut = gradient(model), gradient(CroppedDetector(model))
    assert float(torch.nn.functional.cosine_similarity(whole, cut, dim=0)) >= 0.998
    assert float((whole.sign() == cut.sign())[whole != 0].float().mean()) >= 0.975
    extents = [part.extent for part in CroppedDetector(model).target(known, (720, 1280)).windows]
    assert sum(height * width for height, width in extents) < 0.25 * 1280 * 720


def test_what_is_attacked_in_windows_reads_well_in_the_frame(scene: tuple[RetinaFace, Tensor, list[Faces]]) -> None:
    model, images, known = scene
    hide = Pixelate(blocks=4)
    attacker = IFGSMAttacker([CroppedDetector(model)], max_iterations=40, step=MomentumSignStep())
    hidden, mask = hide(images, known), hide.mask(known, *images.shape[-2:])
    result = attacker(hidden, known, mask=mask)
    truth = Faces(known[0].boxes, known[0].scores)
    assert float(difference(truth, model.predict(to_grid(hidden))[0], min_iou=0.5).iou) == 0
    assert float(difference(truth, model.predict(result.images)[0], min_iou=0.5).iou) >= 0.95
