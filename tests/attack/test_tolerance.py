from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
import torch
from footage import T002
from footage import frames as frames_of
from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.distortion import Distortion
from deidlib.attack.result import AttackResult
from deidlib.attack.steps import SignStep
from deidlib.attack.tolerance import ReadingError, Tolerance
from deidlib.faces import FaceBatch, Faces, five_points
from deidlib.models.base import Target, TargetModel, frame_mean, frame_of, rows_of
from deidlib.models.cropped import CroppedDetector
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Pixelate

SIDE = 100.0


def at(*places: float) -> list[Faces]:
    """A face of 100 x 100 pixels at each of those places, one a frame."""
    return [Faces(torch.tensor([[x, 0.0, x + SIDE, SIDE]]), torch.ones(1)) for x in places]


@dataclass(frozen=True, eq=False)
class Place(Target):
    x: Tensor


class Ruler(TargetModel[Place]):
    """Reads a face at the mean grey level: a step of a level moves it by a pixel. Says nothing in its forward pass."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.numbers: Sequence[int] = ()
        self.told: list[list[int]] = []

    def at(self, numbers: Sequence[int]) -> Ruler:
        self.told.append(list(numbers))
        return self

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        self.asked.append(len(images))
        return at(*(255 * images.mean(dim=(1, 2, 3))).tolist())

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> Place:
        return Place(frame_of(reading), rows_of(reading)[:, 0])

    def loss(self, images: Tensor, target: Place) -> Tensor:
        rows = (255 * images.mean(dim=(1, 2, 3))[target.frame] - target.x).square()
        return frame_mean(rows, target.frame, len(images))


class Outspoken(Ruler):
    """Says what it reads, beside its loss; ``boast`` pixels nearer to where the face is to be than it is."""

    boast = 0.0

    def loss_and_reading(self, images: Tensor, target: Place) -> tuple[Tensor, list[Faces] | None]:
        with torch.no_grad():
            read = at(*(255 * images.mean(dim=(1, 2, 3)) + self.boast).tolist())
        return self.loss(images, target), read


def grey(*levels: float) -> Tensor:
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 3, 4, 4) / 255


# Two boxes d pixels apart overlap by (100 - d) / (100 + d): 0.9608 for 2 pixels, 0.9417 for 3.
WITHIN_TWO = Tolerance(iou=0.95)


def attack(
    model: TargetModel[Place],
    hidden: Tensor,
    wanted: list[Faces],
    *,
    until: Tolerance | dict[str, Tolerance] = WITHIN_TWO,
    steps: int = 30,
    distortions: Sequence[Distortion] = (),
    numbers: Sequence[int] | None = None,
    threshold: float | None = None,
) -> AttackResult:
    attacker = IFGSMAttacker(
        {"ruler": model},
        epsilon=0.2,
        max_iterations=steps,
        step=SignStep(),
        until=until,
        distortions=distortions,
        threshold=threshold,
    )
    return attacker(hidden, wanted, numbers=numbers)


# How far off


def test_a_reading_error_by_hand() -> None:
    points = torch.tensor([[[10.0, 10], [20, 10], [15, 15], [10, 20], [20, 20]]])
    boxes = torch.tensor([[0.0, 0, 40, 90], [200, 0, 240, 90]])
    wanted = Faces(boxes, torch.tensor([0.9, 0.8]), torch.cat([points, points + 200]))
    # The other order; the first face 4 pixels lower and its points 3 to the right and 4 down: 5 pixels of 60.
    read = Faces(
        torch.stack([boxes[1], boxes[0] + torch.tensor([0.0, 4, 0, 4])]),
        torch.tensor([0.85, 0.6]),
        torch.cat([points + 200, points + torch.tensor([3.0, 4])]),
    )
    error = ReadingError.between([wanted, Faces.empty()], [read, read], "boxes")
    torch.testing.assert_close(error.iou, torch.tensor([86 / 94, 1.0]))
    torch.testing.assert_close(error.nme, torch.tensor([5 / 60, 0.0]))
    torch.testing.assert_close(error.score, torch.tensor([0.3, 0.0]))
    assert error.gaze.tolist() == [0.0, 0.0]
    # A face that is not found is as far off as can be, whatever the others are.
    missed = ReadingError.between([wanted], [read[:1]], "boxes")
    assert [missed.iou.item(), missed.nme.item(), missed.score.item()] == [0.0, math.inf, 1.0]
    # Points of landmarks' readers count, their boxes and scores, which come from elsewhere, do not.
    landmarks = ReadingError.between([wanted], [read], "landmarks")
    torch.testing.assert_close(landmarks.nme, torch.tensor([5 / 60]))
    assert [landmarks.iou.item(), landmarks.score.item()] == [1.0, 0.0]


def test_gaze_is_the_angle_and_what_is_not_known_is_not_off() -> None:
    turn = math.radians(30)
    boxes = torch.tensor([[0.0, 0, 40, 40], [200, 0, 240, 40]])
    ahead = torch.tensor([[0.0, 0, -1], [torch.nan, torch.nan, torch.nan]])
    points = torch.full((2, 5, 2), torch.nan)
    wanted = Faces(boxes, torch.ones(2), points, gaze=ahead)
    read = wanted.replace(gaze=torch.tensor([[math.sin(turn), 0, -math.cos(turn)], [1.0, 0, 0]]))
    error = ReadingError.between([wanted], [read], "gaze")
    torch.testing.assert_close(error.gaze, torch.tensor([30.0]))
    assert error.nme.item() == 0.0
    assert ReadingError.between([wanted], [read], "landmarks").nme.item() == 0.0
    assert ReadingError.between([wanted], [read[1:]], "gaze").gaze.item() == 180.0
    assert ReadingError.between([wanted], [wanted.replace(gaze=None)], "gaze").gaze.item() == 180.0


def test_frames_with_other_points_than_others_are_compared_by_all_that_they_have() -> None:
    box, many = torch.tensor([[0.0, 0, 100, 100]]), torch.arange(136.0).reshape(1, 68, 2)
    wanted = [Faces(box, torch.ones(1), many), Faces(box, torch.ones(1), five_points(many)), Faces.empty()]
    # One of 68 points is 34 pixels off: half a pixel on average; of the five it is none.
    read = many.clone()
    read[0, 0, 0] += 34
    found = [Faces(box, torch.ones(1), read)] * 3
    assert ReadingError.between(wanted, found, "landmarks").nme.tolist() == pytest.approx([0.005, 0.0, 0.0])
    assert ReadingError.between(wanted[:1], found[:1], "landmarks").nme.tolist() == pytest.approx([0.005])
    nothing = [Faces(box, torch.ones(1))] * 3
    assert ReadingError.between(wanted, nothing, "landmarks").nme.tolist() == [math.inf, math.inf, 0.0]


def test_a_table_of_what_is_read_place_by_place_says_the_same() -> None:
    (one,), (other,) = at(0.0), at(2.0)
    wanted, read = [Faces.cat([one, *at(300.0)]), Faces.empty(), one], [Faces.cat([other, *at(300.0)])] * 2 + [other]
    table = FaceBatch.of(read)
    # The second frame is to have none, and in the last nothing is read.
    missed = FaceBatch(table.boxes.clone(), table.scores.clone())
    missed.boxes[2], missed.scores[2] = torch.nan, torch.nan
    error = ReadingError.of(FaceBatch.of(wanted), missed, "boxes")
    assert error.iou.tolist() == pytest.approx([98 / 102, 1.0, 0.0])
    assert error.score.tolist() == [0.0, 0.0, 1.0]
    paired = ReadingError.between(wanted[:2], read[:2], "boxes")
    assert torch.equal(paired.iou, error.iou[:2])


def test_what_is_met() -> None:
    error = ReadingError(*(torch.tensor(v) for v in ([0.95, 0.94], [0.015, 0.01], [3.0, 1.0], [0.1, 0.0])))
    assert Tolerance(iou=0.95).met_by(error).tolist() == [True, False]
    assert Tolerance(nme=0.0149).met_by(error).tolist() == [False, True]
    assert Tolerance(gaze=2.9).met_by(error).tolist() == [False, True]
    assert Tolerance(score=0.05).met_by(error).tolist() == [False, True]
    assert Tolerance(iou=0.9, nme=0.02, gaze=3.0, score=0.11).met_by(error).tolist() == [True, True]
    worse = error.worst(error.select(torch.tensor([1, 0])))
    assert worse.iou.tolist() == pytest.approx([0.94, 0.94])
    assert worse.gaze.tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tolerance(), "asks for nothing"),
        (lambda: Tolerance(iou=95), r"in \[0, 1\], got 95"),
        (lambda: Tolerance(nme=-0.1), r"1.5 % is 0.015"),
        (lambda: Tolerance(gaze=math.nan), "degrees"),
        (lambda: IFGSMAttacker([Ruler()], until={"fan": WITHIN_TWO}), r"until names unknown models \['fan'\]"),
    ],
)
def test_what_makes_no_sense_is_said(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# When an attack ends


def test_a_frame_ends_at_the_first_step_that_reads_within_tolerance() -> None:
    model = Outspoken()
    # 9, 2 and 14 pixels off: 7, 0 and 12 steps to 2 pixels.
    result = attack(model, grey(101, 108, 96), at(110, 110, 110))
    assert result.iterations.tolist() == [7, 0, 12]
    assert result.best.tolist() == [7, 0, 12]
    assert result.within is not None
    assert result.within.all()
    assert result.converged.all()
    torch.testing.assert_close(result.errors["ruler"].iou, torch.full((3,), 98 / 102))
    assert (255 * result.images.mean(dim=(1, 2, 3))).round().tolist() == [108, 108, 108]
    # Each frame was read once, when its end was seen.
    assert sorted(model.asked) == [1, 1, 1]


def test_a_model_that_says_nothing_is_asked_every_few_steps() -> None:
    model = Ruler()
    result = attack(model, grey(101, 108), at(110, 110))
    # At steps 0, 4 and 8.
    assert result.iterations.tolist() == [8, 0]
    assert model.asked == [2, 1, 1]
    assert result.within is not None
    assert result.within.all()


def test_what_predict_does_not_confirm_goes_on() -> None:
    model = Outspoken()
    model.boast = 3.0
    result = attack(model, grey(101), at(110))
    assert result.iterations.tolist() == [7]
    # Believed to be within from step 4 on.
    assert model.asked == [1] * 4
    torch.testing.assert_close(result.errors["ruler"].iou, torch.tensor([98 / 102]))


def test_what_is_not_reached_is_reported_with_how_far_off_it_is() -> None:
    model = Outspoken()
    result = attack(model, grey(90, 107), at(110, 110), steps=5)
    assert result.within is not None
    assert result.within.tolist() == [False, True]
    assert result.converged.tolist() == [False, True]
    assert result.iterations.tolist() == [5, 1]
    torch.testing.assert_close(result.errors["ruler"].iou, torch.tensor([85 / 115, 98 / 102]))
    plain = IFGSMAttacker([Ruler()], max_iterations=1)(grey(90), at(110))
    assert plain.within is None
    assert plain.errors == {}


@pytest.mark.parametrize("model", [Ruler(), Outspoken()])
def test_a_frame_does_not_depend_on_those_beside_it(model: Ruler) -> None:
    levels, places = [101, 96, 108, 120], [110, 110, 110, 99]
    together = attack(model, grey(*levels), at(*places))
    for i, (level, place) in enumerate(zip(levels, places, strict=True)):
        alone = attack(model, grey(level), at(place))
        assert torch.equal(together.images[i], alone.images[0])
        assert together.iterations[i] == alone.iterations[0]
        assert together.errors["ruler"].iou[i] == alone.errors["ruler"].iou[0]


def test_a_model_is_told_which_frames_it_reads() -> None:
    model = Outspoken()
    attack(model, grey(101, 108, 96), at(110, 110, 110), numbers=[40, 41, 42])
    # The whole batch for the loss, then each frame as it is confirmed.
    assert model.told == [[40, 41, 42], [41], [40], [42]]


def test_either_goal_will_do() -> None:
    # A loss below 50 is a distance of 7 pixels or less.
    result = attack(Outspoken(), grey(90, 108), at(110, 110), threshold=50.0)
    assert result.iterations.tolist() == [13, 0]
    assert result.within is not None
    assert result.within.tolist() == [False, True]
    assert result.converged.all()


def test_a_tolerance_by_name_holds_for_that_model_alone() -> None:
    strict, loose = Outspoken(), Outspoken()
    attacker = IFGSMAttacker(
        {"strict": strict, "loose": loose},
        weights={"strict": 10.0},
        epsilon=0.2,
        max_iterations=30,
        until={"strict": WITHIN_TWO},
    )
    result = attacker(grey(100), {"strict": at(110), "loose": at(103)})
    assert result.within is not None
    assert result.within.all()
    assert result.errors["loose"].iou.item() < 0.95


def test_it_must_be_read_through_every_distortion() -> None:
    class Darker(Distortion):
        def __call__(self, images: Tensor) -> Tensor:
            return images - 2 / 255

    class Same(Distortion):
        def __call__(self, images: Tensor) -> Tensor:
            return images

    for model in (Ruler(), Outspoken()):
        one = attack(model, grey(100), at(110), distortions=[Same()])
        both = attack(model, grey(100), at(110), distortions=[Same(), Darker()])
        # 8 steps to 108; 10 until the darker one reads at 108, which an ask every four steps sees at 12.
        assert one.iterations.tolist() == [8]
        assert both.iterations.tolist() == [10 if isinstance(model, Outspoken) else 12]


def test_another_loss_has_no_reading_of_its_parents() -> None:
    class Doubled(Outspoken):
        def loss(self, images: Tensor, target: Place) -> Tensor:
            return 2 * super().loss(images, target)

    model, target = Doubled(), Ruler().target(at(110), (4, 4))
    loss, read = model.loss_and_reading(grey(100), target)
    assert loss.item() == pytest.approx(200)
    assert read is None


def test_results_are_joined_with_what_is_known_of_them() -> None:
    parts = [attack(Outspoken(), grey(level), at(110), steps=5) for level in (90, 107)]
    joined, together = AttackResult.joined(parts), attack(Outspoken(), grey(90, 107), at(110, 110), steps=5)
    assert joined.within is not None
    assert together.within is not None
    assert torch.equal(joined.within, together.within)
    assert torch.equal(joined.errors["ruler"].iou, together.errors["ruler"].iou)


class Pointing(TargetModel[Place]):
    """Looks to the right by as many degrees as the frame is grey, wherever a detector found a face."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "gaze"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        assert faces is not None
        turn = torch.deg2rad(255 * images.mean(dim=(1, 2, 3)))
        return [
            known.replace(gaze=torch.stack([angle.sin(), angle * 0, -angle.cos()]).expand(len(known), 3))
            for known, angle in zip(faces, turn, strict=True)
        ]

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> Place:
        gaze = rows_of(reading, "gaze")
        return Place(frame_of(reading), torch.rad2deg(torch.atan2(gaze[:, 0], -gaze[:, 2])))

    def loss(self, images: Tensor, target: Place) -> Tensor:
        rows = (255 * images.mean(dim=(1, 2, 3))[target.frame] - target.x).square()
        return frame_mean(rows, target.frame, len(images))


