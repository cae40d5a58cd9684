"""Steps of the length that a reading needs: they solve what they say, keep to the ball and the grid, and learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor

from deidlib.attack import fine_steps
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.fine_steps import FineSteps
from deidlib.attack.part import rectangle_of
from deidlib.attack.reading_step import ReadingStep, Slopes, _floor, offset_length
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
# A linear reading is right after one step with all its slopes known.
FULL = ReadingStep(inner=12)


def jacobian(model: LinearDetector) -> Slopes:
    return Slopes(WHOLE, {"m": model.slopes / 255})  # type: ignore[dict-item, operator]


def test_with_all_slopes_known_one_step_brings_a_linear_reading_to_where_it_is_to_be() -> None:
    model, picture = LinearDetector(), grey()[0]
    offset = torch.tensor([0.9, -0.6, 0.3, -0.2])
    moved = FULL(picture, ball(picture), {"m": offset}, jacobian(model))
    change = model._boxes(moved[None])[0] - model._boxes(picture[None])[0]
    # A pixel's level moves an edge by about a thousandth: nothing nearer can be asked for than a few of those.
    torch.testing.assert_close(change, -offset, atol=0.02, rtol=0)


def test_a_step_stays_in_the_ball_on_the_grid_and_in_the_window_and_changes_few_pixels() -> None:
    model, picture = LinearDetector(), grey()[0]
    low, high = (edge.clone() for edge in ball(picture, 1))
    low[:, :6], high[:, :6] = picture[:, :6], picture[:, :6]
    window = rectangle_of(high > low)
    assert window == Rectangle(0, 6, SIDE, SIDE)
    slope = model.slopes[:1, :, 6:] / 255  # type: ignore[index]
    moved = ReadingStep(share=0.75)(picture, (low, high), {"m": torch.tensor([0.5])}, Slopes(window, {"m": slope}))
    levels = (moved - picture) * 255
    assert torch.equal(levels.round().abs().amax(), torch.tensor(1.0))
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert not levels[:, :6].any()
    # Three quarters of half a pixel need less than a fifth of the pixels there are.
    assert 0 < (levels.round() != 0).float().mean() < 0.2
    before, after = (model._boxes(image[None])[0, 0] for image in (picture, moved))
    assert float(after - before) == pytest.approx(-0.375, abs=0.01)


def test_slopes_learned_say_what_the_gradient_said_and_change_as_little_else_as_can_be() -> None:
    before = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    gradient, offset = torch.ones(3, 2, 2), torch.tensor([3.0, 0.0, 4.0, 0.0])
    known = Slopes(Rectangle(0, 0, 2, 2), {"m": before}).learned({"m": offset}, {"m": gradient}).gradients["m"]
    # Directions beside the offset are as before, and so is a model that was not asked.
    torch.testing.assert_close(0.6 * known[0] + 0.8 * known[2], gradient)
    torch.testing.assert_close(0.8 * known[0] - 0.6 * known[2], 0.8 * before[0] - 0.6 * before[2])
    assert torch.equal(known[1::2], before[1::2])
    assert Slopes(WHOLE, {"m": before}).learned({"m": offset}, {}).gradients["m"] is before


def test_slopes_learned_are_those_that_there_are() -> None:
    """With as many independent offsets as numbers, they say of every one what the model's slopes say."""
    model = LinearDetector()
    known = Slopes(WHOLE, {})
    for offset in torch.eye(4) + 0.1:
        gradient = torch.einsum("i,ichw->chw", offset / offset.norm(), model.slopes / 255)  # type: ignore[operator]
        known = known.learned({"m": offset}, {"m": gradient})
    for offset in 20 * [*torch.randn(20, 4, generator=torch.Generator().manual_seed(1))]:
        gradient = torch.einsum("i,ichw->chw", offset / offset.norm(), model.slopes / 255)  # type: ignore[operator]
        known = known.learned({"m": offset}, {"m": gradient})
    torch.testing.assert_close(known.gradients["m"], model.slopes / 255, atol=1e-6, rtol=1e-3)  # type: ignore[operator]


