from __future__ import annotations

import copy
import csv
import pickle
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deidlib.faces import Faces
from deidlib.metrics import (
    ARCFACE_TEMPLATE,
    FacenetEmbedder,
    Linkage,
    OnnxEmbedder,
    Parrot,
    ReIdentification,
    accept_rate,
    accept_threshold,
    align,
    cosine,
    rank1,
    true_accept_rate,
)
from deidlib.models.strangers import YuNet
from deidlib.obfuscate import Pixelate

TEMPLATE = torch.tensor(ARCFACE_TEMPLATE)


def colour(crops: Tensor) -> Tensor:
    """A recogniser of toys: people are colours."""
    return crops.mean(dim=(2, 3)) - 0.5


def people(*colours: Sequence[float], side: int = 112) -> Tensor:
    """One frame for each colour, full of it."""
    return torch.tensor(colours)[:, :, None, None].expand(-1, 3, side, side).clone()


def framed(count: int, side: int = 112) -> list[Faces]:
    return [Faces(torch.tensor([[0.0, 0.0, side, side]]), torch.ones(1), TEMPLATE[None])] * count


def values(metric: ReIdentification) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


RED, GREEN, BLUE = (1.0, 0.5, 0.5), (0.5, 1.0, 0.5), (0.5, 0.5, 1.0)


# Functions


def test_threshold_and_rates_by_hand() -> None:
    impostors = torch.tensor([0.5, 0.1, 0.4, 0.2, 0.3, torch.nan])
    # At most 0, 1, 2 of 5 above.
    for rate, threshold in ((0.0, 0.5), (0.19, 0.5), (0.2, 0.4), (0.39, 0.4), (0.4, 0.3)):
        assert accept_threshold(impostors, rate).item() == pytest.approx(threshold)
    genuine = torch.tensor([0.45, 0.6, 0.1, torch.nan])
    assert true_accept_rate(genuine, impostors, 0.0).item() == 0.25
    assert true_accept_rate(genuine, impostors, 0.2).item() == 0.5
    assert accept_rate(torch.zeros(0), 0.5).isnan()
    assert accept_rate(genuine, torch.tensor(torch.nan)).isnan()
    assert accept_threshold(torch.zeros(0), 0.1).isnan()
    with pytest.raises(ValueError, match=r"false_accept_rate must lie in \[0, 1\), got 1"):
        accept_threshold(impostors, 1)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 10**6), st.floats(0, 0.99))
def test_threshold_keeps_its_promise_and_is_the_lowest(count: int, seed: int, rate: float) -> None:
    impostors = torch.randint(0, 20, (count,), generator=torch.Generator().manual_seed(seed)).float()
    threshold = accept_threshold(impostors, rate)
    assert (impostors > threshold).double().mean() <= rate + 1e-9
    assert (impostors > threshold - 1).double().mean() > rate or threshold < impostors.min()


def test_cosine_is_torchs() -> None:
    a, b = torch.randn(4, 8), torch.randn(5, 8)
    expected = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)
    assert torch.allclose(cosine(a, b), expected, atol=1e-6)
    assert torch.allclose(cosine(a * 3, b * 0.1), expected, atol=1e-6)
    a[1] = torch.nan
    assert cosine(a, b).isnan().any(dim=1).tolist() == [False, True, False, False]


def test_rank1_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.2, 0.8], [0.1, 0.9, 0.3], [torch.nan] * 3, [0.5, 0.5, 0.1], [0.9, 0.0, 0.0]])
    who, gallery = torch.tensor([1, 1, 1, 1, 4]), torch.tensor([1, 2, 3])
    # Right; wrong; no embedding; a tie is no success; nobody of that name in the gallery.
    assert rank1(scores, who, gallery).nan_to_num(nan=-1).tolist() == [1, 0, 0, 0, -1]
    excluded = torch.zeros(5, 3, dtype=torch.bool)
    excluded[1, 1] = True
    assert rank1(scores, who, gallery, excluded)[1] == 0
    excluded[1, 2] = True
    assert rank1(scores, who, gallery, excluded)[1] == 1


