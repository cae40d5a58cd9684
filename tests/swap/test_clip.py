from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.swap.clip import steady


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
