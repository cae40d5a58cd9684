from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import recipe
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import MomentumSignStep
from deidlib.faces import Faces
from deidlib.geometry.boxes import iou
from deidlib.geometry.camera import Camera, NormalizedCamera, angle_between, angles_to_vectors, denormalize
from deidlib.geometry.face_model import face_model
from deidlib.models.base import TargetModel
from deidlib.models.equalize import equalize
from deidlib.models.gaze import GazeMode, GazeResNet, GazeTarget, _grey, _per_channel
from deidlib.models.observe import observe
from deidlib.models.retinaface import RetinaFace
from deidlib.nets.mpiifacegaze import MPIIFaceGazeNet
from deidlib.nets.mpiigaze import MPIIGazeNet
from deidlib.obfuscate import Pixelate

Mode = Literal["mpiigaze", "mpiifacegaze", "eth-xgaze"]
MODES: tuple[Mode, ...] = ("mpiigaze", "mpiifacegaze", "eth-xgaze")


class Stub(nn.Module):
    """Angles that depend smoothly on where a normalised image is bright, and on the head's angles."""

    def forward(self, images: Tensor, head: Tensor | None = None) -> Tensor:
        wave = torch.linspace(-1, 1, images.shape[-1], dtype=images.dtype)
        slope = torch.linspace(-1, 1, images.shape[-2], dtype=images.dtype)
        channels = torch.linspace(0.5, 1.5, images.shape[1], dtype=images.dtype)
        weighted = torch.einsum("nchw,c->nhw", images, channels)
        yaw = torch.tanh((weighted * wave).mean(dim=(1, 2)))
        pitch = torch.tanh((weighted * slope[:, None]).mean(dim=(1, 2)))
        angles = torch.stack([pitch, yaw], dim=1)
        return angles if head is None else angles + 0.1 * head


def face_at(x: float, y: float, z: float, camera: Camera, points: int = 5) -> Faces:
    landmarks = camera.project(face_model(points) + torch.tensor([x, y, z], dtype=torch.float64))
    box = torch.cat([landmarks.amin(dim=0), landmarks.amax(dim=0)])
    return Faces(box[None].float(), torch.ones(1), landmarks[None].float())


def faces_of(*frames: Faces) -> Faces:
    landmarks = [face.landmarks for face in frames if face.landmarks is not None]
    return Faces(
        torch.cat([face.boxes for face in frames]), torch.cat([face.scores for face in frames]), torch.cat(landmarks)
    )


SIZE = (64, 64)
AHEAD = torch.tensor([[0.0, 0.0, -1.0]])


def scene(frames: int = 3, size: int = 64) -> tuple[Tensor, list[Faces]]:
    """Smooth random images: two faces, none, then one."""
    coarse = torch.rand(frames, 3, 9, 9, generator=torch.Generator().manual_seed(4))
    images = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    camera = Camera.default(size, size)
    faces = [
        faces_of(face_at(-0.05, -0.02, 0.5, camera), face_at(0.1, 0.02, 0.6, camera)),
        Faces.empty(),
        face_at(0.01, 0.03, 0.4, camera),
    ]
    return images.clamp(0, 1), faces[:frames]


def geometry(shared: Path) -> Any:
    return np.load(shared / "parity" / "gaze" / "geometry.npz")


def parity_frame(shared: Path, vectors: Any, pose: str) -> tuple[Tensor, Faces]:
    import cv2

    number = vectors["frame_number"][int(pose[-1])]
    bgr = cv2.imread(str(shared / "parity" / "frames" / f"T002_frame{number:03d}.png"))
    image = torch.from_numpy(bgr).flip(2).permute(2, 0, 1)[None].float() / 255
    landmarks = torch.from_numpy(vectors[f"{pose}|landmarks"]).float()[None]
    return image, Faces(torch.tensor([[150.0, 50.0, 330.0, 260.0]]), torch.ones(1), landmarks)


