from __future__ import annotations

import math
from collections.abc import Sequence

import kornia
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import boxed

from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle
from deidlib.geometry.region import FaceRegion
from deidlib.images import to_grid
from deidlib.obfuscate import GaussianBlur, Obfuscator, Pixelate, Solid, takes_from_face

TIGHT = FaceRegion(factor=1.0)
EVERY: Sequence[Obfuscator] = (Pixelate(), GaussianBlur(), Solid((0.2, 0.4, 0.6)))


def grey_levels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).float() / 255


side = st.integers(1, 40)
coordinate = st.floats(-20, 50, width=32)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Tensor, Faces]:
    """A frame of odd sizes and up to three faces, overlapping, outside or without area."""
    image = grey_levels(1, 3, draw(side), draw(side), seed=draw(st.integers(0, 9)))
    corners = draw(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=3))
    return image, boxed(*[(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners])


regions = st.builds(
    FaceRegion,
    factor=st.sampled_from([1.0, 1.2, 2.0]),
    shape=st.sampled_from(["box", "ellipse"]),
    feather=st.sampled_from([0.0, 0.5, 3.0]),
)
obfuscators = st.one_of(
    st.builds(Pixelate, st.integers(1, 9), region=regions),
    st.builds(GaussianBlur, st.sampled_from([0.01, 0.1, 0.5]), region=regions),
    st.builds(Solid, st.just((0.0, 0.5, 1.0)), region=regions),
)


# Every obfuscator


@settings(max_examples=150, deadline=None)
@given(scenes(), obfuscators)
def test_keeps_what_it_does_not_hide(scene: tuple[Tensor, Faces], hide: Obfuscator) -> None:
    image, faces = scene
    before = image.clone()
    out = hide(image, [faces])
    mask = hide.mask([faces], *image.shape[2:]).expand_as(image)
    assert torch.equal(image, before)
    assert torch.equal(out[mask == 0], image[mask == 0])
    assert out.shape == image.shape
    assert out.dtype == image.dtype
    assert 0 <= out.min() <= out.max() <= 1


@settings(max_examples=60, deadline=None)
@given(scenes(), regions)
def test_solid_shows_nothing_of_the_face(scene: tuple[Tensor, Faces], region: FaceRegion) -> None:
    image, faces = scene
    hide = Solid((0.0, 0.5, 1.0), region=region)
    covered = hide.mask([faces], *image.shape[2:])[0, 0] == 1
    out = hide(image, [faces])[0, :, covered]
    assert torch.equal(out, torch.tensor([0.0, 0.5, 1.0])[:, None].expand_as(out))


def test_what_takes_from_the_face_is_said() -> None:
    assert not takes_from_face(Solid())
    assert all(takes_from_face(hide) for hide in (Pixelate(), GaussianBlur()))
    # The middle of the levels as they are stored: the same distance to black and to white, to a level.
    assert torch.equal(to_grid(Solid().hide_frame(torch.rand(1, 3, 4, 4))), torch.full((1, 3, 4, 4), 128 / 255))


@pytest.mark.parametrize("region", [FaceRegion(), FaceRegion(1.5, "ellipse", 5)])
def test_solid_hides_all_of_a_frame(region: FaceRegion) -> None:
    # Corners that an ellipse leaves open, and a soft edge, are covered too.
    hidden = Solid((0.0, 0.5, 1.0), region=region).hide_frame(torch.rand(2, 3, 17, 30))
    assert torch.equal(hidden, torch.tensor([0.0, 0.5, 1.0])[:, None, None].expand(2, 3, 17, 30))


@pytest.mark.parametrize("hide", EVERY)
def test_frames_do_not_influence_each_other(hide: Obfuscator) -> None:
    images = grey_levels(3, 3, 30, 41)
    faces = [boxed((5, 5, 25, 20), (20, 10, 50, 28)), Faces.empty(), boxed((-8, -3, 12.5, 19.25))]
    together = hide(images, faces)
    for i in range(3):
        assert torch.equal(together[i : i + 1], hide(images[i : i + 1], faces[i : i + 1]))
    assert torch.equal(together[1], images[1])


@pytest.mark.parametrize("hide", EVERY)
def test_mask_is_the_regions(hide: Obfuscator) -> None:
    faces = [boxed((5, 5, 25, 20)), Faces.empty()]
    assert torch.equal(hide.mask(faces, 30, 41), FaceRegion().mask(faces, 30, 41))


@pytest.mark.parametrize("hide", EVERY)
@pytest.mark.parametrize("region", [FaceRegion(), FaceRegion(shape="ellipse", feather=4)])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (36, 64), (65, 33)])
def test_hide_frame_reaches_every_pixel(hide: Obfuscator, region: FaceRegion, size: tuple[int, int]) -> None:
    images = grey_levels(2, 3, *size)
    out = type(hide)(region=region).hide_frame(images)
    whole = [boxed((0, 0, size[1], size[0]))] * 2
    assert torch.equal(out, type(hide)(region=TIGHT)(images, whole))


