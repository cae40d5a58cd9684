from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import iou
from deidlib.images import to_grid
from deidlib.models.base import FaceModel
from deidlib.models.strangers import PFLD, YuNet
from deidlib.nets.onnx import OnnxNet


def read_rgb(path: Path) -> Tensor:
    bgr = cv2.imread(str(path))
    assert bgr is not None
    return torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1])).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def frames(shared: Path) -> Tensor:
    names = ("T002_frame001.png", "T002_frame120.png", "T002_frame200.png")
    return torch.cat([read_rgb(shared / "parity" / "frames" / name) for name in names])


@pytest.fixture(scope="module")
def organisers(shared: Path) -> list[Faces]:
    """The csv's detections of the same frames."""
    import json

    known = json.loads((shared / "parity" / "frames" / "frames.json").read_text())
    out = []
    for number in ("1", "120", "200"):
        x, y, w, h = known[number]["csv_box_xywh"]
        points = torch.tensor(known[number]["csv_landmarks5"])[None]
        out.append(Faces(torch.tensor([[x, y, x + w, y + h]]), torch.tensor([known[number]["csv_score"]]), points))
    return out


@pytest.fixture(scope="module")
def yunet(shared: Path) -> YuNet:
    return YuNet()


@pytest.fixture(scope="module")
def pfld(shared: Path) -> PFLD:
    pytest.importorskip("onnxruntime")
    return PFLD()


def test_yunet_finds_the_driver(yunet: YuNet, frames: Tensor, organisers: list[Faces]) -> None:
    found = yunet.predict(frames)
    assert [len(faces) for faces in found] == [1, 1, 1]
    for faces, known in zip(found, organisers, strict=True):
        assert iou(faces.boxes, known.boxes)[0, 0] > 0.8
        assert faces.landmarks is not None
        assert known.landmarks is not None
        # Right and left, eyes and mouth in the same order: a swap would be 60 px off.
        assert (faces.landmarks - known.landmarks).norm(dim=-1).max() < 20
        assert 0.9 < faces.scores[0] <= 1


def test_yunet_is_opencv_on_the_uint8_frame(yunet: YuNet, frames: Tensor, shared: Path) -> None:
    image = cv2.imread(str(shared / "parity" / "frames" / "T002_frame120.png"))
    path = str(shared / "weights" / "yunet_n_320_320.onnx")
    _, rows = cv2.FaceDetectorYN.create(path, "", (480, 480), 0.6, 0.3).detect(image)
    assert rows is not None
    row = torch.from_numpy(rows[0])
    # Float noise below half a grey level is rounded away.
    noisy = (frames[1:2] + torch.empty_like(frames[1:2]).uniform_(-0.4, 0.4) / 255).clamp(0, 1)
    (faces,) = yunet.predict(noisy)
    assert torch.equal(to_grid(noisy), to_grid(frames[1:2]))
    assert torch.equal(faces.boxes[0, :2], row[:2])
    assert torch.allclose(faces.boxes[0, 2:] - faces.boxes[0, :2], row[2:4], atol=1e-4)
    assert faces.landmarks is not None
    assert torch.equal(faces.landmarks[0].flatten(), row[4:14])
    assert faces.scores[0] == row[14]


def test_yunet_frames_do_not_depend_on_each_other_or_on_calls_before(yunet: YuNet, frames: Tensor) -> None:
    together = yunet.predict(frames)
    yunet.predict(torch.rand(1, 3, 33, 70))
    for row, faces in enumerate(together):
        (alone,) = yunet.predict(frames[row : row + 1])
        assert torch.equal(alone.boxes, faces.boxes)


def test_yunet_finds_the_group_best_first(yunet: YuNet, shared: Path) -> None:
    (faces,) = yunet.predict(read_rgb(shared / "media" / "group02.jpg"))
    assert len(faces) == 4
    assert faces.scores.tolist() == sorted(faces.scores.tolist(), reverse=True)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (64, 33)])
