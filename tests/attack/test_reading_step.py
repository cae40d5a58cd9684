"""Steps of the length that a reading needs: they solve what they say, keep to the ball and the grid, and learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from deidlib.attack import loop
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.reading_step import ReadingStep, Slopes, offset_length, window_of
from deidlib.attack.steps import SignStep
from deidlib.attack.tolerance import Tolerance, offsets_of
from deidlib.faces import FaceBatch, Faces
from deidlib.geometry.boxes import Rectangle
from deidlib.models.base import Target, TargetModel, rows_of

SIDE = 24


@dataclass(frozen=True, eq=False)
class Box(Target):
    """The box to be read."""

    box: Tensor


class LinearDetector(TargetModel[Box]):
    """Reads a box whose edges are linear in the pixels, so that what a step should do is known."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.register_buffer("slopes", torch.randn(4, 3, SIDE, SIDE, generator=generator) / 3)

    def _boxes(self, images: Tensor) -> Tensor:
        moved = torch.einsum("bchw,ichw->bi", images - 0.5, self.slopes)
        return moved + moved.new_tensor([20.0, 20.0, 120.0, 120.0])

    def predict(self, images: Tensor, faces: object = None) -> list[Faces]:
        return [Faces(box[None], torch.ones(1)) for box in self._boxes(images)]

    def target(self, reading: list[Faces], size: tuple[int, int]) -> Box:  # type: ignore[override]
        return Box(torch.arange(len(reading)), rows_of(reading))

    def loss(self, images: Tensor, target: Box) -> Tensor:
        return (self._boxes(images) - target.box).square().mean(dim=1)

    def loss_and_reading(self, images: Tensor, target: Box) -> tuple[Tensor, FaceBatch]:
        boxes = self._boxes(images)
        return (boxes - target.box).square().mean(dim=1), FaceBatch(boxes[:, None], boxes.new_ones(len(boxes), 1))


def grey(frames: int = 1) -> Tensor:
    return torch.full((frames, 3, SIDE, SIDE), 128 / 255)


def wanted(*moves: tuple[float, float, float, float]) -> list[Faces]:
    """What is to be read: the box of a grey frame, moved."""
    boxes = LinearDetector()._boxes(grey())[0] + torch.tensor(moves)
    return [Faces(box[None], torch.ones(1)) for box in boxes]


def ball(picture: Tensor, levels: int = 8) -> tuple[Tensor, Tensor]:
    return picture - levels / 255, picture + levels / 255


WHOLE = Rectangle(0, 0, SIDE, SIDE)
# All that a step is to take away is taken, so that a linear reading is right after one with all its rows known.
FULL = ReadingStep(share=1.0, inner=12)


def jacobian(model: LinearDetector) -> Slopes:
    return Slopes(WHOLE, {"m": torch.eye(4)}, {"m": model.slopes / 255})  # type: ignore[dict-item, operator]


def test_with_all_rows_known_one_step_brings_a_linear_reading_to_where_it_is_to_be() -> None:
    model, picture = LinearDetector(), grey()[0]
    offset = torch.tensor([0.9, -0.6, 0.3, -0.2])
    direction = offset / offset.norm()
    gradient = torch.einsum("i,ichw->chw", direction, model.slopes)
    moved, known = FULL(picture, ball(picture), {"m": offset}, {"m": gradient}, WHOLE, jacobian(model))
    change = model._boxes(moved[None])[0] - model._boxes(picture[None])[0]
    # A pixel's level moves an edge by about a thousandth: nothing nearer can be asked for than a few of those.
    torch.testing.assert_close(change, -offset, atol=0.02, rtol=0)
    assert known.directions["m"].shape[1] == 4


