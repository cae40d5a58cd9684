from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.camera import Camera
from deidlib.geometry.face_model import face_model
from deidlib.metrics import DiffScore, Miss, ReadingDifference, difference
from deidlib.metrics import face_table as module

BOX = torch.tensor([[0.0, 0.0, 40.0, 90.0]])
FAR = BOX + 200
AHEAD, RIGHT = torch.tensor([[0.0, 0.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.0]])


def face(box: Tensor = BOX, *, shift: float | None = 0.0, gaze: Tensor | None = AHEAD) -> Faces:
    """Five points so far to the right of where they belong, the eyes 20 pixels apart."""
    points = torch.tensor([[10.0, 30.0], [30.0, 30.0], [20.0, 50.0], [12.0, 70.0], [28.0, 70.0]])
    landmarks = None if shift is None else (points + box[:, :2])[None] + torch.tensor([shift, 0.0])
    return Faces(box, torch.ones(1), landmarks, gaze)


def both(first: Faces, second: Faces) -> Faces:
    return Faces(
        torch.cat([first.boxes, second.boxes]),
        torch.ones(2),
        None if first.landmarks is None or second.landmarks is None else torch.cat([first.landmarks, second.landmarks]),
        None if first.gaze is None or second.gaze is None else torch.cat([first.gaze, second.gaze]),
    )


# A face read 6 pixels and 90 degrees off, in two thirds of its box; one missed of two; one that is not there.
ORIGINALS = [face(), both(face(), face(FAR)), Faces.empty()]
READ = [
    Faces(torch.tensor([[0.0, 0.0, 40.0, 60.0]]), torch.ones(1), face(shift=6.0).landmarks, RIGHT),
    face(FAR),
    face(),
]


def values(metric: ReadingDifference) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


def test_every_number_by_hand() -> None:
    metric = ReadingDifference()
    metric.update(ORIGINALS, READ)
    assert values(metric) == pytest.approx(
        {
            "iou": (2 / 3 + 0 + 1) / 3,
            "landmarks_px": (6 + 60 + 0) / 3,
            "nme_box": (6 / 60 + 1 + 0) / 3,
            "nme_interocular": (6 / 20 + 60 / 20 + 0) / 3,
            "gaze_deg": (90 + 180 + 0) / 3,
            "head_pose_deg": torch.nan,
            "least_iou": 0.0,
            "coverage": 2 / 3,
            "faces": 3,
            "found": 2,
            "spurious": 1,
            "frames": 3,
        },
        nan_ok=True,
        abs=1e-5,
    )
    frames = metric.per_frame()
    assert (frames["faces"].tolist(), frames["found"].tolist(), frames["spurious"].tolist()) == (
        [1, 2, 0], [1, 1, 0], [0, 0, 1],
    )  # fmt: skip
    assert frames["least_iou"].tolist() == pytest.approx([2 / 3, 0, torch.nan], nan_ok=True)
    assert metric.per_face()["iou"].tolist() == pytest.approx([2 / 3, 0, 1])


def test_a_face_is_that_of_the_function() -> None:
    camera = Camera.default(480, 480)
    points = camera.project(face_model() + torch.tensor([0.0, 0.0, 0.7], dtype=torch.float64)).float()[None]
    box = torch.cat([points.amin(dim=1), points.amax(dim=1)], dim=1)
    original = Faces(box, torch.ones(1), points, AHEAD)
    read = Faces(box + 3, torch.ones(1), points * 1.05 - 9, RIGHT)
    miss = Miss(landmarks=0.02, gaze=45.0)
    metric = ReadingDifference(miss=miss, min_iou=0.3)
    metric.update([original], [read], camera=camera)
    oracle = difference(original, read, miss=miss, min_iou=0.3, camera=camera)
    expected = (
        oracle.iou, oracle.landmarks, oracle.nme_interocular, oracle.nme_box, oracle.gaze, oracle.head_pose
    )  # fmt: skip
    for (name, got), wanted in zip(metric.per_face().items(), expected, strict=True):
        assert wanted is not None, name
        # To the last bit, also what is float64.
        assert got.tolist() == wanted.tolist(), name
    assert metric.per_face()["gaze_deg"].item() == 45


