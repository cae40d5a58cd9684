from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import face_alignment
import numpy as np
import pytest
import recipe
import torch
from face_alignment import utils as upstream
from face_alignment.models import FAN as UpstreamNet
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from toys import boxed

from deidlib.faces import Faces
from deidlib.geometry.face_model import face_model
from deidlib.geometry.warp import crop_grid, sample
from deidlib.models.fan import FAN, FANTarget, _mirror, _peaks, _rendered
from deidlib.weights import WeightsNotFound

FRAMES = (1, 60, 120, 200)


def state(modules: int, gain: float) -> dict[str, Tensor]:
    with torch.device("meta"):
        net = UpstreamNet(modules)
    return recipe.filled(net, gain=gain)


def read(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None] / 255


def marked(*boxes: Sequence[float]) -> Faces:
    """Faces with the landmarks of the mean face in their boxes, whole pixels."""
    faces, mean = boxed(*boxes), face_model(68)[:, :2].float()
    low, high = mean.amin(dim=0), mean.amax(dim=0)
    corner, side = faces.boxes[:, None, :2], (faces.boxes[:, 2:] - faces.boxes[:, :2])[:, None]
    return faces.replace(landmarks=(corner + side * (mean - low) / (high - low)).round())


class Shows(nn.Module):
    """A net that answers with the same maps whatever it sees."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, crops: Tensor) -> list[Tensor]:
        return [self.maps + 0 * crops.sum()]


@pytest.fixture(scope="module")
def fan1() -> FAN:
    return FAN(state(1, 1.0), modules=1)


@pytest.fixture(scope="module")
def parity(shared: Path) -> dict[str, Any]:
    vectors: dict[str, Any] = torch.load(shared / "parity" / "fan" / "fan_io.pt", weights_only=True)
    return vectors


@pytest.fixture(scope="module")
def frame60(shared: Path) -> Tensor:
    return read(shared / "parity" / "frames" / "T002_frame060.png")


@pytest.fixture
def using(fan1: FAN, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FAN]:
    """The one net of these tests with other settings."""

    def change(**settings: object) -> FAN:
        for name, value in settings.items():
            monkeypatch.setattr(fan1, name, value)
        return fan1

    return change


class Stub(nn.Module):
    """A net of FAN's shapes that is small enough for numerical gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 4, stride=4)
        self.last = nn.Conv2d(4, 68, 1)

    def forward(self, crops: Tensor) -> list[Tensor]:
        maps: Tensor = self.last(self.first(crops).tanh())
        return [maps * torch.nan, maps]


def stub(**settings: Any) -> FAN:
    fan = FAN(weights="random", modules=1, **settings)
    torch.manual_seed(1)
    fan.net = Stub()
    return fan


# --- crops ------------------------------------------------------------------------------------------------


def centre_and_scale(box: Sequence[float], reference: float) -> tuple[np.ndarray, float]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2 - 0.12 * (y2 - y1)]), (x2 - x1 + y2 - y1) / reference


def test_windows_as_upstream(fan1: FAN) -> None:
    generator = np.random.default_rng(0)
    corner = generator.uniform(-60, 500, (400, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(4, 400, (400, 2))], axis=1).astype(np.float32)
    boxes[::2] = boxes[::2].round()
    expected = []
    for box in boxes:
        centre, scale = centre_and_scale(box.tolist(), 165)
        ends = (upstream.transform([end, end], centre, scale, 256.0, True) for end in (1, 256.0))
        expected.append(torch.cat(list(ends)))
    assert torch.equal(fan1._windows(torch.from_numpy(boxes)).int(), torch.stack(expected))


def test_crops_against_parity(parity: dict[str, Any], shared: Path, frame60: Tensor, using: Callable[..., FAN]) -> None:
    for name, crop in parity["crops"].items():
        fan = using(reference_scale=165.0 if name == "165" else 195.0)
        box = crop.get("box", parity["box_xyxy"])
        window = fan._windows(torch.tensor([box]))
        assert window[0].tolist() == [*crop["ul"], *crop["br"]]
        ours = sample(frame60, crop_grid(window, (256, 256)))[0] * 255
        if "file" in crop:
            theirs = read(shared / "parity" / "fan" / crop["file"])[0] * 255
        else:
            theirs, ours = crop["crop_stride8"].permute(2, 0, 1).float(), ours[:, ::8, ::8]
        # OpenCV interpolates with 11 bits and rounds.
        assert (ours - theirs).abs().max() < 0.8
        assert (ours - theirs).mean().abs() < 0.15


