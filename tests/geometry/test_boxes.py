from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from deidlib.geometry.boxes import anchors, clip, decode, decode_points, encode, encode_points, expand, iou

coordinate = st.floats(-50, 50, width=32)
box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
box_lists = st.lists(box, max_size=4).map(lambda rows: torch.tensor(rows, dtype=torch.float64).reshape(-1, 4))


def some_boxes(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    corner = torch.rand(count, 2, dtype=dtype) * 40
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, dtype=dtype) * 30], dim=1)


def some_anchors(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.cat([torch.rand(count, 2, dtype=dtype) * 50, 4 + torch.rand(count, 2, dtype=dtype) * 30], dim=1)


# iou


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1.0),
        ((0, 0, 4, 4), (2, 2, 6, 6), 4 / 28),
        ((0, 0, 4, 4), (1, 1, 3, 3), 4 / 16),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0.0),
        ((0, 0, 4, 4), (9, 9, 10, 10), 0.0),
        ((-3, -1, 1, 1), (-1, -1, 1, 3), 4 / 12),
        ((2, 2, 2, 2), (2, 2, 2, 2), 0.0),
        ((2, 2, 2, 9), (0, 0, 9, 9), 0.0),
    ],
)
def test_iou_by_hand(a: tuple[float, ...], b: tuple[float, ...], expected: float) -> None:
    one, two = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    assert iou(one, two).item() == pytest.approx(expected)
    assert iou(two, one).item() == pytest.approx(expected)


@settings(max_examples=80, deadline=None)
@given(box_lists, box_lists)
def test_iou_is_torchvisions_where_that_is_a_number(a: Tensor, b: Tensor) -> None:
    ours, theirs = iou(a, b), box_iou(a, b)
    assert ours.shape == (len(a), len(b))
    assert torch.equal(ours, torch.where(theirs.isnan(), 0.0, theirs))
    assert ((ours >= 0) & (ours <= 1)).all()
    assert torch.equal(ours, iou(b, a).T)


def test_iou_of_nothing() -> None:
    assert iou(torch.zeros(0, 4), some_boxes(3)).shape == (0, 3)
    assert iou(some_boxes(3), torch.zeros(0, 4)).shape == (3, 0)


# expand and clip


@settings(max_examples=60, deadline=None)
@given(box, st.sampled_from([0.5, 1.0, 1.2, 3.0]))
def test_expand_keeps_the_centre_and_scales_the_sides(corners: tuple[float, ...], factor: float) -> None:
    before = torch.tensor([corners], dtype=torch.float64)
    after = expand(before, factor)
    torch.testing.assert_close(after[:, :2] + after[:, 2:], before[:, :2] + before[:, 2:])
    torch.testing.assert_close(after[:, 2:] - after[:, :2], factor * (before[:, 2:] - before[:, :2]))
    torch.testing.assert_close(expand(after, 1 / factor), before)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan])
def test_expand_refuses(factor: float) -> None:
    with pytest.raises(ValueError, match="factor must be positive, got"):
        expand(some_boxes(1), factor)


def test_clip_by_hand() -> None:
    boxes = torch.tensor([[-5.0, 3, 50, 20], [1, 2, 3, 4], [-9, -9, -1, -1], [41, 11, 60, 30]])
    assert clip(boxes, height=10, width=40).tolist() == [[0, 3, 40, 10], [1, 2, 3, 4], [0, 0, 0, 0], [40, 10, 40, 10]]


@settings(max_examples=60, deadline=None)
@given(box_lists)
def test_clip_is_the_part_within_the_frame(boxes: Tensor) -> None:
    cut = clip(boxes, 17, 23)
    assert (cut[:, 2:] >= cut[:, :2]).all()
    frame = torch.tensor([[0.0, 0, 23, 17]], dtype=torch.float64)
    area = (cut[:, 2:] - cut[:, :2]).prod(dim=1)
    low, high = torch.maximum(boxes[:, :2], frame[:, :2]), torch.minimum(boxes[:, 2:], frame[:, 2:])
    torch.testing.assert_close(area, (high - low).clamp(min=0).prod(dim=1))
    assert torch.equal(clip(cut, 17, 23), cut)


# anchors and the box code


