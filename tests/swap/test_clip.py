from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.swap.clip import clip_square, steady


def clip_of(boxes: Tensor, landmarks: Tensor | None = None) -> list[Faces]:
    """One face: ``(T, 4)``, ``(T, P, 2)``."""
    return [
        Faces(box[None], torch.ones(1), None if landmarks is None else landmarks[i : i + 1])
        for i, box in enumerate(boxes)
    ]


def trembling(frames: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The boxes of a face that moves evenly, and the same with noise of one pixel."""
    time = torch.arange(frames, dtype=torch.float32)[:, None]
    boxes = torch.tensor([[20.0, 30.0, 80.0, 110.0]]) + time * torch.tensor([[1.0, 0.5, 1.0, 0.5]])
    return boxes, boxes + torch.randn(boxes.shape, generator=torch.Generator().manual_seed(seed))


def test_a_trembling_face_becomes_still() -> None:
    true, noisy = trembling()
    smooth = torch.cat([known.boxes for known in steady(clip_of(noisy))])

    def jitter(boxes: Tensor) -> float:
        return float((boxes[2:] - 2 * boxes[1:-1] + boxes[:-2]).abs().mean())

    assert jitter(smooth) < jitter(noisy) / 5
    assert float((smooth - true).abs().mean()) < float((noisy - true).abs().mean()) * 0.6


def test_an_even_movement_is_kept() -> None:
    true, _ = trembling()
    points = true[:, None, :2] + torch.rand(1, 5, 2) * 50
    out = steady(clip_of(true, points))
    torch.testing.assert_close(torch.cat([known.boxes for known in out]), true)
    for known, expected in zip(out, points, strict=True):
        assert known.landmarks is not None
        torch.testing.assert_close(known.landmarks[0], expected)


def test_no_face_is_added_or_removed_and_tracks_do_not_mix() -> None:
    _, left = trembling(9)
    right = left + torch.tensor([200.0, 0.0, 200.0, 0.0])
    clip = []
    for frame in range(9):
        both = [left[frame], right[frame]] if frame % 2 else [right[frame], left[frame]]
        if frame == 4:
            both = [right[frame]]
        clip.append(Faces(torch.stack(both), torch.rand(len(both))))
    clip.append(Faces.empty())
    before = [known.boxes.clone() for known in clip]
    out = steady(clip)
    alone = torch.cat([known.boxes for known in steady(clip_of(right))])
    for frame in range(9):
        which = 1 if frame % 2 else 0
        torch.testing.assert_close(out[frame].boxes[which], alone[frame])
        assert torch.equal(out[frame].scores, clip[frame].scores)
    assert len(out[9]) == 0
    # Where the left one is lost, smoothing begins anew.
    first = torch.cat([known.boxes for known in steady(clip_of(left[:4]))])
    torch.testing.assert_close(out[3].boxes[0], first[3])
    assert all(torch.equal(known.boxes, box) for known, box in zip(clip, before, strict=True))


def test_landmarks_that_are_not_known_stay_so() -> None:
    true, _ = trembling(5)
    points = true[:, None, :2].repeat(1, 5, 1)
    points[2] = torch.nan
    out = steady(clip_of(true, points))
    for frame, known in enumerate(out):
        assert known.landmarks is not None
        assert bool(torch.isfinite(known.landmarks).all()) == (frame != 2)
    assert steady([]) == []
    with pytest.raises(ValueError, match="sigma must be a positive"):
        steady([], sigma=0)


def test_the_square_is_the_papers(shared: Path) -> None:
    known = json.loads((shared / "parity" / "cosegmentation" / "crop_bbox.json").read_text())
    for case in known["cases"]:
        square = clip_square(torch.tensor([case["in_ltrb"]], dtype=torch.float64), *case["shape_hw"], margin=case["k"])
        assert square == pytest.approx(case["out_ltrb"], abs=1e-9)
        assert [int(v) for v in square] == case["out_int"]
    union = torch.tensor([known["T002_union_xyxy"]], dtype=torch.float64)
    square = clip_square(union, *known["shape_hw"], margin=known["k_margin"])
    assert [int(v) for v in square] == known["T002_final_bbox_ltrb"]


def test_the_square_holds_every_box_that_it_has_room_for() -> None:
    boxes = torch.tensor([[30.0, 40.0, 60.0, 90.0], [50.0, 30.0, 85.0, 80.0]])
    left, top, right, bottom = clip_square(boxes, 200, 150)
    assert left <= 30
    assert top <= 30
    assert right >= 85
    assert bottom >= 90
    assert right - left == bottom - top == 66
    with pytest.raises(ValueError, match="no box"):
        clip_square(torch.zeros(0, 4), 10, 10)