def test_crops_against_the_papers_differentiable_ones(
    parity: dict[str, Any], frame60: Tensor, using: Callable[..., FAN]
) -> None:
    for case in ("float_box", "int_box"):
        vectors = parity["kaylode"][case]
        target = using(reference_scale=195.0).target([marked(vectors["box"])], (480, 480))
        crop = sample(frame60, target.grid, target.frame)
        torch.testing.assert_close(crop[0, :, ::8, ::8], vectors["crop_tensor_stride8"], atol=5e-5, rtol=0)


def test_odd_boxes_give_finite_numbers(fan1: FAN) -> None:
    images = torch.rand(1, 3, 60, 80)
    faces = [boxed([30, 30, 30, 30], [-500, -500, -400, -400], [10, 10, 10, 40], [0, 0, 4000, 4000])]
    points = fan1.predict(images, faces)[0].landmarks
    assert points is not None
    assert points.isfinite().all()
    target = fan1.target(fan1.predict(images, faces), (60, 80))
    assert len(target.frame) == 4
    assert (target.unit > 0).all()
    assert fan1.loss(images.flip(-1), target).isfinite().all()


# --- heat maps --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_heatmaps_equal_upstreams_net(fan1: FAN, shared: Path) -> None:
    crop = read(shared / "parity" / "fan" / "crop_frame060_ref165.png")
    net = UpstreamNet(1).eval()
    net.load_state_dict(state(1, 1.0))
    theirs = net(crop)[-1]
    assert theirs.abs().max() > 20
    assert (fan1.heatmaps(crop) - theirs).abs().max() <= 1e-4


@pytest.mark.parametrize(("modules", "gain"), [(1, 1.0), (4, 0.6)])
@torch.no_grad()
def test_heatmaps_and_landmarks_against_parity(
    parity: dict[str, Any], shared: Path, frame60: Tensor, modules: int, gain: float
) -> None:
    vectors, box = parity[f"fan{modules}_hash"], parity["box_xyxy"]
    for reference in (165, 195) if modules == 1 else (165,):
        expected = vectors[f"ref{reference}"]
        fan = FAN(state(modules, gain), modules=modules, reference_scale=reference)
        maps = fan.heatmaps(read(shared / "parity" / "fan" / f"crop_frame060_ref{reference}.png"))[0]
        assert (maps[:, ::4, ::4] - expected["heatmaps_last"]["stride4"]).abs().max() <= 1e-4
        assert torch.equal(maps.flatten(1).argmax(dim=1), expected["heatmaps_last"]["argmax"])
        for flip in (False, True):
            fan.flip = flip
            points = fan.predict(frame60, [boxed(box)])[0].landmarks
            assert points is not None
            # The crop differs from upstream's by OpenCV's rounding, which decides between cells of equal height.
            decided = expected["heatmaps_flip_sum" if flip else "heatmaps_last"]["top2_margin"] > 1e-3
            assert decided.sum() >= 60
            assert torch.equal(points[0][decided], expected[f"landmarks_flip_{flip}"][decided])


def test_peaks_against_parity(parity: dict[str, Any], using: Callable[..., FAN]) -> None:
    vectors = parity["synthetic"]
    x, y = vectors["gaussian_centers_xy"].unbind(-1)
    grid = torch.arange(64.0)
    maps = torch.exp(
        -((grid[None, None, None] - x[..., None, None]) ** 2 + (grid[None, None, :, None] - y[..., None, None]) ** 2)
        / (2 * vectors["sigma"] ** 2)
    )
    maps[0, 8] = 0
    maps[0, 9] = -1
    maps[0, 9, 10, 20] = -0.5
    peaks = _peaks(maps)
    assert torch.equal(peaks, vectors["preds64"])
    fan = using(reference_scale=195.0)
    boxes = torch.tensor([parity["box_xyxy"]]).expand(2, 4)
    assert torch.equal(fan._to_frame(peaks, boxes).float(), vectors["preds_image"])