@pytest.mark.parametrize(
    ("variant", "sizes"),
    [
        ("orig", ((16, 32), (64, 128), (256, 512))),
        ("1mb", ((10, 20), (32, 64), (128, 256))),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(480, 480), (360, 640), (640, 360)])
def test_anchors_are_retinafaces(
    shared: Path, variant: str, sizes: tuple[tuple[int, int], ...], height: int, width: int
) -> None:
    table = torch.load(shared / "parity/retinaface/priorbox.pt", weights_only=False)
    known = table[f"{variant}_h{height}_w{width}"]
    # Theirs are shares of the image, ours pixels.
    ours = anchors(height, width, sizes, (8, 16, 32)) / torch.tensor([width, height, width, height])
    assert len(ours) == known["num"]
    for rows, theirs in ((ours[:8], "first8"), (ours[-8:], "last8"), (ours[::37], "stride37")):
        torch.testing.assert_close(rows, known[theirs], rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.double().sum(dim=0), known["sum_cols"].double(), rtol=1e-6, atol=0)


def test_anchors_by_hand_where_the_stride_does_not_divide() -> None:
    found = anchors(9, 17, [[4, 6], [20]], [8, 16])
    centres = [(4, 4), (12, 4), (20, 4), (4, 12), (12, 12), (20, 12)]
    expected = [[x, y, s, s] for x, y in centres for s in (4, 6)] + [[8, 8, 20, 20], [24, 8, 20, 20]]
    assert found.tolist() == expected


def test_anchors_need_a_stride_for_each_level() -> None:
    with pytest.raises(ValueError, match="zip"):
        anchors(8, 8, [[4], [8]], [8])


def test_the_code_by_hand() -> None:
    anchor = torch.tensor([[10.0, 20.0, 4.0, 8.0]])
    wide = torch.tensor([[11 - 2 * math.e, 18 - 4.0, 11 + 2 * math.e, 18 + 4.0]])
    # 1 to the right of 4 wide, 2 up of 8 high; e times as wide, as high.
    expected = torch.tensor([[1 / 4 / 0.1, -2 / 8 / 0.1, 1 / 0.2, 0.0]])
    torch.testing.assert_close(encode(wide, anchor), expected)
    torch.testing.assert_close(decode(expected, anchor), wide)
    torch.testing.assert_close(decode(torch.zeros(1, 4), anchor), torch.tensor([[8.0, 16.0, 12.0, 24.0]]))
    points = torch.tensor([[[10.0, 20.0], [11.0, 16.0]]])
    code = torch.tensor([[[0.0, 0.0], [2.5, -5.0]]])
    torch.testing.assert_close(encode_points(points, anchor), code)
    torch.testing.assert_close(decode_points(code, anchor), points)


@pytest.mark.parametrize("variances", [(0.1, 0.2), (0.5, 1.0)])
def test_code_round_trips(variances: tuple[float, float]) -> None:
    boxes, base = some_boxes(50, torch.float64), some_anchors(50, torch.float64)
    torch.testing.assert_close(decode(encode(boxes, base, variances), base, variances), boxes)
    code = torch.randn(50, 4, dtype=torch.float64)
    torch.testing.assert_close(encode(decode(code, base, variances), base, variances), code)
    points = torch.rand(50, 5, 2, dtype=torch.float64) * 60
    back = decode_points(encode_points(points, base, variances[0]), base, variances[0])
    torch.testing.assert_close(back, points)


def test_decode_broadcasts_over_frames() -> None:
    base, code, points = some_anchors(6), torch.randn(3, 6, 4), torch.randn(3, 6, 5, 2)
    for frame in range(3):
        torch.testing.assert_close(decode(code, base)[frame], decode(code[frame], base))
        torch.testing.assert_close(decode_points(points, base)[frame], decode_points(points[frame], base))


def test_gradients() -> None:
    boxes, base = some_boxes(3, torch.float64), some_anchors(3, torch.float64)
    code, points = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 5, 2, dtype=torch.float64)
    for value in (boxes, base, code, points):
        value.requires_grad_()
    check = torch.autograd.gradcheck
    assert check(encode, (boxes, base))
    assert check(decode, (code, base))
    assert check(encode_points, (points, base))
    assert check(decode_points, (points, base))
    assert check(lambda b: expand(b, 1.2), (boxes,))
    assert check(iou, (boxes, some_boxes(2, torch.float64).requires_grad_()))
