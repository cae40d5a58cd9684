"""What of a reading flows, and what does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import astronauts, make_video
from command import deidlib, refused

from deidlib import FAN, MTCNN, Deidentifier, Faces, recommended
from deidlib.evaluation.attacks import shape_of
from deidlib.geometry.camera import Camera, angle_between, head_pose
from deidlib.geometry.face_model import face_model
from deidlib.geometry.proportions import mean_proportions
from deidlib.models.base import TargetModel
from deidlib.protect.share import Share, every, mean_face
from deidlib.records.detections import read_detections

CAMERA = Camera.default(480, 480)


def face() -> Faces:
    return Faces(
        torch.tensor([[13.0, 9.5, 41.0, 55.0]]),
        torch.tensor([0.7]),
        torch.tensor([[[20.0, 20.0], [33.9, 20.1], [27.0, 30.0], [21.0, 40.0], [32.0, 40.0]]]),
        torch.tensor([[0.0, math.sin(0.21), -math.cos(0.21)]]),
    )


def test_parts_that_are_not_shared_are_gone_and_the_rest_is_coarse() -> None:
    shared = Share(("boxes", "landmarks", "gaze"), pixels=4, degrees=5)(face())
    assert shared.boxes.tolist() == [[12.0, 8.0, 44.0, 56.0]]
    assert shared.scores.tolist() == [1.0]
    assert shared.landmarks is not None
    assert shared.landmarks[0, 1].tolist() == [32.0, 20.0]
    # 12.03 degrees of pitch become 10.
    assert shared.gaze is not None
    assert float(angle_between(shared.gaze, face().gaze)[0]) == pytest.approx(0.21 - math.radians(10), abs=1e-3)  # type: ignore[arg-type]
    again = Share(("boxes", "landmarks", "gaze"), pixels=4, degrees=5)(shared)
    assert torch.equal(again.boxes, shared.boxes)
    assert torch.allclose(again.gaze, shared.gaze, atol=1e-6)  # type: ignore[arg-type]
    only = Share(("boxes",))(face())
    assert (only.landmarks, only.gaze) == (None, None)
    assert torch.equal(only.boxes, face().boxes)


@pytest.mark.parametrize("parts", [("landmarks",), ("boxes", "gaze"), ()])
def test_boxes_are_always_shared_and_points_where_gaze_is(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="boxes are shared in any case"):
        Share(parts)
    with pytest.raises(ValueError, match="'name' is no part"):
        Share(("boxes", "name"))


def test_two_whose_shared_parts_are_equal_give_the_same_bits() -> None:
    images = astronauts(1, side=128)
    (known,) = MTCNN().predict(images)
    assert known.landmarks is not None
    # Another's points, half a pixel of another box, another score.
    other = known.replace(boxes=known.boxes.floor() + 0.3, landmarks=known.landmarks.flip(1), scores=known.scores / 2)
    results = []
    for share in (None, Share(("boxes",), pixels=1)):
        told = Deidentifier(recommended([MTCNN()], max_iterations=1), share=share)
        pair = [next(told.frames([images], faces=[reading])) for reading in (known, other)]
        results.append(torch.equal(pair[0].images, pair[1].images))
        assert pair[0].treatment == ["found"]
    assert results == [False, True]


def test_a_model_that_reads_what_is_not_shared_is_refused(shared: Path) -> None:
    from face_alignment.models.fan import FAN as Net
    from recipe import filled

    models: list[TargetModel[Any]] = [MTCNN(), FAN(filled(Net(1)), modules=1)]
    with pytest.raises(ValueError, match="fan read landmarks, and only boxes are shared"):
        Deidentifier(recommended(models), share=Share(("boxes",)))


def test_readings_are_held() -> None:
    moving = [face().replace(boxes=face().boxes + k) for k in range(5)]
    held = every(moving, 3)
    assert len(held) == 5
    # One box for three frames, which holds the face in each; then one for two.
    assert [known.boxes[0].tolist() for known in held[:3]] == [[13.0, 9.5, 43.0, 57.0]] * 3
    assert held[3].boxes.tolist() == held[4].boxes.tolist() == [[16.0, 12.5, 45.0, 59.0]]
    # Who is gone is gone, and who is new is there.
    held = every([face(), Faces.empty(), Faces.cat([face(), face().map(lambda part: part + 100)])], 3)
    assert [len(known) for known in held] == [1, 0, 2]
    with pytest.raises(ValueError, match="at least 1 frame"):
        every([], 0)


def clip_of(proportions: torch.Tensor, opening: list[float], points: int = 68) -> list[Faces]:
    """A face of its own proportions that turns, and opens its mouth."""
    frames = []
    for k, wide in enumerate(opening):
        model = face_model(points) * proportions
        if points == 68:
            model[57, 1] += wide
        yaw = 0.02 * (k - 1)
        turn = torch.tensor(
            [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]], dtype=torch.float64
        )
        seen = CAMERA.project(model @ turn.T + torch.tensor([0.0, 0.02, 0.6])).float()[None]
        box = torch.cat([seen.amin(dim=1), seen.amax(dim=1)], dim=1)
        frames.append(Faces(box, torch.ones(1), seen))
    return frames


OPENING = [0.0, 0.004, 0.012, 0.004]


@pytest.mark.parametrize("points", [5, 68])
def test_proportions_become_everybodys(points: int) -> None:
    wide, long = (torch.tensor(scale, dtype=torch.float64) for scale in ([1.1, 1.0, 1.0], [0.95, 1.06, 1.0]))
    own = [clip_of(shape, OPENING, points) for shape in (wide, long)]
    made = [mean_face(frames, (480, 480)) for frames in own]
    before = (shape_of(own[0]) - shape_of(own[1])).abs().max()
    after = (shape_of(made[0]) - shape_of(made[1])).abs().max()
    assert before > 0.08
    assert after < before / 4
    for frames, others in zip(own, made, strict=True):
        for read, shared in zip(frames, others, strict=True):
            # What is hidden still holds what was read, and a pose stays a pose.
            assert (shared.boxes[:, :2] <= read.boxes[:, :2]).all()
            assert (shared.boxes[:, 2:] >= read.boxes[:, 2:]).all()
            turns = [head_pose(known.landmarks, CAMERA)[0][0] for known in (read, shared)]  # type: ignore[arg-type]
            assert math.degrees(math.acos(min(1.0, (float((turns[0] @ turns[1].T).trace()) - 1) / 2))) < 3


def test_expression_stays() -> None:
    moved, _ = mean_proportions(
        torch.cat([known.landmarks for known in clip_of(torch.ones(3, dtype=torch.float64), OPENING)]),  # type: ignore[misc]
        CAMERA,
    )
    chin = moved[:, 57, 1] - moved[:, 51, 1]
    # 8 mm at 0.6 m are 6.4 pixels more than 4 mm.
    assert float(chin[2] - chin[1]) == pytest.approx(480 * 0.008 / 0.63, rel=0.15)


def test_a_nod_stays_and_how_a_head_is_held_goes() -> None:
    shapes = []
    for nose, held in ((-0.004, 0.1), (0.006, -0.05)):
        model = face_model(5)
        model[2, 1] += nose
        nods = [math.cos(held + nod) + 1j * math.sin(held + nod) for nod in (-0.1, 0.0, 0.1)]
        turns = [
            torch.tensor([[1, 0, 0], [0, c.real, -c.imag], [0, c.imag, c.real]], dtype=torch.float64) for c in nods
        ]
        points = torch.stack([CAMERA.project(model @ turn.T + torch.tensor([0.0, 0.0, 0.6])) for turn in turns])
        moved, boxes = mean_proportions(points, CAMERA)
        assert torch.allclose(moved.mean(dim=1), points.mean(dim=1), atol=2.5)
        shared, before = (head_pose(part, CAMERA)[0] for part in (moved, points))
        pitch, own = (torch.atan2(part[:, 2, 1], part[:, 2, 2]) for part in (shared, before))
        assert torch.allclose(pitch, own - own.mean(), atol=0.03)
        assert float(pitch[0] - pitch[2]) == pytest.approx(float(own[0] - own[2]), rel=0.2)
        known = zip(boxes, moved, strict=True)
        shapes.append(shape_of([Faces(box[None], torch.ones(1), face[None]) for box, face in known]))
    # Where a nose ends, and how high a head is held, are nobody's any more.
    assert torch.allclose(shapes[0], shapes[1], atol=0.02)


def test_faces_without_points_keep_their_box() -> None:
    unknown = face().replace(landmarks=torch.full((1, 5, 2), torch.nan))
    made = mean_face([unknown, face().replace(landmarks=None), Faces.empty()], (60, 60))
    assert [len(known) for known in made] == [1, 1, 0]
    assert torch.equal(made[0].boxes, unknown.boxes)
    assert made[1].landmarks is None


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", astronauts(3))
    told = ("--share", "boxes,landmarks", "--grid", 4)
    result = deidlib("read", source, "--json", tmp_path / "a.json", "--mean-face", "--every", 2, *told)
    assert result.exit_code == 0, result.output
    known = read_detections(tmp_path / "a.json").frames
    assert all((part.boxes % 4 == 0).all() and (part.scores == 1).all() for part in known)
    assert torch.equal(known[0].boxes, known[1].boxes)
    made = ("--faces", tmp_path / "a.json", "--share", "boxes", "--iterations", 1, "--no-verify")
    result = deidlib("protect", source, tmp_path / "b.mkv", *made)
    assert result.exit_code == 0, result.output
    refused(deidlib("protect", source, tmp_path / "c.mkv", "--share", "gaze"), "boxes are shared in any case")
