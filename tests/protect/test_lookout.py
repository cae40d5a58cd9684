"""Who looks when, and that it hides no less than if everybody looked at every frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from clips import make_video
from footage import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import astronaut
from torch import Tensor
from toys import Sees, boxed

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.presets import recommended_detectors
from deidlib.faces import Faces
from deidlib.geometry.quarter_turn import QuarterTurn
from deidlib.images import from_pixels
from deidlib.media import read_image
from deidlib.models.base import FaceModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.turned import Turned
from deidlib.obfuscate import Solid
from deidlib.protect.batches import DetectedBatch, FaceCount
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.image import protect_image
from deidlib.protect.lookout import Lookout
from deidlib.protect.video import protect_video

Box = Sequence[float]
HERE, THERE, ELSEWHERE = (10, 10, 40, 40), (60, 60, 90, 90), (10, 60, 40, 90)


class Reports:
    """Finds what a script says of a frame, whose number is its one pixel; remembers at which it looked."""

    task: Literal["boxes", "landmarks", "gaze"] = "boxes"

    def __init__(self, script: Mapping[int, Sequence[Box]] | Callable[[int], Sequence[Box]], name: str = "b") -> None:
        self.script = script if callable(script) else lambda number: script.get(number, ())
        self.name, self.looked = name, list[int]()

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        assert len(images) == 1
        self.looked.append(round(255 * float(images[0, 0, 0, 0])))
        return [boxed(*self.script(self.looked[-1]))]


def batches(watched: Sequence[Sequence[Box]], sizes: Sequence[int] = (1,)) -> list[DetectedBatch]:
    """Frames in which whoever watches finds these boxes, in batches of these sizes in turn."""
    result, first = list[DetectedBatch](), 0
    while first < len(watched):
        mine = watched[first : first + sizes[len(result) % len(sizes)]]
        levels = torch.arange(first, first + len(mine), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 1, 1)
        counts = [FaceCount({"a": len(boxes)}) for boxes in mine]
        found = [boxed(*boxes) for boxes in mine]
        result.append(DetectedBatch(first, levels, (100, 100), found, [{}] * len(mine), counts=counts, complete=False))
        first += len(mine)
    return result


def searched(
    lookout: Lookout, watched: Sequence[Sequence[Box]], *models: Any, part: int = 64, sizes: Sequence[int] = (1,)
) -> tuple[list[Faces], list[FaceCount]]:
    out = list(lookout.over(batches(watched, sizes), models, part=part))
    assert all(batch.complete for batch in out)
    assert [batch.first for batch in out] == [batch.first for batch in batches(watched, sizes)]
    return [faces for batch in out for faces in batch.faces], [count for batch in out for count in batch.counts]


# When


def test_where_nothing_happens_they_look_every_few_frames_and_at_the_last() -> None:
    second = Reports({})
    searched(Lookout(every=4), [[HERE]] * 11, second)
    assert sorted(second.looked) == [0, 4, 8, 10]
    # A part of the clip is looked at as if it were all there is.
    second = Reports({})
    searched(Lookout(every=4), [[HERE]] * 14, second, part=6)
    assert sorted(second.looked) == [0, 4, 5, 6, 10, 11, 12, 13]


@pytest.mark.parametrize(
    ("watched", "looked"),
    [
        # A face comes, and goes.
        ([[HERE]] * 2 + [[HERE, THERE]] * 2 + [[HERE]] * 5, [0, 2, 4, 8]),
        # One is lost, and found again.
        ([[HERE]] * 3 + [[]] + [[HERE]] * 5, [0, 3, 4, 8]),
        # A cut: a face, but somewhere else.
        ([[HERE]] * 3 + [[THERE]] * 6, [0, 3, 8]),
        ([[]] * 9, list(range(9))),
    ],
)
def test_they_look_where_faces_come_or_go_or_are_missed(watched: list[list[Box]], looked: list[int]) -> None:
    second = Reports({})
    searched(Lookout(every=8), watched, second)
    assert sorted(second.looked) == looked


def test_who_finds_something_looks_at_all_frames_around() -> None:
    second, third = Reports({4: [THERE], 5: [THERE]}), Reports({})
    faces, counts = searched(Lookout(every=4), [[HERE]] * 13, second, third)
    # Frame 4 is known to both sides of it; the next does not know.
    assert sorted(second.looked) == [*range(9), 12]
    assert sorted(third.looked) == [0, 4, 8, 12]
    assert [len(known) for known in faces] == [1, 1, 1, 1, 2, 2, *[1] * 7]
    assert counts[5] == FaceCount({"a": 1, "b": 1})
    assert not counts[5].disputed, "each finds one, if not the same"
    assert counts[6] == FaceCount({"a": 1, "b": 0})
    assert counts[6].disputed


def test_who_sees_a_face_reach_farther_looks_at_all_frames_around() -> None:
    """What lies on its side is seen upright as less than it is, in the frames between two looks, too."""
    larger = (10, 8, 50, 68)
    second = Reports({i: [larger] for i in range(3, 7)})
    faces, _ = searched(Lookout(every=4), [[(10, 10, 50, 50)]] * 13, second)
    assert sorted(second.looked) == [*range(9), 12]
    assert [known.boxes[0].tolist() == list(larger) for known in faces] == [3 <= i < 7 for i in range(13)]


def test_every_frame_if_told_so_and_upright_only_if_told_so() -> None:
    second = Reports({})
    searched(Lookout(every=1), [[HERE]] * 5, second)
    assert sorted(second.looked) == [0, 1, 2, 3, 4]
    a, b = Reports({}, "a"), Reports({}, "b")
    assert [model.name for model in Lookout(turns=()).looks([a, b], a)] == ["b"]
    assert [model.name for model in Lookout(turns=(2,)).looks([a, b], a)] == ["b", "a turned by 180", "b turned by 180"]


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 20),
    st.lists(st.booleans(), min_size=1, max_size=40),
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=40, max_size=40),
)
def test_what_is_there_for_so_many_frames_is_found_in_each_of_them(
    every: int, part: int, watched: list[bool], others: list[tuple[bool, bool]]
) -> None:
    b = Reports(lambda number: [THERE] if others[number][0] else [], "b")
    c = Reports(lambda number: [ELSEWHERE] if others[number][1] else [], "c")
    faces, _ = searched(Lookout(every=every), [[HERE] if seen else [] for seen in watched], b, c, part=part)
    for place, who in ((THERE, 0), (ELSEWHERE, 1)):
        keys = [(others[number][who], number // part) for number in range(len(watched))]
        for (there, _), run in groupby(range(len(watched)), keys.__getitem__):
            frames = list(run)
            if there and len(frames) >= every:
                assert all([*map(float, place)] in faces[number].boxes.tolist() for number in frames)
    # No frame is asked about twice.
    assert len(b.looked) == len(set(b.looked))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 20),
    st.lists(st.lists(st.sampled_from([HERE, THERE]), max_size=2, unique=True), min_size=1, max_size=40),
    st.lists(st.booleans(), min_size=40, max_size=40),
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
)
def test_batches_do_not_matter_and_parts_not_to_each_other(
    every: int, part: int, watched: list[list[Box]], others: list[bool], sizes: list[int]
) -> None:
    def run(watched: list[list[Box]], first: int, sizes: Sequence[int] = (1,)) -> list[list[Box]]:
        second = Reports(lambda number: [ELSEWHERE] if others[number + first] else [])
        return [known.boxes.tolist() for known in searched(Lookout(every), watched, second, part=part, sizes=sizes)[0]]

    whole = run(watched, 0)
    assert run(watched, 0, sizes) == whole
    parts = [run(watched[first : first + part], first) for first in range(0, len(watched), part)]
    assert [frame for one in parts for frame in one] == whole


def test_frames_wait_no_longer_than_to_the_next_look() -> None:
    taken = 0

    def coming() -> Any:
        nonlocal taken
        for batch in batches([[HERE]] * 20):
            taken += 1
            yield batch

    late = [taken - batch.first for batch in Lookout(every=4).over(coming(), [Reports({})], part=64)]
    assert max(late) == 5


def test_what_is_recorded_is_not_looked_at_again() -> None:
    second = Reports({0: [THERE]})
    known = [DetectedBatch(0, None, (100, 100), [boxed(HERE)] * 3, [{}] * 3, counts=[FaceCount({"a": 1}, 2)] * 3)]
    (batch,) = Lookout().over(known, [second], part=64)
    assert second.looked == []
    assert [len(faces) for faces in batch.faces] == [1, 1, 1]
    assert list(batch.counts) == [FaceCount({"a": 1}, 2)] * 3


@pytest.mark.parametrize(("wrong", "message"), [({"every": 0}, "at least 1 frame"), ({"turns": (4,)}, "got \\(4,\\)")])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lookout(**wrong)


# What


def test_a_face_seen_better_has_a_larger_place() -> None:
    # Of the second box, 46 of 60 rows lie in the first one's region, a tenth larger on each side.
    faces, counts = searched(Lookout(), [[(10, 10, 50, 50)]], Reports({0: [(10, 8, 50, 68)]}))
    assert faces[0].boxes.tolist() == [[10, 8, 50, 68]]
    assert counts[0].turned == 0
    # All of this one but a row of 42.
    faces, _ = searched(Lookout(), [[(10, 10, 50, 50)]], Reports({0: [(10, 13, 50, 55)]}))
    assert faces[0].boxes.tolist() == [[10, 10, 50, 50]]


def test_only_what_upright_frames_do_not_show_counts_as_turned() -> None:
    upright, turned = Reports({0: [THERE]}, "b"), Turned(Reports({0: [(10, 10, 40, 40)]}, "b"), QuarterTurn(2))
    # The frame is a pixel in size here: half a turn takes a box to the other side of (0.5, 0.5).
    faces, counts = searched(Lookout(), [[HERE]], upright, turned, turned)
    assert faces[0].boxes.tolist() == [list(HERE), list(THERE), [-39, -39, -9, -9]]
    assert counts == [FaceCount({"a": 1, "b": 1}, turned=1)]


# In clips and pictures


def lying(left: int) -> Tensor:
    """The astronaut upright, and upside down beside herself."""
    face = from_pixels(astronaut()[:300, 60:400])
    frame = torch.full((3, 320, 720), 0.43)
    frame[:, :300, 5:345], frame[:, 10:310, left : left + 340] = face, QuarterTurn(2).image(face)
    return frame


def test_a_face_upside_down_beside_an_upright_one_is_hidden(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "in.mkv", torch.stack([lying(350)] * 3))
    attacker = IFGSMAttacker([MTCNN()], max_iterations=0)
    summary = protect_video(Deidentifier(attacker), clip, tmp_path / "out.mkv", check=None)
    assert (summary.found, summary.turned, summary.fewest, summary.most) == (3, 3, 2, 2)
    again = Deidentifier(attacker, lookout=None)
    upright = protect_video(again, clip, tmp_path / "upright.mkv", check=None)
    assert (upright.found, upright.turned, upright.most) == (3, 0, 1)


def test_a_resumed_clip_is_looked_at_as_one_that_was_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deidlib.protect.deidentifier._PART", 4)
    clip = make_video(tmp_path / "in.mkv", torch.stack([torch.full((3, 64, 64), k / 255) for k in range(0, 80, 8)]))

    def of_brightness(image: Tensor, number: int) -> list[Box]:
        level = round(255 * float(image.mean()))
        return [(8, 8, 24, 24)] if level % 16 else [(8, 8, 24, 24), (40, 8, 56, 24)]

    second = Sees(lambda image, number: [(8, 40, 24, 56)] if image.mean() > 0.1 else [])
    first = Sees(of_brightness)

    def run(target: Path, size: int, stop: int | None = None) -> bytes:
        def progress(frames: int) -> None:
            nonlocal stop
            if stop is not None and (stop := stop - frames) <= 0:
                raise KeyboardInterrupt

        protector = Deidentifier(IFGSMAttacker({"a": first}, max_iterations=1), Solid(), detectors=[first, second])
        summary = protect_video(protector, clip, target, check=None, batch_size=size, progress=progress)
        assert summary.most is not None
        assert summary.most >= 3
        return target.read_bytes()

    whole = run(tmp_path / "whole.mkv", 2)
    assert run(tmp_path / "other.mkv", 4) == whole
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.mkv", 2, stop=6)
    assert run(tmp_path / "cut.mkv", 2) == whole


PICTURES = ("astronaut", "group02", "portrait00", "portrait01")


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("name", PICTURES)
def test_every_face_that_any_detector_finds_in_any_turn_is_hidden(name: str, quarters: int, tmp_path: Path) -> None:
    photo = SHARED / "media" / f"{name}.jpg"
    if name != "astronaut" and not photo.is_file():
        pytest.skip(f"needs {photo}")
    picture = from_pixels(astronaut())[None] if name == "astronaut" else read_image(photo)
    picture = QuarterTurn(quarters).image(picture)
    # A quarter of the pixels is enough to find these faces by.
    picture = picture if name == "astronaut" else picture[..., ::2, ::2]
    detectors = recommended_detectors([MTCNN()])
    looks: list[FaceModel] = [Turned(model, QuarterTurn(k)) for model in detectors for k in range(4)]
    deidentifier = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0), detectors=detectors)
    (batch,) = deidentifier.frames([picture])
    hidden = (batch.hidden[0] == Solid().color[0]).all(dim=0) | (batch.treatment[0] == "whole-frame")
    least = 1.0
    for model in looks:
        (seen,) = model.predict(batch.originals)
        for x0, y0, x1, y1 in seen.boxes.round().long().clamp(min=0).tolist():
            least = min(least, float(hidden[y0:y1, x0:x1].float().mean()))
    assert least >= 0.9
    faces = {"astronaut": 1, "group02": 4, "portrait00": 1, "portrait01": 1}[name]
    assert len(batch.faces[0]) >= faces


def test_an_image_counts_as_a_clip_of_one_frame(tmp_path: Path) -> None:
    from deidlib.media import write_image

    write_image(tmp_path / "in.png", lying(350)[None])
    summary = protect_image(
        Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0)), tmp_path / "in.png", tmp_path / "out.png", check=None
    )
    assert (summary.most, summary.turned) == (2, 1)