def test_slopes_go_to_another_window_in_their_places() -> None:
    known = Slopes(Rectangle(2, 3, 6, 7), {"m": torch.arange(48.0).view(1, 3, 4, 4)})
    moved = known.moved(Rectangle(4, 0, 10, 5)).gradients["m"]
    assert moved.shape == (1, 3, 5, 6)
    assert torch.equal(moved[..., 3:, :2], known.gradients["m"][..., :2, 2:])
    assert not moved[..., :3, :].any()
    assert not moved[..., 2:].any()
    assert not known.moved(Rectangle(20, 20, 24, 24)).gradients["m"].any()


def test_slopes_of_another_reading_are_forgotten() -> None:
    known = Slopes(WHOLE, {"m": torch.ones(4, 3, SIDE, SIDE)})
    after = known.learned({"m": torch.ones(10)}, {"m": torch.ones(3, SIDE, SIDE)})
    assert after.gradients["m"].shape[0] == 10


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
    assert fine.slopes[0][0].gradients.keys() == {"lineardetector"}
    assert int(fine.gradients) <= int(fine.iterations) < 20


def test_frames_do_not_influence_each_other_and_what_is_known_saves_steps() -> None:
    model = LinearDetector()
    attack = IFGSMAttacker([model], max_iterations=40, until=Tolerance(iou=0.9999), fine=FULL)
    faces = wanted((0.3, -0.2, 0.4, 0.1), (-0.5, 0.1, 0.0, 0.6), (0.2, 0.2, -0.3, -0.3))
    together = attack(grey(3), faces)
    for i in range(3):
        alone = attack(grey(), faces[i : i + 1])
        assert torch.equal(alone.images[0], together.images[i])
        assert alone.iterations[0] == together.iterations[i]
        assert alone.gradients[0] == together.gradients[i]
    known = Slopes(WHOLE, {"lineardetector": model.slopes / 255})  # type: ignore[operator, dict-item]
    warm = attack(grey(), faces[2:], slopes=[[known]])
    assert warm.within is not None
    assert bool(warm.within)
    assert (int(warm.gradients), int(warm.iterations)) == (0, 1), "the reading is linear, and all slopes are known"


def test_where_a_frame_may_change_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(free: Tensor) -> Rectangle:
        asked.append(len(free))
        return rectangle_of(free)

    monkeypatch.setattr(fine_steps, "rectangle_of", counted)
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
    both = Tolerance(iou=0.95, nme=0.01)
    row = offsets_of(goal, read, "boxes", both)[0, 0]
    assert row.tolist() == pytest.approx([1.0, 0.0, -2.0, 0.0, *[1.0] * 8, 0.0, 0.0])
    assert torch.equal(offsets_of(goal, read, "boxes", Tolerance(iou=0.95))[0, 0], row[:4])
    assert torch.equal(offsets_of(goal, read, "boxes", Tolerance(nme=0.01))[0, 0], row[4:])
    assert offsets_of(goal, read, "boxes", Tolerance(score=0.1)).tolist() == [[[0.0]]]
    ahead = torch.tensor([[[0.0, 0.0, -1.0]]])
    turned = torch.tensor([[[torch.sin(torch.tensor(0.01)), 0.0, -torch.cos(torch.tensor(0.01))]]])
    looks = offsets_of(replace(goal, gaze=ahead), replace(read, gaze=turned), "gaze", Tolerance(gaze=1.0))[0]
    assert float(looks.norm()) == pytest.approx(0.573, abs=1e-3)


def asked(steps: FineSteps, *lengths: float) -> tuple[bool, list[bool]]:
    """Whether a frame is near, and of which of its faces a gradient is asked, where so much is missing of each."""
    offsets = torch.tensor(lengths)[None, :, None].expand(1, len(lengths), 4)
    low, high = ball(grey())
    said = steps.ask({"m": offsets}, [0], [False], (low, high))
    return said.near[0], list(said.faces["m"][0])


def two_faces(step: ReadingStep, known: list[Slopes] | None = None) -> FineSteps:
    boxes = torch.tensor([[0.0, 0.0, 6.0, 6.0], [14.0, 14.0, 22.0, 22.0]])
    return FineSteps(step, {"m": [Faces(boxes, torch.ones(2))]}, None if known is None else [known])


