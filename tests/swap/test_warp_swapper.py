from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import Sees

from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle
from deidlib.geometry.face_model import face_model
from deidlib.geometry.region import FaceRegion
from deidlib.media import write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.obfuscate import GaussianBlur, Pixelate, Solid
from deidlib.records.fingerprint import described, fingerprint
from deidlib.swap import outline
from deidlib.swap.base import Patch
from deidlib.swap.colour import match_colour
from deidlib.swap.lattice import Lattice, Pyramid
from deidlib.swap.tps import ThinPlate
from deidlib.swap.warp import Part, WarpSwapper

SIZE = 96
SCALE = 420.0  # pixels per metre: a face of 60 pixels


def points_of(
    *, yaw: float = 0.0, at: tuple[float, float] = (48.0, 50.0), scale: float = SCALE, count: int = 68
) -> Tensor:
    """Landmarks of the generic face, turned aside by degrees, from far away."""
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    turned = face_model(count) @ torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64).T
    return (turned[:, :2] * scale + torch.tensor(at)).float()


def face(*landmarks: Tensor) -> Faces:
    """Faces with boxes around their landmarks and the forehead, as detectors draw them."""
    boxes = []
    for points in landmarks:
        whole = outline.all_points(points)
        whole = torch.cat([whole, outline.forehead(whole, 0.7)])
        boxes.append(torch.cat([whole.amin(dim=0), whole.amax(dim=0)]).float())
    return Faces(torch.stack(boxes), torch.ones(len(boxes)), torch.stack(landmarks))


