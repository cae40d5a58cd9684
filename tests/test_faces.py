from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces, five_points
from deidlib.images import check_image_shape, check_images, from_pixels, from_uint8, to_grid, to_pixels, to_uint8

BOXES = torch.tensor([[1.0, 2.0, 5.0, 8.0], [10.0, 20.0, 50.0, 80.0], [0.0, 0.0, 3.0, 3.0]])


def full() -> Faces:
    return Faces(
        BOXES,
        torch.tensor([0.9, 0.8, 0.7]),
        torch.arange(30.0).reshape(3, 5, 2),
        torch.eye(3),
    )


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"boxes": [[1, 2, 3, 4]]}, TypeError, r"Faces\.boxes must be a floating tensor, got list"),
        (
            {"boxes": torch.ones(3, 4, dtype=torch.long)},
            TypeError,
            r"boxes must be a floating tensor, got torch\.int64",
        ),
        ({"scores": None}, TypeError, r"scores must be a floating tensor, got NoneType"),
        ({"landmarks": np.zeros((3, 5, 2))}, TypeError, r"landmarks must be a floating tensor, got ndarray"),
        ({"gaze": torch.ones(3, 3, dtype=torch.uint8)}, TypeError, r"gaze must be a floating tensor, got torch\.uint8"),
        ({"boxes": torch.ones(4)}, ValueError, r"boxes must have shape \(N, 4\), xyxy pixels, got \(4,\)"),
        ({"boxes": torch.ones(3, 5)}, ValueError, r"\(N, 4\).*got \(3, 5\)"),
        ({"scores": torch.ones(2)}, ValueError, r"scores must have shape \(3,\), one per box, got \(2,\)"),
        ({"scores": torch.ones(3, 1)}, ValueError, r"\(3,\).*got \(3, 1\)"),
        ({"landmarks": torch.ones(3, 7, 2)}, ValueError, r"\(3, 68, 2\) or \(3, 5, 2\), got \(3, 7, 2\)"),
        ({"landmarks": torch.ones(2, 5, 2)}, ValueError, r"landmarks must have shape.*got \(2, 5, 2\)"),
        ({"gaze": torch.ones(3, 2)}, ValueError, r"gaze must have shape \(3, 3\), got \(3, 2\)"),
        ({"boxes": BOXES.index_fill(0, torch.tensor(1), torch.nan)}, ValueError, "NaN or infinity; drop such"),
        ({"boxes": BOXES.index_fill(1, torch.tensor(2), torch.inf)}, ValueError, "NaN or infinity"),
        # The usual mistake: width and height where the far corner belongs.
        ({"boxes": torch.tensor([[50.0, 60.0, 20.0, 30.0]] * 3)}, ValueError, "for xywh add w and h to x and y"),
    ],
)
def test_refuses(fields: dict[str, Any], kind: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"boxes": BOXES, "scores": torch.ones(3)}
    with pytest.raises(kind, match=message):
        Faces(**{**given, **fields})


def test_a_replaced_field_is_checked_again() -> None:
    faces = full()
    assert faces.replace(landmarks=None).landmarks is None
    assert faces.replace(landmarks=torch.zeros(3, 68, 2)).boxes is faces.boxes
    with pytest.raises(ValueError, match="gaze"):
        faces.replace(gaze=torch.zeros(1, 3))


def test_a_box_without_area_is_allowed_and_fields_are_frozen() -> None:
    faces = Faces(torch.tensor([[4.0, 4.0, 4.0, 4.0]]), torch.zeros(1))
    assert len(faces) == 1
    with pytest.raises(AttributeError):
        faces.boxes = BOXES  # type: ignore[misc]


def test_no_face_is_empty_not_none() -> None:
    empty = Faces.empty(dtype=torch.float64)
    assert (len(empty), empty.boxes.shape, empty.scores.shape, empty.boxes.dtype) == (0, (0, 4), (0,), torch.float64)
    assert empty.landmarks is None
    assert empty.gaze is None
    assert not len(empty[[]])
    assert Faces(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 68, 2), torch.zeros(0, 3)).landmarks is not None


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        ([2, 0], [2, 0]),
        (torch.tensor([False, True, True]), [1, 2]),
        (torch.tensor([1]), [1]),
        (slice(0, 2), [0, 1]),
        ([], []),
    ],
)
def test_picking_keeps_every_field_together(index: Any, rows: list[int]) -> None:
    faces, picked = full(), full()[index]
    for name in ("boxes", "scores", "landmarks", "gaze"):
        whole, part = getattr(faces, name), getattr(picked, name)
        assert torch.equal(part, torch.stack([whole[k] for k in rows]) if rows else whole[:0])


def test_picking_leaves_unknown_fields_unknown() -> None:
    picked = Faces(BOXES, torch.ones(3))[[1]]
    assert picked.landmarks is None
    assert picked.gaze is None


