from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN as Upstream
from skimage.data import astronaut
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import batched_nms

from deidlib.faces import Faces
from deidlib.geometry.cut import cut
from deidlib.geometry.summed_area import SummedArea
from deidlib.media import read_image
from deidlib.models.mtcnn import MTCNN
from deidlib.models.mtcnn.cascade import (
    cell_boxes,
    pyramid,
    scaled_size,
    suppress,
    survivors,
    whole_pixels,
)
from deidlib.models.mtcnn.detector import _refined
from deidlib.obfuscate import Pixelate


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def model() -> MTCNN:
    return MTCNN()


def assert_same(faces: Faces, boxes: np.ndarray | None, scores: np.ndarray, points: np.ndarray) -> None:
    if boxes is None:
        assert len(faces) == 0
        return
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    expected = [torch.from_numpy(np.asarray(a, dtype=np.float32)[order]) for a in (boxes, scores, points)]
    assert faces.landmarks is not None
    torch.testing.assert_close(faces.boxes, expected[0], rtol=0, atol=0.02)
    torch.testing.assert_close(faces.scores, expected[1], rtol=0, atol=1e-4)
    torch.testing.assert_close(faces.landmarks, expected[2], rtol=0, atol=0.02)


def test_reads_what_facenet_pytorch_reads(model: MTCNN, picture: Tensor) -> None:
    upstream = Upstream(keep_all=True)
    views = [picture, picture[..., 100:333, 3:402], 1 - picture, picture[..., :40, :57], picture.flip(-1)]
    for view in views:
        pixels = view[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        assert_same(model.predict(view)[0], *upstream.detect(pixels, landmarks=True))


def test_reads_several_faces_in_a_batch_as_alone(model: MTCNN, shared: Path) -> None:
    image = read_image(shared / "media" / "group02.jpg")
    batch = torch.cat([image, image.flip(-1)])
    pixels = image[0].permute(1, 2, 0).mul(255).round().byte().numpy()
    together = model.predict(batch)
    assert len(together[0]) >= 4
    assert_same(together[0], *Upstream(keep_all=True).detect(pixels, landmarks=True))
    torch.testing.assert_close(together[1].boxes, model.predict(batch[1:])[0].boxes, rtol=0, atol=1e-3)


@pytest.mark.parametrize("number", [1, 60, 120, 200])
def test_parity_with_recorded_detections(model: MTCNN, shared: Path, number: int) -> None:
    expected = torch.load(shared / "parity" / "mtcnn" / "mtcnn.pt", weights_only=True)[f"T002_frame{number:03}"]
    (faces,) = model.predict(read_image(shared / "parity" / "frames" / f"T002_frame{number:03}.png"))
    assert faces.landmarks is not None
    torch.testing.assert_close(faces.boxes, expected["boxes"], rtol=0, atol=1e-2)
    torch.testing.assert_close(faces.scores, expected["probs"], rtol=0, atol=1e-4)
    torch.testing.assert_close(faces.landmarks, expected["landmarks"], rtol=0, atol=1e-2)


def test_the_windows_of_the_loss_show_p_net_exactly_its_own_cells(model: MTCNN, picture: Tensor) -> None:
    # The loss looks at windows of the pyramid only; their cells must be those of the whole image.
    # The last one's end with the image, in half a pool.
    for image in (picture, picture[..., 0:301, 90:401], picture[..., 40:190, 150:303]):
        target = model.target(model.predict(image), (image.shape[2], image.shape[3]))
        parts = [part for part in target.scales if len(part.face)]
        assert len(parts) >= 3
        pixels = SummedArea.of(cut(image, target.places, target.extent))
        canvas, _, _ = target.plan.always(pixels)
        # What P-Net answers to a window is in the same order as the cells.
        local = model.pnet.answers(canvas, target.plan.hollow).flatten(0, 2)[target.plan.at]
        expected = []
        for part in parts:
            size = scaled_size(image.shape[-2], image.shape[-1], part.scale)
            (full,) = model.pnet.answers(interpolate(image, size=size, mode="area"))
            every = torch.stack(torch.meshgrid(*(torch.arange(n) for n in full.shape[:2]), indexing="ij"))
            boxes = cell_boxes(every[0], every[1], part.scale)
            rows, columns = part.cells.shape[1:3]
            for cells in part.cells:
                i, j = (boxes == cells[0, 0]).all(dim=-1).nonzero()[0].tolist()
                expected.append(full[i : i + rows, j : j + columns].flatten(0, 1))
        torch.testing.assert_close(local, torch.cat(expected), rtol=1e-3, atol=1e-3)
    assert target.plan.hollow is not None


def test_carriers_are_cells_that_would_propose_the_face(model: MTCNN, picture: Tensor) -> None:
    faces = model.predict(picture)
    target = model.target(faces, (512, 512))
    total = sum(part.share.sum() for part in target.scales)
    torch.testing.assert_close(total, torch.tensor(float(len(faces[0]))))
    # Chosen by geometry alone, they fire on the original, and say where the face is; other cells fire on it as well.
    silent = replace(target, scales=tuple(replace(part, quiet=0 * part.quiet) for part in target.scales))
    with torch.no_grad():
        assert model.loss(picture, silent).item() < 4
        assert model.loss(Pixelate()(picture, faces), silent).item() > 30


def test_loss_gradient_in_float64(picture: Tensor) -> None:
    model = MTCNN(min_face=40).double()
    image = picture[..., 0:200, 130:320].double()
    faces = model.predict(image)
    assert len(faces[0]) == 1
    target = model.target(faces, (200, 190))
    hidden = (0.7 * image + 0.3 * Pixelate()(image, faces)).clamp(0.01, 0.99).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: model.loss(x, target), (hidden,), fast_mode=True, eps=1e-7, atol=1e-3, rtol=1e-3
    )


