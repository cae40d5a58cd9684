from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import boxed

from deidlib.faces import Faces
from deidlib.geometry.region import FaceRegion

coordinate = st.floats(-20, 50, width=32)
boxes = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
factors = st.sampled_from([1.0, 1.2, 1.7])


def test_box_is_rounded_outwards() -> None:
    region = FaceRegion(factor=1.0)
    assert region.rectangles(boxed((2.5, 1.0, 5.25, 3.0)), 5, 8) == [(2, 1, 6, 3)]
    cover = region.cover(boxed((2.5, 1.0, 5.25, 3.0)), 5, 8)
    expected = torch.zeros(1, 5, 8)
    expected[0, 1:3, 2:6] = 1
    assert torch.equal(cover, expected)


def test_factor_scales_about_the_centre() -> None:
    # 10 x 20 around (15, 20), times 1.2: 12 x 24.
    assert FaceRegion(factor=1.2).rectangles(boxed((10, 10, 20, 30)), 99, 99) == [(9, 8, 21, 32)]


def test_rectangles_are_cut_at_the_frame_and_left_out_beyond_it() -> None:
    faces = boxed((-4, -4, 3, 3), (50, 50, 60, 60), (6, 2, 30, 4), (-9, -9, 0, 0))
    assert FaceRegion(factor=1.0).rectangles(faces, 5, 8) == [(0, 0, 3, 3), (6, 2, 8, 4)]
    assert FaceRegion(factor=1.0).cover(faces, 5, 8).sum(dim=(1, 2)).tolist() == [9, 0, 4, 0]


@settings(max_examples=150, deadline=None)
@given(boxes, factors)
def test_a_hard_box_covers_exactly_its_rectangle(box: tuple[float, float, float, float], factor: float) -> None:
    region = FaceRegion(factor=factor)
    expected = torch.zeros(23, 31)
    for left, top, right, bottom in region.rectangles(boxed(box), 23, 31):
        expected[top:bottom, left:right] = 1
    assert torch.equal(region.cover(boxed(box), 23, 31)[0], expected)


@settings(max_examples=100, deadline=None)
@given(boxes, factors, st.sampled_from(["box", "ellipse"]), st.sampled_from([0.5, 1.0, 4.0]))
def test_a_feather_only_adds(box: tuple[float, float, float, float], factor: float, shape: str, feather: float) -> None:
    hard = FaceRegion(factor, shape).cover(boxed(box), 23, 31)  # type: ignore[arg-type]
    soft = FaceRegion(factor, shape, feather).cover(boxed(box), 23, 31)  # type: ignore[arg-type]
    assert torch.equal(soft == 1, hard == 1)
    assert 0 <= soft.min() <= soft.max() <= 1


@settings(max_examples=100, deadline=None)
@given(boxes.filter(lambda b: b[2] - b[0] > 1 and b[3] - b[1] > 1), factors)
def test_the_ellipse_is_the_pixels_whose_centres_lie_in_it(
    box: tuple[float, float, float, float], factor: float
) -> None:
    cover = FaceRegion(factor, "ellipse").cover(boxed(box), 23, 31)[0]
    x0, y0, x1, y1 = box
    cx, cy, a, b = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2 * factor, (y1 - y0) / 2 * factor
    for y in range(23):
        for x in range(31):
            radius = ((x + 0.5 - cx) / a) ** 2 + ((y + 0.5 - cy) / b) ** 2
            if abs(radius - 1) > 1e-3:
                assert cover[y, x] == (radius < 1)


def test_feather_of_a_box_falls_with_the_distance() -> None:
    cover = FaceRegion(factor=1.0, feather=4).cover(boxed((5, 5, 6, 6)), 11, 11)[0]
    # Pixel centres: 0.5, 1.5, 2.5, 3.5 px from the edge; the diagonal neighbour at hypot(0.5, 0.5).
    expected = [0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8, 0]
    assert cover[5].tolist() == pytest.approx(expected)
    assert cover[:, 5].tolist() == pytest.approx(expected)
    assert cover[4, 4] == pytest.approx(1 - math.hypot(0.5, 0.5) / 4)


def test_feather_of_an_ellipse_along_its_axes() -> None:
    cover = FaceRegion(factor=1.0, shape="ellipse", feather=4).cover(boxed((7, 8, 14, 13)), 21, 21)[0]
    # Half axes 3.5 and 2.5 about (10.5, 10.5), the centre of pixel 10.
    assert cover[10].tolist() == pytest.approx(
        [0] * 3 + [1 / 8, 3 / 8, 5 / 8, 7 / 8] + [1] * 7 + [7 / 8, 5 / 8, 3 / 8, 1 / 8] + [0] * 3
    )
    assert cover[:, 10].tolist() == pytest.approx(
        [0] * 4 + [1 / 8, 3 / 8, 5 / 8, 7 / 8] + [1] * 5 + [7 / 8, 5 / 8, 3 / 8, 1 / 8] + [0] * 4
    )


@pytest.mark.parametrize("shape", ["box", "ellipse"])
def test_a_box_without_area_gives_no_nan(shape: str) -> None:
    faces = boxed((5, 5, 5, 5), (3, 2, 3, 9), (0, 0, 0, 0))
    for feather in (0.0, 2.0):
        cover = FaceRegion(1.0, shape, feather).cover(faces, 11, 11)  # type: ignore[arg-type]
        assert torch.isfinite(cover).all()


def test_mask_is_the_union_per_frame() -> None:
    region = FaceRegion(factor=1.0, feather=2)
    faces = [boxed((0, 0, 2, 4), (4, 0, 6, 4)), Faces.empty(), boxed((1, 1, 3, 3))]
    mask = region.mask(faces, 4, 8)
    assert mask.shape == (3, 1, 4, 8)
    # Between the two faces the nearer one counts.
    assert mask[0, 0, 0].tolist() == [1, 1, 0.75, 0.75, 1, 1, 0.75, 0.25]
    assert not mask[1].any()
    assert torch.equal(mask[2, 0], region.cover(faces[2], 4, 8)[0])


@pytest.mark.parametrize("shape", ["box", "ellipse"])
@pytest.mark.parametrize("feather", [0.0, 0.3, 5.0])
def test_face_by_face_it_is_the_same_as_all_at_once(shape: str, feather: float) -> None:
    random = torch.Generator().manual_seed(0)
    corner = torch.rand(60, 2, generator=random) * torch.tensor([90.0, 70.0]) - 20
    faces = Faces(torch.cat([corner, corner + torch.rand(60, 2, generator=random) * 30], dim=1), torch.ones(60))
    region = FaceRegion(1.2, shape, feather)  # type: ignore[arg-type]
    cover = region.cover(faces, 41, 53)
    for face in range(len(faces)):
        alone = torch.zeros(41, 53)
        for inside, share in region.patches(faces[face : face + 1], 41, 53):
            assert share.shape == (inside.bottom - inside.top, inside.right - inside.left)
            alone[inside.top : inside.bottom, inside.left : inside.right] = share
        assert torch.equal(alone, cover[face])
    assert torch.equal(region.mask([faces], 41, 53)[0, 0], cover.amax(dim=0))


def test_refuses_bad_settings() -> None:
    for factor in (0.9, 0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="factor"):
            FaceRegion(factor=factor)
    with pytest.raises(ValueError, match="ellipse"):
        FaceRegion(shape="circle")  # type: ignore[arg-type]
    for feather in (-1.0, math.nan):
        with pytest.raises(ValueError, match="feather"):
            FaceRegion(feather=feather)