def test_moving_moves_every_field() -> None:
    # The meta device holds no values to validate, so no faces.
    moved = full()[[]].to("meta")
    assert {t.device.type for t in (moved.boxes, moved.scores, moved.landmarks, moved.gaze) if t is not None} == {
        "meta"
    }


def some(n: int, points: int | None = None, gaze: bool = False, dtype: torch.dtype = torch.float32) -> Faces:
    generator = torch.Generator().manual_seed(n)
    corner = torch.rand(n, 2, generator=generator, dtype=dtype) * 100
    return Faces(
        torch.cat([corner, corner + 10], dim=1),
        torch.rand(n, generator=generator, dtype=dtype),
        None if points is None else torch.rand(n, points, 2, generator=generator, dtype=dtype) * 100,
        torch.randn(n, 3, generator=generator, dtype=dtype) if gaze else None,
    )


def test_mapping_reaches_every_field_and_leaves_what_is_unknown() -> None:
    faces = full()
    mapped = faces.map(lambda values: values * 2)
    for name in ("boxes", "scores", "landmarks", "gaze"):
        assert torch.equal(getattr(mapped, name), getattr(faces, name) * 2)
    plain = some(2).map(Tensor.clone)
    assert plain.landmarks is None
    assert plain.gaze is None
    with pytest.raises(ValueError, match="x2 >= x1"):
        faces.map(torch.neg)


def test_together_are_the_faces_of_all_in_order() -> None:
    parts = [some(2, 5, gaze=True), some(1, 5, gaze=True), some(3, 5, gaze=True)]
    whole = Faces.cat(parts)
    for name in ("boxes", "scores", "landmarks", "gaze"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    assert torch.equal(Faces.cat(parts[:1]).boxes, parts[0].boxes)


def test_what_one_part_does_not_know_is_nan_there_and_kept_elsewhere() -> None:
    knows, plain = some(2, 68, gaze=True), some(1)
    assert knows.landmarks is not None
    assert knows.gaze is not None
    for parts, mine, other in (([knows, plain], [0, 1], [2]), ([plain, knows], [1, 2], [0])):
        whole = Faces.cat(parts)
        assert whole.landmarks is not None
        assert whole.gaze is not None
        assert torch.equal(whole.landmarks[mine], knows.landmarks)
        assert torch.equal(whole.gaze[mine], knows.gaze)
        assert bool(whole.landmarks[other].isnan().all())
        assert bool(whole.gaze[other].isnan().all())
    both = Faces.cat([plain, plain])
    assert both.landmarks is None
    assert both.gaze is None


def test_five_points_among_sixty_eight_come_back() -> None:
    fine, coarse = some(2, 68), some(3, 5)
    assert fine.landmarks is not None
    assert coarse.landmarks is not None
    for whole in (Faces.cat([fine, coarse]), Faces.cat([coarse, fine])[[3, 4, 0, 1, 2]]):
        assert whole.landmarks is not None
        assert torch.equal(whole.landmarks[:2], fine.landmarks)
        torch.testing.assert_close(five_points(whole.landmarks[2:]), coarse.landmarks)
        # Nobody may take them for 68 that were seen.
        known = whole.landmarks[2:].isfinite().all(dim=2)
        assert known.sum(dim=1).tolist() == [15, 15, 15]
        assert [k for k in range(68) if known[0, k]] == [30, *range(36, 49), 54]


def test_a_part_without_faces_has_no_say() -> None:
    plain, empty = some(2), Faces(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 68, 2), torch.zeros(0, 3))
    whole = Faces.cat([empty, plain, empty])
    assert whole.landmarks is None
    assert whole.gaze is None
    assert torch.equal(whole.boxes, plain.boxes)
    assert len(Faces.cat([])) == len(Faces.cat([Faces.empty(), Faces.empty()])) == 0
    assert Faces.cat([empty, Faces.empty()]).landmarks is not None


def test_repr_says_what_is_known() -> None:
    assert repr(full()) == "Faces(n=3, landmarks, gaze)"
    assert repr(Faces.empty()) == "Faces(n=0)"