def test_a_frame_is_near_if_all_its_faces_are_read_nearly_right() -> None:
    step = ReadingStep(near=1.0, most=1)
    assert not asked(two_faces(step), 0.5, 1.2)[0]
    assert not asked(two_faces(step), 0.5, float("nan"))[0]
    steps = two_faces(step)
    assert asked(steps, 0.5, 0.9)[0]
    assert not asked(steps, 0.5, 0.9)[0], "one fine step at most"


def test_a_gradient_is_asked_where_nothing_is_known_and_where_a_step_did_little() -> None:
    steps = two_faces(ReadingStep(poor=0.5))
    assert asked(steps, 1.0, 1.0) == (True, [True, True])
    known = [Slopes(Rectangle(0, 0, 9, 9), {"m": torch.ones(4, 3, 9, 9)})]
    steps = two_faces(ReadingStep(poor=0.5), known)
    # The first is known from the frame before.
    assert asked(steps, 1.0, 1.0) == (True, [False, True])
    assert asked(steps, 0.4, 0.6) == (True, [False, True])
    assert asked(steps, 0.3, 0.1) == (True, [True, True])


@pytest.mark.parametrize(("before", "known"), [((5, 5, 9, 9), True), ((0, 0, 24, 24), True), ((6, 0, 20, 9), False)])
def test_slopes_stay_known_where_what_may_change_grows_or_shrinks(before: tuple[int, ...], known: bool) -> None:
    window = Rectangle(*before)
    slopes = Slopes(window, {"m": torch.ones(4, 3, window.bottom - window.top, window.right - window.left)})
    # The first face's window is 0 to 9 both ways.
    assert asked(two_faces(ReadingStep(), [slopes]), 1.0, 0.0)[1][0] is not known


def test_all_slopes_are_taken_anew_in_place_of_one_correction_more() -> None:
    steps = two_faces(ReadingStep(poor=0.0, renew=2), [Slopes(Rectangle(0, 0, 9, 9), {"m": torch.ones(4, 3, 9, 9)})])
    low, high = ball(grey())
    offsets = torch.ones(1, 2, 4)
    said = [steps.ask({"m": offsets * length}, [0], [False], (low, high)) for length in (1.0, 0.9, 0.8, 0.7, 0.6)]
    # Of the first face slopes are known, so that the first step needs nothing.
    assert [ask.faces["m"][0] for ask in said] == [
        [False, True],
        [True, True],
        [True, False],
        [False, True],
        [True] * 2,
    ]
    assert [ask.whole["m"][0] for ask in said] == [[False] * 2, [False] * 2, [False, True], [True, False], [False] * 2]
    assert [ask.passes(0) for ask in said] == [1, 1, 5, 5, 1]


def test_a_whole_jacobian_is_the_models_and_costs_a_gradient_for_each_number() -> None:
    model = LinearDetector()
    attack = IFGSMAttacker([model], max_iterations=40, until=Tolerance(iou=0.9999), fine=replace(FULL, renew=0))
    faces = wanted((0.3, -0.2, 0.4, 0.1), (-0.5, 0.1, 0.0, 0.6), (0.2, 0.2, -0.3, -0.3))
    together = attack(grey(3), faces)
    assert together.within is not None
    assert bool(together.within.all())
    # The reading is linear: one step.
    assert (together.gradients.tolist(), together.iterations.tolist()) == ([4, 4, 4], [1, 1, 1])
    for i in range(3):
        known = together.slopes[i][0].gradients["lineardetector"]
        torch.testing.assert_close(known, model.slopes / 255, atol=1e-6, rtol=0.01)  # type: ignore[operator]
        assert torch.equal(attack(grey(), faces[i : i + 1]).images[0], together.images[i])


