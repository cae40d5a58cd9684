from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import Pixels, Sees, painted, seen_on

from deidlib import AttackResult, Chain, Faces, IFGSMAttacker, Pixelate, RetinaFace, SignStep, Solid
from deidlib.attack.chain import PreviousFrame
from deidlib.attack.distortions import H264
from deidlib.attack.steps import APGDStep
from deidlib.attack.tolerance import Tolerance
from deidlib.media import VideoReader, VideoWriter
from deidlib.metrics import difference
from deidlib.protect.deidentifier import Deidentifier
from deidlib.tracking import FaceTracker

SIZE = 16
EPSILON = 8 / 255


def placed(image: Tensor, number: int) -> list[list[float]]:
    """A face where the frame's first pixel says, none where it is black."""
    x = 10 * float(image[0, 0, 0])
    return [[x, 4.0, x + 8, 12.0]] if x else []


def clip(places: Sequence[float]) -> Tensor:
    """Grey noise; where its face is, is in the first pixel."""
    frames = torch.randint(100, 140, (len(places), 3, SIZE, SIZE)) / 255
    frames[:, :, 0, 0] = torch.tensor(places)[:, None] / 10
    return frames


def protect(frames: Tensor, size: int, chain: Chain | None, model: Sees | None = None) -> Tensor:
    attacker = IFGSMAttacker([model or Sees(placed)], epsilon=EPSILON, max_iterations=6)
    # Where its face is, a frame tells by its first pixel, which is elsewhere when it is turned.
    protector = Deidentifier(
        attacker,
        Solid((0.5, 0.5, 0.5)),
        chain=chain,
        tracker=FaceTracker(smoothing=0, hold=0),
        lookout=None,
    )
    return torch.cat([batch.images for batch in protector.frames(torch.split(frames, size))])


# Where a frame starts


def test_a_frame_starts_from_the_one_before_it_within_its_own_ball() -> None:
    frames = clip([5.0, 5.2, 5.4])
    # Without a step of their own, frames are what they start from.
    first, *others = protect(frames, 3, Chain(iterations=0))
    (hidden,) = Deidentifier(
        IFGSMAttacker([Sees(placed)], max_iterations=0),
        Solid((0.5, 0.5, 0.5)),
        tracker=FaceTracker(smoothing=0),
        lookout=None,
    ).frames([frames])
    region = [known.boxes[0] for known in Sees(placed).predict(frames)]
    assert int((first - hidden.images[0]).abs().gt(1e-6).sum()) > 50
    for image, plain, box in zip(others, hidden.images[1:], region[1:], strict=True):
        expected = first.clamp(plain - EPSILON, plain + EPSILON)
        inside = (image - plain).abs().amax(0) > 1e-6
        # Wherever the start is left, it is for what the frame before showed there, cut to the ball.
        assert torch.allclose(image[:, inside], expected[:, inside], atol=1e-6)
        x, y, right, bottom = (round(v) for v in box.tolist())
        core = slice(y + 1, bottom - 1), slice(x + 1, right - 1)
        assert torch.allclose(image[:, *core], expected[:, *core], atol=1e-6)
        first = image


@pytest.mark.parametrize("gap", [[1.0, 6.0], [5.0, 0.0, 5.0]], ids=["elsewhere", "not seen"])
def test_a_frame_starts_afresh_where_no_face_was(gap: list[float]) -> None:
    frames = clip(gap)
    warm, cold = protect(frames, 1, Chain(iterations=0)), protect(frames, 1, None)
    # With no step for those that follow another, only a frame that starts afresh can be what it is without all this.
    assert torch.equal(warm[-1], cold[-1])


@pytest.mark.parametrize("size", [2, 3, 7])
def test_batches_do_not_matter(size: int) -> None:
    frames = clip([5.0, 5.1, 5.2, 0.0, 5.3, 5.4, 1.0])
    whole = protect(frames, 1, Chain(iterations=2))
    assert torch.equal(protect(frames, size, Chain(iterations=2)), whole)
    assert not torch.equal(protect(frames, size, None), whole)


def test_fewer_steps() -> None:
    model = Sees(placed)
    protect(clip([5.0] * 4), 2, Chain(iterations=2), model)
    # One evaluation more than steps: the result is evaluated, too.
    assert model.frames_attacked == (6 + 1) + 3 * (2 + 1)


