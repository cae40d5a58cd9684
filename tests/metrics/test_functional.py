from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform
from torch import Tensor

from deidlib.faces import five_points
from deidlib.geometry.camera import Camera, head_pose
from deidlib.geometry.face_model import face_model
from deidlib.metrics import (
    ARCFACE_TEMPLATE,
    face_size,
    gaze_angle,
    head_pose_angle,
    in_units_of,
    interocular_distance,
    landmark_distance,
    nme_box,
    nme_interocular,
    similarity,
)

seeds = st.integers(0, 2**31)


def rotation(axis: Tensor, degrees: float) -> Tensor:
    """About a unit axis, by the matrix exponential: independent of what is tested."""
    x, y, z = axis.tolist()
    skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    matrix: Tensor = torch.linalg.matrix_exp(skew * math.radians(degrees))
    return matrix


def test_landmark_distance_by_hand() -> None:
    a = torch.zeros(2, 5, 2)
    b = a.clone()
    b[0, 0] = torch.tensor([3.0, 4.0])
    b[1] = torch.tensor([-1.0, 0.0])
    assert torch.equal(landmark_distance(a, b), torch.tensor([1.0, 1.0]))
    assert torch.equal(landmark_distance(b, a), landmark_distance(a, b))
    assert torch.equal(landmark_distance(b, b), torch.zeros(2))


def test_interocular_points() -> None:
    face = torch.rand(1, 68, 2)
    face[0, 36], face[0, 45] = torch.tensor([10.0, 20.0]), torch.tensor([70.0, 100.0])
    assert interocular_distance(face).item() == 100
    five = torch.rand(1, 5, 2)
    five[0, 0], five[0, 1] = torch.tensor([0.0, 0.0]), torch.tensor([6.0, 8.0])
    assert interocular_distance(five).item() == 10
    # On the average face of the camera: 90 mm between the outer corners, 64.8 mm between the eyes.
    model = face_model()[None, :, :2]
    assert interocular_distance(model).item() == pytest.approx(0.09)
    assert interocular_distance(five_points(model)).item() == pytest.approx(0.06485, abs=1e-5)


def test_nme_by_hand() -> None:
    original = torch.zeros(1, 5, 2)
    original[0, 1] = torch.tensor([0.0, 20.0])
    read = original + torch.tensor([0.0, 3.0])
    assert nme_interocular(read, original).item() == pytest.approx(0.15)
    assert nme_box(read, original, torch.tensor([[5.0, 5.0, 14.0, 9.0]])).item() == pytest.approx(0.5)


def test_nme_does_not_change_with_resolution() -> None:
    original, read = torch.rand(3, 68, 2, dtype=torch.float64), torch.rand(3, 68, 2, dtype=torch.float64)
    boxes = torch.tensor([[0.1, 0.2, 0.9, 0.7]], dtype=torch.float64).expand(3, 4)
    assert torch.allclose(nme_interocular(read * 7, original * 7), nme_interocular(read, original))
    assert torch.allclose(nme_box(read * 7, original * 7, boxes * 7), nme_box(read, original, boxes))
    assert torch.allclose(landmark_distance(read * 7, original * 7), 7 * landmark_distance(read, original))


def test_in_units_of_a_measure() -> None:
    assert in_units_of(torch.tensor([5.0, 0.0]), torch.tensor([10.0, 0.0])).tolist() == [0.5, 0.0]
    # What is not at the place is infinitely far off by a measure of nothing, or as good as.
    assert in_units_of(torch.tensor([1.0]), torch.tensor([0.0])).item() > 1e30


def test_nme_of_a_face_without_extent() -> None:
    point = torch.zeros(1, 5, 2)
    assert nme_interocular(point, point).item() == 0
    assert nme_box(point, point, torch.zeros(1, 4)).item() == 0
    assert nme_interocular(point + 1, point).item() > 1e30


def test_face_size() -> None:
    assert torch.equal(
        face_size(torch.tensor([[1.0, 2.0, 9.0, 34.0], [3.0, 3.0, 3.0, 9.0]])), torch.tensor([16.0, 0.0])
    )


@pytest.mark.parametrize(
    ("a", "b", "degrees"),
    [
        ((0, 0, 1), (0, 0, 1), 0.0),
        ((0, 0, -1), (0, 0, 1), 180.0),
        ((0, 0, -1), (1, 0, -1), 45.0),
        ((0, 1, 0), (1, 0, 0), 90.0),
        ((0, 0, 1), (math.sin(math.radians(30)), 0, math.cos(math.radians(30))), 30.0),
        ((3, 0, 0), (0.5, math.sqrt(0.75), 0), 60.0),
    ],
)
def test_gaze_angle_by_hand(a: tuple[float, ...], b: tuple[float, ...], degrees: float) -> None:
    first, second = torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32)
    assert gaze_angle(first, second).item() == pytest.approx(degrees, abs=1e-4)
    assert torch.equal(gaze_angle(first, second), gaze_angle(second, first))