# The metric, with toys


def test_unprotected_faces_are_recognised() -> None:
    metric = ReIdentification(colour)
    frames = people(RED, RED, GREEN, GREEN, BLUE)
    metric.update(frames, frames, framed(5), [[0], [0], [1], [1], [2]])
    got = values(metric)
    assert got["cosine_same"] == pytest.approx(1)
    assert got["cosine_genuine"] == pytest.approx(1)
    assert got["cosine_impostor"] == pytest.approx(0, abs=1e-6)
    assert got["clear_accepted"] == got["accepted"] == got["accepted_same"] == got["tar"] == got["rank1"] == 1
    assert got["false_accepted"] == 0
    # Four faces have one right picture among four others.
    assert got["chance"] == 0.25
    assert (got["faces"], got["genuine"], got["impostors"]) == (5, 4, 16)
    assert metric.per_face()["identified"].nan_to_num(nan=-1).tolist() == [1, 1, 1, 1, -1]


def test_naive_by_hand() -> None:
    """Everybody protected becomes green."""
    metric = ReIdentification(colour)
    metric.update(people(RED, RED, GREEN, GREEN), people(*[GREEN] * 4), framed(4), [[0], [0], [1], [1]])
    got = values(metric)
    assert metric.per_face()["cosine_same"].tolist() == pytest.approx([0, 0, 1, 1], abs=1e-6)
    assert got["cosine_same"] == pytest.approx(0.5)
    # Red probes against the other red picture 0, green against green 1; half of the impostor pairs agree.
    assert got["cosine_genuine"] == pytest.approx(0.5)
    assert got["cosine_impostor"] == pytest.approx(0.5)
    assert got["threshold"] == pytest.approx(0, abs=1e-6)
    assert got["clear_accepted"] == 1
    assert got["accepted"] == 0.5
    assert got["accepted_same"] == 0.5
    assert got["false_accepted"] == 0.5
    # Chosen by protected pairs no threshold lets green in without letting red in too.
    assert got["tar"] == 0
    assert metric.per_face()["identified"].tolist() == [0, 0, 1, 1]


def swap_red_and_green(images: Tensor, faces: Sequence[Faces]) -> Tensor:
    return images[:, [1, 0, 2]]


def test_a_deterministic_method_stops_the_naive_and_not_the_parrot() -> None:
    frames, who = people(RED, RED, GREEN, GREEN), [[0], [0], [1], [1]]
    protected = swap_red_and_green(frames, framed(4))
    naive, parrot, linkage = (
        ReIdentification(colour),
        ReIdentification(colour, Parrot(swap_red_and_green)),
        ReIdentification(colour, Linkage()),
    )
    for metric in (naive, parrot, linkage):
        metric.update(frames, protected, framed(4), who)
    assert values(naive)["rank1"] == 0
    assert values(naive)["accepted"] == 0
    for metric in (parrot, linkage):
        assert values(metric)["rank1"] == 1
        assert values(metric)["accepted"] == 1
        # What a face has to do with its own clear picture does not depend on who attacks.
        assert values(metric)["cosine_same"] == pytest.approx(0, abs=1e-6)


def test_a_face_is_not_compared_with_its_own_frame() -> None:
    """Otherwise a single picture of each person would be identified by itself."""
    metric = ReIdentification(colour, Linkage())
    frames = people(RED, GREEN, BLUE)
    metric.update(frames, frames, framed(3), [[0], [1], [2]])
    got = values(metric)
    assert np.isnan(got["rank1"])
    assert np.isnan(got["accepted"])
    assert got["genuine"] == 0


def test_attacker_with_his_own_points() -> None:
    frames = people(RED, RED, GREEN)
    metric = ReIdentification(colour)
    found = [*framed(1), Faces.empty(), *framed(1)]
    metric.update(frames, frames, framed(3), [[0], [0], [1]], found=found)
    got = values(metric)
    assert got["acquired"] == pytest.approx(2 / 3)
    assert metric.per_face()["cosine_same"].isnan().tolist() == [False, True, False]
    # A face that he does not find is one that he does not recognise.
    assert got["accepted"] == 0.5
    assert got["accepted_same"] == pytest.approx(2 / 3)
    assert got["rank1"] == 0.5
    assert got["cosine_genuine"] == pytest.approx(1)