def test_mirrored_points_as_upstream() -> None:
    pairs = upstream.shuffle_lr(torch.arange(68)[:, None, None]).flatten().tolist()
    assert _mirror() == pairs
    assert [_mirror()[i] for i in _mirror()] == list(range(68))


@pytest.mark.parametrize("flip", [False, True])
def test_landmarks_of_upstreams_own_pipeline(
    shared: Path, using: Callable[..., FAN], monkeypatch: pytest.MonkeyPatch, flip: bool
) -> None:
    for function in ("_get_preds_fromhm", "transform_np"):  # as Python: compiling them takes ten seconds
        monkeypatch.setattr(upstream, function, getattr(upstream, function).py_func)
    pipeline = object.__new__(face_alignment.FaceAlignment)  # its constructor downloads
    net = UpstreamNet(1).eval()
    net.load_state_dict(state(1, 1.0))
    pipeline.__dict__.update(
        device="cpu",
        dtype=torch.float32,
        flip_input=flip,
        max_batch_size=1,
        landmarks_type=face_alignment.LandmarksType.TWO_D,
        face_detector=SimpleNamespace(reference_scale=165),
        face_alignment_net=net,
    )
    folder = shared / "parity" / "frames"
    info = json.loads((folder / "frames.json").read_text())
    images = torch.cat([read(folder / info[str(n)]["file"]) for n in FRAMES])
    boxes = []
    for number in FRAMES:
        x, y, w, h = info[str(number)]["csv_box_xywh"]
        boxes.append(torch.tensor([[x, y, x + w, y + h]]))
    boxes[1] = torch.cat([boxes[1], torch.tensor([[250.0, 200.0, 460.0, 470.0]])])
    ours = using(flip=flip).predict(images, [Faces(b, torch.ones(len(b))) for b in boxes])
    distances = []
    for image, box, faces in zip(images, boxes, ours, strict=True):
        array = (image * 255).round().byte().permute(1, 2, 0).numpy()
        theirs = pipeline.get_landmarks_from_image(array, detected_faces=box.double().numpy())
        assert faces.landmarks is not None
        distances.append((faces.landmarks - torch.from_numpy(np.stack(theirs))).norm(dim=-1).flatten())
    assert len(torch.cat(distances)) == 5 * 68
    assert (torch.cat(distances) <= 1).float().mean() >= 0.99


# --- loss -------------------------------------------------------------------------------------------------


def test_loss_and_gradient_of_the_papers_code(
    parity: dict[str, Any], shared: Path, frame60: Tensor, using: Callable[..., FAN]
) -> None:
    expected, case = parity["kaylode"]["lm_loss_pixelate30"], parity["kaylode"]["int_box"]
    fan = using(reference_scale=195.0)
    array = (frame60[0] * 255).round().byte().permute(1, 2, 0).numpy()
    crop = torch.from_numpy(upstream.crop(array, *centre_and_scale(case["box"], 195))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        goal = fan.heatmaps(crop)
    # The paper's code takes the mean over cells and points.
    target = fan.target([marked(case["box"])], (480, 480))
    target = replace(target, heatmaps=goal, unit=torch.tensor([float(goal.numel())]))
    hidden = read(shared / "parity" / "retinaface" / "T002_frame060_pixelate30.png").requires_grad_()
    loss = fan.loss(hidden, target)
    (gradient,) = torch.autograd.grad(loss.sum(), hidden)
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-4)
    theirs = expected["grad_stride16"]
    assert cosine_similarity(gradient[0, :, ::16, ::16].flatten(), theirs.flatten(), dim=0) > 0.99999
    assert gradient.abs().sum().item() == pytest.approx(expected["grad_stats"]["abs_sum"], rel=1e-3)


