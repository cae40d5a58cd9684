"""``DiffScore``: how differently a model reads a protected frame, the paper's measure and a variant without units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.metrics.difference import Difference, Miss, difference
from deidlib.metrics.frame_metric import FrameMetric
from deidlib.metrics.pairing import check_both_sides, check_min_iou


class DiffScore(FrameMetric):
    r"""The paper's DiffScore: how differently a model reads the protected frames.

    .. math::
        DiffScore = \frac{1}{T} \sum_{t=1}^{T} (1 - IoU_B) + d_{LM} + \Theta_G

    with IoU of the boxes, the mean landmark distance in *pixels* and the angle between gaze directions in *degrees*
    ("HCMUS at MediaEval 2021", CEUR-WS Vol-3181, paper 72): low for authorised models, high for others. Pixels and
    degrees dominate the sum, and it changes with the resolution; each term is therefore given on its own as well, and
    :class:`NormalisedDiffScore` has terms that can be compared.

    Where it is more exact than the paper, or than the code published with it (which has two definitions: one adds
    degrees, the other the Euclidean distance of gaze vectors):

    - Frames without a face in the original are left out; the faces of a frame are averaged first.
    - Faces are paired by overlap, not by index. A face not found contributes :class:`Miss`; the published code drops
      frames that fail, so that failing improves its mean.
    - A reading counts at most as a miss. With the defaults this only ever limits landmarks that are off by more than
      the size of the face.
    - The gaze angle is 0 for equal directions; ``acos`` there gives NaN.
    - A term is averaged over the frames whose original has it, and the sum leaves out a term that none has. Compare
      with readings of the originals by the *same* models, else what they cannot read counts as missed.
    - Faces that the original does not have are counted (``spurious``) but are no part of the sum.

    Losing a face never lowers the box term or raises the coverage. It never lowers the sum either, unless another
    detection on the same face takes its place.

    Args:
        miss: what a face contributes that is not read; ``Miss()`` if not given.
        min_iou: boxes must overlap by more than this to be the same face; 0.5 counts a box half beside the face as
            missed.

    Example:
        >>> box, points = torch.tensor([[0., 0., 40., 90.]]), torch.rand(1, 5, 2)
        >>> score = DiffScore()
        >>> score.update([Faces(box, torch.ones(1), points)], [Faces(box, torch.ones(1), points + 3)])
        >>> score.update([Faces(box, torch.ones(1), points)], [Faces.empty()])
        >>> {name: round(value.item(), 3) for name, value in score.compute().items()}  # doctest: +NORMALIZE_WHITESPACE
        {'score': 32.621, 'box': 0.5, 'landmarks': 32.121, 'gaze': nan, 'coverage': 0.5, 'spurious': 0.0,
         'faces': 2.0, 'frames': 2.0}
    """

    higher_is_better = False
    columns: ClassVar[tuple[str, ...]] = ("box", "landmarks", "gaze", "found", "faces", "spurious")

    def __init__(self, *, miss: Miss | None = None, min_iou: float = 0.0) -> None:
        super().__init__()
        check_min_iou(min_iou)
        self.miss = Miss() if miss is None else miss
        self.min_iou = min_iou

    def update(self, original: Sequence[Faces], protected: Sequence[Faces]) -> None:
        """Add frames.

        Args:
            original: the faces of each original frame.
            protected: the faces of each protected frame, as read by the model to be scored.

        Raises:
            ValueError: the two are not of one length, or as :func:`~deidlib.metrics.difference`.
        """
        check_both_sides(original, protected)
        for known, read in zip(original, protected, strict=True):
            result = difference(known, read, miss=self.miss, min_iou=self.min_iou)
            row = [torch.nan if term is None or not len(term) else term.mean().item() for term in self._terms(result)]
            row += [len(result.pairing), len(known), len(result.pairing.spurious)]
            self.rows.append(torch.tensor([row], dtype=torch.float32, device=self.device))

    def compute(self) -> dict[str, Tensor]:
        """The score and what it is made of.

        Returns:
            ``score``, the sum of the terms; ``box``, ``landmarks`` (pixels), ``gaze`` (degrees), NaN if no original has
            it; ``coverage``, the share of faces found; ``spurious``, faces too many per frame; ``faces`` and
            ``frames`` counted. Zero-dimensional tensors.
        """
        table = self._table()
        terms = [_mean_of_known(table[:, i]) for i in range(3)]
        found, faces, spurious = table[:, 3:].sum(dim=0)
        frames = faces.new_tensor(float(len(table)))
        names = ("score", *self.columns[:3], "coverage", "spurious", "faces", "frames")
        return dict(
            zip(names, (_sum_of_known(terms), *terms, found / faces, spurious / frames, faces, frames), strict=True)
        )

    def per_frame(self) -> dict[str, Tensor]:
        """The values of each frame: ``score``, the terms, and counts of faces ``found``, ``faces`` and ``spurious``.

        Returns:
            ``(F,)`` by name; NaN for a frame without faces, and for a term that the original lacks.
        """
        values = super().per_frame()
        terms = [values[name] for name in self.columns[:3]]
        return {"score": _sum_of_known(terms), **values}

    def _terms(self, result: Difference) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return result.box, result.landmarks, result.gaze


class NormalisedDiffScore(DiffScore):
    r"""DiffScore with comparable terms, each in [0, 1] with the default :class:`Miss`.

    .. math::
        \frac{1}{T} \sum_{t=1}^{T} (1 - IoU_B) + \frac{d_{LM}}{\sqrt{area_B}} + \frac{\Theta_G}{180°}

    0: read as on the original; 3: nothing read. It does not change with the resolution. Everything else is as for
    :class:`DiffScore`; ``landmarks`` is in face sizes and ``gaze`` in half turns.

    Example:
        >>> score = NormalisedDiffScore()
        >>> face = Faces(torch.tensor([[0., 0., 4., 9.]]), torch.ones(1), torch.rand(1, 68, 2))
        >>> score.update([face], [Faces.empty()])
        >>> score.compute()["score"]
        tensor(2.)
    """

    def _terms(self, result: Difference) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return result.box, result.nme_box, None if result.gaze is None else result.gaze / 180


def _mean_of_known(values: Tensor) -> Tensor:
    """The mean without NaN; infinity stays."""
    known: Tensor = values[~values.isnan()]
    return known.mean()


def _sum_of_known(terms: Sequence[Tensor]) -> Tensor:
    """Row-wise sum of what is not NaN; NaN where nothing is known."""
    stacked = torch.stack(list(terms))
    missing = stacked.isnan()
    return stacked.where(~missing, stacked.new_zeros(())).sum(dim=0).where(~missing.all(dim=0), torch.nan)