def test_a_step_stays_in_the_ball_on_the_grid_and_in_the_window_and_changes_few_pixels() -> None:
    model, picture = LinearDetector(), grey()[0]
    low, high = (edge.clone() for edge in ball(picture, 1))
    low[:, :6], high[:, :6] = picture[:, :6], picture[:, :6]
    window = window_of(low, high)
    assert window == Rectangle(0, 6, SIDE, SIDE)
    offset = torch.tensor([0.5, 0.0, 0.0, 0.0])
    moved, _ = ReadingStep()(picture, (low, high), {"m": offset}, {"m": model.slopes[0]}, window, None)  # type: ignore[index]
    levels = (moved - picture) * 255
    assert torch.equal(levels.round().abs().amax(), torch.tensor(1.0))
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert not levels[:, :6].any()
    # Three quarters of half a pixel need less than a fifth of the pixels there are.
    assert 0 < (levels.round() != 0).float().mean() < 0.2
    before, after = (model._boxes(image[None])[0, 0] for image in (picture, moved))
    assert float(after - before) == pytest.approx(-0.375, abs=0.01)


def test_slopes_learned_are_those_that_there_are() -> None:
    """With as many independent offsets as numbers, the rows say of every combination what the model's slopes say."""
    model, picture = LinearDetector(), grey()[0]
    known: Slopes | None = None
    for offset in torch.randn(8, 4, generator=torch.Generator().manual_seed(1)):
        gradient = torch.einsum("i,ichw->chw", offset / offset.norm(), model.slopes)
        _, known = ReadingStep()(picture, ball(picture), {"m": offset}, {"m": gradient}, WHOLE, known)
    assert known is not None
    said = torch.einsum("mi,ichw->mchw", known.directions["m"], model.slopes) / 255
    torch.testing.assert_close(known.gradients["m"], said, atol=1e-6, rtol=1e-3)
    assert torch.linalg.matrix_rank(known.directions["m"], tol=0.05) == 4


def test_slopes_go_to_another_window_in_their_places() -> None:
    known = Slopes(Rectangle(2, 3, 6, 7), {"m": torch.ones(1, 1)}, {"m": torch.arange(48.0).view(1, 3, 4, 4)})
    moved = known.moved(Rectangle(4, 0, 10, 5)).gradients["m"]
    assert moved.shape == (1, 3, 5, 6)
    assert torch.equal(moved[..., 3:, :2], known.gradients["m"][..., :2, 2:])
    assert not moved[..., :3, :].any()
    assert not moved[..., 2:].any()
    assert not known.moved(Rectangle(20, 20, 24, 24)).gradients["m"].any()


def test_slopes_of_other_faces_are_forgotten() -> None:
    picture, slope = grey()[0], torch.ones(3, SIDE, SIDE)
    known = Slopes(WHOLE, {"m": torch.eye(4)}, {"m": torch.ones(4, 3, SIDE, SIDE)})
    _, after = ReadingStep()(picture, ball(picture), {"m": torch.ones(8)}, {"m": slope}, WHOLE, known)
    assert after.directions["m"].shape == (1, 8)


def test_an_attack_comes_nearer_than_sign_steps_ever_do_and_says_so_by_predict() -> None:
    models = [LinearDetector()]
    attack = IFGSMAttacker(models, step=SignStep(), max_iterations=40, until=Tolerance(iou=0.9999))
    faces = wanted((0.3, -0.2, 0.4, 0.1))
    coarse, fine = attack(grey(), faces), replace(attack, fine=ReadingStep())(grey(), faces)
    assert fine.within is not None
    assert bool(fine.within)
    assert coarse.within is not None
    assert not bool(coarse.within)
    off = models[0].predict(fine.images)[0].boxes - faces[0].boxes
    assert float(off.abs().max()) < 0.01
    assert ((fine.images - grey()) * 255).abs().max() <= 8.01
    assert fine.slopes[0] is not None