def test_gaze_angle_is_accurate_where_acos_is_not() -> None:
    a = torch.nn.functional.normalize(torch.randn(1000, 3), dim=1)
    assert torch.equal(gaze_angle(a, a), torch.zeros(1000))
    # A hundredth of a degree: the cosine differs from 1 by less than float32 can tell.
    tiny = math.radians(0.001)
    turned = torch.tensor([[math.sin(tiny), 0.0, math.cos(tiny)]])
    assert gaze_angle(torch.tensor([[0.0, 0.0, 1.0]]), turned).item() == pytest.approx(0.001, rel=1e-3)


def test_gaze_angle_without_direction_is_nan() -> None:
    assert gaze_angle(torch.zeros(1, 3), torch.ones(1, 3)).isnan().all()
    assert gaze_angle(torch.ones(1, 3), torch.zeros(1, 3)).isnan().all()


@pytest.mark.parametrize("degrees", [0.0, 1e-5, 0.5, 45.0, 90.0, 179.0, 180.0])
def test_head_pose_angle_is_the_angle_of_the_rotation(degrees: float) -> None:
    axes = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1)
    start = torch.stack([rotation(axis, 70.0) for axis in axes.flip(0)])
    turned = torch.stack([rotation(axis, degrees) for axis in axes]) @ start
    assert head_pose_angle(start, turned).tolist() == pytest.approx([degrees] * 5, abs=1e-8, rel=1e-6)
    assert torch.allclose(head_pose_angle(start, turned), head_pose_angle(turned, start), rtol=1e-12, atol=1e-12)


def test_head_pose_angle_of_poses_from_landmarks() -> None:
    camera = Camera.default(480, 480)
    model, far = face_model(), torch.tensor([0.0, 0.0, 0.7], dtype=torch.float64)
    turn = rotation(torch.tensor([0.0, 1.0, 0.0]), 20.0)
    points = torch.stack([camera.project(model + far), camera.project(model @ turn.T + far)])
    poses, _ = head_pose(points, camera)
    assert head_pose_angle(poses[:1], poses[1:]).item() == pytest.approx(20.0, abs=1e-3)


def test_no_faces() -> None:
    assert landmark_distance(torch.zeros(0, 68, 2), torch.zeros(0, 68, 2)).shape == (0,)
    assert nme_interocular(torch.zeros(0, 68, 2), torch.zeros(0, 68, 2)).shape == (0,)
    assert gaze_angle(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)
    assert head_pose_angle(torch.zeros(0, 3, 3), torch.zeros(0, 3, 3)).shape == (0,)
    assert similarity(torch.zeros(0, 5, 2), torch.zeros(5, 2)).shape == (0, 3, 3)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"landmarks must both have shape"):
        landmark_distance(torch.zeros(1, 68, 2), torch.zeros(1, 5, 2))
    with pytest.raises(ValueError, match=r"gaze must both have shape \(N, 3\)"):
        gaze_angle(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"rotations must both have shape \(N, 3, 3\)"):
        head_pose_angle(torch.eye(3), torch.eye(3))
    with pytest.raises(ValueError, match=r"landmarks must have shape"):
        interocular_distance(torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match=r"landmarks must have shape"):
        five_points(torch.zeros(1, 98, 2))


def test_five_points_agree_with_the_camera_model() -> None:
    # There eyes are the middle of their corners, here the mean of six points: a few millimetres on a face.
    assert (five_points(face_model()[None, :, :2])[0] - face_model(5)[:, :2]).abs().max() < 0.003


@settings(deadline=None)
@given(seeds)
def test_similarity_is_skimages_umeyama(seed: int) -> None:
    source = torch.rand(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 100
    template = torch.tensor(ARCFACE_TEMPLATE, dtype=torch.float64)
    for points, matrix in zip(source, similarity(source, template), strict=True):
        expected = SimilarityTransform.from_estimate(points.numpy(), template.numpy())
        assert torch.allclose(matrix, torch.from_numpy(expected.params), atol=1e-9)


def test_similarity_never_mirrors_and_survives_coinciding_points() -> None:
    template = torch.tensor(ARCFACE_TEMPLATE)
    mirrored = template * torch.tensor([-1.0, 1.0])
    assert torch.linalg.det(similarity(mirrored[None], template)).item() >= 0
    shift = similarity(torch.full((1, 5, 2), 7.0), template)[0]
    assert torch.equal(shift[:2, :2], torch.eye(2))
    assert torch.allclose(shift[:2, 2], template.mean(dim=0) - 7)
