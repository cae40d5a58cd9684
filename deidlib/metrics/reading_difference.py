"""``ReadingDifference``: how the readings of many frames differ, every face by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torchmetrics import Metric

from deidlib.faces import Faces
from deidlib.geometry.camera import Camera
from deidlib.metrics.difference import Miss
from deidlib.metrics.face_table import FaceTable
from deidlib.metrics.pairing import check_min_iou


class ReadingDifference(Metric):
    """What a model reads on protected frames beside what it reads on the originals, over all faces of the originals.

    Unlike :class:`DiffScore` every face counts as much as any other, whatever frame it is in, and every measure is kept
    on its own. A face that is not read counts as :class:`Miss`. Memory grows by a few dozen bytes per face and frame.

    Args:
        miss: what a face contributes that is not read, and the most that a reading can; ``Miss()`` if not given.
        min_iou: boxes must overlap by more than this to be the same face; 0.5 counts a box half beside the face as
            missed.

    Raises:
        ValueError: ``min_iou`` is not in [0, 1).

    Example:
        >>> import torch
        >>> box = torch.tensor([[0., 0., 40., 90.]])
        >>> metric = ReadingDifference(min_iou=0.5)
        >>> metric.update([Faces(box, torch.ones(1))], [Faces(box, torch.ones(1))])
        >>> metric.update([Faces(box, torch.ones(1))], [Faces.empty()])
        >>> values = metric.compute()
        >>> values["faces"].item(), values["coverage"].item(), values["iou"].item(), values["least_iou"].item()
        (2.0, 0.5, 0.5, 0.0)
        >>> metric.per_face()["iou"].tolist()
        [1.0, 0.0]
    """

    is_differentiable = False
    full_state_update = False
    measures: ClassVar[tuple[str, ...]] = FaceTable.measures
    """What is measured of every face, as in :class:`Difference`; the unit is in the name."""
    counts: ClassVar[tuple[str, ...]] = FaceTable.counts
    """What is counted in every frame."""

    faces: list[Tensor] | Tensor
    frames: list[Tensor] | Tensor

    def __init__(self, *, miss: Miss | None = None, min_iou: float = 0.0) -> None:
        super().__init__()
        check_min_iou(min_iou)
        self.miss = Miss() if miss is None else miss
        self.min_iou = min_iou
        for state in ("faces", "frames"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, original: Sequence[Faces], protected: Sequence[Faces], *, camera: Camera | None = None) -> None:
        """Add frames.

        Args:
            original: the faces of each original frame.
            protected: the faces of each protected frame, as read by the model to be measured.
            camera: that took them, for head poses.

        Raises:
            ValueError: the two are not of one length, or as :func:`~deidlib.metrics.difference`.
        """
        self._table().add(original, protected, camera=camera)

    def compute(self) -> dict[str, Tensor]:
        """Means over all faces, and counts.

        Returns:
            Each of :attr:`measures`, the mean over the faces whose original has it, NaN if none has; ``least_iou``;
            ``coverage``, the share of faces found; ``faces``, ``found``, ``spurious`` and ``frames`` counted.
            Zero-dimensional tensors.
        """
        return self._table().means()

    def per_face(self) -> dict[str, Tensor]:
        """The values of each face, frame by frame, in the order of the originals; this process's faces only.

        Returns:
            ``(F,)`` by the names of :attr:`measures`, F faces in all; NaN where the original lacks it.
        """
        return self._table().per_face()

    def per_frame(self) -> dict[str, Tensor]:
        """What is counted in each frame and its least overlap, in the order of the updates; this process's frames only.

        Returns:
            ``(T,)`` long by the names of :attr:`counts`, and ``least_iou``, NaN for a frame without faces.
        """
        return self._table().per_frame()

    def _table(self) -> FaceTable:
        """Over the rows that torchmetrics keeps for us; after synchronisation they are joined."""
        rows = [[rows] if isinstance(rows, Tensor) else rows for rows in (self.faces, self.frames)]
        return FaceTable(miss=self.miss, min_iou=self.min_iou, faces=rows[0], frames=rows[1], device=self.device)