# --- histogram equalisation ---


def patches_to_equalize() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    noise = torch.randint(0, 256, (3, 1, 36, 60), generator=generator)
    narrow = torch.randint(90, 107, (3, 1, 36, 60), generator=generator)
    few = torch.tensor([0, 7, 255])[torch.randint(0, 3, (2, 1, 36, 60), generator=generator)]
    constant = torch.stack([torch.full((1, 36, 60), value) for value in (0, 93, 255)])
    one_brighter = torch.full((1, 1, 36, 60), 20)
    one_brighter[..., 5, 5] = 21
    ramp = (torch.arange(36 * 60) % 256).reshape(1, 1, 36, 60)
    return torch.cat([noise, narrow, few, constant, one_brighter, ramp]).float() / 255


def test_equalize_is_bit_for_bit_that_of_opencv() -> None:
    import cv2

    patches = patches_to_equalize()
    ours = equalize(patches)
    for patch, equalized in zip(patches[:, 0], ours[:, 0], strict=True):
        theirs = cv2.equalizeHist((patch * 255).round().byte().numpy())
        assert torch.equal(equalized, torch.from_numpy(theirs).float() / 255)


def test_equalize_has_the_gradient_of_blurred_ranks() -> None:
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(60, 90, (2, 1, 6, 7), generator=generator).double()
    weights = torch.rand(2, 1, 6, 7, generator=generator, dtype=torch.float64)
    bandwidth = 3.0

    patches = (levels / 255).requires_grad_()
    (gradient,) = torch.autograd.grad((equalize(patches, bandwidth) * weights).sum(), patches)

    for level, weight, slope in zip(levels.flatten(1), weights.flatten(1), gradient.flatten(1), strict=True):
        x = (level / 255).requires_grad_()
        scale = 255 / int((level > level.min()).sum())
        ranks = torch.special.ndtr((x[:, None] - x[None, :]) * 255 / bandwidth).sum(dim=1)
        (expected,) = torch.autograd.grad((scale * ranks / 255 * weight).sum(), x)
        assert torch.allclose(slope, expected, atol=1e-9)


def test_equalize_has_a_finite_gradient_on_a_flat_patch() -> None:
    patches = torch.full((1, 1, 36, 60), 93 / 255, requires_grad=True)
    weights = torch.linspace(-1, 1, 36 * 60).reshape(1, 1, 36, 60)
    (gradient,) = torch.autograd.grad((equalize(patches) * weights).sum(), patches)
    # Brightening a pixel that ought to be brighter than the rest helps.
    assert torch.isfinite(gradient).all()
    assert torch.equal(gradient.sign(), weights.sign())


def test_grey_is_bit_for_bit_that_of_opencv_and_passes_the_gradient() -> None:
    import cv2

    image = torch.randint(0, 256, (1, 3, 36, 60), generator=torch.Generator().manual_seed(1))
    ours = _grey(image.float() / 255)[0, 0] * 255
    theirs = cv2.cvtColor(image[0].permute(1, 2, 0).byte().contiguous().numpy(), cv2.COLOR_RGB2GRAY)
    assert torch.equal(ours.round(), torch.from_numpy(theirs).float())
    x = (image.float() / 255).requires_grad_()
    (gradient,) = torch.autograd.grad(_grey(x).sum(), x)
    assert torch.allclose(gradient[0, :, 0, 0], torch.tensor([0.299, 0.587, 0.114]), atol=1e-4)


# --- agreement with upstream ---


