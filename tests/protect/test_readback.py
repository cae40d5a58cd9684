from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import Looks, PixelTarget, Points, Sees

from deidlib.faces import Faces
from deidlib.models.base import TargetModel
from deidlib.models.observe import observe_each
from deidlib.protect.readback import ReadbackComparison

Models = dict[str, TargetModel[Any]]

BOX = [10.0, 10.0, 30.0, 30.0]
# A column further right: 19 of 21 columns are shared.
NEAR, FAR = [11.0, 10.0, 31.0, 30.0], [50.0, 50.0, 70.0, 70.0]


class Told(Sees):
    """Reads by the number of the frame what the test says; nothing of it is attacked."""

    def __init__(self, told: Sequence[Sequence[Sequence[float]]]) -> None:
        super().__init__(lambda image, number: told[number])

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        return [found.replace(gaze=None) for found in super().predict(images)]

    def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
        raise AssertionError


def test_numbers_by_hand() -> None:
    images, numbers = torch.zeros(4, 3, 80, 80), range(4)
    originals: Models = {"d": Told([[BOX]] * 3 + [[]]), "p": Points(0), "g": Looks(0)}
    told = {name: model.at(numbers) for name, model in originals.items()}
    read = observe_each(images, told)
    truth = [{name: read[name][i] for name in told} for i in range(4)]

    # Right, a column off, and somewhere else; frame 3 has no face, and a false one in it is nobody's miss.
    protected: Models = {
        "d": Told([[BOX], [FAR, NEAR], [FAR], [FAR]]),
        "p": Points(2),
        "g": Looks(30),
    }
    tally = ReadbackComparison(protected, wanted=0.95)
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
    protected: Models = {
        "a": Told([[BOX], [BOX], [FAR]]),
        "b": Told([[NEAR], [FAR], [FAR]]),
        "p": Points(15),
    }
    box = Faces(torch.tensor([BOX]), torch.ones(1))
    points = box.replace(landmarks=torch.tensor(BOX[:2]).repeat(1, 5, 1))
    truth = [{"a": box, "b": box, "p": points}, {"a": box, "p": points}, {"p": points}]
    tally = ReadbackComparison(protected, wanted=0.9)
    tally.update(images, [0, 1, 2], truth)
    assert tally.bad == []
    strict = ReadbackComparison(protected, wanted=0.95)
    strict.update(images[1:], [1, 2], truth[1:])
    strict.update(images[:1], [0], truth[:1])
    assert strict.bad == [0]
    result = strict.compute(0)
    assert (result.models["a"].faces, result.models["b"].faces, result.models["p"].faces) == (2, 1, 3)
    assert result.models["b"].min_iou == pytest.approx(19 / 21)


def test_without_a_detector_the_places_are_those_of_the_originals() -> None:
    images = torch.zeros(2, 3, 80, 80)
    faces = [Faces(torch.tensor([BOX]), torch.ones(1)), Faces.empty()]
    read = observe_each(images, {"p": Points(0)}, faces)["p"]
    tally = ReadbackComparison({"p": Points(5)}, wanted=0.9)
    tally.update(images, [0, 1], [{"p": known} for known in read])
    (model,) = tally.compute(0).models.values()
    assert (model.faces, model.found) == (1, 1)
    assert model.mean_nme == pytest.approx(5 / 20)
    assert tally.bad == []


def test_gaze_alone_is_read_at_the_points_of_the_originals() -> None:
    class AtPoints(Looks):
        def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
            assert faces is not None
            assert all(known.landmarks is not None for known in faces)
            return super().predict(images, faces)

    face = Faces(torch.tensor([BOX]), torch.ones(1), torch.zeros(1, 5, 2))
    (known,) = Looks(0).predict(torch.zeros(1, 3, 80, 80), [face])
    tally = ReadbackComparison({"g": AtPoints(30)}, wanted=0.95)
    tally.update(torch.zeros(1, 3, 80, 80), [0], [{"g": known}])
    assert tally.compute(0).models["g"].mean_gaze == pytest.approx(30, abs=0.01)


def test_nothing_read_is_nothing_wrong() -> None:
    tally = ReadbackComparison({"d": Told([[]])}, wanted=0.9)
    tally.update(torch.zeros(1, 3, 8, 8), [0], [{}])
    (model,) = tally.compute(0).models.values()
    assert (model.faces, model.mean_iou, model.min_iou) == (0, None, None)
    assert tally.bad == []


def test_read_in_turn_keeps_each_models_own_reading() -> None:
    images = torch.zeros(1, 3, 80, 80)
    first, second = Told([[BOX]]).at([0]), Told([[NEAR, FAR]]).at([0])
    models: Models = {"g": Looks(0), "a": first, "p": Points(0), "b": second}
    read = observe_each(images, models)
    assert {name: len(known[0]) for name, known in read.items()} == {"a": 1, "b": 2, "p": 2, "g": 2}
    assert read["b"][0].boxes.tolist() == [NEAR, FAR]
    # The first one's box, and what the second has beside it.
    assert read["p"][0].boxes.tolist() == [BOX, FAR]
    assert read["p"][0].gaze is None
    assert read["g"][0].gaze is not None
    again = observe_each(images, {"a": Told([]), "b": second}, read={"a": read["a"]})
    assert again["a"] == read["a"]
    with pytest.raises(ValueError, match="needs a detector among the models, or faces"):
        observe_each(images, {"p": Points(0)})
