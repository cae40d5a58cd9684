from __future__ import annotations

import math
import pickle
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.camera import Camera, angles_to_vectors
from deidlib.geometry.face_model import face_model
from deidlib.metrics import TemporalFidelity, movement
from deidlib.metrics import temporal_fidelity as module

CAMERA = Camera.default(480, 480)
FRAMES = 80


def turned(pitch: float, yaw: float, roll: float) -> Tensor:
    """A rotation from angles in degrees as they are read: up, to the left of the frame, clockwise."""
    a, b, c = (torch.tensor(angle, dtype=torch.float64).deg2rad() for angle in (-pitch, yaw, roll))
    one, nil = torch.ones_like(a), torch.zeros_like(a)
    x = torch.stack([one, nil, nil, nil, a.cos(), -a.sin(), nil, a.sin(), a.cos()]).view(3, 3)
    y = torch.stack([b.cos(), nil, b.sin(), nil, one, nil, -b.sin(), nil, b.cos()]).view(3, 3)
    z = torch.stack([c.cos(), -c.sin(), nil, c.sin(), c.cos(), nil, nil, nil, one]).view(3, 3)
    return x @ y @ z


def head(
    yaw: float = 0.0, *, pitch: float = 0.0, roll: float = 0.0, x: float = 0.0, look: float = 0.0, points: int = 5
) -> Faces:
    """A face of known pose, so many metres to the right, that looks so many degrees to the left of the frame."""
    model = face_model(points) @ turned(pitch, yaw, roll).mT
    landmarks = CAMERA.project(model + torch.tensor([x, 0.0, 0.7], dtype=torch.float64))
    box = torch.cat([landmarks.amin(dim=0), landmarks.amax(dim=0)])
    gaze = angles_to_vectors(torch.tensor([[0.0, math.radians(look)]]))
    return Faces(box[None].float(), torch.ones(1), landmarks[None].float(), gaze)


def square(x: float, y: float = 0.0) -> Faces:
    return Faces(torch.tensor([[x, y, x + 40.0, y + 40.0]]), torch.ones(1))


def values(metric: TemporalFidelity) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


def read(
    original: Sequence[Faces], protected: Sequence[Faces], *, metric: TemporalFidelity | None = None, batch: int = 7
) -> dict[str, float]:
    metric = TemporalFidelity() if metric is None else metric
    for start in range(0, len(original), batch):
        part = slice(start, start + batch)
        metric.update(original[part], protected[part], camera=CAMERA)
    return values(metric)


def wave(frame: float, period: int = 40) -> float:
    return math.sin(2 * math.pi * frame / period)


def test_the_signals_are_those_of_a_known_face() -> None:
    found = movement(head(20.0, pitch=10.0, roll=-5.0, look=15.0), camera=CAMERA)
    angles = [found[f"head_{name}_deg"].item() for name in ("pitch", "yaw", "roll")]
    assert angles == pytest.approx([10, 20, -5], abs=1e-2)
    assert [found[f"gaze_{name}_deg"].item() for name in ("pitch", "yaw")] == pytest.approx([0, 15], abs=1e-4)
    assert found["points_px"].shape == (1, 5, 2)
    assert math.isnan(found["mouth_px"].item())
    assert math.isnan(movement(head(20.0))["head_yaw_deg"].item())


def test_mouth_and_eyes_are_those_of_68_points() -> None:
    points = torch.zeros(1, 68, 2)
    points[0, 66] = torch.tensor([0.0, 5.0])  # the inner lower lip, below the upper one at 0
    points[0, [41, 40, 47, 46], 1] = torch.tensor([1.0, 2.0, 3.0, 4.0])  # lower lids
    found = movement(Faces(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.ones(1), points))
    assert (found["mouth_px"].item(), found["eyes_px"].item()) == (5.0, 2.5)


def test_head_and_gaze_grow_to_the_same_side() -> None:
    left = movement(head(20.0, look=20.0), camera=CAMERA)
    # Whoever turns to the left of the frame has the tip of the nose left of the middle of the face.
    assert left["points_px"][0, 2, 0] < left["centre_px"][0, 0]
    assert left["head_yaw_deg"].item() == pytest.approx(left["gaze_yaw_deg"].item(), abs=1e-2)