@pytest.mark.parametrize("kind", ["exact", "int"])
def test_mpiigaze_reads_eyes_as_upstream_does_from_the_frame_on(shared: Path, kind: str) -> None:
    import cv2

    if int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("the vectors were made with OpenCV 5, whose warps are exact; 4 quantises them")
    vectors = geometry(shared)
    model = GazeResNet.mpiigaze(shared / "weights" / "mpiigaze_resnet_preact.pth", jitter=0)
    degrees = []
    for pose in (f"{kind}{number}" for number in range(6)):
        image, face = parity_frame(shared, vectors, pose)
        assert face.landmarks is not None
        gaze = model._read_parts(image, model._geometry(face.landmarks, torch.tensor([0]), (480, 480)))[0, 0].double()
        expected = torch.from_numpy(
            np.stack([vectors[f"{pose}|mpiigaze|{eye}|net_gaze_vector"] for eye in ("reye", "leye")])
        )
        degrees += angle_between(gaze, expected).rad2deg().tolist()
        both = nn.functional.normalize(expected.mean(dim=0), dim=0)
        (read,) = model.predict(image, [face])
        assert read.gaze is not None
        assert angle_between(read.gaze[0].double(), both).rad2deg() < 0.02
    # One pixel of one patch may round the other way before it is equalised.
    assert max(degrees) < 0.02
    assert np.median(degrees) < 1e-4


def test_eth_xgaze_reads_faces_as_upstream_does_from_the_frame_on(shared: Path) -> None:
    vectors = geometry(shared)
    cases = torch.load(shared / "parity" / "gaze" / "kaylode_tensor_path.pt", weights_only=True)["cases"]
    net = resnet18(num_classes=2)
    net.load_state_dict(recipe.filled(net, gain=0.8, first=400))
    model = GazeResNet(net, "eth-xgaze")
    for pose in ("exact0", "exact2", "exact5"):
        image, face = parity_frame(shared, vectors, pose)
        (read,) = model.predict(image, [face])
        normalizing = torch.from_numpy(vectors[f"{pose}|eth_d0.6|normalizing_rot"])
        angles = cases[f"{pose}/eth_d0.6"]["gaze_tensor"].double()
        expected = denormalize(angles_to_vectors(angles), normalizing[None])
        assert read.gaze is not None
        assert (read.gaze.double() - expected).abs().max() < 1e-4


def test_modes_are_what_the_checkpoints_were_trained_to_see() -> None:
    eyes = GazeResNet(MPIIGazeNet(), "mpiigaze").mode
    assert eyes == GazeMode(
        "mpiigaze", NormalizedCamera(focal=960.0, size=(36, 60), distance=0.6), ("right eye", "left eye"), "grey"
    )
    face = GazeResNet(MPIIFaceGazeNet(), "mpiifacegaze").mode
    assert face == GazeMode(
        "mpiifacegaze", NormalizedCamera(focal=1600.0, size=(224, 224), distance=1.0), ("eyes and mouth",), "BGR",
        mean=(0.406, 0.456, 0.485), std=(0.225, 0.224, 0.229),
    )  # fmt: skip
    eth = GazeResNet(resnet18(num_classes=2), "eth-xgaze").mode
    assert eth == GazeMode(
        "eth-xgaze", NormalizedCamera(focal=960.0, size=(224, 224), distance=0.6), ("eyes and nose",), "RGB",
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )  # fmt: skip


def test_published_layouts_load_strictly(tmp_path: Path) -> None:
    for net, make in ((MPIIFaceGazeNet(), GazeResNet.mpiifacegaze), (resnet18(num_classes=2), GazeResNet.eth_xgaze)):
        path = tmp_path / "checkpoint.pth"
        state = net.state_dict()
        torch.save({"model": state, "config": {}}, path)
        loaded = make(path).net.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in state.items())
        assert (make(path).jitter, make(path, jitter=3).jitter) == (0, 3)

        state.popitem()
        torch.save({"model": state}, path)
        with pytest.raises(ValueError, match=r"checkpoint\.pth is not of this net .* Missing key"):
            make(path)


