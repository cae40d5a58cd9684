"""``ReadingDifference``: how the readings of many frames differ, every face by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from deidlib.faces import Faces
from deidlib.geometry.camera import Camera
from deidlib.images import widest
from deidlib.metrics.difference import Miss, difference
from deidlib.metrics.pairing import check_min_iou

# Rows are joined when so many pieces have come together: a tensor takes more memory than the few numbers in it.
_MOST_PIECES = 1024


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
    measures: ClassVar[tuple[str, ...]] = (
        "iou", "landmarks_px", "nme_interocular", "nme_box", "gaze_deg", "head_pose_deg",
    )  # fmt: skip
    """What is measured of every face, as in :class:`Difference`; the unit is in the name."""
    counts: ClassVar[tuple[str, ...]] = ("faces", "found", "spurious")
    """What is counted in every frame."""

    faces: list[Tensor]
    frames: list[Tensor]

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
        if len(original) != len(protected):
            raise ValueError(
                f"expected one Faces per frame on both sides, got {len(original)} original and "
                f"{len(protected)} protected frames."
            )
        for known, read in zip(original, protected, strict=True):
            result = difference(known, read, miss=self.miss, min_iou=self.min_iou, camera=camera)
            columns = (
                result.iou, result.landmarks, result.nme_interocular, result.nme_box, result.gaze, result.head_pose
            )  # fmt: skip
            unknown = result.iou.new_full((len(known),), torch.nan)
            rows = [(unknown if column is None else column).cpu()[:, None] for column in columns]
            # Joined, not stacked: poses are float64 where they are fitted, and lose nothing where the device has it.
            table = torch.cat(rows, dim=1)
            kind = widest(self.device) if table.dtype == torch.float64 else table.dtype
            self.faces.append(table.to(kind).to(self.device))
            counts = [len(known), len(result.pairing), len(result.pairing.spurious)]
            self.frames.append(torch.tensor([counts], dtype=torch.long, device=self.device))
        for pieces in (self.faces, self.frames):
            if len(pieces) > _MOST_PIECES:
                pieces[:] = [torch.cat(pieces)]

    def compute(self) -> dict[str, Tensor]:
        """Means over all faces, and counts.

        Returns:
            Each of :attr:`measures`, the mean over the faces whose original has it, NaN if none has; ``least_iou``;
            ``coverage``, the share of faces found; ``faces``, ``found``, ``spurious`` and ``frames`` counted.
            Zero-dimensional tensors.
        """
        table, counts = self._tables()
        overlap = table[:, 0]
        faces, found, spurious = counts.sum(dim=0).to(table)
        return {
            **{name: table[:, i].nanmean() for i, name in enumerate(self.measures)},
            "least_iou": overlap.amin() if len(overlap) else overlap.new_tensor(torch.nan),
            "coverage": found / faces,
            "faces": faces,
            "found": found,
            "spurious": spurious,
            "frames": faces.new_tensor(float(len(counts))),
        }

    def per_face(self) -> dict[str, Tensor]:
        """The values of each face, frame by frame, in the order of the originals; this process's faces only.

        Returns:
            ``(F,)`` by the names of :attr:`measures`, F faces in all; NaN where the original lacks it.
        """
        table, _ = self._tables()
        return {name: table[:, i] for i, name in enumerate(self.measures)}

    def per_frame(self) -> dict[str, Tensor]:
        """What is counted in each frame and its least overlap, in the order of the updates; this process's frames only.

        Returns:
            ``(T,)`` long by the names of :attr:`counts`, and ``least_iou``, NaN for a frame without faces.
        """
        table, counts = self._tables()
        frame = torch.arange(len(counts), device=counts.device).repeat_interleave(counts[:, 0])
        least = table.new_full((len(counts),), torch.inf).scatter_reduce(0, frame, table[:, 0], "amin")
        return {
            **{name: counts[:, i] for i, name in enumerate(self.counts)},
            "least_iou": least.where(counts[:, 0] > 0, least.new_tensor(torch.nan)),
        }

    def _tables(self) -> tuple[Tensor, Tensor]:
        """A row per face, and a row per frame."""
        # Joined rows are a tensor after synchronisation, and there may be none.
        if isinstance(self.frames, list) and not self.frames:
            faces = torch.zeros(0, len(self.measures), device=self.device)
            return faces, torch.zeros(0, len(self.counts), dtype=torch.long, device=self.device)
        return dim_zero_cat(self.faces), dim_zero_cat(self.frames)
