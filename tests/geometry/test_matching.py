from __future__ import annotations

from itertools import combinations, permutations

import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import iou
from deidlib.geometry.matching import SAME_FACE_IOU, assign, best_iou, match, same_face, union


def some_boxes(count: int, seed: int) -> Tensor:
    corner, size = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed)).mul(30).unbind(0)
    return torch.cat([corner, corner + size + 10], dim=1)


def best_sum(gain: Tensor, allowed: Tensor) -> float:
    """The greatest sum of a one-to-one assignment, by trying all."""
    n, m = gain.shape
    best = 0.0
    for size in range(1, min(n, m) + 1):
        for rows in combinations(range(n), size):
            for columns in permutations(range(m), size):
                if all(allowed[i, j] for i, j in zip(rows, columns, strict=True)):
                    best = max(best, sum(float(gain[i, j]) for i, j in zip(rows, columns, strict=True)))
    return best


@pytest.mark.parametrize(("n", "m", "seed"), [(3, 4, 0), (4, 3, 1), (4, 4, 2), (1, 3, 3), (0, 2, 4), (2, 0, 5)])
@pytest.mark.parametrize("least", [0.0, 0.3, 0.6])
def test_the_assignment_is_the_best_of_all(n: int, m: int, seed: int, least: float) -> None:
    gain = torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows, columns = assign(gain, gain > least)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(set(columns.tolist())) == len(columns)
    assert bool((gain[rows, columns] > least).all())
    assert float(gain[rows, columns].sum()) == pytest.approx(best_sum(gain, gain > least))


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_the_best_of_all(seed: int) -> None:
    a, b = some_boxes(4, seed), some_boxes(3, seed + 100)
    overlap = iou(a, b)
    pairs = match(a, b)
    assert all(overlap[i, j] >= SAME_FACE_IOU for i, j in pairs.items())
    assert sum(float(overlap[i, j]) for i, j in pairs.items()) == pytest.approx(
        best_sum(overlap, overlap >= SAME_FACE_IOU)
    )


def test_taking_the_best_pair_first_would_leave_a_face_alone() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0]])
    others = torch.tensor([[3.0, 0.0, 13.0, 10.0], [9.0, 0.0, 19.0, 10.0]])
    # Both fit the first best, 0.54 and 0.82; but the second fits the other too, 0.33.
    assert match(boxes, others) == {0: 0, 1: 1}
    assert match(boxes, others, min_iou=0.5) == {1: 0}


def test_several_boxes_may_show_one_face_and_only_one_is_its_partner() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 0.0, 60.0, 10.0]])
    assert same_face(boxes, boxes[:1]).tolist() == [True, True, False]
    assert match(boxes, boxes[:1]) == {0: 0}
    assert same_face(boxes, boxes[:1], min_iou=0.9).tolist() == [True, False, False]


def test_the_limit_belongs_to_the_same_face() -> None:
    # Two of four pixels.
    a, b = torch.tensor([[0.0, 0.0, 3.0, 1.0]]), torch.tensor([[1.0, 0.0, 4.0, 1.0]])
    assert best_iou(a, b).item() == 0.5
    assert same_face(a, b, min_iou=0.5).item()
    assert match(a, b, min_iou=0.5) == {0: 0}
    # Boxes that do not overlap are no pair, whatever the limit.
    assert match(a, a + 100, min_iou=0.0) == {}


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 2), (2, 0)])
def test_no_boxes(n: int, m: int) -> None:
    a, b = some_boxes(n, 0), some_boxes(m, 1)
    assert best_iou(a, b).tolist() == [0.0] * n
    # Not even a limit of 0 finds a face where there is none.
    assert same_face(a, b, min_iou=0.0).tolist() == [False] * n
    assert match(a, b) == {}


def test_the_union_holds_each_face_once_and_all_that_the_first_knows() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 0.0, 60.0, 10.0], [1.0, 0.0, 11.0, 10.0]])
    first = Faces(boxes[:1], torch.ones(1), torch.rand(1, 68, 2), torch.tensor([[0.0, 0.0, -1.0]]))
    second = Faces(boxes[1:], torch.tensor([0.6, 0.7]), torch.rand(2, 5, 2))
    both = union(first, second)
    assert both.boxes.tolist() == boxes[:2].tolist()
    assert both.scores.tolist() == pytest.approx([1.0, 0.6])
    assert first.landmarks is not None
    assert both.landmarks is not None
    assert both.gaze is not None
    assert torch.equal(both.landmarks[:1], first.landmarks)
    assert both.gaze[0].tolist() == [0, 0, -1]
    assert bool(both.gaze[1].isnan().all())
    assert union(first, second[[1]]).boxes.tolist() == first.boxes.tolist()
    assert union(first, second, min_iou=0.99).boxes.tolist() == boxes.tolist()


def test_a_union_with_nobody() -> None:
    one = Faces(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1))
    assert len(union(Faces.empty(), Faces.empty())) == 0
    assert union(Faces.empty(), one).boxes.tolist() == union(one, Faces.empty()).boxes.tolist() == one.boxes.tolist()
