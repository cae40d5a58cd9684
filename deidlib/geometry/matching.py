"""Which face is which: boxes that show the same face, pairs of them, a clip's, and two readings' faces together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import iou

SAME_FACE_IOU = 0.3
"""Two detectors' boxes of one face, or one detector's in consecutive frames, overlap far more than this; boxes of two
faces far less."""


def best_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """How far each box is covered by the other box that fits it best.

    Args:
        boxes: ``(N, 4)`` xyxy pixels.
        others: ``(M, 4)`` xyxy pixels, on any device.

    Returns:
        ``(N,)`` in [0, 1]: the greatest overlap (IoU) with one of the others; 0 if there is none.

    Example:
        >>> boxes = torch.tensor([[0., 0., 2., 2.], [5., 5., 6., 6.]])
        >>> best_iou(boxes, torch.tensor([[1., 0., 3., 2.]]))
        tensor([0.3333, 0.0000])
    """
    if not len(boxes) or not len(others):
        return boxes.new_zeros(len(boxes))
    return iou(boxes, others.to(boxes)).amax(dim=1)


def same_face(boxes: Tensor, others: Tensor, *, min_iou: float = SAME_FACE_IOU) -> Tensor:
    """Which boxes show a face that one of the others shows too. Several may show the same one; see :func:`match`.

    Args:
        boxes: ``(N, 4)`` xyxy pixels.
        others: ``(M, 4)`` xyxy pixels, on any device.
        min_iou: overlap from which on two boxes are taken to show one face.

    Returns:
        ``(N,)`` bool.

    Example:
        >>> boxes = torch.tensor([[0., 0., 2., 2.], [5., 5., 6., 6.]])
        >>> same_face(boxes, torch.tensor([[1., 0., 3., 2.]])).tolist()
        [True, False]
    """
    if not len(others):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    return best_iou(boxes, others) >= min_iou


def match(boxes: Tensor, others: Tensor, *, min_iou: float = SAME_FACE_IOU) -> dict[int, int]:
    """Pair boxes that show the same face, each with at most one other, so that the sum of overlaps is greatest.

    Args:
        boxes: ``(N, 4)`` xyxy pixels.
        others: ``(M, 4)`` xyxy pixels, on any device.
        min_iou: a pair overlaps by at least this much.

    Returns:
        For each box that has a partner its row, with the row of the partner.

    Example:
        >>> boxes = torch.tensor([[0., 0., 2., 2.], [5., 5., 6., 6.], [20., 0., 22., 2.]])
        >>> match(boxes, boxes[[2, 0]])
        {0: 1, 2: 0}
    """
    # On the CPU, where pairs are found: few numbers, and one wait for each table.
    overlap = iou(boxes.detach().cpu().double(), others.detach().cpu().double())
    rows, columns = assign(overlap, (overlap >= min_iou) & (overlap > 0))
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def assign(gain: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Pair rows with columns, one to one, so that the sum of gains is greatest (Hungarian method).

    Args:
        gain: ``(N, M)``, what each pair is worth; above 0 where it is allowed.
        allowed: ``(N, M)`` bool, which pairs there may be.

    Returns:
        The rows ``(P,)``, ascending, and their columns ``(P,)``, long, on the device of ``gain``.

    Example:
        >>> gain = torch.tensor([[0.9, 0.8], [0.8, 0.1]])
        >>> [index.tolist() for index in assign(gain, gain > 0.2)]
        [[0, 1], [1, 0]]
    """
    from scipy.optimize import linear_sum_assignment

    worth = gain.where(allowed, gain.new_zeros(())).detach().cpu().numpy()
    rows, columns = (torch.from_numpy(index).to(gain.device) for index in linear_sum_assignment(worth, maximize=True))
    kept = allowed[rows, columns]
    return rows[kept], columns[kept]


def tracks(frames: Sequence[Faces]) -> list[list[tuple[int, int]]]:
    """Each face through a clip: it goes on as the one that it is paired with in the next frame, see :func:`match`.

    Nothing is bridged: a face that is missed in a frame is another one after it. What is to be hidden, a
    :class:`deidlib.FaceTracker` knows.

    Args:
        frames: of the clip.

    Returns:
        Per face its places, as (frame, row), one for each of consecutive frames; in the order in which they begin.

    Example:
        >>> here, there = (Faces(torch.tensor([[x, 0., x + 9., 9.]]), torch.ones(1)) for x in (0., 50.))
        >>> tracks([here, Faces.cat([there, here]), there])
        [[(0, 0), (1, 1)], [(1, 0), (2, 0)]]
    """
    known: list[list[tuple[int, int]]] = []
    going: dict[int, list[tuple[int, int]]] = {}
    for frame, faces in enumerate(frames):
        pairs = match(faces.boxes, frames[frame - 1].boxes) if going else {}
        now: dict[int, list[tuple[int, int]]] = {}
        for row in range(len(faces)):
            if row in pairs:
                now[row] = going[pairs[row]]
            else:
                now[row] = []
                known.append(now[row])
            now[row].append((frame, row))
        going = now
    return known


def union(first: Faces, second: Faces, *, min_iou: float = SAME_FACE_IOU) -> Faces:
    """The faces of two readings of a frame, each face once: those of the first, then what the second has beside them.

    Nothing that the first knows is lost; what is not known of an added face is NaN, see :meth:`deidlib.Faces.cat`.

    Args:
        first: kept as it is.
        second: of its faces, those that the first does not show.
        min_iou: overlap from which on two boxes are taken to show one face.

    Example:
        >>> boxes = torch.tensor([[0., 0., 4., 4.], [9., 9., 12., 12.]])
        >>> union(Faces(boxes[:1], torch.ones(1)), Faces(boxes + 0.1, torch.zeros(2))).scores
        tensor([1., 0.])
    """
    return Faces.cat([first, second[~same_face(second.boxes, first.boxes, min_iou=min_iou)]])
