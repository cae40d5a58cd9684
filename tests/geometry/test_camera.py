from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deidlib.geometry.camera import (
    Camera,
    NormalizedCamera,
    angle_between,
    angles_to_vectors,
    denormalize,
    euler_angles,
    head_pose,
    normalized_head_angles,
    normalizing_rotation,
    normalizing_warp,
    part_centers,
    project_axes,
    vectors_to_angles,
)
from deidlib.geometry.face_model import face_model
from deidlib.geometry.warp import warp_perspective

CAMERA = Camera.default(480, 480)
POSES = [f"{kind}{number}" for kind in ("exact", "int") for number in range(6)]
MPIIGAZE = NormalizedCamera(focal=960.0, size=(36, 60), distance=0.6)
MPIIFACEGAZE = NormalizedCamera(focal=1600.0, size=(224, 224), distance=1.0)
ETH_XGAZE = NormalizedCamera(focal=960.0, size=(224, 224), distance=0.6)
KAYLODE = NormalizedCamera(focal=1600.0, size=(224, 224), distance=0.6)
VIEWS = {
    "eth_d0.6": ("eyes and nose", ETH_XGAZE),
    "mpiiface_d1.0_hysts": ("eyes and mouth", MPIIFACEGAZE),
    "mpiiface_d0.6_kaylode": ("eyes and mouth", KAYLODE),
    "mpiigaze|reye": ("right eye", MPIIGAZE),
    "mpiigaze|leye": ("left eye", MPIIGAZE),
}


@pytest.fixture(scope="module")
def geometry(shared: Path) -> Any:
    return np.load(shared / "parity" / "gaze" / "geometry.npz")


@pytest.fixture(scope="module")
def images(shared: Path) -> Any:
    return np.load(shared / "parity" / "gaze" / "geometry_images.npz")


def tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float64))


def assert_relative(actual: Tensor, expected: Tensor, limit: float = 1e-6) -> None:
    difference = torch.linalg.vector_norm(actual.double() - expected) / torch.linalg.vector_norm(expected)
    assert difference <= limit


def rotation_matrix(pitch: float, yaw: float, roll: float) -> Tensor:
    a, b, c = np.deg2rad([pitch, yaw, roll])
    x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    return tensor(x) @ tensor(y) @ tensor(z)


def landmarks_of(rotation: Tensor, translation: Tensor, points: int) -> Tensor:
    return CAMERA.project(face_model(points) @ rotation.T + translation)


def turn_between(a: Tensor, b: Tensor) -> float:
    """Degrees."""
    relative = a @ b.T
    axis = torch.stack(
        [relative[2, 1] - relative[1, 2], relative[0, 2] - relative[2, 0], relative[1, 0] - relative[0, 1]]
    )
    return float(torch.rad2deg(torch.atan2(axis.norm(), relative.trace() - 1)))


def test_face_model_is_the_published_one(geometry: Any) -> None:
    assert torch.equal(face_model(), tensor(geometry["facemodel68"]))


@pytest.mark.parametrize("pose", POSES)
def test_head_pose_of_68_points_agrees_with_upstream(geometry: Any, pose: str) -> None:
    rotation, translation = head_pose(torch.from_numpy(geometry[f"{pose}|landmarks"])[None], CAMERA)
    assert_relative(rotation[0], tensor(geometry[f"{pose}|R"]))
    assert_relative(translation[0], tensor(geometry[f"{pose}|tvec"]))
    degrees = euler_angles(rotation)[0].rad2deg()
    assert_relative(degrees, tensor(geometry[f"{pose}|head_euler_XYZ_deg"]))
    assert_relative(
        face_model() @ rotation[0].T + translation[0],
        tensor(geometry[f"{pose}|model3d"]),
    )


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("view", VIEWS)
def test_normalisation_agrees_with_upstream(geometry: Any, pose: str, view: str) -> None:
    part, normalized = VIEWS[view]
    key = f"{pose}|{view}|"
    rotation, translation = head_pose(torch.from_numpy(geometry[f"{pose}|landmarks"])[None], CAMERA)
    centers = part_centers(rotation, translation, part)
    normalizing = normalizing_rotation(centers, rotation)
    assert_relative(centers[0], tensor(geometry[key + "center"]))
    assert_relative(normalizing[0], tensor(geometry[key + "normalizing_rot"]))
    assert_relative(normalizing_warp(centers, normalizing, CAMERA, normalized)[0], tensor(geometry[key + "warp"]))
    name = "normalized_head_rot2d" + ("_before_flip" if view.startswith("mpiigaze") else "")
    assert_relative(normalized_head_angles(rotation, normalizing)[0], tensor(geometry[key + name]))

    angles = tensor(geometry["gaze_angles_pitch_yaw"])
    vectors = angles_to_vectors(angles)
    assert_relative(vectors, tensor(geometry[key + "norm_gaze_vectors"]))
    turned = denormalize(vectors, normalizing.expand(3, 3, 3))
    assert_relative(turned, tensor(geometry[key + "gaze_vectors"]))
    assert_relative(vectors_to_angles(turned), tensor(geometry[key + "gaze_vectors_back_to_angles"]))