def test_yunet_without_a_face(yunet: YuNet, size: tuple[int, int]) -> None:
    found = yunet.predict(torch.zeros(2, 3, *size))
    assert [len(faces) for faces in found] == [0, 0]
    assert found[0].landmarks is not None
    assert found[0].landmarks.shape == (0, 5, 2)


def test_yunet_refuses(yunet: YuNet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"score_threshold must lie in \[0, 1\], got 2"):
        YuNet(score_threshold=2)
    with pytest.raises(TypeError, match="uint8"):
        yunet.predict(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match="cannot be read as a YuNet model"):
        YuNet(tmp_path / "no.onnx")


def test_pfld_agrees_with_five_points(pfld: PFLD, frames: Tensor, organisers: list[Faces]) -> None:
    for read, known in zip(pfld.predict(frames, organisers), organisers, strict=True):
        assert torch.equal(read.boxes, known.boxes)
        assert read.landmarks is not None
        assert known.landmarks is not None
        face, five = read.landmarks[0], known.landmarks[0]
        own = torch.stack([face[36:42].mean(0), face[42:48].mean(0), face[30], face[48], face[54]])
        between_eyes = (five[0] - five[1]).norm()
        # Measured 5 %: what two models differ by. Another crop, colour order or point order gives far more.
        assert (own - five).norm(dim=1).mean() / between_eyes < 0.08


def test_pfld_batches_and_empty_frames(pfld: PFLD, frames: Tensor, organisers: list[Faces]) -> None:
    two = Faces(organisers[1].boxes.repeat(2, 1) + torch.tensor([[0.0], [5.0]]), torch.ones(2))
    read = pfld.predict(frames, [Faces.empty(), two, organisers[2]])
    assert [len(faces) for faces in read] == [0, 2, 1]
    assert read[0].landmarks is not None
    assert read[0].landmarks.shape == (0, 68, 2)
    for row, known in ((1, two), (2, organisers[2])):
        (alone,) = pfld.predict(frames[row : row + 1], [known])
        both = read[row].landmarks
        assert both is not None
        assert alone.landmarks is not None
        assert torch.allclose(alone.landmarks, both, atol=1e-3)


def test_pfld_survives_any_box(pfld: PFLD, frames: Tensor) -> None:
    boxes = torch.tensor([[-50.0, -50.0, -20.0, -10.0], [30.0, 30.0, 30.0, 30.0], [-500.0, 0.0, 900.0, 480.0]])
    (read,) = pfld.predict(frames[:1], [Faces(boxes, torch.ones(3))])
    assert read.landmarks is not None
    assert torch.isfinite(read.landmarks).all()


def test_pfld_needs_boxes(pfld: PFLD, frames: Tensor) -> None:
    with pytest.raises(ValueError, match=r"PFLD needs the boxes .* got none"):
        pfld.predict(frames)
    with pytest.raises(ValueError, match="3 frames, got 1 entries"):
        pfld.predict(frames, [Faces.empty()])


def test_readers_satisfy_the_protocol(yunet: YuNet, pfld: PFLD) -> None:
    assert isinstance(yunet, FaceModel)
    assert isinstance(pfld, FaceModel)
    assert (yunet.task, pfld.task) == ("boxes", "landmarks")
    assert not isinstance(Faces.empty(), FaceModel)


def test_missing_onnxruntime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=r"net\.onnx needs onnxruntime.*pip install deidlib\[onnx\]"):
        OnnxNet("net.onnx")


def test_onnx_net_checks_file_and_batch(tmp_path: Path, shared: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match="cannot be read as an ONNX network"):
        OnnxNet(tmp_path / "no.onnx")
    with pytest.raises(ValueError, match="must have one input and one output"):
        OnnxNet(shared / "weights" / "yunet_n_320_320.onnx")
    net = OnnxNet(shared / "weights" / "mobilefacenet_112.onnx")
    assert net(torch.zeros(0, 3, 112, 112)).shape == (0, 128)
    with pytest.raises(ValueError, match=r"takes \(N, 3, 112, 112\), got \(1, 3, 8, 8\)"):
        net(torch.zeros(1, 3, 8, 8))