def test_a_newcomer_is_given_more_steps_and_the_others_keep_theirs() -> None:
    def two(image: Tensor, number: int) -> list[list[float]]:
        return placed(image, number) + ([[8.0, 0.0, 16.0, 8.0]] if image[1, 0, 0] > 0.5 else [])

    frames = clip([0.5] * 3)
    frames[:, 1, 0, 0] = torch.tensor([0.0, 1.0, 1.0])
    model = Sees(two)
    images = protect(frames, 3, Chain(iterations=0, newcomers=2), model)
    assert model.frames_attacked == (6 + 1) + (2 + 1) + (0 + 1)
    # Without a step, what the second frame shows of the first face is what the first showed.
    still = protect(frames, 3, Chain(iterations=0, newcomers=0), Sees(two))
    assert torch.equal(still[1][:, 5:11, 1:7], still[0][:, 5:11, 1:7])
    assert not torch.equal(images[1][:, 1:6, 9:15], still[1][:, 1:6, 9:15])


def test_never_more_steps_than_the_attacker_takes() -> None:
    attacker = IFGSMAttacker([Sees(placed)], max_iterations=3)
    warm = Chain(iterations=10, step=SignStep(0.25 / 255))
    assert warm.attacker(attacker).max_iterations == 3
    assert warm.attacker(attacker, effort=4).max_iterations == 12
    assert Chain(iterations=1, newcomers=2).attacker(attacker, new_faces=True).max_iterations == 2
    assert warm.attacker(attacker).step == SignStep(0.25 / 255)
    assert warm.attacker(attacker).models is attacker.models


def test_who_follows_whom() -> None:
    image = torch.zeros(1, 3, SIZE, SIZE)

    def faces(*boxes: tuple[float, float, float, float]) -> Faces:
        return Faces(torch.tensor(boxes).reshape(-1, 4).float(), torch.ones(len(boxes)))

    # Two squares of side 8, two apart: they share 6 of 10 columns.
    before = PreviousFrame(image, faces((0, 0, 8, 8)).boxes)
    beside = faces((2, 0, 10, 8))
    assert Chain(overlap=0.6).same_faces(before, beside).tolist() == [True]
    assert Chain(overlap=0.61).same_faces(before, beside).tolist() == [False]
    two = faces((0, 0, 8, 8), (8, 8, 16, 16))
    assert Chain().same_faces(PreviousFrame(image, two.boxes), faces((0, 0, 8, 8))).tolist() == [True]
    assert Chain().same_faces(before, two).tolist() == [True, False]
    assert Chain().same_faces(PreviousFrame(image, faces().boxes), beside).tolist() == [False]
    assert Chain().same_faces(before, faces()).tolist() == []
    # A larger box of the same face, as of a detector that sees it lie on its side, is no other face; neither way.
    large, small = faces((0, 0, 16, 16)), faces((3, 3, 10, 10))
    assert Chain().same_faces(PreviousFrame(image, small.boxes), large).tolist() == [True]
    assert Chain().same_faces(PreviousFrame(image, large.boxes), small).tolist() == [True]
    assert Chain().same_faces(PreviousFrame(image, large.boxes), faces((11, 11, 22, 22))).tolist() == [False]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"iterations must be >= 0 steps, got -1"):
        Chain(iterations=-1)
    with pytest.raises(ValueError, match=r"newcomers must be >= 0 steps, got -2"):
        Chain(newcomers=-2)
    with pytest.raises(ValueError, match=r"overlap is an IoU in \[0, 1\], got 1.5"):
        Chain(overlap=1.5)


def test_attacks_joined_are_the_attack_on_all() -> None:
    frames = torch.randint(0, 256, (3, 3, SIZE, SIZE)) / 255
    hidden = (frames + torch.tensor([1.0, 3.0, 6.0])[:, None, None, None] / 255).clamp(0, 1)
    # They end after different numbers of steps.
    attacker = IFGSMAttacker([Pixels()], max_iterations=8, threshold=1e-3)
    faces = painted(frames)
    whole = attacker(hidden, faces)
    assert len(set(whole.iterations.tolist())) > 1
    parts = [attacker(hidden[i : i + 1], faces[i : i + 1]) for i in range(3)]
    joined = AttackResult.joined(parts)
    for name in ("images", "objective", "iterations", "best", "converged"):
        assert torch.equal(getattr(joined, name).nan_to_num(-1), getattr(whole, name).nan_to_num(-1)), name
    assert joined.losses.keys() == whole.losses.keys()
    assert torch.equal(joined.final_losses()["pixels"], whole.final_losses()["pixels"])
    for got, expected in zip(joined.readings["pixels"], faces, strict=True):
        assert torch.equal(got.boxes, expected.boxes)
        assert torch.equal(got.gaze, expected.gaze)  # type: ignore[arg-type]


