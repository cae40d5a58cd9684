from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.models.base import Target, TargetModel, needs_boxes
from deidlib.models.observe import observe_each
from deidlib.protect.readback import ReadbackTally

BOX = [10.0, 10.0, 30.0, 30.0]
# A column further right: 19 of 21 columns are shared.
NEAR, FAR = [11.0, 10.0, 31.0, 30.0], [50.0, 50.0, 70.0, 70.0]


class Told(TargetModel[Target]):
    """Reads by the number of the frame what the test says."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def __init__(self, told: Sequence[Sequence[Sequence[float]]], numbers: Sequence[int] = ()) -> None:
        super().__init__()
        self.told, self.numbers = told, numbers

    def at(self, numbers: Sequence[int]) -> Told:
        return type(self)(self.told, numbers)

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        assert len(self.numbers) == len(images)
        boxes = [torch.tensor(self.told[k]).reshape(-1, 4) for k in self.numbers]
        return [Faces(found, torch.ones(len(found))) for found in boxes]

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> Target:
        raise AssertionError

    def loss(self, images: Tensor, target: Target) -> Tensor:
        raise AssertionError


class Points(Told):
    """Five points, so many pixels to the right of the box's corner."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "landmarks"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        known = needs_boxes(self, images, faces)
        shift = torch.tensor([float(self.told[0][0][0]), 0.0])
        return [f.replace(landmarks=f.boxes[:, None, :2].repeat(1, 5, 1) + shift) for f in known]


class Looks(Told):
    """A gaze turned to the right by so many degrees."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "gaze"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        known = needs_boxes(self, images, faces)
        assert all(f.landmarks is not None for f in known)
        angle = math.radians(self.told[0][0][0])
        return [
            f.replace(gaze=torch.tensor([[math.sin(angle), 0.0, math.cos(angle)]]).repeat(len(f), 1)) for f in known
        ]


def degrees(value: float) -> list[list[list[float]]]:
    return [[[value]]]


def test_numbers_by_hand() -> None:
    images, numbers = torch.zeros(4, 3, 80, 80), range(4)
    originals = {"d": Told([[BOX]] * 3 + [[]]), "p": Points(degrees(0)), "g": Looks(degrees(0))}
    told = {name: model.at(numbers) for name, model in originals.items()}
    read = observe_each(images, told)
    truth = [{name: read[name][i] for name in told} for i in range(4)]

    # Right, a column off, and somewhere else; frame 3 has no face, and a false one in it is nobody's miss.
    protected = {"d": Told([[BOX], [FAR, NEAR], [FAR], [FAR]]), "p": Points(degrees(2)), "g": Looks(degrees(30))}
    tally = ReadbackTally(protected, wanted=0.95)
    tally.update(images[:3], [0, 1, 2], truth[:3])
    tally.update(images[3:], [3], truth[3:])
    result = tally.compute(repaired=5)
    assert (result.below, result.frames_below, result.repaired, result.wanted) == ((1, 2), 2, 5, 0.95)
    boxes, points, gaze = (result.models[name] for name in "dpg")
    near = 19 / 21
    assert boxes.faces == 3
    assert boxes.found == pytest.approx(2 / 3)
    assert boxes.mean_iou == pytest.approx((1 + near) / 3)
    assert boxes.min_iou == 0
    assert boxes.mean_nme is None
    assert boxes.mean_gaze is None
    # Two pixels, then two and a column, of a face of 20; a miss is a whole face off.
    assert points.mean_nme == pytest.approx((2 / 20 + 3 / 20 + 1) / 3)
    assert points.found == pytest.approx(2 / 3)
    assert points.mean_iou is None
    assert gaze.mean_gaze == pytest.approx((30 + 30 + 180) / 3, abs=1e-4)
    assert gaze.mean_nme is None


def test_a_frame_is_as_good_as_the_worst_reading_of_a_detector() -> None:
    """Whatever readers of landmarks say, and whoever sees no face on the original."""
    images = torch.zeros(3, 3, 80, 80)
    protected = {"a": Told([[BOX], [BOX], [FAR]]), "b": Told([[NEAR], [FAR], [FAR]]), "p": Points(degrees(15))}
    box = Faces(torch.tensor([BOX]), torch.ones(1))
    points = box.replace(landmarks=torch.tensor(BOX[:2]).repeat(1, 5, 1))
    truth = [{"a": box, "b": box, "p": points}, {"a": box, "p": points}, {"p": points}]
    tally = ReadbackTally(protected, wanted=0.9)
    tally.update(images, [0, 1, 2], truth)
    assert tally.bad == []
    strict = ReadbackTally(protected, wanted=0.95)
    strict.update(images[1:], [1, 2], truth[1:])
    strict.update(images[:1], [0], truth[:1])
    assert strict.bad == [0]
    result = strict.compute(0)
    assert (result.models["a"].faces, result.models["b"].faces, result.models["p"].faces) == (2, 1, 3)
    assert result.models["b"].min_iou == pytest.approx(19 / 21)


def test_without_a_detector_the_places_are_those_of_the_originals() -> None:
    images = torch.zeros(2, 3, 80, 80)
    faces = [Faces(torch.tensor([BOX]), torch.ones(1)), Faces.empty()]
    read = observe_each(images, {"p": Points(degrees(0))}, faces)["p"]
    tally = ReadbackTally({"p": Points(degrees(5))}, wanted=0.9)
    tally.update(images, [0, 1], [{"p": known} for known in read])
    (model,) = tally.compute(0).models.values()
    assert (model.faces, model.found) == (1, 1)
    assert model.mean_nme == pytest.approx(5 / 20)
    assert tally.bad == []


def test_nothing_read_is_nothing_wrong() -> None:
    tally = ReadbackTally({"d": Told([[]])}, wanted=0.9)
    tally.update(torch.zeros(1, 3, 8, 8), [0], [{}])
    (model,) = tally.compute(0).models.values()
    assert (model.faces, model.mean_iou, model.min_iou) == (0, None, None)
    assert tally.bad == []


def test_read_in_turn_keeps_each_models_own_reading() -> None:
    images = torch.zeros(1, 3, 80, 80)
    first, second = Told([[BOX]], [0]), Told([[NEAR, FAR]], [0])
    read = observe_each(images, {"g": Looks(degrees(0)), "a": first, "p": Points(degrees(0)), "b": second})
    assert {name: len(known[0]) for name, known in read.items()} == {"a": 1, "b": 2, "p": 2, "g": 2}
    assert read["b"][0].boxes.tolist() == [NEAR, FAR]
    # The first one's box, and what the second has beside it.
    assert read["p"][0].boxes.tolist() == [BOX, FAR]
    assert read["p"][0].gaze is None
    assert read["g"][0].gaze is not None
    again = observe_each(images, {"a": Told([], []), "b": second}, read={"a": read["a"]})
    assert again["a"] == read["a"]
    with pytest.raises(ValueError, match="needs a detector among the models, or faces"):
        observe_each(images, {"p": Points(degrees(0))})