def test_a_soft_edge_blends_outside_the_region() -> None:
    hide = Solid((1.0, 1.0, 1.0), region=FaceRegion(factor=1.0, feather=2))
    out = hide(torch.zeros(1, 3, 1, 10), [boxed((4, 0, 6, 1))])
    # Pixel centres lie 0.5 and 1.5 px from the region's edge.
    assert out[0, 0, 0].tolist() == [0, 0, 0.25, 0.75, 1, 1, 0.75, 0.25, 0, 0]


def test_where_faces_overlap_nothing_of_the_original_shows() -> None:
    hide = Solid((1.0, 1.0, 1.0), region=FaceRegion(factor=1.0, feather=2))
    out = hide(torch.zeros(1, 3, 1, 6), [boxed((0, 0, 3, 1), (2, 0, 4, 1))])
    # Pixel 4: 0.25 by the first face's edge, then 0.75 of the rest by the second's.
    assert out[0, 0, 0].tolist() == [1, 1, 1, 1, 0.8125, 0.25]


@pytest.mark.parametrize("hide", [Pixelate(), GaussianBlur(0.05)])
def test_half_a_face_is_hidden_as_coarsely_as_a_whole_one(hide: Obfuscator) -> None:
    """What the frame cuts off changes neither cells nor blur of what is left, away from the cut."""
    image = grey_levels(1, 3, 60, 80)
    whole = hide(image, [boxed((20, 10, 60, 50))])
    half = hide(image[..., 40:], [boxed((-20, 10, 20, 50))])
    torch.testing.assert_close(half[..., 10:], whole[..., 50:])


def test_float64_and_gradients_pass_through() -> None:
    images = torch.rand(1, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    faces = [Faces(torch.tensor([[1.0, 1, 5, 5]]), torch.ones(1))]
    for hide in EVERY:
        assert hide(images, faces).dtype == torch.float64
        assert torch.autograd.gradcheck(lambda x, hide=hide: hide(x, faces), images)


@pytest.mark.parametrize(
    ("images", "faces", "error", "message"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [Faces.empty()], TypeError, "uint8"),
        (torch.zeros(3, 8, 8), [Faces.empty()], ValueError, r"\(B, 3, H, W\)"),
        (torch.full((1, 3, 8, 8), 2.0), [Faces.empty()], ValueError, r"\[0, 1\]"),
        (torch.zeros(2, 3, 8, 8), [Faces.empty()], ValueError, "got 1 for 2 frames"),
    ],
)
def test_refuses_bad_input(images: Tensor, faces: list[Faces], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Pixelate()(images, faces)


def test_refuses_bad_settings() -> None:
    for blocks in (0, -1, 2.5):
        with pytest.raises(ValueError, match="blocks"):
            Pixelate(blocks)  # type: ignore[arg-type]
    for share in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="sigma"):
            GaussianBlur(share)
    with pytest.raises(ValueError, match="255"):
        Solid((0, 128, 255))


def test_a_subclass_says_only_what_fills_the_face() -> None:
    seen: list[tuple[Rectangle, Rectangle]] = []

    class Invert(Obfuscator):
        def fill(self, image: Tensor, inside: Rectangle, face: Rectangle) -> Tensor:
            seen.append((inside, face))
            return 1 - image[:, inside.top : inside.bottom, inside.left : inside.right]

    image = grey_levels(1, 3, 10, 12)
    out = Invert(region=FaceRegion(factor=1.0, feather=1.5))(image, [boxed((-3, 2, 4.5, 6))])
    # The feather reaches pixels whose centres are less than 1.5 px away.
    assert seen == [(Rectangle(0, 1, 6, 7), Rectangle(-3, 2, 5, 6))]
    assert torch.equal(out[..., 2:6, :5], 1 - image[..., 2:6, :5])


# Pixelate


def test_cells_are_means_of_the_original() -> None:
    image = grey_levels(1, 3, 20, 20)
    # Region 12 x 8 at (3, 5): 4 cells of 3 px across; 8 / 3 = 2.67, so 3 rows, of 3, 2 and 3 px.
    out = Pixelate(4, region=TIGHT)(image, [boxed((3, 5, 15, 13))])
    expected = image.clone()
    for top, bottom in ((5, 8), (8, 10), (10, 13)):
        for left in (3, 6, 9, 12):
            cell = image[..., top:bottom, left : left + 3]
            expected[..., top:bottom, left : left + 3] = cell.mean(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-7)
    assert len(set(out[0, 0, 5:13, 3:15].flatten().tolist())) == 12