def test_maps_are_those_that_the_net_was_trained_to_answer() -> None:
    # Its training draws 7 x 7 cells of upstream's Gaussian around whole cells.
    theirs = torch.zeros(64, 64)
    theirs[29:36, 10:17] = torch.from_numpy(upstream._gaussian(7))
    ours = _rendered(torch.tensor([13.5, 32.5]).expand(1, 68, 2))[0, 5]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("side", [30, 160, 700])
def test_the_model_itself_reads_the_landmarks_off_the_maps_wanted(side: int, flip: bool) -> None:
    faces = marked([50, 20, 50 + side, 20 + 1.3 * side])
    images = torch.rand(1, 3, 1000, 800).requires_grad_()
    fan = FAN(weights="random", modules=1)
    fan.net = Shows(fan.target([faces], (1000, 800)).heatmaps)
    (seen,) = fan.predict(images.detach(), [faces])
    assert seen.landmarks is not None
    assert faces.landmarks is not None
    # A quarter of a cell is what maps resolve; then readings are cut down to whole pixels.
    cell = 2.3 * side / 165 * 200 / 64
    assert (seen.landmarks - faces.landmarks).abs().max() <= cell / 4 + 1
    # Neither up nor down on average.
    assert (seen.landmarks - faces.landmarks).mean().abs() <= 0.05 * cell + 0.3
    fan.flip = flip
    if flip:
        # Both readings are added, so that each has the height of a map.
        fan.mirror = torch.arange(68)
        fan.net = Shows(torch.zeros(1, 68, 64, 64))
        doubled = fan.target([faces], (1000, 800)).heatmaps
        assert doubled.amax() == pytest.approx(2, abs=0.2)
        assert fan.loss(images, fan.target([faces], (1000, 800))).item() == pytest.approx(1)
        return
    target = fan.target([faces], (1000, 800))
    assert fan.loss(images, target).item() == 0
    # Maps that show nothing cost 1.
    fan.net = Shows(torch.zeros(1, 68, 64, 64))
    assert fan.loss(images, target).item() == pytest.approx(1)


def test_landmarks_that_are_not_known_cost_nothing() -> None:
    fan, images = stub(coordinates=0.5), torch.rand(2, 3, 120, 100)
    faces = marked([20, 20, 80, 100])
    assert faces.landmarks is not None
    some, none, outside = faces.landmarks.clone(), faces.landmarks * torch.nan, faces.landmarks.clone()
    some[:, :40] = torch.nan
    outside[:, :40] = 9000.0
    whole = fan.target([faces, faces], (120, 100))
    part = fan.target([faces.replace(landmarks=some), faces.replace(landmarks=outside)], (120, 100))
    assert part.known.sum(dim=1).tolist() == [28, 28]
    losses = fan.loss(images[:1].expand(2, -1, -1, -1), part)
    torch.testing.assert_close(losses[0], losses[1])
    # Of the maps that are left, the loss is what it was.
    maps = fan.heatmaps(sample(images, whole.grid, whole.frame))[:1, 40:]
    goal = whole.heatmaps[:1, 40:]
    fan.coordinates = 0.0
    expected = (maps - goal).square().sum() / goal.square().sum()
    torch.testing.assert_close(fan.loss(images, part)[0], expected)
    assert len(fan.target([faces.replace(landmarks=none), Faces.empty()], (120, 100)).frame) == 0


def test_a_step_against_the_gradient_lowers_the_loss_and_the_crop_is_all_that_matters(
    fan1: FAN, frame60: Tensor
) -> None:
    face = marked([186, 60, 315, 244])
    target = fan1.target([face], (480, 480))
    hidden = frame60.clone()
    hidden[..., 60:244, 186:315] = 0.5
    leaf = hidden.clone().requires_grad_()
    loss = fan1.loss(leaf, target)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    assert gradient[..., 60:244, 186:315].abs().amax(dim=1).gt(0).float().mean() > 0.99
    x1, y1, x2, y2 = fan1._windows(face.boxes)[0].int().clamp(min=0).tolist()
    outside = torch.ones(480, 480, dtype=torch.bool)
    outside[y1:y2, x1:x2] = False
    assert gradient[..., outside].abs().max() == 0
    with torch.no_grad():
        assert fan1.loss((hidden - gradient.sign() / 255).clamp(0, 1), target).item() < loss.item()


