from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deidlib.faces import Faces
from deidlib.tracking import FaceTracker, TrackedFrame

HEIGHT, WIDTH = 400, 600
Box = Sequence[float]


def faces(*boxes: Box) -> Faces:
    return Faces(torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), torch.ones(len(boxes)))


def square(x: float, y: float = 200.0, size: float = 40.0) -> list[float]:
    return [x - size / 2, y - size / 2, x + size / 2, y + size / 2]


def track(
    tracker: FaceTracker, frames: Sequence[Faces], height: int = HEIGHT, width: int = WIDTH
) -> list[TrackedFrame]:
    return list(tracker.track(frames, height, width))


def treatments(tracker: FaceTracker, frames: Sequence[Faces]) -> list[str]:
    return [frame.treatment for frame in track(tracker, frames)]


def places(frame: TrackedFrame) -> torch.Tensor:
    return torch.cat([frame.found.boxes, frame.others.boxes])


def hides(frame: TrackedFrame, box: Box, height: int = HEIGHT, width: int = WIDTH) -> bool:
    """Whether every point of a box is hidden: exact, on the grid that the edges of the places make."""
    if frame.treatment == "whole-frame":
        return True
    hidden = places(frame).numpy()
    left, top, right, bottom = np.clip(box, 0, [width, height, width, height])

    def middles(low: float, high: float, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        cuts = np.unique(np.concatenate([[low, high], edges[(edges > low) & (edges < high)]]))
        return np.asarray((cuts[1:] + cuts[:-1]) / 2)

    x = middles(left, right, hidden[:, [0, 2]].ravel())[:, None, None]
    y = middles(top, bottom, hidden[:, [1, 3]].ravel())[None, :, None]
    inside = (x > hidden[:, 0]) & (x < hidden[:, 2]) & (y > hidden[:, 1]) & (y < hidden[:, 3])
    return bool(inside.any(axis=2).all())


def described(frame: TrackedFrame) -> tuple[Any, ...]:
    return (frame.treatment, *(part.boxes.tolist() for part in (frame.found, frame.filled, frame.held, frame.smoothed)))


coordinate = st.floats(-50, 650, allow_nan=False, width=32)
side = st.floats(0, 300, allow_nan=False, width=32)
some_box = st.builds(lambda x, y, w, h: [x, y, x + w, y + h], coordinate, coordinate, side, side)
clips = st.lists(st.lists(some_box, max_size=3).map(lambda boxes: faces(*boxes)), max_size=25)
trackers = st.builds(
    FaceTracker,
    window=st.integers(2, 6),
    hold=st.integers(0, 5),
    on_missing=st.sampled_from(["hold", "whole-frame", "error", "keep"]),
    after_hold=st.sampled_from(["stay", "drop", "whole-frame"]),
    smoothing=st.integers(0, 1),
)


@settings(max_examples=60, deadline=None)
@given(trackers, clips)
def test_whatever_comes_nothing_found_is_shown_and_no_frame_is_left_by_accident(
    tracker: FaceTracker, frames: list[Faces]
) -> None:
    result = track(tracker, frames)
    assert len(result) == len(frames)
    limit = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    for before, after in zip(frames, result, strict=True):
        assert after.found is before
        assert all(hides(after, box) for box in before.boxes.tolist() if after.treatment != "missing")
        beside = after.others.boxes
        assert bool((beside >= 0).all() and (beside <= limit).all() and (beside[:, 2:] > beside[:, :2]).all())
        if after.treatment in ("found", "filled", "held"):
            cut = torch.minimum(places(after).clamp(min=0), limit)
            assert bool((cut[:, 2:] > cut[:, :2]).all(dim=1).any()), "a part of the frame is hidden"
        else:
            assert after.treatment == {"keep": "kept", "error": "missing"}.get(tracker.on_missing, "whole-frame") or (
                after.treatment == "whole-frame" and tracker.after_hold == "whole-frame"
            )


@settings(max_examples=40, deadline=None)
@given(trackers, clips, st.integers(0, 25))
def test_a_frame_depends_on_no_frame_beyond_the_window_and_is_no_later(
    tracker: FaceTracker, frames: list[Faces], cut: int
) -> None:
    whole = [described(frame) for frame in track(tracker, frames)]
    tracking = tracker.start(HEIGHT, WIDTH)
    early: list[TrackedFrame] = []
    for number, known in enumerate(frames[:cut]):
        early += tracking.push(known)
        assert len(early) == max(number + 1 - tracker.window, 0)
    assert [described(frame) for frame in early] == whole[: len(early)]
    # However the rest comes.
    late = [frame for known in frames[cut:] for frame in tracking.push(known)] + tracking.flush()
    assert [described(frame) for frame in early + late] == whole


def motion(seed: int, length: int) -> NDArray[np.float64]:
    """Boxes of a face of about 100 pixels: edges change velocity by up to 4 pixels, the middle moves by 16 at most."""
    generator = np.random.default_rng(seed)
    size = 100.0
    # Half of the change for the middle and half for the size, in units of the smallest size that there is.
    steps = np.zeros((length, 3))
    for t in range(1, length):
        change = generator.choice([-1, 1], 3) * generator.uniform(0.5, 1, 3) * [2.4, 2.4, 1.6]
        steps[t] = np.clip(steps[t - 1] + change, [-11, -11, -1.6], [11, 11, 1.6])
    x, y = 5000 + np.cumsum(steps[:, :2], axis=0).T
    half = np.clip(size + np.cumsum(steps[:, 2]), 80, 120) / 2
    half = np.full(length, size / 2) if seed % 2 else half
    return np.stack([x - half, y - half, x + half, y + half], axis=1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_a_face_missed_for_up_to_a_window_is_covered_wherever_it_went(seed: int, data: st.DataObject) -> None:
    window = data.draw(st.integers(2, 15))
    boxes = motion(seed, 60)
    assert np.abs(np.diff(boxes, n=2, axis=0)).max() <= 0.04 * 100
    seen, t = [], 0
    while t < len(boxes):
        seen.append(t)
        t += data.draw(st.integers(1, window))
    frames = [faces(boxes[t].tolist()) if t in seen else faces() for t in range(seen[-1] + 1)]
    result = track(FaceTracker(window=window, smoothing=0), frames, 10_000, 10_000)
    for box, frame in zip(boxes, result, strict=False):
        assert frame.treatment in ("found", "filled")
        assert hides(frame, box.tolist(), 10_000, 10_000)


def test_the_place_filled_in_is_the_chord_grown_by_what_acceleration_may_do() -> None:
    frames = [faces(square(100)), faces(), faces(), faces(), faces(square(120, size=80))]
    result = track(FaceTracker(smoothing=0), frames)
    # Of twice the size, it is another face.
    assert [frame.treatment for frame in result] == ["found", "held", "held", "held", "found"]
    assert [len(frame.held) for frame in result] == [1, 2, 2, 2, 1]
    frames[4] = faces(square(120, size=48))
    for frame, since in zip(track(FaceTracker(smoothing=0), frames)[1:4], (1, 2, 3), strict=True):
        growth = 48 * (0.1 + 0.02 * since * (4 - since))
        expected = square(100 + 5 * since, size=40 + 2 * since + 2 * growth)
        assert frame.filled.boxes[0].tolist() == pytest.approx(expected)
        assert len(frame.others) == 1


@pytest.mark.parametrize("speed", [10.0, 32.0, 60.0])
def test_a_face_that_moves_fast_is_not_lost(speed: float) -> None:
    """Up to one and a half times its size per frame, so that its boxes do not overlap."""
    missed = {4, 5, 6, 9}
    boxes = [square(50 + speed * t, size=40) for t in range(12)]
    frames = [faces() if t in missed else faces(box) for t, box in enumerate(boxes)]
    result = track(FaceTracker(), frames, HEIGHT, 1000)
    assert {result[t].treatment for t in missed} == {"filled"}
    assert all(hides(frame, box, HEIGHT, 1000) for box, frame in zip(boxes, result, strict=True))


@pytest.mark.parametrize("lost", [(8, 12), (6, 14), (9, 10)])
@pytest.mark.parametrize("who", ["one", "other", "both"])
@pytest.mark.parametrize("apart", [0.0, 10.0, 60.0])
def test_faces_that_cross_stay_hidden(lost: tuple[int, int], who: str, apart: float) -> None:
    one = [square(100 + 10 * t, 200) for t in range(21)]
    other = [square(300 - 10 * t, 200 + apart) for t in range(21)]
    frames = []
    for t in range(21):
        away = lost[0] <= t <= lost[1]
        shown = [one[t]] * (not (away and who in ("one", "both"))) + [other[t]] * (
            not (away and who in ("other", "both"))
        )
        frames.append(faces(*shown))
    for t, frame in enumerate(track(FaceTracker(), frames)):
        assert hides(frame, one[t]), t
        assert hides(frame, other[t]), t


def test_neighbours_found_in_turn_stay_both_hidden() -> None:
    """A match by nearness alone would take the one for the other."""
    left, right = square(200), square(245)
    result = track(FaceTracker(), [faces(right if t % 2 else left) for t in range(20)])
    assert all(hides(frame, left) and hides(frame, right) for frame in result)


def test_a_place_is_held_before_and_after_and_grows() -> None:
    frames = [faces() for _ in range(40)]
    frames[15] = faces(square(300))
    result = track(FaceTracker(window=10, hold=20), frames)
    assert [frame.treatment for frame in result] == (
        ["whole-frame"] * 5 + ["held"] * 10 + ["found"] + ["held"] * 20 + ["whole-frame"] * 4
    )
    for age in range(1, 21):
        growth = 40 * (0.1 + min(0.03 * age, 0.4))
        expected = pytest.approx(square(300, size=40 + 2 * growth))
        assert result[15 + age].held.boxes.tolist() == [expected]
        assert age > 10 or result[15 - age].held.boxes.tolist() == [expected]


def test_a_place_that_is_held_moves_on_as_the_face_did() -> None:
    frames = [faces(square(100 + 10 * t)) for t in range(5)] + [faces() for _ in range(6)]
    after = track(FaceTracker(), frames)
    before = track(FaceTracker(), frames[::-1])[::-1]
    for result in (after, before):
        for t in range(5, 11):
            assert hides(result[t], square(100 + 10 * t))
            assert hides(result[t], square(140)), "it may have stopped as well"


LATE = 5


def lost_beside_another(count: int, speed: float = 0.0) -> list[Faces]:
    here = square(500)
    return [faces(here, square(200 - speed * t)) if t < count else faces(here) for t in range(60)]


def test_a_face_lost_for_long_beside_another_stays_hidden_unless_told_otherwise() -> None:
    frames, place = lost_beside_another(20), square(200)
    tracker = FaceTracker(hold=LATE)
    for after_hold, hidden, treatment in (
        ("stay", True, "found"),
        ("drop", False, "found"),
        ("whole-frame", True, "whole-frame"),
    ):
        result = track(replace(tracker, after_hold=after_hold), frames)  # type: ignore[arg-type]
        assert all(hides(frame, place) for frame in result[: 20 + LATE])
        assert {hides(frame, place) for frame in result[20 + LATE :]} == {hidden}
        assert {frame.treatment for frame in result[20 + LATE :]} == {treatment}
    (held,) = track(tracker, frames)[-1].held.boxes.tolist()
    assert held == square(200, size=60)


def test_a_place_stays_no_longer_than_until_a_face_is_found_there() -> None:
    frames = lost_beside_another(20)
    frames[50] = faces(square(500), square(205))
    result = track(FaceTracker(window=4, hold=LATE), frames)
    assert [len(frame.held) for frame in result[44:60]] == [1, 1, 2, 2, 2, 2] + [0] + [1] * LATE + [0] * 4


def test_a_place_does_not_stay_for_a_face_that_left_or_was_hardly_seen() -> None:
    left = track(FaceTracker(hold=LATE), lost_beside_another(20, speed=9.0))
    hardly = track(FaceTracker(hold=LATE), lost_beside_another(3))
    for result in (left, hardly):
        assert {len(frame.held) for frame in result[20 + LATE + 1 :]} == {0}
    assert len(hardly[3].held) == 1


def test_places_that_stay_hide_no_frame_in_which_nothing_is_found() -> None:
    frames = [faces(square(200)) for _ in range(20)] + [faces() for _ in range(20)]
    assert treatments(FaceTracker(hold=LATE), frames)[20:] == ["held"] * LATE + ["whole-frame"] * 15
    # Who wants frames kept is told of no place that is known either.
    assert treatments(FaceTracker(hold=LATE, on_missing="keep"), frames)[20:] == ["held"] * 20


@pytest.mark.parametrize(
    ("on_missing", "expected"),
    [
        ("hold", ["whole-frame", "held", "found", "filled", "found", "held", "whole-frame"]),
        ("whole-frame", ["whole-frame", "whole-frame", "found", "filled", "found", "whole-frame", "whole-frame"]),
        ("error", ["missing", "missing", "found", "filled", "found", "missing", "missing"]),
        ("keep", ["kept", "held", "found", "filled", "found", "held", "kept"]),
    ],
)
def test_what_happens_to_frames_without_a_face(on_missing: Any, expected: list[str]) -> None:
    frames = [faces(), faces(), faces(square(200)), faces(), faces(square(200)), faces(), faces()]
    assert treatments(FaceTracker(window=2, hold=1, on_missing=on_missing, smoothing=0), frames) == (
        expected if on_missing in ("whole-frame", "error") else ["held", *expected[1:]]
    )
    assert treatments(FaceTracker(window=1, hold=1, on_missing=on_missing, smoothing=0), frames)[0] == expected[0]


def test_a_region_is_smoothed_and_never_smaller_than_the_face_found() -> None:
    generator = np.random.default_rng(0)
    boxes = np.array([square(200 + t) for t in range(60)]) + generator.normal(0, 2, (60, 4))
    frames = [faces(box) for box in boxes.tolist()]
    result = track(FaceTracker(smoothing=3), frames)
    smooth = np.stack([frame.smoothed.boxes[0].numpy() for frame in result])
    assert (smooth[:, :2] <= boxes[:, :2]).all()
    assert (smooth[:, 2:] >= boxes[:, 2:]).all()
    trembling = np.abs(np.diff(boxes, n=2, axis=0)).mean()
    assert np.abs(np.diff(smooth, n=2, axis=0)).mean() < trembling / 8
    assert np.abs(smooth - boxes).max() < 20
    assert not any(len(frame.smoothed) for frame in track(FaceTracker(smoothing=0), frames))


def test_a_face_at_rest_needs_no_smoothing() -> None:
    assert all(len(frame.others) == 0 for frame in track(FaceTracker(), [faces(square(200))] * 20))


def test_faces_found_come_back_as_they_were_with_landmarks() -> None:
    known = Faces(torch.tensor([square(200.0)]), torch.ones(1), landmarks=torch.rand(1, 5, 2))
    frames = [known, Faces.empty(), known]
    result = track(FaceTracker(), frames)
    assert all(frame.found is before for frame, before in zip(result, frames, strict=True))
    assert result[1].others.boxes.dtype == torch.float32
    assert result[1].others.landmarks is None


def test_a_face_outside_the_frame_is_none() -> None:
    outside, flat = faces([-50, 10, -20, 40]), faces([10, 10, 10, 40])
    assert treatments(FaceTracker(), [outside, flat]) == ["whole-frame", "whole-frame"]


def test_memory_does_not_grow_with_the_clip() -> None:
    generator = np.random.default_rng(0)
    tracking = FaceTracker(window=5, hold=5).start(HEIGHT, WIDTH)
    known: list[int] = []
    for _ in range(600):
        spots = generator.uniform(0, 400, (generator.integers(0, 3), 2)).tolist()
        tracking.push(faces(square(300), *(square(x, y) for x, y in spots)))
        known.append(sum(len(track.seen) for track in tracking._tracks) + len(tracking._links) + len(tracking._waiting))
    assert max(known[300:]) <= 1.25 * max(known[:300]) < 400


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": -1}, "window=-1"),
        ({"window": 3, "smoothing": 2}, "2 \\* smoothing"),
        ({"smoothing": -1}, "smoothing=-1"),
        ({"hold": -1}, "hold must be >= 0 frames, got -1"),
        ({"on_missing": "guess"}, "on_missing must be 'hold', .* got 'guess'"),
        ({"after_hold": "guess"}, "after_hold must be 'stay', .* got 'guess'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceTracker(**wrong)