def test_cells_at_the_border_are_means_of_what_the_frame_holds() -> None:
    image = grey_levels(1, 3, 8, 8)
    # Unclipped region (-6, -6) to (6, 6): 4 x 4 cells of 3 px, of which 2 x 2 lie in the frame.
    out = Pixelate(4, region=TIGHT)(image, [boxed((-6, -6, 6, 6))])
    for top in (0, 3):
        for left in (0, 3):
            cell = image[..., top : top + 3, left : left + 3].mean(dim=(2, 3), keepdim=True)
            torch.testing.assert_close(
                out[..., top : top + 3, left : left + 3], cell.expand(1, 3, 3, 3), rtol=0, atol=1e-7
            )
    # 5 px of the second cell's row: one cell only is cut off by the frame.
    cut = Pixelate(1, region=TIGHT)(image, [boxed((6, 0, 16, 10))])
    torch.testing.assert_close(cut[..., 6:], image[..., 6:].mean(dim=(2, 3), keepdim=True).expand(1, 3, 8, 2))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 99),
    st.integers(1, 9),
    st.tuples(coordinate, coordinate),
    st.tuples(st.floats(0, 60), st.floats(0, 60)),
)
def test_pixelate_is_idempotent_and_keeps_the_mean(
    seed: int, blocks: int, corner: tuple[float, float], size: tuple[float, float]
) -> None:
    image = grey_levels(1, 3, 31, 37, seed=seed)
    faces = [boxed((*corner, corner[0] + size[0], corner[1] + size[1]))]
    hide = Pixelate(blocks)
    once = hide(image, faces)
    assert torch.equal(hide(once, faces), once)
    torch.testing.assert_close(once.mean(dim=(2, 3)), image.mean(dim=(2, 3)), rtol=0, atol=1e-6)
    for left, top, right, bottom in hide.region.rectangles(faces[0], 31, 37):
        columns = (once[0, :, top:bottom, left + 1 : right] != once[0, :, top:bottom, left : right - 1]).any(0).any(0)
        assert int(columns.sum()) < blocks


@pytest.mark.parametrize("width", range(2, 12))
def test_small_faces_are_hidden_too(width: int) -> None:
    """4 cells across 4 pixels would show the face as it is."""
    image = grey_levels(1, 3, 16, 16)
    out = Pixelate(4, region=TIGHT)(image, [boxed((2, 2, 2 + width, 2 + width))])
    patch = out[0, :, 2 : 2 + width, 2 : 2 + width]
    runs = 1 + int((patch[..., 1:] != patch[..., :-1]).any(0).any(0).sum())
    assert runs == max(1, min(4, width // 2))


# Blurs


@pytest.mark.parametrize("shape", ["box", "ellipse"])
def test_gaussian_blur_equals_kornia_away_from_the_border(shape: str) -> None:
    image = grey_levels(1, 3, 90, 100)
    hide = GaussianBlur(0.1, region=FaceRegion(factor=1.0, shape=shape))  # type: ignore[arg-type]
    faces = [boxed((35, 30, 65, 60))]
    # 30 px wide: sigma 3 px, cut off at 12 px.
    blurred = kornia.filters.gaussian_blur2d(image, (25, 25), (3.0, 3.0))
    mask = hide.mask(faces, 90, 100)
    torch.testing.assert_close(hide(image, faces), torch.where(mask == 1, blurred, image), rtol=0, atol=2e-6)


def test_gaussian_weights_are_renormalised_at_the_border() -> None:
    image = torch.zeros(1, 3, 1, 3)
    image[..., 0] = 1
    out = GaussianBlur(0.001, region=TIGHT)(image, [boxed((0, 0, 3, 1))])
    # sigma is one pixel at least: weights exp(-1/2) and exp(-2) for neighbours at 1 and 2 px.
    a, b = math.exp(-0.5), math.exp(-2.0)
    expected = torch.tensor([1 / (1 + a + b), a / (1 + 2 * a), b / (1 + a + b)])
    torch.testing.assert_close(out[0, 0, 0], expected)


@pytest.mark.parametrize("hide", [GaussianBlur(), GaussianBlur(0.001)])
@pytest.mark.parametrize("box", [(10, 10, 50, 50), (-20, -20, 20, 20), (30, 40, 90, 90), (12, 12, 15, 14)])
def test_no_pixel_stays_sharp(hide: Obfuscator, box: tuple[float, ...]) -> None:
    """What a pixel shows comes for the greater part from its neighbours, wherever it lies."""
    faces = [boxed(box)]
    image = torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64, requires_grad=True)
    out = hide(image, faces)
    inside = hide.mask(faces, 64, 64)[0, 0].nonzero().tolist()
    for y, x in inside[:: max(1, len(inside) // 12)]:
        (weights,) = torch.autograd.grad(out[0, 0, y, x], image, retain_graph=True)
        assert weights.sum() == pytest.approx(1)
        assert weights.min() >= 0
        # Worst case: sigma 1 px, in a corner, 0.57^2.
        assert weights[0, 0, y, x] < 0.34


def test_blur_grows_with_the_face() -> None:
    """The same picture at twice the size looks the same after hiding."""
    small = grey_levels(1, 3, 20, 20)
    big = small.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    faces, bigger = [boxed((5, 5, 15, 15))], [boxed((15, 15, 45, 45))]
    for hide, tolerance in ((Pixelate(5, region=TIGHT), 1e-6), (GaussianBlur(0.2, region=TIGHT), 0.01)):
        out = torch.nn.functional.avg_pool2d(hide(big, bigger), 3)
        torch.testing.assert_close(out, hide(small, faces), rtol=0, atol=tolerance)