def test_with_one_face_a_frame_it_is_the_diffscore() -> None:
    metric, score = ReadingDifference(), DiffScore()
    for each in (metric, score):
        each.update([face()] * 3, [face(shift=3.0), face(BOX + 5, gaze=RIGHT), Faces.empty()])
    got, oracle = metric.compute(), score.compute()
    assert got["landmarks_px"].item() == pytest.approx(oracle["landmarks"].item())
    assert got["gaze_deg"].item() == pytest.approx(oracle["gaze"].item())
    assert 1 - got["iou"].item() == pytest.approx(oracle["box"].item())
    assert got["coverage"] == oracle["coverage"]


def test_what_the_original_lacks_does_not_count() -> None:
    metric = ReadingDifference()
    metric.update([face(shift=None, gaze=None), face()], [face(shift=9.0), face(shift=5.0)])
    got = values(metric)
    assert got["landmarks_px"] == pytest.approx(5)
    assert got["gaze_deg"] == 0
    assert got["iou"] == 1
    assert metric.per_face()["landmarks_px"].isnan().tolist() == [True, False]


def test_faces_that_overlap_by_too_little_are_not_one() -> None:
    metric = ReadingDifference(min_iou=0.5)
    # Exactly a half is too little.
    metric.update([face()] * 2, [face(torch.tensor([[0.0, 0.0, 40.0, 45.0]])), face(BOX + 1)])
    assert metric.per_frame()["found"].tolist() == [0, 1]
    assert values(metric)["coverage"] == 0.5


def test_nothing_measured_is_nan() -> None:
    metric = ReadingDifference()
    metric.update([], [])
    got = values(metric)
    assert (got["faces"], got["frames"]) == (0, 0)
    assert all(value != value for name, value in got.items() if name not in ("faces", "found", "spurious", "frames"))
    assert metric.per_face()["iou"].shape == (0,)
    assert metric.per_frame()["least_iou"].shape == (0,)


def test_batching_does_not_matter_and_pieces_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = ReadingDifference(), ReadingDifference()
    one.update(ORIGINALS * 3, READ * 3)
    monkeypatch.setattr(module, "_MOST_PIECES", 4)
    for a, b in zip(ORIGINALS * 3, READ * 3, strict=True):
        two.update([a], [b])
        assert len(two.faces) <= 5
        assert len(two.frames) <= 5
    assert values(one) == pytest.approx(values(two), nan_ok=True)
    for name, column in one.per_face().items():
        assert torch.equal(column.nan_to_num(-1), two.per_face()[name].nan_to_num(-1)), name


def test_forward_reset_pickle_and_clone() -> None:
    metric = ReadingDifference()
    first = metric([face()], [Faces.empty()])
    second = metric([face()], [face()])
    assert (first["iou"], second["iou"], second["frames"]) == (0, 1, 1)
    assert values(metric)["iou"] == 0.5
    twin = pickle.loads(pickle.dumps(metric.clone()))
    assert values(twin) == pytest.approx(values(metric), nan_ok=True)
    metric.reset()
    metric.update([face()], [face()])
    assert values(metric)["iou"] == 1
    assert values(twin)["iou"] == 0.5


def test_frames_of_two_processes_are_joined() -> None:
    metric, both_of_them = ReadingDifference(), ReadingDifference()
    metric.update(ORIGINALS, READ)
    metric.distributed_available_fn = lambda: True
    metric.dist_sync_fn = lambda state, group=None: [state, state]
    both_of_them.update(ORIGINALS * 2, READ * 2)
    assert values(metric) == pytest.approx(values(both_of_them), nan_ok=True)
    assert metric.per_frame()["faces"].tolist() == [1, 2, 0]


def test_it_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"min_iou must lie in \[0, 1\), got 1"):
        ReadingDifference(min_iou=1)
    with pytest.raises(ValueError, match="got 2 original and 1 protected frames"):
        ReadingDifference().update([Faces.empty()] * 2, [Faces.empty()])