def test_frames_do_not_influence_each_other_and_what_is_known_saves_steps() -> None:
    attack = IFGSMAttacker([LinearDetector()], max_iterations=40, until=Tolerance(iou=0.9999), fine=ReadingStep())
    faces = wanted((0.3, -0.2, 0.4, 0.1), (-0.5, 0.1, 0.0, 0.6), (0.2, 0.2, -0.3, -0.3))
    together = attack(grey(3), faces)
    for i in range(3):
        alone = attack(grey(), faces[i : i + 1])
        assert torch.equal(alone.images[0], together.images[i])
        assert alone.iterations[0] == together.iterations[i]
    warm = attack(grey(), faces[2:], slopes=together.slopes[:1])
    assert warm.within is not None
    assert bool(warm.within)
    assert warm.iterations[0] < together.iterations[2]


def test_where_a_frame_may_change_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(low: Tensor, high: Tensor) -> Rectangle:
        asked.append(len(low))
        return window_of(low, high)

    monkeypatch.setattr(loop, "window_of", counted)
    attack = IFGSMAttacker([LinearDetector()], max_iterations=40, until=Tolerance(iou=0.9999), fine=ReadingStep())
    result = attack(grey(2), wanted((0.3, -0.2, 0.4, 0.1), (-0.5, 0.1, 0.0, 0.6)))
    assert int(result.iterations.min()) > 1
    assert len(asked) == 2


def test_away_from_a_reading_and_without_a_tolerance_no_fine_step_is_taken() -> None:
    faces = wanted((0.3, -0.2, 0.4, 0.1))
    plain = IFGSMAttacker([LinearDetector()], max_iterations=3)
    assert torch.equal(plain(grey(), faces).images, replace(plain, fine=ReadingStep())(grey(), faces).images)
    repelled = replace(plain, weights={"lineardetector": -1.0}, until=Tolerance(iou=0.9999))
    assert torch.equal(repelled(grey(), faces).images, replace(repelled, fine=ReadingStep())(grey(), faces).images)


def test_offsets_are_shares_of_the_face_and_degrees_and_nothing_where_nothing_is_asked() -> None:
    box = torch.tensor([[[10.0, 10.0, 110.0, 110.0]]])
    goal = FaceBatch(box, torch.ones(1, 1), torch.tensor([[[[20.0, 20.0]] * 4 + [[torch.nan] * 2]]]))
    read = FaceBatch(box + torch.tensor([1.0, 0.0, -2.0, 0.0]), torch.ones(1, 1), torch.full((1, 1, 5, 2), 21.0))
    row = offsets_of(goal, read, "boxes")[0]
    assert row.tolist() == pytest.approx([1.0, 0.0, -2.0, 0.0, *[1.0] * 8, 0.0, 0.0])
    ahead = torch.tensor([[[0.0, 0.0, -1.0]]])
    turned = torch.tensor([[[torch.sin(torch.tensor(0.01)), 0.0, -torch.cos(torch.tensor(0.01))]]])
    looks = offsets_of(replace(goal, gaze=ahead), replace(read, gaze=turned), "gaze")[0]
    assert float(looks.norm()) == pytest.approx(0.573, abs=1e-3)


def test_a_face_that_is_not_read_is_not_near() -> None:
    step = ReadingStep(near=1.0)
    offsets = {"a": torch.tensor([[0.5, 0.5], [1.2, 1.2], [torch.nan, 0.0]]), "b": torch.zeros(3, 1)}
    assert step.is_near(offsets) == [True, False, False]
    assert offset_length(torch.tensor([[3.0, 4.0], [torch.nan, 2.0]])).tolist() == pytest.approx([5.0, 2.0])


@pytest.mark.parametrize("setting", [{"rows": 0}, {"share": 0.0}, {"share": 1.5}, {"near": 0.0}, {"most": -1}])
def test_settings_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ReadingStep(**setting)  # type: ignore[arg-type]


def test_a_mask_without_freedom_has_an_empty_window() -> None:
    picture = grey()[0]
    assert window_of(picture, picture) == Rectangle(0, 0, 0, 0)