@pytest.mark.parametrize(
    ("images", "kind", "message"),
    [
        (np.zeros((1, 3, 4, 4), np.float32), TypeError, r"must be a float tensor.*got ndarray.*read_image"),
        ("a.png", TypeError, r"got str.*deidlib\.read_image or deidlib\.media\.VideoReader"),
        (
            torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
            TypeError,
            r"got torch\.uint8\. Convert with `images\.float\(\) / 255`",
        ),
        (
            torch.zeros(1, 3, 4, 4, dtype=torch.half),
            TypeError,
            r"got torch\.float16\. Convert with `images\.float\(\)`",
        ),
        (torch.zeros(3, 4, 4), ValueError, r"\(B, 3, H, W\), got \(3, 4, 4\)\. Add the batch axis with images\[None\]"),
        (torch.zeros(1, 4, 4, 3), ValueError, r"got \(1, 4, 4, 3\)\. Channels come second"),
        (torch.zeros(1, 1, 4, 4), ValueError, r"got \(1, 1, 4, 4\)"),
        (torch.zeros(0, 3, 4, 4), ValueError, r"at least one frame with pixels, got shape \(0, 3, 4, 4\)"),
        (torch.zeros(1, 3, 0, 4), ValueError, r"at least one frame with pixels"),
    ],
)
def test_what_is_no_image_batch(images: Any, kind: type[Exception], message: str) -> None:
    for check in (check_images, check_image_shape):
        with pytest.raises(kind, match=message):
            check(images)
        with pytest.raises(kind, match=r"^originals must"):
            check(images, name="originals")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (255.0, r"must lie in \[0, 1\], got values from 0 to 255\. Divide 0\.\.255 data by 255"),
        (-2.1, r"got values from -2\.1 to 0\..*normalisation"),
        (1 + 1e-6, r"must lie in \[0, 1\]"),
        (torch.nan, r"must lie in \[0, 1\], got values from nan to nan"),
    ],
)
def test_a_single_wrong_value_is_found(value: float, message: str) -> None:
    images = torch.zeros(2, 3, 4, 5)
    images[1, 2, 3, 4] = value
    with pytest.raises(ValueError, match=message):
        check_images(images)
    # The cheap check reads no values.
    assert check_image_shape(images) is images


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bounds_belong_to_the_range(dtype: torch.dtype) -> None:
    images = torch.tensor([0.0, 1.0], dtype=dtype).repeat(6).reshape(1, 3, 2, 2).requires_grad_()
    assert check_images(images) is images


def levels() -> Tensor:
    return torch.arange(256) / 255


def test_the_grid_is_the_256_levels() -> None:
    assert torch.equal(to_grid(levels()), levels())
    # Less than half a step away, each level is the nearest.
    for shift in (-0.499 / 255, 0.499 / 255):
        assert torch.equal(to_grid((levels() + shift).clamp(0, 1)), levels())
    source = torch.tensor([0.3])
    to_grid(source)
    assert source.item() == pytest.approx(0.3)


def test_levels_go_there_and_back() -> None:
    grey = torch.arange(256, dtype=torch.uint8)
    # Correctly rounded: the float32 that lies nearest to the fraction.
    assert from_uint8(grey).tolist() == [float(np.float32(k / 255)) for k in range(256)]
    assert torch.equal(to_uint8(from_uint8(grey)), grey)
    values = torch.rand(2, 3, 4, 5).requires_grad_()
    assert not to_uint8(values).requires_grad
    assert torch.equal(from_uint8(to_uint8(values)), to_grid(values.detach()))
    assert to_uint8(torch.tensor([0.499, 0.501]) / 255).tolist() == [0, 1]


def test_pixels_are_those_of_other_libraries() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    images = from_pixels(pixels)
    assert images.shape == (2, 3, 4, 5)
    for frame, row, column, channel in ((0, 0, 0, 0), (1, 3, 4, 2), (0, 2, 1, 1)):
        assert images[frame, channel, row, column].item() * 255 == pytest.approx(pixels[frame, row, column, channel])
    assert np.array_equal(to_pixels(images), pixels)
    assert np.array_equal(to_pixels(images[0]), pixels[0])
    # What is turned or mirrored by a view is taken as it looks.
    assert torch.equal(from_pixels(pixels[:, :, ::-1]), images.flip(-1))
    assert to_pixels(images.flip(1)).flags.c_contiguous
    before = pixels.copy()
    from_pixels(pixels).zero_()
    assert np.array_equal(pixels, before)


# Other libraries


def test_supervision_gets_the_faces_and_gives_them_back() -> None:
    pytest.importorskip("supervision")
    faces = Faces(
        torch.tensor([[1.0, 2.0, 30.0, 40.0], [5.0, 6.0, 7.0, 9.0]]),
        torch.tensor([0.5, 0.25]),
        torch.rand(2, 5, 2),
        torch.tensor([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
    )
    told = faces.to_supervision()
    assert told.xyxy.tolist() == faces.boxes.tolist()
    assert told.confidence.tolist() == [0.5, 0.25]
    # Their own choice of rows goes along with all that is known.
    (second,) = [Faces.from_supervision(told[told.confidence < 0.4])]
    for name in ("boxes", "scores", "landmarks", "gaze"):
        assert torch.equal(getattr(second, name), getattr(faces, name)[1:])


def test_supervision_may_know_less_or_nothing() -> None:
    supervision = pytest.importorskip("supervision")
    bare = Faces.from_supervision(supervision.Detections(xyxy=np.array([[0, 0, 4, 4]])))
    assert bare.scores.tolist() == [1.0]
    assert bare.landmarks is None
    assert len(Faces.from_supervision(supervision.Detections.empty())) == 0
    assert len(Faces.empty().to_supervision()) == 0