def test_eye_patches_are_asked_for_from_moved_geometries(tmp_path: Path) -> None:
    torch.save(MPIIGazeNet().state_dict(), tmp_path / "eyes.pth")
    assert GazeResNet.pretrained("mpiigaze", tmp_path / "eyes.pth").jitter == 8
    assert GazeResNet.mpiigaze(tmp_path / "eyes.pth", jitter=0, loss="angle").jitter == 0
    with pytest.raises(ValueError, match="mode must be one of"):
        GazeResNet.pretrained("mpii")  # type: ignore[arg-type]


# --- the contract of a target model ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("jitter", [0, 2])
def test_own_target_has_no_loss_and_other_images_have_some(mode: Mode, jitter: int) -> None:
    images, faces = scene()
    model = GazeResNet(Stub(), mode, jitter=jitter)
    target = model.target(model.predict(images, faces), SIZE)
    loss = model.loss(images, target)
    assert loss.shape == (3,)
    assert (loss[[0, 2]] < (1e-9 if jitter == 0 else 0.2)).all()
    other = model.loss(1 - images, target)
    assert (other[[0, 2]] > 1e-4).all()
    assert loss[1] == other[1] == 0


@pytest.mark.parametrize("mode", MODES)
def test_frames_do_not_influence_each_other(mode: Mode) -> None:
    images, faces = scene()
    model = GazeResNet(Stub(), mode, jitter=1)
    faces = model.predict(images, faces)
    target = model.target(faces, SIZE)
    changed = (1 - images).requires_grad_()
    loss = model.loss(changed, target)
    for row in (0, 2):
        alone = model.target([faces[row]], SIZE)
        assert torch.allclose(model.loss(changed[[row]].detach(), alone), loss[[row]].detach(), rtol=1e-5)
        (gradient,) = torch.autograd.grad(loss[row], changed, retain_graph=True)
        assert gradient[row].abs().max() > 0
        assert gradient[[i for i in range(3) if i != row]].abs().max() == 0
    kept = target.select(torch.tensor([2]))
    assert torch.allclose(model.loss(changed[[2]], kept), loss[[2]], rtol=1e-5)


def test_faces_of_a_frame_count_equally() -> None:
    images, faces = scene()
    model = GazeResNet(Stub(), "eth-xgaze")
    faces = model.predict(images, faces)
    both = model.loss(1 - images[:1], model.target(faces[:1], SIZE))
    single = [model.loss(1 - images[:1], model.target([faces[0][[i]]], SIZE)) for i in range(2)]
    assert torch.allclose(both, (single[0] + single[1]) / 2, rtol=1e-5)


@pytest.mark.parametrize("kind", ["l2", "angle"])
@pytest.mark.parametrize("mode", ["mpiifacegaze", "eth-xgaze"])
def test_gradient_of_the_loss(mode: Mode, kind: Literal["l2", "angle"]) -> None:
    images, faces = scene(2, size=10)
    images = images.double()
    model = GazeResNet(Stub(), mode, loss=kind, jitter=1)
    target = model.target(model.predict(images, faces), (10, 10))
    other = (0.2 + 0.6 * images.flip(3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model.loss(x, target), (other,), fast_mode=True)


def test_a_gradient_is_had_after_a_first_reading_in_inference_mode() -> None:
    # As if nobody had read before.
    _per_channel.cache_clear()
    images, faces = scene()
    model = GazeResNet(Stub(), "mpiigaze")
    with torch.inference_mode():
        model.predict(images, faces)
    reading = model.predict(images, faces)
    leaf = (images / 2).requires_grad_()
    (gradient,) = torch.autograd.grad(model.loss(leaf, model.target(reading, SIZE)).sum(), leaf)
    assert bool((gradient != 0).any())


@pytest.mark.parametrize("kind", ["l2", "angle"])
def test_a_gaze_ten_degrees_off_has_loss_one(kind: Literal["l2", "angle"]) -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            # The picture's brightness is the pitch.
            pitch = images.mean(dim=(1, 2, 3))
            return torch.stack([pitch, torch.zeros_like(pitch)], dim=1)

    model = GazeResNet(Fixed(), "eth-xgaze", loss=kind)
    # A face that fills the frame; std and mean of the net's input make brightness times a factor.
    faces = [face_at(0.0, 0.01, 0.2, Camera.default(32, 32))]
    grey = torch.full((1, 3, 32, 32), 0.4)
    target = model.target(model.predict(grey, faces), (32, 32))
    per_level = float(torch.tensor([1 / 0.229, 1 / 0.224, 1 / 0.225]).mean())
    lit = target.grid
    assert bool(((lit > 0) & (lit < 31)).all())
    loss = model.loss(grey + math.radians(10) / per_level, target)
    assert float(loss) == pytest.approx(1.0, rel=1e-3)
    own = grey.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.loss(own, target).sum(), own)
    assert torch.isfinite(gradient).all()


