"""``Pairing``: which face of one reading is which face of another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deidlib.faces import Faces, five_points
from deidlib.geometry.boxes import iou
from deidlib.geometry.camera import angle_between
from deidlib.geometry.matching import assign
from deidlib.metrics.functional import face_size

# Far below any difference of overlap that means something: it only decides between equal overlaps.
_TIE = 1e-7


@dataclass(frozen=True, eq=False)
class Pairing:
    """One-to-one pairs of faces, and those left over on either side.

    Args:
        original: ``(P,)`` long, rows of the original's faces, ascending.
        protected: ``(P,)`` long, rows of the faces that they are paired with.
        iou: ``(P,)`` overlap of each pair.
        missed: ``(M,)`` long, rows of the original's faces without a partner.
        spurious: ``(S,)`` long, rows of the other faces without a partner.
    """

    original: Tensor
    protected: Tensor
    iou: Tensor
    missed: Tensor
    spurious: Tensor

    def __len__(self) -> int:
        return len(self.original)


def pair(original: Faces, protected: Faces, *, min_iou: float = 0.0) -> Pairing:
    """Pair the faces of two readings of a frame so that the sum of overlaps is greatest (Hungarian method).

    Between equal overlaps, the landmarks and gaze that agree better decide, so that the order of faces does not matter.

    Args:
        original: the faces of the original frame.
        protected: the faces of the protected frame.
        min_iou: a pair must overlap by more than this.

    Raises:
        ValueError: ``min_iou`` is not in [0, 1).

    Example:
        >>> boxes = torch.tensor([[0., 0., 8., 8.], [20., 0., 28., 8.], [40., 0., 48., 8.]])
        >>> here = Faces(boxes, torch.ones(3))
        >>> there = Faces(boxes[[2, 0]] + 1, torch.ones(2))
        >>> found = pair(here, there)
        >>> found.original.tolist(), found.protected.tolist(), found.missed.tolist(), found.spurious.tolist()
        ([0, 2], [1, 0], [1], [])
    """
    check_min_iou(min_iou)
    place = original.boxes
    # On the CPU, where pairs are found: few numbers, fetched once.
    original, protected = (faces.map(lambda values: values.detach().cpu()) for faces in (original, protected))
    overlap = iou(original.boxes.double(), protected.boxes.double())
    allowed = overlap > min_iou
    rows, columns = assign(overlap - _TIE * _disagreement(original, protected), allowed)
    return Pairing(
        rows.to(place.device),
        columns.to(place.device),
        overlap[rows, columns].to(place),
        _others(rows, len(original)).to(place.device),
        _others(columns, len(protected)).to(place.device),
    )


def check_min_iou(min_iou: float) -> None:
    """Make sure that it is an overlap that a pair can exceed.

    Raises:
        ValueError: it is not in [0, 1).
    """
    if not 0 <= min_iou < 1:
        raise ValueError(f"min_iou must lie in [0, 1), got {min_iou}.")


def check_both_sides(original: Sequence[Faces], protected: Sequence[Faces]) -> None:
    """Make sure that there is a reading of every frame on both sides.

    Raises:
        ValueError: the two are not of one length.
    """
    if len(original) != len(protected):
        raise ValueError(
            f"expected one Faces per frame on both sides, got {len(original)} original and "
            f"{len(protected)} protected frames."
        )


def _disagreement(original: Faces, protected: Faces) -> Tensor:
    """How far landmarks and gaze of every two faces are apart: ``(N, M)`` in [0, 1]."""
    n, m = len(original), len(protected)
    total = original.boxes.new_zeros(n, m, dtype=torch.float64)
    if original.landmarks is not None and protected.landmarks is not None:
        a, b = five_points(original.landmarks).double(), five_points(protected.landmarks).double()
        distance = torch.linalg.vector_norm(a[:, None] - b[None], dim=-1).mean(dim=-1)
        size = face_size(original.boxes).double().clamp(min=torch.finfo(torch.float32).tiny)
        total += (distance / size[:, None]).clamp(max=1).nan_to_num(nan=1.0) / 2
    if original.gaze is not None and protected.gaze is not None:
        angle = angle_between(original.gaze.double()[:, None], protected.gaze.double()[None])
        total += angle.nan_to_num(nan=math.pi) / (2 * math.pi)
    return total


def _others(rows: Tensor, count: int) -> Tensor:
    left = torch.ones(count, dtype=torch.bool, device=rows.device)
    left[rows] = False
    return left.nonzero().squeeze(1)