@pytest.mark.parametrize("detector", [Ruler(), Outspoken()])
def test_gaze_is_read_along_the_chain_once_the_detector_is_content(detector: Ruler) -> None:
    wanted = {"ruler": at(110), "pointing": Pointing().predict(grey(110), at(110))}
    attacker = IFGSMAttacker(
        {"ruler": detector, "pointing": Pointing()},
        epsilon=0.2,
        max_iterations=30,
        until=Tolerance(iou=0.95, gaze=0.5),
    )
    result = attacker(grey(100), wanted)
    # The detector is content at 108, gaze at 110 only; asked every four steps, at 12, where it has gone back to 110.
    assert result.iterations.tolist() == [10 if isinstance(detector, Outspoken) else 12]
    torch.testing.assert_close(result.errors["pointing"].gaze, torch.zeros(1), atol=0.05, rtol=0)
    alone = IFGSMAttacker([Pointing()], epsilon=0.2, max_iterations=30, until=Tolerance(gaze=0.5))
    # Without a detector the places are those of the reading; asked every four steps.
    assert alone(grey(100), wanted["pointing"]).iterations.tolist() == [12]


def test_gaze_is_read_through_a_single_distortion_too() -> None:
    class Darker(Distortion):
        def __call__(self, images: Tensor) -> Tensor:
            return images - 10 / 255

    wanted = {"ruler": at(110), "pointing": Pointing().predict(grey(110), at(110))}
    attacker = IFGSMAttacker(
        {"ruler": Outspoken(), "pointing": Pointing()},
        epsilon=0.2,
        max_iterations=30,
        until=Tolerance(iou=0.95, gaze=0.5),
        distortions=[Darker()],
    )
    result = attacker(grey(100), wanted)
    # A frame at 120 is seen at 110. As it is, before the distortion, it reads ten degrees off.
    assert result.iterations.tolist() == [20]
    assert result.within is not None
    assert result.within.tolist() == [True]