def test_no_face_anywhere() -> None:
    images, _ = scene()
    model = GazeResNet(Stub(), "mpiigaze", jitter=3)
    faces = [Faces.empty()] * 3
    target = model.target(faces, SIZE)
    assert torch.equal(model.loss(images, target), torch.zeros(3))
    read = model.predict(images, faces)
    assert all(frame.gaze is not None and frame.gaze.shape == (0, 3) for frame in read)


def test_predict_fills_in_gaze_and_nothing_else() -> None:
    images, faces = scene()
    read = GazeResNet(Stub(), "mpiigaze").predict(images, faces)
    for before, after in zip(faces, read, strict=True):
        assert torch.equal(before.boxes, after.boxes)
        assert after.landmarks is before.landmarks
        assert after.gaze is not None
        assert torch.allclose(after.gaze.norm(dim=1), torch.ones(len(before)))


def test_a_mirrored_frame_mirrors_the_gaze() -> None:
    # Right eyes go through the net mirrored, so that a mirrored face must look the mirrored way.
    images, _ = scene()
    faces = [face_at(0.02, -0.01, 0.4, Camera.default(64, 64))]
    mirrored = face_at(-0.02, -0.01, 0.4, Camera.default(64, 64))
    model = GazeResNet(Stub(), "mpiigaze")
    # Pixel centres are whole numbers: column i becomes 63 - i, and the camera's axis 31.5 rather than 32.
    model.camera = Camera(64.0, 64.0, 31.5, 31.5)
    assert faces[0].landmarks is not None
    assert mirrored.landmarks is not None
    face = faces[0].replace(landmarks=faces[0].landmarks - 0.5)
    flipped = mirrored.replace(landmarks=mirrored.landmarks - 0.5)
    (read,) = model.predict(images[:1], [face])
    (other,) = model.predict(images[:1].flip(3), [flipped])
    assert read.gaze is not None
    assert other.gaze is not None
    assert torch.allclose(other.gaze * torch.tensor([-1.0, 1.0, 1.0]), read.gaze, atol=2e-3)
    assert read.gaze[0, 0].abs() > 0.02


def test_landmarks_of_both_kinds_lead_to_the_same_geometry() -> None:
    camera = Camera.default(64, 64)
    model = GazeResNet(Stub(), "mpiigaze", jitter=4, jitter_size=0.03)
    five, full = (
        model.target([face_at(0.02, -0.01, 0.4, camera, points).replace(gaze=AHEAD)], SIZE) for points in (5, 68)
    )
    assert five.grid.shape == full.grid.shape == (1, 5, 2, 36, 60, 2)
    assert (five.grid[:, 0] - full.grid[:, 0]).abs().max() < 0.01
    # Jitter moves the crops by the size asked for, with either kind.
    for target in (five, full):
        centre = target.grid[0, :, :, 18, 30]
        shift = (centre[1:] - centre[0]).norm(dim=-1).mean() / (0.056 / 0.4 * 64)
        assert 0.01 < float(shift) < 0.06