def test_images_smaller_than_a_face_hold_none(model: MTCNN) -> None:
    for size in ((1, 1), (16, 16), (19, 300)):
        assert [len(f) for f in model.predict(torch.rand(2, 3, *size))] == [0, 0]
    assert pyramid(19, 300) == []


def test_whole_pixels_truncate_and_cut_as_upstream_pads() -> None:
    boxes = torch.tensor([[-3.7, 0.2, 10.9, 8.0], [1.9, 2.1, 5.5, 99.0], [50.0, 5.0, 60.0, 9.0]])
    # Upstream slices [y - 1 : ey, x - 1 : ex] of 1-based corners cut to [1, size].
    assert whole_pixels(boxes, 20, 40).tolist() == [[0, 0, 10, 8], [0, 1, 5, 20], [49, 4, 40, 9]]


def test_suppression_is_over_the_smaller_box() -> None:
    # A box inside another overlaps itself wholly; two side by side do not overlap.
    boxes = torch.tensor([[0.0, 0, 99, 99], [20.0, 20, 39, 39], [100.0, 0, 199, 99]])
    assert suppress(boxes, torch.tensor([0.8, 0.9, 0.7]), 0.7).tolist() == [1, 2]
    assert suppress(boxes[:0], torch.zeros(0), 0.7).tolist() == []


def test_the_gradient_on_a_mosaic_is_that_of_the_frame_alone(model: MTCNN, picture: Tensor) -> None:
    # A mosaic is full of ties, which a max pool of torch's breaks by the rounding of whatever shares the batch.
    frames = torch.cat([picture[..., i : i + 240, 100 + 2 * i : 340 + 2 * i] for i in range(4)])
    faces = model.predict(frames)
    hidden = Pixelate(blocks=4)(frames, faces)

    def gradient(images: Tensor, reading: list[Faces]) -> Tensor:
        leaf = images.clone().requires_grad_()
        loss = model.loss(leaf, model.target(reading, (240, 240)))
        (slope,) = torch.autograd.grad(loss.sum(), leaf)
        return slope

    together = gradient(hidden, faces)
    for i in range(4):
        alone = gradient(hidden[i : i + 1], faces[i : i + 1])[0]
        assert (together[i] - alone).abs().sum() <= 1e-3 * alone.abs().sum()


def test_suppression_is_the_same_for_every_frame_of_a_batch() -> None:
    # Their overlap is a hair above 0.7; boxes of frame 63, moved apart by 63 frames, would be rounded in float32.
    boxes = torch.tensor([[0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 100.0, 70.0001]])
    far = torch.tensor([[4000.0, 4000.0, 4100.0, 4100.0]])
    score = torch.tensor([0.9, 0.8, 0.95])
    for frame in (0, 1, 63):
        owner = torch.tensor([frame, frame, 64])
        kept, owners = _refined(torch.cat([boxes, far]), torch.cat([boxes, far]), score, owner)
        assert owners.tolist() == [64, frame]
        assert kept.tolist() == [far[0].tolist(), boxes[0].tolist()]


def test_survivors_are_those_of_greedy_suppression() -> None:
    generator = torch.Generator().manual_seed(5)
    corner = 60 * torch.rand(200, 2, generator=generator)
    boxes = torch.cat([corner, corner + 20 + 10 * torch.rand(200, 2, generator=generator)], dim=1)
    # Some scores are equal.
    scores = (50 * torch.rand(200, generator=generator)).round() + torch.arange(200) // 4 * 0.001
    owner, group = torch.arange(200) % 3, torch.arange(200) % 6
    left = survivors(boxes, scores, [(group, 0.5), (owner, 0.4)])
    first = batched_nms(boxes, scores, group, 0.5)
    expected = first[batched_nms(boxes[first], scores[first], owner[first], 0.4)]
    assert left.nonzero().squeeze(1).tolist() == sorted(expected.tolist())
    assert 20 < len(expected) < len(first) < 180
    # Those that are not there knock nobody out.
    among = scores > 20
    left = survivors(boxes, scores, [(owner, 0.4)], among=among)
    there = among.nonzero().squeeze(1)
    expected = there[batched_nms(boxes[there], scores[there], owner[there], 0.4)]
    assert left.nonzero().squeeze(1).tolist() == sorted(expected.tolist())
    # More than are compared in pairs.
    many = [values.repeat(6, *[1] * (values.dim() - 1)) for values in (boxes, scores, owner, among)]
    left = survivors(many[0], many[1], [(many[2], 0.4)], among=many[3])
    there = many[3].nonzero().squeeze(1)
    expected = there[batched_nms(many[0][there], many[1][there], many[2][there], 0.4)]
    assert left.nonzero().squeeze(1).tolist() == sorted(expected.tolist())