# What it is for


def read(model: RetinaFace, images: Tensor, truth: Sequence[Faces]) -> Tensor:
    """IoU with what is read on the originals, 0 for a miss."""
    seen = [model.predict(image[None])[0] for image in images]
    pairs = zip(truth, seen, strict=True)
    return torch.cat([difference(Faces(a.boxes, a.scores), b, min_iou=0.5).iou for a, b in pairs])


@pytest.mark.parametrize(
    ("count", "window"),
    [
        pytest.param(3, (slice(16, 304), slice(104, 392)), id="three-frames-around-the-face"),
        pytest.param(6, (slice(None), slice(None)), id="six-whole-frames", marks=pytest.mark.slow),
    ],
)
def test_it_survives_h264_with_fewer_steps(
    shared: Path, tmp_path: Path, count: int, window: tuple[slice, slice]
) -> None:
    model = RetinaFace()
    with VideoReader(shared / "media/T002_talk.mp4") as reader:
        frames = next(iter(reader.batches(128))).images[120 : 120 + count, :, *window].contiguous()
    truth = [model.predict(frame[None])[0] for frame in frames]

    def stored(chain: Chain | None) -> tuple[Tensor, int]:
        attacker = IFGSMAttacker([model], max_iterations=30, step=APGDStep(), distortions=[H264(23)])
        protector = Deidentifier(attacker, Pixelate(blocks=4), chain=chain)
        (batch,) = protector.frames([frames], faces=truth)
        assert batch.attack is not None
        path = tmp_path / f"{chain is None}.mp4"
        with VideoWriter(path, Fraction(30), (frames.shape[2], frames.shape[3]), codec="h264", quality=23) as writer:
            writer.write(batch.images)
        with VideoReader(path) as written:
            images = torch.cat([part.images for part in written.batches(8)])
        return read(model, images, truth), int(batch.attack.iterations.sum())

    # Both are told of the codec; what differs is where they start.
    (warm, few), (cold, many) = stored(Chain()), stored(None)
    assert few <= 30 + (count - 1) * 20 < many == count * 30
    assert float(warm.mean()) >= 0.94
    # No worse with a third of the steps; here 0.967 against 0.948.
    assert float(warm.mean()) > float(cold.mean()) - 0.01


# With a tolerance


class Judged(Pixels):
    """Finds a face where the picture is nearly what was read, and notes how it was asked."""

    slack = 1.5

    def __init__(self, place: tuple[float, float, float, float] = (2.0, 2.0, 10.0, 10.0)) -> None:
        super().__init__()
        self.box = torch.tensor([place])
        self.wanted = 0.0

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        near = (images[..., 2:10, 2:10].mean(dim=(1, 2, 3)) - self.wanted).abs() <= self.slack / 255
        return seen_on(images, [Faces(self.box, torch.ones(1)) if close else Faces.empty() for close in near])


def told(level: float) -> tuple[Judged, list[Faces]]:
    """A model that is to read a frame as grey as that, within a level and a half."""
    model = Judged()
    model.wanted = level / 255
    reading = seen_on(torch.full((1, 3, SIZE, SIZE), level / 255), [Faces(model.box, torch.ones(1))])
    return model, reading


def grey(level: float) -> Tensor:
    return torch.full((1, 3, SIZE, SIZE), level / 255)


def link(chain: Chain, model: Judged, reading: list[Faces], hidden: Tensor, steps: int, start: Tensor | None) -> Any:
    attacker = IFGSMAttacker([model], epsilon=0.2, max_iterations=steps, step=SignStep(), until=Tolerance(iou=0.5))
    before = None if start is None else PreviousFrame(start, model.box)
    (result,) = chain.attack(
        attacker,
        hidden,
        {"judged": reading},
        reading,
        mask=torch.ones(1, 1, SIZE, SIZE),
        numbers=[1],
        previous=[before],
    )
    return result