def test_geometry_is_the_cameras() -> None:
    images, faces = scene()
    faces = GazeResNet(Stub(), "eth-xgaze").predict(images, faces)
    narrow = GazeResNet(Stub(), "eth-xgaze", camera=Camera(100.0, 100.0, 30.0, 30.0)).target(faces, SIZE)
    default = GazeResNet(Stub(), "eth-xgaze").target(faces, SIZE)
    assert not torch.allclose(narrow.basis, default.basis, atol=1e-2)


def test_garbage_landmarks_give_a_finite_loss() -> None:
    images, _ = scene(1)
    point = Faces(torch.tensor([[5.0, 5.0, 5.0, 5.0]]), torch.ones(1), torch.full((1, 5, 2), 5.0))
    model = GazeResNet(Stub(), "mpiigaze", jitter=2)
    assert torch.isfinite(model.loss(1 - images, model.target(model.predict(images, [point]), SIZE))).all()


def test_missing_landmarks_are_reported() -> None:
    images, faces = scene()
    model = GazeResNet(Stub(), "mpiigaze")
    boxes_only = [Faces(frame.boxes, frame.scores) for frame in faces]
    with pytest.raises(ValueError, match="the reading lacks landmarks: the faces of frame 0 have none"):
        model.predict(images, boxes_only)
    with pytest.raises(ValueError, match="the reading lacks landmarks: the faces of frame 0 have none"):
        model.target(boxes_only, SIZE)
    with pytest.raises(ValueError, match="the reading lacks gaze: the faces of frame 0 have none"):
        model.target(faces, SIZE)
    with pytest.raises(ValueError, match="needs the boxes"):
        model.predict(images)
    mixed = [faces[0], Faces.empty(), face_at(0.0, 0.0, 0.5, Camera.default(64, 64), points=68)]
    with pytest.raises(ValueError, match="68 landmarks and some 5"):
        model.predict(images, mixed)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="mode must be one of"):
        GazeResNet(Stub(), "gaze360")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'l2' or 'angle'"):
        GazeResNet(Stub(), "mpiigaze", loss="mse")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="jitter"):
        GazeResNet(Stub(), "mpiigaze", jitter=-1)
    assert [GazeResNet(Stub(), mode).name for mode in MODES] == list(MODES)


def test_weights_stay_frozen() -> None:
    model = GazeResNet(MPIIGazeNet(), "mpiigaze")
    model.train()
    assert not model.net.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


# --- what it is for ---


def read_frame(shared: Path, number: int) -> Tensor:
    import cv2

    bgr = cv2.imread(str(shared / "parity" / "frames" / f"T002_frame{number:03d}.png"))
    return torch.from_numpy(bgr).flip(2).permute(2, 0, 1)[None].float() / 255


def degrees_between(first: Faces, second: Faces) -> float:
    assert first.gaze is not None
    assert second.gaze is not None
    return float(angle_between(first.gaze[0], second.gaze[0]).rad2deg())