def test_found_faces_are_matched_to_the_originals_in_any_order() -> None:
    left = torch.tensor([[0.0, 0.0, 112.0, 112.0]])
    boxes = torch.cat([left, left + torch.tensor([112.0, 0.0, 112.0, 0.0])])
    points = torch.stack([TEMPLATE, TEMPLATE + torch.tensor([112.0, 0.0])])
    faces = Faces(boxes, torch.ones(2), points)
    frame = torch.cat([people(RED), people(GREEN)], dim=3)
    metric = ReIdentification(colour)
    metric.update(frame, frame, [faces], [[0, 1]], found=[faces[[1, 0]]])
    assert metric.per_face()["cosine_same"].tolist() == pytest.approx([1, 1], abs=0.02)


def test_sources_of_other_sizes_add_up_and_reset() -> None:
    metric = ReIdentification(colour)
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert metric.compute()["threshold"].isnan()
    metric.update(people(RED), people(GREEN), framed(1), [[0]])
    metric.update(people(BLUE, side=200), people(BLUE, side=200), framed(1, 200), [[5]])
    metric.update(people(RED), people(RED), [Faces.empty()], [[]])
    assert values(metric)["faces"] == 2
    assert metric.per_face()["identity"].tolist() == [0, 5]
    twin = copy.deepcopy(metric)
    metric.reset()
    assert len(metric.per_face()["identity"]) == 0
    assert values(twin)["faces"] == 2


def test_update_says_what_is_wrong() -> None:
    metric = ReIdentification(colour)
    frames = people(RED, GREEN)
    with pytest.raises(ValueError, match="protected must have the shape of originals"):
        metric.update(frames, frames[:1], framed(2), [[0], [1]])
    with pytest.raises(ValueError, match="2 frames, got 1 of the originals and 3 found"):
        metric.update(frames, frames, framed(1), [[0]], found=framed(3))
    with pytest.raises(ValueError, match="identities must name every face"):
        metric.update(frames, frames, framed(2), [[0], []])
    with pytest.raises(ValueError, match="faces of frame 1 have none"):
        metric.update(frames, frames, [*framed(1), framed(1)[0].replace(landmarks=None)], [[0], [1]])
    with pytest.raises(ValueError, match="false_accept_rate"):
        ReIdentification(colour, false_accept_rate=1.5)


# Alignment


def test_align_is_opencvs_warp() -> None:
    image = torch.rand(1, 3, 90, 120)
    landmarks = torch.rand(1, 5, 2) * 80 + 5
    faces = Faces(torch.tensor([[0.0, 0.0, 120.0, 90.0]]), torch.ones(1), landmarks)
    (crop,) = align(image, [faces])
    from skimage.transform import SimilarityTransform

    matrix = SimilarityTransform.from_estimate(landmarks[0].double().numpy(), TEMPLATE.double().numpy()).params[:2]
    # cv2 rounds its bilinear weights to 1/32 of a pixel, and neighbouring pixels of noise differ much.
    expected = cv2.warpAffine(image[0].permute(1, 2, 0).numpy(), matrix, (112, 112), flags=cv2.INTER_LINEAR)
    assert (crop.permute(1, 2, 0) - torch.from_numpy(expected)).abs().mean() < 0.01