def test_a_head_that_turns_late_and_a_gaze_that_is_frozen_are_told_apart() -> None:
    original = [head(20 * wave(k), look=10 * wave(k)) for k in range(FRAMES)]
    protected = [head(20 * wave(k - 3)) for k in range(FRAMES)]
    found = read(original, protected)
    assert found["head_yaw_deg_lag"] == pytest.approx(3, abs=1e-2)
    assert found["head_yaw_deg_correlation"] == pytest.approx(math.cos(2 * math.pi * 3 / 40), abs=1e-3)
    assert found["head_yaw_deg_rmse"] == pytest.approx(20 * math.sqrt(1 - math.cos(2 * math.pi * 3 / 40)), rel=1e-3)
    assert found["head_yaw_deg_change_lag"] == pytest.approx(3, abs=1e-2)
    assert found["gaze_yaw_deg_correlation"] == 0
    assert found["gaze_yaw_deg_change_correlation"] == 0
    assert found["gaze_yaw_deg_rmse"] == pytest.approx(10 / math.sqrt(2), rel=1e-4)
    assert math.isnan(found["gaze_yaw_deg_lag"])
    assert found["faces"] == 1


def test_equal_readings_are_followed_wholly() -> None:
    frames = [head(20 * wave(k), pitch=5 * wave(k, 16), x=0.05 * wave(k, 20), look=8 * wave(k)) for k in range(FRAMES)]
    found = read(frames, frames)
    for name in ("centre_px", "size_px", "points_px", "head_pitch_deg", "head_yaw_deg", "gaze_yaw_deg"):
        for part in (name, f"{name}_change"):
            triple = [found[f"{part}_{measure}"] for measure in ("correlation", "rmse", "lag")]
            assert triple == pytest.approx([1, 0, 0], abs=1e-9), part
    # Nothing moves there.
    assert math.isnan(found["gaze_pitch_deg_correlation"])
    assert found["gaze_pitch_deg_rmse"] == 0
    assert math.isnan(found["mouth_px_rmse"])


def test_missing_frames_are_left_out_and_counted() -> None:
    original = [square(10 * wave(k)) for k in range(FRAMES)]
    protected = [square(10 * wave(k) + 1) for k in range(FRAMES)]
    for k in (5, 6, 30):
        protected[k] = Faces.empty()
    protected[40] = square(300.0)  # elsewhere: a false detection is no reading of this face
    original[50] = Faces.empty()
    metric = TemporalFidelity(min_iou=0.5)
    found = read(original, protected, metric=metric)
    assert (found["faces"], found["compared"], found["missed"], found["unread"]) == (1, FRAMES - 5, 4, 1)
    assert found["centre_px_correlation"] == pytest.approx(1, abs=1e-6)
    assert found["centre_px_rmse"] == pytest.approx(1, abs=1e-5)
    (face,) = metric.per_face()
    assert (face.first, len(face)) == (0, FRAMES)
    assert [k for k in range(FRAMES) if bool(face.protected["centre_px"][k].isnan().any())] == [5, 6, 30, 40, 50]
    assert [k for k in range(FRAMES) if bool(face.original["centre_px"][k].isnan().any())] == [50]


def test_faces_in_different_places_are_no_movement() -> None:
    # Two faces that stand still, 200 pixels apart, and one reader that trembles: nothing is followed.
    tremble = torch.randn(FRAMES, 2, generator=torch.Generator().manual_seed(0)).tolist()

    def both(k: int, far: float) -> Faces:
        return Faces.cat([square(20.0 + far * tremble[k][0]), square(220.0 + far * tremble[k][1])])

    found = read([both(k, 0) for k in range(FRAMES)], [both(k, 1) for k in range(FRAMES)])
    assert math.isnan(found["centre_px_correlation"])
    assert (found["faces"], found["compared"]) == (2, 2 * FRAMES)
    expected = math.sqrt(torch.tensor(tremble).square().mean().item())
    assert found["centre_px_rmse"] == pytest.approx(expected, rel=1e-4)


