"""``FaceCode``: how faces are read off a detector's outputs; the two codes that most small detectors use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import clip, iou
from deidlib.geometry.suppression import nms


class FaceCode(Protocol):
    """From a network's outputs to faces, in pixels of the picture that it was shown."""

    def __call__(self, outputs: Sequence[Tensor], size: tuple[int, int], score_threshold: float) -> list[Faces]:
        """The faces of each picture, best first.

        Args:
            outputs: of the network, each ``(N, ...)``.
            size: height and width of the pictures.
            score_threshold: least score of a face.

        Returns:
            N entries.
        """
        ...


@dataclass(frozen=True)
class CentreMap:
    """Faces as peaks of a heat map (Xu et al., CenterFace, arXiv 1911.03599).

    Four outputs, each a map with a cell every ``stride`` pixels: heat, the logarithm of height and width in cells, how
    far the centre lies from the cell's (y, x), and five points (y, x) as shares of the box from its corner.

    Args:
        stride: pixels from cell to cell.
        overlap: above which the lower of two scores is dropped.
    """

    stride: int = 4
    overlap: float = 0.3

    def __call__(self, outputs: Sequence[Tensor], size: tuple[int, int], score_threshold: float) -> list[Faces]:
        """Every cell whose heat is above the threshold proposes a face; of those that overlap the best is kept."""
        found = []
        for heat, extent, offset, points in zip(*outputs, strict=True):
            row, column = (heat[0] > score_threshold).nonzero(as_tuple=True)
            score = heat[0, row, column]
            sides = extent[:, row, column].exp().T.flip(1) * self.stride
            cell = torch.stack([column, row], dim=1) + 0.5
            centre = (cell + offset[:, row, column].T.flip(1)) * self.stride
            # Its authors cut the corner at the frame and only then add the sides.
            corner = clip(torch.cat([centre - sides / 2] * 2, dim=1), *size)[:, :2]
            boxes = clip(torch.cat([corner, corner + sides], dim=1), *size)
            shares = points[:, row, column].T.reshape(-1, 5, 2).flip(2)
            kept = nms(boxes, score, self.overlap)
            found.append(Faces(boxes[kept], score[kept], (corner[:, None] + shares * sides[:, None])[kept]))
        return found


@dataclass(frozen=True)
class CellOffsets:
    """Faces as offsets from a grid of cells (Bazarevsky et al., BlazeFace, arXiv 1907.05047).

    Two outputs, a row for each anchor: the box's centre from the cell's, its sides and what follows, in pixels of a
    square picture; and the score before the sigmoid. Boxes of one face are averaged, by their scores.

    Args:
        cells: per layer the pixels from cell to cell, and how many anchors each cell has.
        overlap: from which on two boxes are of one face.
    """

    cells: tuple[tuple[int, int], ...]
    overlap: float = 0.3

    def __call__(self, outputs: Sequence[Tensor], size: tuple[int, int], score_threshold: float) -> list[Faces]:
        """Every anchor whose score is above the threshold proposes a face."""
        codes, logits = outputs
        centres = self.centres(size).to(codes)
        if codes.shape[1] != len(centres):
            raise ValueError(f"{size[0]} x {size[1]} pixels have {len(centres)} anchors, the network {codes.shape[1]}.")
        found = []
        for code, score in zip(codes, logits[..., 0].sigmoid(), strict=True):
            good = (score > score_threshold).nonzero().squeeze(1)
            centre, half = centres[good] + code[good, :2], code[good, 2:4].clamp(min=0) / 2
            boxes = torch.cat([centre - half, centre + half], dim=1)
            found.append(_averaged(boxes, score[good], self.overlap))
        return found

    def centres(self, size: tuple[int, int]) -> Tensor:
        """The cells' centres in the network's order, one row per anchor: ``(A, 2)`` x, y in pixels."""
        layers = []
        for stride, anchors in self.cells:
            y, x = (torch.arange(side // stride) * stride + stride / 2 for side in size)
            grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
            layers.append(grid.repeat_interleave(anchors, dim=0))
        return torch.cat(layers)


def _averaged(boxes: Tensor, scores: Tensor, overlap: float) -> Faces:
    """Group boxes around the best of them, again and again; each group's mean, weighted by score, and best score."""
    means, best = [boxes[:0]], [scores[:0]]
    order = scores.argsort(descending=True, stable=True)
    while len(order):
        near = iou(boxes[order[:1]], boxes[order])[0] > overlap
        # A box without extent overlaps nothing, not even itself.
        near[0] = True
        group = order[near]
        weight = scores[group, None]
        means.append((boxes[group] * weight).sum(dim=0, keepdim=True) / weight.sum())
        best.append(scores[order[:1]])
        order = order[~near]
    return Faces(torch.cat(means), torch.cat(best))