def test_align_puts_points_on_the_template() -> None:
    """Bright spots at the five points of a turned and scaled face end up where the template says."""
    turn = torch.tensor([[1.2, -0.9], [0.9, 1.2]])
    points = TEMPLATE @ turn.T + torch.tensor([150.0, 10.0])
    y, x = torch.meshgrid(torch.arange(300.0), torch.arange(300.0), indexing="ij")
    spots = sum(torch.exp(-((x - px).square() + (y - py).square()) / 18) for px, py in points.tolist())
    assert isinstance(spots, Tensor)
    image = spots.clamp(0, 1).expand(1, 3, 300, 300)
    faces = Faces(torch.tensor([[0.0, 0.0, 300.0, 300.0]]), torch.ones(1), points[None])
    (crop,) = align(image, [faces])
    for px, py in TEMPLATE.round().long().tolist():
        assert crop[0, py - 1 : py + 2, px - 1 : px + 2].max() > 0.9


def test_align_no_faces() -> None:
    assert align(torch.rand(2, 3, 8, 8), [Faces.empty(), Faces.empty()]).shape == (0, 3, 112, 112)


# Real recognisers


@pytest.fixture(scope="module")
def mobilefacenet(shared: Path) -> OnnxEmbedder:
    pytest.importorskip("onnxruntime")
    return OnnxEmbedder()


@pytest.fixture(scope="module")
def driver(shared: Path) -> tuple[Tensor, list[Faces]]:
    """Seven frames with the organisers' points."""
    with open(shared / "media" / "T002_talk.csv", newline="") as file:
        rows = {int(row["frame"]): row for row in csv.DictReader(file)}
    video = cv2.VideoCapture(str(shared / "media" / "T002_talk.mp4"))
    frames, faces = [], []
    for number in range(1, 271):
        good, bgr = video.read()
        if not good:
            break
        if number % 40 == 1:
            row = rows[number]
            x, y, w, h = (float(row[key]) for key in "xywh")
            points = [[float(row[f"point_0{i}_{axis}"]) for axis in "xy"] for i in range(5)]
            faces.append(Faces(torch.tensor([[x, y, x + w, y + h]]), torch.ones(1), torch.tensor([points])))
            frames.append(torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1])).permute(2, 0, 1).float() / 255)
    return torch.stack(frames), faces


@pytest.fixture(scope="module")
def strangers(shared: Path) -> list[tuple[Tensor, Faces]]:
    """Six other people, with YuNet's points."""
    yunet = YuNet()
    out = []
    for name, count in (("portrait00", 1), ("portrait01", 1), ("group02", 4)):
        bgr = cv2.imread(str(shared / "media" / f"{name}.jpg"))
        assert bgr is not None
        image = torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1])).permute(2, 0, 1)[None].float() / 255
        # The torn jeans of portrait01 look like a face to YuNet.
        out.append((image, yunet.predict(image)[0][:count]))
    return out


def test_mobilefacenet_tells_people_apart(
    mobilefacenet: OnnxEmbedder, driver: tuple[Tensor, list[Faces]], strangers: list[tuple[Tensor, Faces]]
) -> None:
    frames, faces = driver
    own = mobilefacenet(align(frames, faces))
    among = cosine(own, own)[~torch.eye(7, dtype=torch.bool)]
    # Published with the weights: 0.88 mean, 0.78 least.
    assert among.mean() == pytest.approx(0.88, abs=0.02)
    assert among.min() > 0.75
    all_ = torch.cat([own[:1], *[mobilefacenet(align(image, [face])) for image, face in strangers]])
    between = cosine(all_, all_)[~torch.eye(7, dtype=torch.bool)]
    # There: 0.05 mean, 0.29 at most.
    assert between.mean().abs() < 0.08
    assert between.max() < 0.3
    # One by one as together, though the file's batch is 1.
    assert torch.allclose(mobilefacenet(align(frames[3:4], faces[3:4]))[0], own[3], atol=1e-5)