def test_faces_of_a_frame_count_equally_and_frames_apart() -> None:
    fan = stub(coordinates=0.5)
    images = torch.rand(3, 3, 60, 80)
    faces = [marked([5, 5, 35, 45], [30, 10, 78, 58]), Faces.empty(), marked([20, 0, 60, 50])]
    together = fan.loss(images, fan.target(faces, (60, 80)))
    assert together.shape == (3,)
    assert together[1] == 0
    single = [fan.loss(images[:1], fan.target([faces[0][[i]]], (60, 80))) for i in (0, 1)]
    torch.testing.assert_close(together[0], torch.cat(single).mean())
    alone = fan.loss(images[2:], fan.target(faces[2:], (60, 80)))
    torch.testing.assert_close(together[2:], alone)
    rest = fan.target(faces, (60, 80)).select(torch.tensor([2, 0]))
    torch.testing.assert_close(fan.loss(images[[2, 0]], rest), together[[2, 0]])


def test_rows_are_independent_in_the_real_net(fan1: FAN) -> None:
    images = torch.rand(2, 3, 60, 80)
    faces = [marked([5, 5, 35, 45]), marked([20, 0, 60, 50])]
    with torch.no_grad():
        together = fan1.loss(images, fan1.target(faces, (60, 80)))
        alone = torch.cat([fan1.loss(images[[i]], fan1.target(faces[i : i + 1], (60, 80))) for i in (0, 1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_frames_without_faces() -> None:
    fan, images = stub(), torch.rand(2, 3, 20, 30).requires_grad_()
    empty = [Faces.empty(), Faces.empty()]
    target = fan.target(empty, (20, 30))
    assert fan.loss(images, target).tolist() == [0.0, 0.0]
    assert all(
        faces.landmarks is not None and faces.landmarks.shape == (0, 68, 2) for faces in fan.predict(images, empty)
    )


@pytest.mark.parametrize(("flip", "coordinates"), [(False, 0.0), (True, 0.7)])
def test_gradients(flip: bool, coordinates: float) -> None:
    fan = stub(flip=flip, coordinates=coordinates).double()
    images = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    faces = [Faces(torch.tensor([[1.0, 1, 5, 5], [0, 2, 6, 6]]).double(), torch.ones(2).double()), boxed([2, 1, 6, 6])]
    target = fan.target(fan.predict(images, faces), (6, 7))
    leaf = torch.rand(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: fan.loss(x, target), (leaf,), fast_mode=True)


def test_portions_change_nothing() -> None:
    fan = stub()
    faces = [marked([5, 5, 25, 30], [10, 10, 35, 35], [0, 0, 20, 20]), marked([8, 8, 30, 30])]
    images = torch.rand(2, 3, 40, 40).requires_grad_()
    outcomes = []
    for at_once in (16, 3, 1):
        fan.at_once = at_once
        loss = fan.loss(images, fan.target(faces, (40, 40)))
        outcomes.append((loss, *torch.autograd.grad(loss.sum(), images)))
    for loss, gradient in outcomes[1:]:
        torch.testing.assert_close(loss, outcomes[0][0])
        torch.testing.assert_close(gradient, outcomes[0][1])


def test_coordinates_measure_how_far_the_points_moved() -> None:
    class Fixed(nn.Module):
        """One bright cell per map: where it is depends on whether the crop is dark."""

        def forward(self, crops: Tensor) -> list[Tensor]:
            maps = crops.new_zeros(len(crops), 68, 64, 64)
            maps[:, :, 20, 10] = (crops.mean(dim=(1, 2, 3)) < 0.5).float()[:, None]
            maps[:, :, 20, 42] = (crops.mean(dim=(1, 2, 3)) >= 0.5).float()[:, None]
            return [maps]

    fan = FAN(weights="random", modules=1, coordinates=1.0)
    fan.net = Fixed()
    # 200 pixels in 64 cells: points are whole pixels, a third of a cell.
    dark, light = torch.full((1, 3, 300, 300), 0.1), torch.full((1, 3, 300, 300), 0.9)
    target = fan.target(fan.predict(dark, [boxed([100, 110, 182, 193])]), (300, 300))
    only_maps = replace(target, unit=torch.full((1,), torch.inf))
    # 32 of 64 cells are half the crop: 5 times a tenth of it.
    assert fan.loss(light, only_maps).item() == pytest.approx(25, rel=0.03)
    assert fan.loss(dark, only_maps).item() < 0.03


# --- the model --------------------------------------------------------------------------------------------


def test_frozen_and_without_batch_norm(fan1: FAN) -> None:
    assert (fan1.name, fan1.task) == ("fan", "landmarks")
    fan1.train().requires_grad_()
    assert not fan1.net.training
    assert not any(parameter.requires_grad for parameter in fan1.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fan1.modules())


def test_predict_fills_in_landmarks_alone(fan1: FAN) -> None:
    images = torch.rand(2, 3, 60, 60)
    faces = [boxed([10, 10, 40, 50], [0, 0, 30, 30]), boxed([20, 20, 50, 50])]
    seen = fan1.predict(images, faces)
    for before, after in zip(faces, seen, strict=True):
        assert torch.equal(before.boxes, after.boxes)
        assert before.landmarks is None
        assert after.landmarks is not None
        assert after.landmarks.shape == (len(before), 68, 2)
        assert torch.equal(after.landmarks, after.landmarks.round())


def test_seeded_net_without_weights() -> None:
    torch.manual_seed(3)
    first = FAN(weights="random", modules=1)
    torch.manual_seed(3)
    second = FAN(weights="random", modules=1)
    crop = torch.rand(1, 3, 256, 256)
    assert torch.equal(first.heatmaps(crop), second.heatmaps(crop))


def test_weights_from_a_file(fan1: FAN, tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{key}": value for key, value in state(1, 1.0).items()}}, tmp_path / "own.pth")
    loaded = FAN(tmp_path / "own.pth", modules=1)
    crop = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        assert torch.equal(loaded.heatmaps(crop), fan1.heatmaps(crop))


def test_published_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(url: str, path: Path) -> None:
        raise OSError("no network")

    monkeypatch.setattr("deidlib.weights.store._download", no_network)
    monkeypatch.setenv("DEIDLIB_CACHE", str(tmp_path))
    monkeypatch.delenv("DEIDLIB_WEIGHTS", raising=False)
    with pytest.raises(WeightsNotFound, match=r"2DFAN4-11f355bf06\.pth\.tar.*DEIDLIB_WEIGHTS"):
        FAN(modules=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference_scale": 0.0}, "reference_scale must be positive"),
        ({"coordinates": -1.0}, "coordinates must be >= 0"),
        ({"modules": 0}, "modules must be at least 1"),
        ({"at_once": 0}, "at_once must be at least 1"),
        ({"weights": "2dfan"}, "mean '2dfan4'"),
    ],
)
def test_arguments_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FAN(**{"weights": "random", "modules": 1, **settings})


def test_weights_of_another_net() -> None:
    with pytest.raises(ValueError, match=r"is not of this net \(FAN\): Missing key"):
        FAN({"conv.weight": torch.zeros(1)}, modules=1)


def test_boxes_are_needed(fan1: FAN) -> None:
    images = torch.rand(2, 3, 40, 40)
    with pytest.raises(ValueError, match="FAN needs the boxes of the faces, got none"):
        fan1.predict(images)
    with pytest.raises(ValueError, match="2 frames, got 1 entries"):
        fan1.predict(images, [boxed([1, 1, 9, 9])])
    with pytest.raises(ValueError, match="the reading lacks landmarks: the faces of frame 0 have none"):
        fan1.target([boxed([1, 1, 9, 9])], (40, 40))
    five = boxed([1, 1, 9, 9]).replace(landmarks=torch.zeros(1, 5, 2))
    with pytest.raises(ValueError, match="FAN needs 68 landmarks to aim at, the reading has 5"):
        fan1.target([five], (40, 40))
    with pytest.raises(ValueError, match=r"must have shape \(B, 3, H, W\)"):
        fan1.loss(images[0], FANTarget(*(torch.zeros(0, dtype=torch.long),), *[torch.zeros(0)] * 4))