def test_faces_are_followed_whatever_their_order() -> None:
    frames = [Faces.cat([square(20 + 5 * wave(k)), square(220 - 9 * wave(k))]) for k in range(FRAMES)]
    swapped = [frame[[1, 0]] if k % 3 == 0 else frame for k, frame in enumerate(frames)]
    metric = TemporalFidelity()
    assert read(swapped, frames, metric=metric)["centre_px_correlation"] == pytest.approx(1, abs=1e-9)
    first, second = metric.per_face()
    assert len(first) == len(second) == FRAMES
    spans = sorted(float(face.original["centre_px"][:, 0].max() - face.original["centre_px"][:, 0].min())
                   for face in (first, second))  # fmt: skip
    assert spans == pytest.approx([10, 18], abs=0.1)


def test_a_face_that_comes_back_late_is_another() -> None:
    gap = [Faces.empty()] * 31
    metric = TemporalFidelity()
    read([square(0.0), *gap[:30], square(1.0), *gap, square(2.0)], [Faces.empty()] * 64, metric=metric)
    assert [(face.first, len(face), face.missed, face.unread) for face in metric.per_face()] == [
        (0, 32, 2, 30), (63, 1, 1, 0),
    ]  # fmt: skip


def test_angles_may_go_round() -> None:
    # A gaze that turns on past the back: a difference of 2 degrees stays one.
    original = [head(look=4.0 * k) for k in range(FRAMES)]
    protected = [head(look=4.0 * k + 2) for k in range(FRAMES)]
    found = read(original, protected)
    assert found["gaze_yaw_deg_rmse"] == pytest.approx(2, abs=1e-3)
    assert found["gaze_yaw_deg_change_rmse"] == pytest.approx(0, abs=1e-3)
    assert found["gaze_yaw_deg_correlation"] == pytest.approx(1, abs=1e-6)


def test_points_of_which_some_are_unknown_have_no_pose() -> None:
    blind = head(20.0).replace(landmarks=torch.full((1, 5, 2), torch.nan))
    assert math.isnan(movement(blind, camera=CAMERA)["head_yaw_deg"].item())
    found = read([head(k) for k in range(9)], [blind] * 9)
    assert math.isnan(found["head_yaw_deg_rmse"])
    assert found["compared"] == 9


def test_nothing_depends_on_the_batch_or_on_joined_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [head(20 * wave(k)) for k in range(FRAMES)]
    late = [head(18 * wave(k - 1)) for k in range(FRAMES)]
    monkeypatch.setattr(module, "_MOST_PIECES", 5)
    one = read(frames, late, batch=1)
    monkeypatch.undo()
    assert one == pytest.approx(read(frames, late, batch=FRAMES), nan_ok=True)


def test_reset_begins_another_clip_and_state_can_be_pickled() -> None:
    metric = TemporalFidelity()
    metric.update([square(0.0)], [square(0.0)])
    again = pickle.loads(pickle.dumps(metric))
    again.update([square(1.0)], [square(1.0)])
    assert [len(face) for face in again.per_face()] == [2]
    metric.reset()
    assert metric.per_face() == []
    metric.update([square(0.0)], [Faces.empty()])
    assert [(face.first, face.missed) for face in metric.per_face()] == [(0, 1)]


def test_clips_of_several_processes_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for rank in (0, 1):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        metric = TemporalFidelity()
        metric.update([square(5.0 * k) for k in range(4)], [square(5.0 * k) for k in range(4)])
        rows += metric.rows
    monkeypatch.undo()
    joined = TemporalFidelity()
    joined.rows = rows
    assert [len(face) for face in joined.per_face()] == [4, 4]


def test_no_frames_and_no_faces_are_no_error() -> None:
    metric = TemporalFidelity()
    metric.update([Faces.empty()] * 3, [square(1.0)] * 3)
    found = values(metric)
    assert found["faces"] == found["compared"] == 0
    assert math.isnan(found["centre_px_rmse"])


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="min_iou"):
        TemporalFidelity(min_iou=1.0)
    with pytest.raises(ValueError, match="max_lag"):
        TemporalFidelity(max_lag=-1)
    with pytest.raises(ValueError, match="one Faces per frame"):
        TemporalFidelity().update([Faces.empty()], [])