@pytest.mark.parametrize("view", VIEWS)
def test_normalised_images_agree_with_opencv(shared: Path, geometry: Any, images: Any, view: str) -> None:
    import cv2

    part, normalized = VIEWS[view]
    compared = 0
    for pose in POSES:
        key = f"{pose}|{view}|" + ("warp_bgr" if view.startswith("mpiigaze") else "image_bgr")
        if key not in images:
            continue
        number = geometry["frame_number"][int(pose[-1])]
        frame = cv2.imread(str(shared / "parity" / "frames" / f"T002_frame{number:03d}.png"))
        rotation, translation = head_pose(torch.from_numpy(geometry[f"{pose}|landmarks"])[None], CAMERA)
        centers = part_centers(rotation, translation, part)
        warp = normalizing_warp(centers, normalizing_rotation(centers, rotation), CAMERA, normalized)
        frames = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        ours = warp_perspective(frames, warp.float(), normalized.size)[0]
        expected = torch.from_numpy(images[key]).permute(2, 0, 1).float() / 255
        assert ((ours - expected).abs() <= 2 / 255).float().mean() >= 0.99
        compared += 1
    assert compared >= 6


@pytest.mark.parametrize("points", [5, 68])
def test_head_pose_recovers_any_pose(points: int) -> None:
    for pitch, yaw, roll in [(0, 0, 0), (20, -40, 10), (-25, 60, -30), (5, -75, 0), (0, 30, 60), (10, 85, 5)]:
        rotation, translation = rotation_matrix(pitch, yaw, roll), tensor([0.05, -0.1, 0.9])
        found, position = head_pose(landmarks_of(rotation, translation, points)[None], CAMERA)
        assert turn_between(found[0], rotation) < 0.01
        assert_relative(position[0], translation, 1e-4)


def test_five_points_recover_even_a_face_upside_down() -> None:
    for roll in (90, 150, 180):
        rotation, translation = rotation_matrix(10, 30, roll), tensor([0.0, 0.1, 0.6])
        found, _ = head_pose(landmarks_of(rotation, translation, 5)[None], CAMERA)
        assert turn_between(found[0], rotation) < 0.01


def test_five_points_bear_noise_without_flips() -> None:
    generator = torch.Generator().manual_seed(1)
    errors = []
    for _ in range(100):
        pitch, yaw, roll = ((torch.rand(3, generator=generator) - 0.5) * torch.tensor([50.0, 90.0, 60.0])).tolist()
        rotation, translation = rotation_matrix(pitch, yaw, roll), tensor([0.02, -0.05, 0.48])
        # 60 pixels between the eyes, noise of one pixel.
        noise = torch.randn(5, 2, generator=generator, dtype=torch.float64)
        found, _ = head_pose((landmarks_of(rotation, translation, 5) + noise)[None], CAMERA)
        errors.append(turn_between(found[0], rotation))
    assert np.median(errors) < 2.5
    assert max(errors) < 8


def test_neighbouring_landmarks_give_neighbouring_poses() -> None:
    # A head that turns through the frontal pose, where a flat face model would be ambiguous.
    path = [
        landmarks_of(rotation_matrix(-20 + 0.4 * step, -50 + step, 0.2 * step), tensor([0.0, 0.0, 0.7]), 5)
        for step in range(101)
    ]
    rotations, _ = head_pose(torch.stack(path) + 0.3 * torch.randn(5, 2, dtype=torch.float64), CAMERA)
    steps = [turn_between(a, b) for a, b in pairwise(rotations)]
    assert max(steps) < 3