QUARTER = SignStep(0.25 / 255)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_chain_costs_what_its_first_frame_costs_whatever_the_batches(size: int) -> None:
    model, _ = told(120)
    frames = torch.cat([grey(level) for level in (120, 121, 120, 120, 119)])
    attacker = IFGSMAttacker([model], epsilon=EPSILON * 2, step=SignStep(), until=Tolerance(iou=0.9))
    chain = Chain(length=3, step=SignStep())
    protector = Deidentifier(attacker, Solid((0.5, 0.5, 0.5)), chain=chain, tracker=FaceTracker(smoothing=0, hold=0))
    batches = list(protector.frames(torch.split(frames, size)))
    steps = [int(n) for batch in batches if batch.attack is not None for n in batch.attack.iterations]
    # From 128 to 120 or so it takes 7 steps, and every fourth is looked at; whoever begins a chain begins from 128.
    assert steps == [8, 0, 0, 8, 0]
    assert [within for batch in batches for within in batch.within()] == [True] * 5
    # What the first frame became, the others of its chain start from and stay at.
    images = torch.cat([batch.images for batch in batches])
    inside = (255 * images[:, 0, 6, 6]).round().tolist()
    assert inside == [120.0, 120.0, 120.0, 120.0, 120.0]


def test_a_frame_that_reads_well_from_the_start_costs_no_gradient() -> None:
    model, reading = told(120)
    result = link(Chain(), model, reading, grey(100), 30, grey(119))
    assert result.iterations.tolist() == [0]
    assert result.within.tolist() == [True]
    assert torch.equal((255 * result.images).round(), 255 * grey(119))


def test_a_frame_is_not_given_up_before_all_has_been_tried() -> None:
    model, reading = told(120)
    # From 110 it takes 9 steps of a level to within a level and a half, which are asked for at steps 0, 4, 8 ...
    chain = Chain(iterations=4, step=SignStep())
    result = link(chain, model, reading, grey(100), 30, grey(110))
    assert result.iterations.tolist() == [4 + 8]
    # With quarter steps it gets nowhere: 4 steps to 111, 8 more to 113, then afresh from 100, 20 steps.
    chain = Chain(iterations=4, step=QUARTER)
    result = link(chain, model, reading, grey(100), 30, grey(110))
    assert result.iterations.tolist() == [4 + 8 + 20]
    assert result.within.tolist() == [True]
    # Afresh with 12 steps to 112, and on with 24 more: 8 of them.
    result = link(chain, model, reading, grey(100), 12, grey(110))
    assert result.iterations.tolist() == [4 + 8 + 12 + 8]
    assert result.within.tolist() == [True]
    assert result.final_losses()["judged"].tolist() == [0.0]
    # And if nothing helps, that is said, and the first of the best is kept.
    result = link(chain, model, reading, grey(100), 2, grey(110))
    assert result.iterations.tolist() == [2 + 4 + 2 + 4]
    assert result.within.tolist() == [False]
    assert result.errors["judged"].iou.tolist() == [0.0]


def test_without_a_tolerance_nothing_is_tried_twice() -> None:
    model, reading = told(120)
    attacker = IFGSMAttacker([model], epsilon=0.2, max_iterations=3, step=SignStep())
    mask = torch.ones(1, 1, SIZE, SIZE)
    (result,) = Chain(iterations=2).attack(
        attacker,
        grey(100),
        {"judged": reading},
        reading,
        mask=mask,
        numbers=[1],
        previous=[PreviousFrame(grey(110), model.box)],
    )
    assert result.iterations.tolist() == [2]
    with pytest.raises(ValueError, match="only attacks with a tolerance can be compared"):
        result.retried(result)


def test_of_two_attempts_the_nearer_is_kept_frame_by_frame() -> None:
    class Ruler(Judged):
        def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
            off = 255 * (images.mean(dim=(1, 2, 3)) - self.wanted)
            return [Faces(self.box + x, torch.ones(1)) for x in off.tolist()]

    model, reading = told(120)
    ruler = Ruler((0.0, 0.0, 100.0, 100.0))
    ruler.wanted = model.wanted
    wanted = [reading[0].replace(boxes=ruler.box)] * 2
    attacker = IFGSMAttacker([ruler], epsilon=0.2, max_iterations=0, until=Tolerance(iou=0.99))
    first = attacker(torch.cat([grey(110), grey(117)]), wanted)
    again = attacker(torch.cat([grey(115), grey(120)]), wanted)
    best = first.retried(attacker(torch.cat([grey(118), grey(112)]), wanted)).retried(again)
    assert (255 * best.images[:, 0, 0, 0]).round().tolist() == [118.0, 120.0]
    assert best.within is not None
    assert best.within.tolist() == [False, True]
    assert best.best.tolist() == [1, 2]
    expected = [3 * SIZE**2 * (d / 255) ** 2 / 2 for d in (2, 0)]
    assert best.final_losses()["ruler"].tolist() == pytest.approx(expected, abs=1e-5)
