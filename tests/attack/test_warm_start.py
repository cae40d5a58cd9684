from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import Pixels, PixelTarget, painted, seen_on

from deidlib import AttackResult, Faces, IFGSMAttacker, Pixelate, RetinaFace, SignStep, Solid, WarmStart
from deidlib.attack.distortions import H264
from deidlib.attack.steps import APGDStep
from deidlib.attack.warm_start import PreviousFrame
from deidlib.media import VideoReader, VideoWriter
from deidlib.metrics import difference
from deidlib.protect.deidentifier import Deidentifier
from deidlib.tracking import FaceTracker

SIZE = 16
EPSILON = 8 / 255


class Placed(Pixels):
    """Finds a face where the frame's first pixel says, none where it is black."""

    def __init__(self) -> None:
        super().__init__()
        self.losses = 0

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        found = []
        for image in images:
            x = 10 * float(image[0, 0, 0])
            found.append(Faces(torch.tensor([[x, 4.0, x + 8, 12.0]]), torch.ones(1)) if x else Faces.empty())
        return seen_on(images, found)

    def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
        self.losses += len(images)
        return super().loss(images, target)


def clip(places: Sequence[float]) -> Tensor:
    """Grey noise; where its face is, is in the first pixel."""
    frames = torch.randint(100, 140, (len(places), 3, SIZE, SIZE)) / 255
    frames[:, :, 0, 0] = torch.tensor(places)[:, None] / 10
    return frames


def protect(frames: Tensor, size: int, warm_start: WarmStart | None, model: Placed | None = None) -> Tensor:
    attacker = IFGSMAttacker([model or Placed()], epsilon=EPSILON, max_iterations=6)
    protector = Deidentifier(
        attacker, Solid((0.5, 0.5, 0.5)), warm_start=warm_start, tracker=FaceTracker(smoothing=0, hold=0)
    )
    return torch.cat([batch.images for batch in protector.frames(torch.split(frames, size))])


# Where a frame starts


def test_a_frame_starts_from_the_one_before_it_within_its_own_ball() -> None:
    frames = clip([5.0, 5.2, 5.4])
    # Without a step of their own, frames are what they start from.
    first, *others = protect(frames, 3, WarmStart(iterations=0))
    (hidden,) = Deidentifier(
        IFGSMAttacker([Placed()], max_iterations=0), Solid((0.5, 0.5, 0.5)), tracker=FaceTracker(smoothing=0)
    ).frames([frames])
    region = [known.boxes[0] for known in Placed().predict(frames)]
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
    warm, cold = protect(frames, 1, WarmStart(iterations=0)), protect(frames, 1, None)
    # With no step for those that follow another, only a frame that starts afresh can be what it is without all this.
    assert torch.equal(warm[-1], cold[-1])


@pytest.mark.parametrize("size", [2, 3, 7])
def test_batches_do_not_matter(size: int) -> None:
    frames = clip([5.0, 5.1, 5.2, 0.0, 5.3, 5.4, 1.0])
    whole = protect(frames, 1, WarmStart(iterations=2))
    assert torch.equal(protect(frames, size, WarmStart(iterations=2)), whole)
    assert not torch.equal(protect(frames, size, None), whole)


def test_fewer_steps() -> None:
    model = Placed()
    protect(clip([5.0] * 4), 2, WarmStart(iterations=2), model)
    # One evaluation more than steps: the result is evaluated, too.
    assert model.losses == (6 + 1) + 3 * (2 + 1)