def test_gaze_can_be_written_into_hidden_eyes(shared: Path) -> None:
    with (shared / "media" / "T002_talk.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["frame"] == "60")
    x, y, w, h = (float(row[key]) for key in "xywh")
    points = [[float(row[f"point_0{i}_{axis}"]) for axis in "xy"] for i in range(5)]
    face = Faces(torch.tensor([[x, y, x + w, y + h]]), torch.ones(1), torch.tensor([points]))
    original = read_frame(shared, 60)

    model = GazeResNet.mpiigaze(shared / "weights" / "mpiigaze_resnet_preact.pth", jitter=0)
    hide = Pixelate(blocks=4)
    hidden = hide(original, [face])
    attack = IFGSMAttacker([model], max_iterations=12, step=MomentumSignStep(1 / 255))
    result = attack(hidden, model.predict(original, [face]), mask=hide.mask([face], 480, 480))

    wanted, before, after = (model.predict(images, [face])[0] for images in (original, hidden, result.images))
    assert degrees_between(wanted, before) > 6
    assert degrees_between(wanted, after) < 1.5
    assert float(result.final_losses()["mpiigaze"]) < 0.1 * float(result.losses["mpiigaze"][0])


def test_gaze_is_read_along_the_chain_from_the_file_alone(shared: Path) -> None:
    original = read_frame(shared, 120)
    models: list[TargetModel[Any]] = [
        RetinaFace(shared / "weights" / "retinaface_mobilenet0.25.pth"),
        GazeResNet.mpiigaze(shared / "weights" / "mpiigaze_resnet_preact.pth"),
    ]
    (wanted,) = observe(original, models)
    hide = Pixelate(blocks=4)
    attack = IFGSMAttacker(models, max_iterations=40, step=MomentumSignStep(1 / 255))
    result = attack(hide(original, [wanted]), [wanted], mask=hide.mask([wanted], 480, 480))

    file = (result.images * 255).round().byte()
    (read,) = observe(file.float() / 255, models)
    assert len(read) == 1
    assert float(iou(read.boxes, wanted.boxes)) >= 0.95
    assert degrees_between(wanted, read) <= 3.0


def test_target_fields_are_rows() -> None:
    images, faces = scene()
    model = GazeResNet(Stub(), "mpiigaze", jitter=2)
    faces = model.predict(images, faces)
    target = model.target(faces, SIZE)
    assert isinstance(target, GazeTarget)
    assert target.frame.tolist() == [0, 0, 2]
    assert target.grid.shape == (3, 3, 2, 36, 60, 2)
    assert target.basis.shape == (3, 3, 2, 3, 3)
    torch.testing.assert_close(target.gaze, torch.cat([known.gaze for known in faces if known.gaze is not None]))


def test_what_is_not_known_of_a_face_costs_nothing() -> None:
    images, faces = scene()
    model = GazeResNet(Stub(), "eth-xgaze")
    faces = model.predict(images, faces)
    first = faces[0]
    assert first.gaze is not None
    assert first.landmarks is not None
    gaze, landmarks = first.gaze.clone(), first.landmarks.clone()
    gaze[0], landmarks[0, 2, 1] = torch.nan, torch.nan
    for part in (first.replace(gaze=gaze), first.replace(landmarks=landmarks)):
        target = model.target([part, *faces[1:]], SIZE)
        assert target.frame.tolist() == [0, 2]
        expected = model.loss(1 - images, model.target([first[[1]], *faces[1:]], SIZE))
        torch.testing.assert_close(model.loss(1 - images, target), expected)
    # The length of a gaze says nothing.
    longer = model.target([first.replace(gaze=3 * first.gaze)], SIZE)
    torch.testing.assert_close(longer.gaze, model.target([first], SIZE).gaze)


def test_five_points_among_sixty_eight_are_read_as_five_and_unknown_ones_not_at_all() -> None:
    images, _ = scene(1)
    camera = Camera.default(64, 64)
    fine, coarse = face_at(-0.05, -0.02, 0.5, camera, 68), face_at(0.1, 0.02, 0.6, camera)
    unknown = coarse.replace(landmarks=torch.full((1, 5, 2), torch.nan))
    model = GazeResNet(Stub(), "mpiigaze")
    alone = torch.cat([model.predict(images, [face])[0].gaze for face in (fine, coarse)])  # type: ignore[misc]
    (read,) = model.predict(images, [Faces.cat([fine, coarse, unknown])])
    assert read.gaze is not None
    torch.testing.assert_close(read.gaze[:2], alone, rtol=1e-4, atol=1e-5)
    assert bool(read.gaze[2].isnan().all())
    # Of what was not read nothing is asked.
    target = model.target([read], (64, 64))
    assert target.frame.tolist() == [0, 0]
    assert float(model.loss(images, target)) < 1e-6