# What real detectors say in their forward pass


@pytest.mark.parametrize("name", ["mtcnn", "retinaface", "cropped"])
def test_detectors_read_in_their_forward_pass_what_they_predict(name: str) -> None:
    model: TargetModel[Any] = MTCNN() if name == "mtcnn" else RetinaFace()
    model = CroppedDetector(model) if name == "cropped" else model
    frames = frames_of(T002[0], [0, 8])
    faces, size = model.predict(frames), (frames.shape[2], frames.shape[3])
    loss, read = model.loss_and_reading(frames, model.target(faces, size))
    assert read is not None
    read = read.frames() if isinstance(read, FaceBatch) else read
    torch.testing.assert_close(loss, model.loss(frames, model.target(faces, size)))
    error = ReadingError.between(faces, read, "boxes")
    # Windows have borders where the frame has none, and MTCNN's neighbours are other crops.
    assert error.iou.min() > (0.99 if name == "retinaface" else 0.97)
    assert error.nme.max() < 0.01
    nobody = model.loss_and_reading(frames, model.target([Faces.empty()] * 2, size))[1]
    assert nobody is not None
    nobody = nobody.frames() if isinstance(nobody, FaceBatch) else nobody
    assert [len(found) for found in nobody] in ([0, 0], [1, 1])


def test_stopping_in_time_is_cheaper_and_reads_as_asked() -> None:
    model, hide = MTCNN(), Pixelate(blocks=4)
    frames = frames_of(T002[0], [0])
    faces = model.predict(frames)
    attacker = IFGSMAttacker([model], max_iterations=40, until=Tolerance(iou=0.85))
    result = attacker(hide(frames, faces), faces, mask=hide.mask(faces, *frames.shape[2:]))
    assert result.within is not None
    assert result.within.all()
    assert 0 < result.iterations.item() < 40
    assert ReadingError.between(faces, model.predict(result.images), "boxes").iou.item() >= 0.85
