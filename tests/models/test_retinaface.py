from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import decode, iou
from deidlib.media import VideoReader, read_image
from deidlib.models.retinaface import RetinaFace

FRAMES = (1, 60, 120, 200)
TWINS = {"orig": "retinaface_mobilenet0.25", "1mb": "retinaface_mobilenet0.25_1mb"}


@pytest.fixture(scope="module")
def frames(shared: Path) -> Tensor:
    folder = shared / "parity" / "frames"
    return torch.cat([read_image(folder / f"T002_frame{n:03}.png") for n in FRAMES])


def parity(shared: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(shared / "parity" / "retinaface" / name, weights_only=True)
    return content


@pytest.mark.parametrize("variant", TWINS)
def test_raw_heads_equal_upstream(shared: Path, frames: Tensor, variant: str) -> None:
    expected = parity(shared, "retinaface_raw_frame060.pt")[variant]
    with torch.no_grad():
        code, logits, points = RetinaFace(TWINS[variant]).raw(frames[1:2])
    torch.testing.assert_close(code[0], expected["loc"], rtol=0, atol=1e-3)
    torch.testing.assert_close(logits[0].softmax(-1), expected["conf_softmax"], rtol=0, atol=1e-4)
    torch.testing.assert_close(logits[0], expected["conf_logits"], rtol=0, atol=1e-3)
    torch.testing.assert_close(points[0].flatten(1), expected["landms"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("variant", TWINS)
def test_detections_equal_upstream(shared: Path, frames: Tensor, variant: str) -> None:
    # Upstream reports everything above a score of 0.02.
    expected = parity(shared, "retinaface_detect.pt")[variant]
    seen = RetinaFace(TWINS[variant], score_threshold=0.02).predict(frames)
    for number, faces in zip(FRAMES, seen, strict=True):
        own = expected[f"frame{number:03}"]
        assert len(faces) == len(own["dets_xyxy_score"])
        assert faces.landmarks is not None
        torch.testing.assert_close(faces.boxes, own["dets_xyxy_score"][:, :4], rtol=0, atol=0.02)
        torch.testing.assert_close(faces.scores, own["dets_xyxy_score"][:, 4], rtol=0, atol=1e-3)
        torch.testing.assert_close(faces.landmarks.flatten(1), own["landms_x1y1_x5y5"], rtol=0, atol=0.02)


def test_the_twin_is_recognised_in_a_file_of_any_name(shared: Path, frames: Tensor, tmp_path: Path) -> None:
    file = tmp_path / "model_final.pth"
    file.write_bytes((shared / "weights" / "retinaface_mobilenet0.25_1mb.pth").read_bytes())
    by_file, by_name = RetinaFace(file), RetinaFace(TWINS["1mb"])
    assert by_file.anchor_sizes == ((10, 20), (32, 64), (128, 256))
    torch.testing.assert_close(by_file.predict(frames[:1])[0].boxes, by_name.predict(frames[:1])[0].boxes)


def test_boxes_agree_with_the_organisers(shared: Path) -> None:
    with (shared / "media" / "T002_talk.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["frame"]) % 10 == 1]
    wanted = {int(row["frame"]) - 1: row for row in rows}
    with VideoReader(shared / "media" / "T002_talk.mp4") as reader:
        images = torch.stack([frame.image for i, frame in enumerate(reader) if i in wanted])
    overlaps = []
    for row, faces in zip(wanted.values(), RetinaFace().predict(images), strict=True):
        x, y, w, h = (float(row[name]) for name in "xywh")
        overlaps.append(iou(torch.tensor([[x, y, x + w, y + h]]), faces.boxes).amax().item())
    assert len(overlaps) == 27
    assert sum(overlaps) / len(overlaps) >= 0.93


def test_loss_gradient_in_float64(shared: Path, frames: Tensor) -> None:
    image = frames[:1, :, 40:264, 140:332].double()
    model = RetinaFace().double()
    faces = model.predict(image)
    assert len(faces[0]) == 1
    target = model.target(faces, (224, 192))
    hidden = (image + 0.05 * torch.rand_like(image)).clamp(0, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model.loss(x, target), (hidden,), fast_mode=True, atol=1e-3, rtol=1e-3)


def test_loss_by_hand_on_made_up_heads(shared: Path) -> None:
    # Two anchors carry a face of 40 x 40 exactly but for 1.6 px (= 0.04 of its size, 2 tolerances) in one x2.
    model = RetinaFace()
    images = torch.rand(1, 3, 64, 64)
    from deidlib.geometry.boxes import encode, encode_points
    from deidlib.models.retinaface import RetinaFaceTarget

    priors = model._priors((64, 64), images)
    box = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
    points = torch.rand(1, 5, 2) * 40 + 10
    rows = torch.tensor([3, 7])
    code = torch.zeros(1, len(priors), 4)
    code[0, rows] = encode(torch.tensor([[10.0, 10.0, 51.6, 50.0], [10.0, 10.0, 50.0, 50.0]]), priors[rows])
    logits = torch.zeros(1, len(priors), 2)
    logits[..., 0] = 30.0
    logits[0, rows, 0] = 0.0
    landmarks = torch.zeros(1, len(priors), 5, 2)
    landmarks[0, rows] = encode_points(points.expand(2, 5, 2), priors[rows])

    def answers(images: Tensor) -> Tensor:
        margin = logits[..., 1:] - logits[..., :1]
        return torch.cat([code[..., :2], landmarks.flatten(2), code[..., 2:], logits[..., :1], margin], dim=2)

    model._answers = answers  # type: ignore[method-assign]
    target = RetinaFaceTarget(
        frame=torch.zeros(2, dtype=torch.long),
        face=torch.zeros(2, dtype=torch.long),
        place=torch.arange(2),
        anchor=rows,
        share=torch.tensor([0.75, 0.25]),
        prior=priors[rows],
        goal=torch.cat([box, points.flatten(1)], dim=1).expand(2, 14),
        unit=torch.full((2, 14), 1 / (0.02 * 40)),
        most=(1, 2),
    )
    # softplus(0) = log 2 for both; Huber of (0, 0, 2, 0) is 1.5 / 4.
    expected = torch.log(torch.tensor([2.0])) + 0.75 * 1.5 / 4
    torch.testing.assert_close(model.loss(images, target), expected, rtol=1e-3, atol=1e-4)
    # A new face elsewhere: an anchor with logits (0, 0) costs sigmoid(0) * softplus(0).
    logits[0, 20] = 0.0
    torch.testing.assert_close(
        model.loss(images, target), expected + 0.5 * torch.log(torch.tensor(2.0)), rtol=1e-3, atol=1e-4
    )


def test_anchors_are_chosen_by_geometry(shared: Path) -> None:
    image = read_image(shared / "media" / "group02.jpg")
    model = RetinaFace()
    (faces,) = model.predict(image)
    assert len(faces) >= 4
    size = (image.shape[2], image.shape[3])
    target = model.target([faces], size)
    # Each face weighs the same, over three anchors.
    torch.testing.assert_close(target.share.sum(), torch.tensor(1.0))
    assert target.share[target.share > 0].tolist() == pytest.approx([1 / (3 * len(faces))] * 3 * len(faces))
    with torch.no_grad():
        code, logits, _ = model.raw(image)
    for box in faces.boxes:
        mine = (target.goal[:, :4] == box).all(dim=1)
        carriers = target.anchor[mine & (target.share > 0)]
        assert len(carriers) == 3
        # On the original these fire, and give the box that was read, though nobody has looked.
        decoded = decode(code[0, carriers], model._priors(size, image)[carriers])
        assert iou(decoded, box[None]).min() > 0.85
        assert (logits[0, carriers, 1] > logits[0, carriers, 0]).all()
    # No anchor belongs to two faces.
    assert len(torch.unique(target.anchor)) == len(target.anchor)
    alone = model.target([faces[[1]]], size)
    assert torch.unique(alone.goal[:, :4], dim=0).tolist() == faces.boxes[1:2].tolist()
    assert len(model.target([Faces.empty()], size).frame) == 0


@pytest.mark.parametrize("side", [2.0, 14.0, 900.0])
def test_faces_of_any_size_have_their_anchors(shared: Path, side: float) -> None:
    face = Faces(torch.tensor([[70.0, 60, 70 + side, 60 + side]]), torch.ones(1))
    model = RetinaFace()
    target = model.target([face], (480, 480))
    assert int((target.share > 0).sum()) == 3
    assert torch.isfinite(model.loss(torch.rand(1, 3, 480, 480), target)).all()


def test_resnet50_runs_with_its_own_conventions() -> None:
    from deidlib.nets.retinaface_resnet50 import RetinaFaceResNet50

    torch.manual_seed(0)
    model = RetinaFace(RetinaFaceResNet50().state_dict(), backbone="resnet50", score_threshold=0.0)
    assert not model.bgr
    (faces,) = model.predict(torch.rand(1, 3, 64, 64))
    assert len(faces) > 0
    with pytest.raises(ValueError, match="backbone must be one of"):
        RetinaFace(backbone="vgg")  # type: ignore[arg-type]