def smooth(seed: int, size: int = SIZE, *, cells: int = 12) -> Tensor:
    """A picture of soft spots."""
    spots = torch.rand(1, 3, cells, cells, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(spots, size=(size, size), mode="bicubic").clamp(0, 1)


def swapper(**arguments: object) -> WarpSwapper:
    return WarpSwapper(smooth(1), source_faces=face(points_of()), **arguments)  # type: ignore[arg-type]


# What it is made of


def test_a_thin_plate_meets_its_values_and_keeps_affine_maps() -> None:
    generator = torch.Generator().manual_seed(0)
    points, values = torch.rand(2, 20, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(ThinPlate.fit(points, values)(points), values, atol=1e-9, rtol=0)
    matrix = torch.tensor([[2.0, 1.0], [-1.0, 3.0]], dtype=torch.float64)
    plate = ThinPlate.fit(points, points @ matrix + 5, stiffness=1.0)
    far = torch.tensor([[[-7.0, 3.0]], [[100.0, 40.0]]], dtype=torch.float64)
    torch.testing.assert_close(plate(far), far @ matrix + 5)


def test_a_thin_plate_bends_as_little_as_it_can() -> None:
    """Then its weights sum to 0; here the corners of a square stay and the middle is moved: four are equal."""
    square = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]], dtype=torch.float64)
    plate = ThinPlate.fit(square, square + torch.tensor([[0.0], [0.0], [0.0], [0.0], [1.0]], dtype=torch.float64))
    weights = plate.weights[:5]
    torch.testing.assert_close(weights.sum(dim=0), torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(weights[:4], (-weights[4] / 4).expand(4, 2), atol=1e-9, rtol=0)


@pytest.mark.parametrize("points", [[[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [5.0, 5.0]], [[1.0, 1.0]] * 5])
def test_points_on_a_line_determine_no_map(points: list[list[float]]) -> None:
    line = torch.tensor(points, dtype=torch.float64)
    with pytest.raises(ValueError, match="do not determine"):
        ThinPlate.fit(line, line)


def test_a_lattice_that_changes_nothing_reads_the_picture_itself() -> None:
    picture = torch.rand(1, 3, 150, 120)
    inside = Rectangle(7, 11, 110, 140)
    lattice = Lattice(lambda at: at, inside)
    torch.testing.assert_close(Pyramid(picture).read(lattice, 1.0), picture[0, :, 11:140, 7:110], atol=1e-4, rtol=0)
    torch.testing.assert_close(lattice.area(), torch.ones_like(lattice.area()))
    mirrored = Lattice(lambda at: at * torch.tensor([-1, 1]), inside)
    assert bool((mirrored.area() < 0).all())


def test_a_picture_shown_smaller_is_averaged() -> None:
    checks = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float().expand(1, 3, 64, 64)
    small = Pyramid(checks).read(Lattice(lambda at: 4 * at, Rectangle(0, 0, 16, 16)), 4.0)
    torch.testing.assert_close(small, torch.full((3, 16, 16), 0.5))


def test_five_points_are_completed_to_the_generic_face_itself() -> None:
    for yaw in (0.0, 25.0):
        five, all_of_them = points_of(yaw=yaw, count=5), points_of(yaw=yaw)
        torch.testing.assert_close(outline.all_points(five), all_of_them.double(), atol=1e-3, rtol=0)
    odd = points_of(count=5) + torch.tensor([[1.0, -1.0], [0, 1], [0, 0], [1, 0], [0, -2]])
    # Eyes and nose of the model's 68 points lie where the five are, whatever they are.
    torch.testing.assert_close(outline.all_points(odd)[[30, 48, 54]], odd[2:].double(), atol=1e-4, rtol=0)


def test_colours_become_the_originals_and_details_stay() -> None:
    height, width = 60, 50
    weight = torch.ones(height, width)
    stripes = 0.4 + 0.1 * torch.sin(torch.arange(width) * 2.0).expand(3, height, width)
    goal = torch.tensor([0.7, 0.5, 0.35])[:, None, None].expand(3, height, width)
    light = torch.linspace(0.6, 1.0, width)
    out = match_colour(stripes, goal * light, weight, sigma=6.0)
    torch.testing.assert_close(out.mean(dim=(1, 2)), (goal * light).mean(dim=(1, 2)), atol=0.02, rtol=0)
    # Light from the right arrives, and the stripes are still the source's.
    assert float(out[..., -15:].mean()) > float(out[..., :15].mean()) + 0.1
    rest = out[0] - torch.nn.functional.avg_pool2d(out[:1], (1, 11), 1, (0, 5))[0]
    middle = (slice(None), slice(10, 40))
    own = (stripes[0] - 0.4)[middle]
    assert float(torch.corrcoef(torch.stack([rest[middle].flatten(), own.flatten()]))[0, 1]) > 0.95


# The swapper


def test_what_it_shows_comes_from_the_source() -> None:
    target, faces = smooth(2), [face(points_of())]
    first = swapper()(target, faces)
    second = WarpSwapper(smooth(3), source_faces=face(points_of()))(target, faces)
    core = (slice(None), slice(None), slice(30, 75), slice(30, 66))
    assert float((first - second)[core].abs().mean()) > 0.05
    assert torch.equal(swapper()(target, faces), first)


def test_nothing_finer_than_shadows_comes_from_the_target() -> None:
    """Two targets with the same soft shadows and different details give all but the same face."""
    faces = [face(points_of())]
    base = torch.full((1, 3, SIZE, SIZE), 0.5)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    details = 0.25 * ((x // 2 + y // 2) % 2 * 2 - 1).float().expand(1, 3, SIZE, SIZE)
    one, other = base + details, base - details
    patch_one, patch_other = (swapper().swap(image, faces)[0][0] for image in (one, other))
    assert isinstance(patch_one, Patch)
    assert isinstance(patch_other, Patch)
    difference = (patch_one.pixels - patch_other.pixels)[:, patch_one.share == 1]
    assert float(difference.abs().mean()) < 0.01 * 0.5
    assert bool((patch_one.share == 1).sum() > 1500)


def test_all_of_the_face_is_covered() -> None:
    for yaw in (0.0, 20.0):
        points = points_of(yaw=yaw)
        (patch,) = swapper().swap(smooth(2), [face(points)])[0]
        assert isinstance(patch, Patch)
        x, y = points.floor().long().unbind(dim=1)
        share = patch.share[y - patch.inside.top, x - patch.inside.left]
        assert torch.equal(share, torch.ones(68))


@pytest.mark.parametrize("fallback", [None, Pixelate(region=FaceRegion(1.4, "ellipse", 3)), GaussianBlur()])
def test_pixels_outside_the_mask_are_identical(fallback: Pixelate | GaussianBlur | None) -> None:
    swap = swapper(fallback=fallback)
    target = torch.rand(2, 3, SIZE, SIZE)
    faces = [face(points_of(yaw=10)), face(points_of(at=(40.0, 44.0), scale=300), points_of(at=(50.0, 56.0)))]
    before = target.clone()
    out = swap(target, faces)
    outside = (swap.mask(faces, SIZE, SIZE) == 0).expand_as(out)
    assert torch.equal(out[outside], target[outside])
    assert torch.equal(target, before)
    assert 0 <= out.min() <= out.max() <= 1
    for i in range(2):
        assert torch.equal(out[i : i + 1], swap(target[i : i + 1], faces[i : i + 1]))


def test_the_source_follows_the_target_landmarks() -> None:
    """A dark spot on the source's nose and a bright one at a mouth corner come to lie there on the target."""
    source, own = torch.full((1, 3, SIZE, SIZE), 0.5), points_of()
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")

    def spot(points: Tensor, index: int) -> Tensor:
        return torch.exp(-((x - points[index, 0]) ** 2 + (y - points[index, 1]) ** 2) / 4)

    source = source - 0.4 * spot(own, 30) + 0.4 * spot(own, 48)
    points = points_of(yaw=15, at=(44.0, 46.0), scale=390)
    swap = WarpSwapper(source, source_faces=face(own))
    (patch,) = swap.swap(torch.full((1, 3, SIZE, SIZE), 0.6), [face(points)])[0]
    assert isinstance(patch, Patch)
    grey = patch.pixels.mean(dim=0)
    for index, found in ((30, grey.argmin()), (48, grey.argmax())):
        row, column = divmod(int(found), grey.shape[1])
        where = torch.tensor([column + patch.inside.left + 0.5, row + patch.inside.top + 0.5])
        assert float((where - points[index]).norm()) < 1.5


def test_five_points_do() -> None:
    target = smooth(2)
    for own in (points_of(), points_of(count=5)):
        for given in (points_of(yaw=5), points_of(yaw=5, count=5)):
            swap = WarpSwapper(smooth(1), source_faces=face(own))
            assert swap.swap(target, [face(given)])[0][0] is not None


def test_parts_of_the_target_are_kept_if_asked_for() -> None:
    target, points = smooth(2), points_of()
    eye, mouth = (points[part].mean(dim=0).long().tolist() for part in (slice(36, 42), slice(48, 68)))
    out = swapper(keep=("eyes",))(target, [face(points)])[0]
    assert torch.equal(out[:, eye[1], eye[0]], target[0, :, eye[1], eye[0]])
    assert not torch.equal(out[:, mouth[1], mouth[0]], target[0, :, mouth[1], mouth[0]])
    out = swapper(keep=("mouth",))(target, [face(points)])[0]
    assert torch.equal(out[:, mouth[1], mouth[0]], target[0, :, mouth[1], mouth[0]])
    with pytest.raises(ValueError, match=r"keep may hold 'eyes' and 'mouth', got \['nose'\]"):
        swapper(keep=("nose",))


# Never an unhidden face


def hidden_by_the_fallback(faces: Faces, models: Sequence[Sees] = ()) -> bool:
    target, fallback = smooth(2), Solid((0.9, 0.1, 0.2))
    out = WarpSwapper(smooth(1), models, source_faces=face(points_of()), fallback=fallback)(target, [faces])
    return torch.equal(out, fallback(target, [faces]))


def test_a_face_without_landmarks_is_hidden_by_the_fallback() -> None:
    known = face(points_of())
    assert not hidden_by_the_fallback(known)
    bare = known.replace(landmarks=None)
    unknown = known.replace(landmarks=torch.full((1, 68, 2), torch.nan))
    for faces in (bare, unknown):
        assert hidden_by_the_fallback(faces)
        assert hidden_by_the_fallback(faces, [Sees(Faces.empty())])
        elsewhere = Faces(torch.tensor([[0.0, 0.0, 20.0, 20.0]]), torch.ones(1), known.landmarks)
        assert hidden_by_the_fallback(faces, [Sees(elsewhere)])
        assert not hidden_by_the_fallback(faces, [Sees(known)])


@pytest.mark.parametrize(
    "landmarks",
    [
        points_of(yaw=75),
        points_of(yaw=-75, count=5),
        points_of(at=(12.0, 50.0)),
        points_of(at=(48.0, 90.0), count=5),
        points_of(scale=60),
        torch.full((68, 2), 48.0),
        torch.linspace(30, 60, 5)[:, None].expand(5, 2),
    ],
    ids=["profile", "profile, five points", "cut at the left", "cut at the bottom", "tiny", "one point", "on a line"],
)
def test_a_face_that_cannot_be_swapped_is_hidden_by_the_fallback(landmarks: Tensor) -> None:
    known = Faces(torch.tensor([[24.0, 24.0, 72.0, 80.0]]), torch.ones(1), landmarks[None])
    assert hidden_by_the_fallback(known)


def test_landmarks_outside_of_the_region_are_not_believed() -> None:
    known = face(points_of())
    assert hidden_by_the_fallback(known.replace(boxes=torch.tensor([[50.0, 20.0, 90.0, 70.0]])))


@pytest.mark.parametrize(
    "box", [(0.0, 20.0, 80.0, 82.0), (20.0, -3.0, 75.0, 82.0), (20.0, 20.0, 96.0, 82.0), (20.0, 20.0, 75.0, 99.0)]
)
def test_a_box_that_reaches_the_border_is_hidden_by_the_fallback(box: tuple[float, ...]) -> None:
    """Landmarks of a face that is cut off are guesses, even if all lie within the frame."""
    assert hidden_by_the_fallback(face(points_of()).replace(boxes=torch.tensor([box])))


def test_one_of_two_faces_cannot_be_swapped() -> None:
    good, bad = points_of(at=(70.0, 50.0), scale=300), points_of(yaw=75, at=(22.0, 50.0), scale=300)
    both, target = face(good, bad), torch.rand(1, 3, SIZE, SIZE)
    out = swapper()(target, [both])
    one, other = (swapper().mask([both[[i]]], SIZE, SIZE).expand_as(target) > 0 for i in range(2))
    assert torch.equal(out[other & ~one], Solid()(target, [both[[1]]])[other & ~one])
    assert torch.equal(out[one & ~other], swapper()(target, [both[[0]]])[one & ~other])
    assert torch.equal(out[~one & ~other], target[~one & ~other])


def test_models_are_asked_only_where_landmarks_lack() -> None:
    known = face(points_of())
    seer = Sees(known)
    swap = WarpSwapper(smooth(1), seer)
    assert seer.frames_read == 1
    target = torch.cat([smooth(2), smooth(3), smooth(4)])
    out = swap(target, [known, known.replace(landmarks=None), Faces.empty()])
    assert seer.frames_read == 2
    assert torch.equal(out[:2], swap(target[:2], [known, known]))


def test_68_points_are_preferred_to_the_five_that_a_face_comes_with() -> None:
    known = face(points_of())
    five = known.replace(landmarks=points_of(count=5, at=(49.0, 50.0))[None])
    target = smooth(2)
    reads68, reads_none = Sees(known, task="landmarks"), Sees(Faces.empty(), task="landmarks")
    for model, expected in ((reads68, known), (reads_none, five), (Sees(known), five)):
        swap = WarpSwapper(smooth(1), model, source_faces=known)
        assert torch.equal(swap(target, [five]), WarpSwapper(smooth(1), source_faces=known)(target, [expected]))


def test_each_face_seen_serves_one_place() -> None:
    """A place that is held beside a face that is found is not taken for it."""
    known = face(points_of(at=(60.0, 50.0), scale=300))
    held = Faces(known.boxes - torch.tensor([8.0, 0, 8.0, 0]), torch.ones(1))
    places = Faces(torch.cat([held.boxes, known.boxes]), torch.ones(2))
    first, second = WarpSwapper(smooth(1), Sees(known)).swap(smooth(2), [places])[0]
    assert first == "no landmarks of it are read"
    assert isinstance(second, Patch)


def test_it_is_said_why_a_face_is_not_swapped() -> None:
    def why(known: Faces) -> Patch | str:
        return swapper().swap(smooth(2), [known])[0][0]

    known = face(points_of())
    assert isinstance(why(known), Patch)
    assert why(known.replace(boxes=torch.tensor([[0.0, 20.0, 80.0, 82.0]]))) == "it reaches the border"
    assert why(known.replace(boxes=torch.tensor([[50.0, 20.0, 90.0, 70.0]]))) == "its landmarks lie outside of it"
    assert why(face(points_of(yaw=75))) == "it is turned too far from the source's pose"
    assert why(known.replace(landmarks=None)) == "no landmarks of it are read"


# The source


@pytest.mark.parametrize("count", [68, 5])
def test_a_source_that_is_turned_small_or_covered(count: int) -> None:
    def made(yaw: float = 0.0, scale: float = SCALE) -> WarpSwapper:
        return WarpSwapper(smooth(1), source_faces=face(points_of(count=count, yaw=yaw, scale=scale)))

    assert made().doubt is None
    assert made(yaw=20).doubt is None
    for yaw in (45, -45):
        with pytest.raises(ValueError, match="turned aside: half of it is not to be seen"):
            made(yaw=yaw)
    with pytest.raises(ValueError, match=r"\d+ pixels wide.*wider than 24"):
        made(scale=80)
    doubtful = face(points_of(count=count)).replace(scores=torch.tensor([0.8]))
    assert "score of 0.80 only: it may be covered" in (WarpSwapper(smooth(1), source_faces=doubtful).doubt or "")


def test_a_source_is_read_from_a_file(tmp_path: Path) -> None:
    picture = smooth(1).mul(255).round().div(255)
    write_image(tmp_path / "face.png", picture)
    target, faces = smooth(2), [face(points_of(yaw=5))]
    given = WarpSwapper(picture, source_faces=face(points_of()))(target, faces)
    read = WarpSwapper(tmp_path / "face.png", source_faces=face(points_of()))(target, faces)
    assert torch.equal(given, read)


def test_a_source_must_show_one_face_or_one_must_be_chosen() -> None:
    picture = smooth(1)
    with pytest.raises(ValueError, match="no face was found in the source"):
        WarpSwapper(picture, Sees(Faces.empty()))
    two = face(points_of(at=(30.0, 40.0), scale=200), points_of(at=(70.0, 40.0), scale=200))
    boxes = [[round(v) for v in box] for box in two.boxes.tolist()]
    with pytest.raises(ValueError, match=re.escape(f"2 faces, at {boxes[0]}, {boxes[1]}: choose one with which=0")):
        WarpSwapper(picture, Sees(two))
    target, faces = smooth(2), [face(points_of())]
    chosen = WarpSwapper(picture, Sees(two), which=1)(target, faces)
    assert torch.equal(chosen, WarpSwapper(picture, source_faces=two[[1]])(target, faces))
    assert not torch.equal(chosen, WarpSwapper(picture, Sees(two), which=0)(target, faces))
    with pytest.raises(ValueError, match="which must be 0 to 1"):
        WarpSwapper(picture, Sees(two), which=2)
    with pytest.raises(ValueError, match="has no landmarks"):
        WarpSwapper(picture, source_faces=two[[0]].replace(landmarks=None))
    with pytest.raises(ValueError, match="name at least one model"):
        WarpSwapper(picture)
    with pytest.raises(ValueError, match="cut off by the border"):
        WarpSwapper(picture, source_faces=face(points_of(at=(10.0, 50.0))))
    with pytest.raises(ValueError, match="one image"):
        WarpSwapper(picture.repeat(2, 1, 1, 1), source_faces=face(points_of()))
    with pytest.raises(TypeError, match="float"):
        WarpSwapper(picture.mul(255).byte(), source_faces=face(points_of()))


def test_a_job_with_the_same_source_and_models_can_be_continued() -> None:
    def mark(seed: int, keep: tuple[Part, ...] = ()) -> str:
        return fingerprint(described(WarpSwapper(smooth(seed), MTCNN(), source_faces=face(points_of()), keep=keep)))

    assert mark(1) == mark(1)
    assert mark(1) != mark(2)
    assert mark(1) != mark(1, ("eyes",))