def test_reidentification_of_the_driver(
    mobilefacenet: OnnxEmbedder, driver: tuple[Tensor, list[Faces]], strangers: list[tuple[Tensor, Faces]]
) -> None:
    frames, faces = driver
    hide = Pixelate(4)
    unprotected, hidden = ReIdentification(mobilefacenet), ReIdentification(mobilefacenet)
    for metric, protect in ((unprotected, None), (hidden, hide)):
        metric.update(frames, frames if protect is None else protect(frames, faces), faces, [[0]] * len(frames))
        for number, (image, face) in enumerate(strangers):
            who = [10 * number + i + 1 for i in range(len(face))]
            metric.update(image, image if protect is None else protect(image, [face]), [face], [who])
    clear, got = values(unprotected), values(hidden)
    assert clear["threshold"] == got["threshold"]
    assert clear["threshold"] < 0.3
    assert clear["accepted"] == clear["clear_accepted"] == clear["rank1"] == clear["accepted_same"] == 1
    assert clear["cosine_same"] == pytest.approx(1, abs=1e-5)
    assert got["cosine_same"] < 0.2
    assert got["accepted"] == 0
    assert got["faces"] == 13


def test_onnx_embedder_needs_conventions_of_unknown_files(tmp_path: Path, mobilefacenet: OnnxEmbedder) -> None:
    own = tmp_path / "mine.onnx"
    known = Path(mobilefacenet._net._path)
    own.write_bytes(known.read_bytes())
    crops = torch.rand(2, 3, 112, 112)
    # Known by its content, whatever its name.
    assert torch.equal(OnnxEmbedder(own)(crops), mobilefacenet(crops))
    other = tmp_path / "other.onnx"
    other.write_bytes(known.read_bytes() + b"\x7a\x00")
    with pytest.raises(ValueError, match=r"other.onnx is not in the table of checkpoints: give its mean and std"):
        OnnxEmbedder(other)
    with pytest.raises(ValueError, match="Got std=None"):
        OnnxEmbedder(other, mean=(0.5, 0.5, 0.5))
    mine = OnnxEmbedder(own, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(mine((crops - mean[:, None, None]) / std[:, None, None]), mobilefacenet(crops), atol=1e-5)


def test_embedders_check_their_crops_and_can_be_copied(mobilefacenet: OnnxEmbedder) -> None:
    assert mobilefacenet(torch.zeros(0, 3, 112, 112)).shape == (0, 128)
    with pytest.raises(ValueError, match="aligned faces of 112 x 112 pixels, got"):
        mobilefacenet(torch.zeros(1, 3, 160, 160))
    with pytest.raises(TypeError, match="uint8"):
        mobilefacenet(torch.zeros(1, 3, 112, 112, dtype=torch.uint8))
    crops = torch.rand(1, 3, 112, 112)
    for twin in (copy.deepcopy(mobilefacenet), pickle.loads(pickle.dumps(mobilefacenet))):
        assert torch.equal(twin(crops), mobilefacenet(crops))


@pytest.fixture(scope="module")
def facenet_state() -> dict[str, Tensor]:
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    state: dict[str, Tensor] = InceptionResnetV1(pretrained=None).state_dict()
    # As in the published file, whose classifier the embedding does not use.
    return {**state, "logits.weight": torch.zeros(8631, 512), "logits.bias": torch.zeros(8631)}


def test_facenet_is_facenet_pytorchs(facenet_state: dict[str, Tensor]) -> None:
    from facenet_pytorch import InceptionResnetV1
    from facenet_pytorch.models.mtcnn import fixed_image_standardization

    net = InceptionResnetV1(pretrained=None).eval()
    net.load_state_dict({k: v for k, v in facenet_state.items() if not k.startswith("logits")})
    crops = torch.rand(2, 3, 112, 112)
    large = torch.nn.functional.interpolate(crops, size=(160, 160), mode="bilinear", align_corners=False)
    embedder = FacenetEmbedder(facenet_state)
    with torch.no_grad():
        expected = net(fixed_image_standardization(large * 255))
    assert torch.allclose(embedder(crops), expected, atol=1e-5)
    assert not embedder(crops).requires_grad
    assert embedder(torch.zeros(0, 3, 112, 112)).shape == (0, 512)


def test_facenet_refuses_other_weights(facenet_state: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="Missing key"):
        FacenetEmbedder({"conv2d_1a.conv.weight": facenet_state["conv2d_1a.conv.weight"]})
