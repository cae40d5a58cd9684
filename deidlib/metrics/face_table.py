"""``FaceTable``: how the readings of many frames differ, a row for every face, without anything that takes a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.camera import Camera
from deidlib.images import widest
from deidlib.metrics.difference import Miss, difference
from deidlib.metrics.pairing import check_both_sides, check_min_iou

# Rows are joined when so many pieces have come together: a tensor takes more memory than the few numbers in it.
_MOST_PIECES = 1024


class FaceTable:
    """What a model reads on protected frames beside what it reads on the originals.

    :class:`~deidlib.metrics.ReadingDifference` is the same as a metric of torchmetrics, which takes three seconds to
    import; who only checks a file need not wait for it.

    Args:
        miss: what a face contributes that is not read, and the most that a reading can; ``Miss()`` if not given.
        min_iou: boxes must overlap by more than this to be the same face.
        faces: rows that are there, ``(F, 6)`` each; more are appended to this list.
        frames: likewise, ``(T, 3)`` each.
        device: where rows are put.

    Raises:
        ValueError: ``min_iou`` is not in [0, 1).

    Example:
        >>> box = torch.tensor([[0., 0., 40., 90.]])
        >>> table = FaceTable(min_iou=0.5)
        >>> table.add([Faces(box, torch.ones(1))], [Faces(box, torch.ones(1))])
        >>> table.means()["iou"].item(), table.per_frame()["least_iou"].tolist()
        (1.0, [1.0])
    """

    measures: ClassVar[tuple[str, ...]] = (
        "iou", "landmarks_px", "nme_interocular", "nme_box", "gaze_deg", "head_pose_deg",
    )  # fmt: skip
    """What is measured of every face, as in :class:`Difference`; the unit is in the name."""
    counts: ClassVar[tuple[str, ...]] = ("faces", "found", "spurious")
    """What is counted in every frame."""

    def __init__(
        self,
        *,
        miss: Miss | None = None,
        min_iou: float = 0.0,
        faces: list[Tensor] | None = None,
        frames: list[Tensor] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        check_min_iou(min_iou)
        self.miss, self.min_iou, self.device = Miss() if miss is None else miss, min_iou, torch.device(device)
        self.faces: list[Tensor] = [] if faces is None else faces
        self.frames: list[Tensor] = [] if frames is None else frames

    def add(self, original: Sequence[Faces], protected: Sequence[Faces], *, camera: Camera | None = None) -> None:
        """Add frames.

        Args:
            original: the faces of each original frame.
            protected: the faces of each protected frame, as read by the model to be measured.
            camera: that took them, for head poses.

        Raises:
            ValueError: the two are not of one length, or as :func:`~deidlib.metrics.difference`.
        """
        check_both_sides(original, protected)
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

    def means(self) -> dict[str, Tensor]:
        """Means over all faces, and counts.

        Returns:
            Each of :attr:`measures`, the mean over the faces whose original has it, NaN if none has; ``least_iou``;
            ``coverage``, the share of faces found; ``faces``, ``found``, ``spurious`` and ``frames`` counted.
            Zero-dimensional tensors.
        """
        table, counts = self._joined()
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
        """The values of each face, frame by frame, in the order of the originals.

        Returns:
            ``(F,)`` by the names of :attr:`measures`, F faces in all; NaN where the original lacks it.
        """
        table, _ = self._joined()
        return {name: table[:, i] for i, name in enumerate(self.measures)}

    def per_frame(self) -> dict[str, Tensor]:
        """What is counted in each frame and its least overlap, in the order in which they were added.

        Returns:
            ``(T,)`` long by the names of :attr:`counts`, and ``least_iou``, NaN for a frame without faces.
        """
        table, counts = self._joined()
        frame = torch.arange(len(counts), device=counts.device).repeat_interleave(counts[:, 0])
        least = table.new_full((len(counts),), torch.inf).scatter_reduce(0, frame, table[:, 0], "amin")
        return {
            **{name: counts[:, i] for i, name in enumerate(self.counts)},
            "least_iou": least.where(counts[:, 0] > 0, least.new_tensor(torch.nan)),
        }

    def _joined(self) -> tuple[Tensor, Tensor]:
        """A row per face, and a row per frame."""
        if not self.frames:
            faces = torch.zeros(0, len(self.measures), device=self.device)
            return faces, torch.zeros(0, len(self.counts), dtype=torch.long, device=self.device)
        return torch.cat(self.faces), torch.cat(self.frames)