@pytest.mark.parametrize("value", [100.0, float("nan")])
@pytest.mark.parametrize("points", [5, 68])
def test_points_that_fit_no_pose_give_a_frontal_one(points: int, value: float) -> None:
    rotation, translation = head_pose(torch.full((1, points, 2), value), CAMERA)
    assert torch.isfinite(rotation).all()
    assert torch.isfinite(translation).all()
    assert translation[0, 2] > 0
    assert torch.allclose(rotation[0] @ rotation[0].T, torch.eye(3, dtype=torch.float64), atol=1e-6)


def test_no_faces_no_poses() -> None:
    rotation, translation = head_pose(torch.zeros(0, 5, 2), CAMERA)
    assert rotation.shape == (0, 3, 3)
    assert translation.shape == (0, 3)
    centers = part_centers(rotation, translation, "left eye")
    normalizing = normalizing_rotation(centers, rotation)
    assert normalizing_warp(centers, normalizing, CAMERA, MPIIGAZE).shape == (0, 3, 3)
    assert normalized_head_angles(rotation, normalizing).shape == (0, 2)


def test_normalised_camera_sees_the_part_in_its_middle_with_the_head_upright() -> None:
    rotation, translation = rotation_matrix(12, -30, 25)[None], tensor([[0.1, -0.08, 0.7]])
    for part, view in VIEWS.values():
        centers = part_centers(rotation, translation, part)
        normalizing = normalizing_rotation(centers, rotation)
        assert torch.allclose(normalizing @ normalizing.mT, torch.eye(3, dtype=torch.float64), atol=1e-12)
        warp = normalizing_warp(centers, normalizing, CAMERA, view)
        seen = warp[0] @ torch.cat([CAMERA.project(centers[0]), torch.ones(1, dtype=torch.float64)])
        assert torch.allclose(seen[:2] / seen[2], tensor([view.size[1] / 2, view.size[0] / 2]), atol=1e-9)
        # The head's x axis has no y component there.
        assert abs(float((normalizing[0] @ rotation[0, :, 0])[1])) < 1e-12


def test_rigid_and_angle_round_trips() -> None:
    angles = (torch.rand(50, 2, dtype=torch.float64) - 0.5) * torch.tensor([3.0, 6.0], dtype=torch.float64)
    vectors = angles_to_vectors(angles)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(vectors_to_angles(3 * vectors), angles)
    normalizing = rotation_matrix(10, 20, 30).expand(50, 3, 3)
    assert torch.allclose(torch.einsum("nij,nj->ni", normalizing, denormalize(vectors, normalizing)), vectors)
    assert torch.allclose(angle_between(vectors, 2 * vectors), torch.zeros(50, dtype=torch.float64), atol=1e-7)
    assert torch.allclose(angle_between(vectors, -vectors), torch.full((50,), torch.pi, dtype=torch.float64))


def test_angle_between_resolves_what_acos_cannot() -> None:
    small = torch.tensor([1.0, 1e-4, 0.0])
    forward = torch.tensor([1.0, 0.0, 0.0])
    assert float(angle_between(forward, small)) == pytest.approx(1e-4, rel=1e-5)
    assert angle_between(forward, torch.eye(3)).rad2deg().tolist() == [0, 90, 90]


def test_euler_angles_are_intrinsic_xyz() -> None:
    assert torch.allclose(euler_angles(rotation_matrix(10, -20, 30)[None]).rad2deg(), tensor([[10, -20, 30]]))


def test_drawing_points_of_a_frontal_head() -> None:
    rotation, translation = torch.eye(3, dtype=torch.float64)[None], tensor([[0.0, 0.0, 0.48]])
    axes = project_axes(rotation, translation, CAMERA, length=0.048)
    assert torch.allclose(axes[0, :3], tensor([[240, 240], [288, 240], [240, 288]]))
    assert torch.allclose(axes[0, 3], tensor([240, 240]))


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"\(N, 68, 2\) or \(N, 5, 2\)"):
        head_pose(torch.zeros(2, 6, 2), CAMERA)
    with pytest.raises(ValueError, match="68 or 5"):
        face_model(98)
    with pytest.raises(ValueError, match="positive"):
        Camera(0.0, 1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="finite"):
        Camera(1.0, 1.0, float("nan"), 0.0)
    with pytest.raises(ValueError, match="positive"):
        NormalizedCamera(960.0, (36, 60), 0.0)
    with pytest.raises(ValueError, match="part must be one of"):
        part_centers(torch.eye(3)[None], torch.zeros(1, 3), "chin")