def test_the_pixels_that_change_gain_what_is_wanted_and_one_less_would_not() -> None:
    generator = torch.Generator().manual_seed(5)
    for scale in (1e-6, 1.0, 1e4):
        gain = scale * torch.rand(5000, generator=generator) ** 4 * (torch.rand(5000, generator=generator) > 0.5)
        for share in (1e-4, 0.01, 0.3, 0.99):
            wanted = share * gain.sum()
            chosen = gain[gain > _floor(gain, wanted)]
            assert float(chosen.double().sum()) >= float(wanted) * (1 - 1e-5)
            # Gains closer together than a millionth of the greatest are not told apart.
            least = chosen[chosen > chosen.min() + 2e-6 * gain.max()]
            assert float(least.double().sum()) < float(wanted)
        assert float(_floor(gain, 2 * gain.sum())) == 0, "there is not as much: all"
    assert float(_floor(torch.zeros(9), torch.tensor(1.0))) == 0


def test_frames_that_ask_for_all_slopes_leave_the_others_alone() -> None:
    """Two models, one held nearer than steps by kept slopes come: some frames renew while others correct or sign."""
    models = {"first": LinearDetector(), "second": LinearDetector()}
    step = ReadingStep(renew=1, near=0.4, poor=0.3)
    attack = IFGSMAttacker(models, step=SignStep(0.1 / 255), max_iterations=30, until=Tolerance(iou=0.9999), fine=step)
    faces = wanted((0.3, -0.2, 0.4, 0.1), (-0.8, 0.9, 0.9, 0.6), (0.0, 0.0, 0.0, 0.0))
    together = attack(grey(3), faces)
    assert together.gradients[2] == 0
    for i in range(3):
        alone = attack(grey(), faces[i : i + 1])
        assert torch.equal(alone.images[0], together.images[i])
        assert alone.gradients[0] == together.gradients[i]


def test_combinations_on_which_pixels_have_little_influence_count_where_slopes_are_fresh() -> None:
    """Of six numbers the last two are moved nearly alike, their difference by a twentieth of what moves them."""
    rows = torch.randn(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5)) / 100
    rows[4], rows[5] = rows[4] + rows[5] / 20, rows[4] - rows[5] / 20
    picture, offset, apart = grey()[0], torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2, -0.2]), {}
    for fresh in (False, True):
        moved = ReadingStep()(picture, ball(picture), {"m": offset}, Slopes(WHOLE, {"m": rows}), fresh=fresh)
        left = offset + torch.einsum("ichw,chw->i", rows, ((moved - picture) * 255).round())
        apart[fresh] = float(left[4] - left[5]) / 0.4
    assert apart[False] > 0.5
    assert apart[True] == pytest.approx(0, abs=0.1)


def test_each_face_takes_a_step_of_its_own() -> None:
    """What is missing of a face is brought by its own pixels, and what is right stays."""
    slopes = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(2)) / 9
    mine, others = (
        Slopes(Rectangle(0, 0, 9, 9), {"m": slopes}),
        Slopes(Rectangle(10, 10, 24, 24), {"m": torch.ones(4, 3, 14, 14)}),
    )
    steps, (low, high) = two_faces(ReadingStep(inner=12), [mine, others]), ball(grey())
    offsets = torch.tensor([[[0.6, 0.0, -0.3, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    said = steps.ask({"m": offsets}, [0], [False], (low, high))
    (image,) = steps.take(said, [0], grey(), (low, high), {}, {}).values()
    levels = ((image - grey()[0]) * 255).round()
    assert not levels[:, 9:].any()
    assert not levels[:, :, 9:].any()
    change = torch.einsum("ichw,chw->i", slopes, levels[:, :9, :9])
    torch.testing.assert_close(change, -offsets[0, 0], atol=0.06, rtol=0)  # half of what a level is worth


def test_lengths_are_differentiated_in_the_direction_of_what_is_missing() -> None:
    assert offset_length(torch.tensor([[3.0, 4.0], [torch.nan, 2.0]])).tolist() == pytest.approx([5.0, 2.0])


@pytest.mark.parametrize(
    "setting",
    [{"inner": 0}, {"renew": -1}, {"poor": -1.0}, {"share": 0.0}, {"share": 1.5}, {"near": 0.0}, {"most": -1}],
)
def test_settings_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ReadingStep(**setting)  # type: ignore[arg-type]


def test_a_mask_without_freedom_has_an_empty_window() -> None:
    picture = grey()[0]
    assert rectangle_of(picture > picture) == Rectangle(0, 0, 0, 0)