def test_a_newcomer_is_given_more_steps_and_the_others_keep_theirs() -> None:
    class Two(Placed):
        def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
            found = super().predict(images, faces)
            late = [
                Faces(torch.tensor([[8.0, 0.0, 16.0, 8.0]]), torch.ones(1)) if x > 0.5 else None
                for x in images[:, 1, 0, 0]
            ]
            both = [
                known if other is None else Faces(torch.cat([known.boxes, other.boxes]), torch.ones(2))
                for known, other in zip(found, late, strict=True)
            ]
            return seen_on(images, both)

    frames = clip([0.5] * 3)
    frames[:, 1, 0, 0] = torch.tensor([0.0, 1.0, 1.0])
    model = Two()
    images = protect(frames, 3, WarmStart(iterations=0, newcomers=2), model)
    assert model.losses == (6 + 1) + (2 + 1) + (0 + 1)
    # Without a step, what the second frame shows of the first face is what the first showed.
    still = protect(frames, 3, WarmStart(iterations=0, newcomers=0), Two())
    assert torch.equal(still[1][:, 5:11, 1:7], still[0][:, 5:11, 1:7])
    assert not torch.equal(images[1][:, 1:6, 9:15], still[1][:, 1:6, 9:15])


def test_never_more_steps_than_the_attacker_takes() -> None:
    attacker = IFGSMAttacker([Placed()], max_iterations=3)
    warm = WarmStart(iterations=10, step=SignStep(0.25 / 255))
    assert warm.attacker(attacker).max_iterations == 3
    assert warm.attacker(attacker, effort=4).max_iterations == 12
    assert WarmStart(iterations=1, newcomers=2).attacker(attacker, new_faces=True).max_iterations == 2
    assert warm.attacker(attacker).step == SignStep(0.25 / 255)
    assert warm.attacker(attacker).models is attacker.models


def test_who_follows_whom() -> None:
    image = torch.zeros(1, 3, SIZE, SIZE)

    def faces(*boxes: tuple[float, float, float, float]) -> Faces:
        return Faces(torch.tensor(boxes).reshape(-1, 4).float(), torch.ones(len(boxes)))

    # Two squares of side 8, two apart: they share 6 of 10 columns.
    before = PreviousFrame(image, faces((0, 0, 8, 8)).boxes)
    beside = faces((2, 0, 10, 8))
    assert WarmStart(overlap=0.6).same_faces(before, beside).tolist() == [True]
    assert WarmStart(overlap=0.61).same_faces(before, beside).tolist() == [False]
    two = faces((0, 0, 8, 8), (8, 8, 16, 16))
    assert WarmStart().same_faces(PreviousFrame(image, two.boxes), faces((0, 0, 8, 8))).tolist() == [True]
    assert WarmStart().same_faces(before, two).tolist() == [True, False]
    assert WarmStart().same_faces(PreviousFrame(image, faces().boxes), beside).tolist() == [False]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"iterations must be >= 0 steps, got -1"):
        WarmStart(iterations=-1)
    with pytest.raises(ValueError, match=r"newcomers must be >= 0 steps, got -2"):
        WarmStart(newcomers=-2)
    with pytest.raises(ValueError, match=r"overlap is an IoU in \[0, 1\], got 1.5"):
        WarmStart(overlap=1.5)


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

    def stored(warm_start: WarmStart | None) -> tuple[Tensor, int]:
        attacker = IFGSMAttacker([model], max_iterations=30, step=APGDStep(), distortions=[H264(23)])
        protector = Deidentifier(attacker, Pixelate(blocks=4), warm_start=warm_start)
        (batch,) = protector.frames([frames], faces=truth)
        assert batch.attack is not None
        path = tmp_path / f"{warm_start is None}.mp4"
        with VideoWriter(path, Fraction(30), (frames.shape[2], frames.shape[3]), codec="h264", quality=23) as writer:
            writer.write(batch.images)
        with VideoReader(path) as written:
            images = torch.cat([part.images for part in written.batches(8)])
        return read(model, images, truth), int(batch.attack.iterations.sum())

    # Both are told of the codec; what differs is where they start.
    (warm, few), (cold, many) = stored(WarmStart()), stored(None)
    assert few <= 30 + (count - 1) * 20 < many == count * 30
    assert float(warm.mean()) >= 0.94
    # No worse with a third of the steps; here 0.967 against 0.948.
    assert float(warm.mean()) > float(cold.mean()) - 0.01
