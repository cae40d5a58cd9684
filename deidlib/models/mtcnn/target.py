"""``MTCNNTarget``: what MTCNN is to read of each face, and where each stage of the cascade must see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Self

import torch
from torch import Tensor

from deidlib.geometry.cut import Place
from deidlib.geometry.summed_area import Looks, SummedArea
from deidlib.models.base import Target
from deidlib.models.mtcnn.canvas import packed
from deidlib.models.mtcnn.cascade import CELL, STRIDE, square, whole_pixels

R_SIDE, O_SIDE = SIDES = 24, 48
"""Of the crops that R- and O-Net look at, pixels."""
# Errors below these shares of the face's size are squared, larger ones absolute; each stage refines the one before.
_P_TOLERANCE, _R_TOLERANCE, _O_TOLERANCE = 0.1, 0.05, 0.02
_NEW_CELL_WEIGHT = 0.1
# Which of a box's numbers each of the 14 that a stage says is counted from, and along which axis: box, five x, five y.
_FROM = (0, 1, 2, 3, *[0] * 5, *[1] * 5)
_ALONG = (0, 1, 0, 1, *[0] * 5, *[1] * 5)


@dataclass(frozen=True, eq=False)
class CellTarget(Target):
    """One scale of the pyramid: one row per face that cells of this scale could propose.

    Args:
        frame: ``(F,)`` the frame of the row.
        face: ``(F,)`` long, the face's number in the :class:`MTCNNTarget`.
        corner: ``(F, 2)`` long, left and top of the row's pixels within the face's ``wide`` patch.
        rows: ``(F, h, 2)`` long, spans of the area resize within those pixels.
        columns: ``(F, w, 2)`` long, likewise.
        cells: ``(F, i, j, 4)`` the boxes that the cells look at, xyxy pixels of the frame.
        share: ``(F, i, j)`` how much a cell counts for the face; sums to 1 over all scales.
        quiet: ``(F, i, j)`` 1 where a cell must not fire anew.
        seen: ``(F, i, j)`` bool, whether the cell belongs to the face's own window.
        extent: height and width of the pixels.
        scale: of the pyramid.
    """

    face: Tensor
    corner: Tensor
    rows: Tensor
    columns: Tensor
    cells: Tensor
    share: Tensor
    quiet: Tensor
    seen: Tensor
    extent: tuple[int, int]
    scale: float


@dataclass(frozen=True, eq=False)
class MTCNNTarget(Target):
    """One row per face.

    Args:
        frame: ``(F,)`` the frame of the row.
        face: ``(F,)`` long, distinct numbers.
        number: ``(F,)`` long, which of its frame's faces it is.
        box: ``(F, 4)`` xyxy pixels.
        points: ``(F, 5, 2)`` pixels; NaN where not known.
        wide: ``(F, 2)`` long, left and top of the face's patch, which holds all that the stages look at.
        near: ``(F, 4)`` long, the face's surroundings for R- and O-Net, left, top, right, bottom.
        r_crops: ``(F, K, 4)`` fixed crops for R-Net, as the cascade would propose them.
        o_crops: ``(F, K, 4)`` fixed crops for O-Net.
        scales: P-Net's part.
        extent: height and width of the ``wide`` patches.
        places: the frame of each patch, its left and top, as the host knows them.
        size: height and width of the frames.
        most: faces of a frame at most.
    """

    face: Tensor
    number: Tensor
    box: Tensor
    points: Tensor
    wide: Tensor
    near: Tensor
    r_crops: Tensor
    o_crops: Tensor
    scales: tuple[CellTarget, ...]
    extent: tuple[int, int]
    places: tuple[Place, ...] = ()
    size: tuple[int, int] = (0, 0)
    most: int = 1

    @cached_property
    def plan(self) -> MTCNNPlan:
        """What is the same in every iteration, computed once."""
        return MTCNNPlan.of(self)

    def select(self, frames: Tensor) -> Self:
        """Keep the faces of some frames, renumbered."""
        number = {number: k for k, number in enumerate(frames.tolist())}
        places = tuple((number[i], left, top) for i, left, top in self.places if i in number)
        return replace(super().select(frames), places=places)


@dataclass(frozen=True, eq=False)
class Rows:
    """What networks say, one row for a cell or a crop, and what it is to be.

    Args:
        offset: ``(n, 14)`` the errors of an answer of nothing: of the box, five x and five y; 0 for what is not known.
        gain: ``(n, 14)`` how much an error grows with the answer; 0 for what is not known, or not said.
        weight: ``(n,)`` how much the row counts for its face.
        slot: ``(n,)`` long, what is summed up: the face, and another F for each kind of row: P-Net's cells, fixed crops
            of R-Net and O-Net, crops proposed for R-Net and O-Net.
    """

    offset: Tensor
    gain: Tensor
    weight: Tensor
    slot: Tensor

    @classmethod
    def cat(cls, parts: Sequence[Rows]) -> Rows:
        """One after the other."""
        return cls(
            torch.cat([part.offset for part in parts]),
            torch.cat([part.gain for part in parts]),
            torch.cat([part.weight for part in parts]),
            torch.cat([part.slot for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class MTCNNPlan:
    """A target ready to be computed with, C cells of P-Net and F faces.

    Args:
        looks: what all networks look at in any case, in the faces' patches: P-Net's windows of all scales on a canvas
            for each face, R-Net's fixed crops, O-Net's.
        canvas: its height and width.
        crops: how many of them R-Net and O-Net have.
        hollow: ``(F, 1, h, w)`` what is added to the maps before P-Net's pool: -inf where a window ends with the frame
            in half a pool, and 0. None if none does.
        at: ``(C,)`` long, where the cells' answers lie among those to the canvases.
        places: ``(C, 12)`` what the cells look at, pixels; their sides, twice; and the square around the face.
        owner: ``(C,)`` long, the row of the face.
        group: ``(C,)`` long, another number for every face and scale.
        seen: ``(C,)`` bool, whether the cell is the face's own.
        quiet: ``(C,)`` what it costs to fire where none is to.
        fixed: the rows of P-Net's cells, of R-Net's fixed crops, and of O-Net's.
        bounds: ``(F, 6)`` long, where crops must lie, and left and top of the patch.
        goals: ``(F, 28)`` of R-Net's crops, and of O-Net's: the face's box, five x and five y as far from a crop's
            corner as the networks say; and one over what an error of one is.
        counted: ``(14,)`` long, which number of a crop's box each of the 14 is counted from; and along which side.
        mix: ``(14,)`` what the errors count.
    """

    looks: Looks
    canvas: tuple[int, int]
    crops: tuple[int, int]
    hollow: Tensor | None
    at: Tensor
    places: Tensor
    owner: Tensor
    group: Tensor
    seen: Tensor
    quiet: Tensor
    fixed: tuple[Rows, Rows, Rows]
    bounds: Tensor
    goals: tuple[Tensor, Tensor]
    counted: tuple[Tensor, Tensor]
    mix: Tensor

    @classmethod
    def of(cls, target: MTCNNTarget) -> Self:
        """From a target with at least a face."""
        box, faces = target.box, len(target.face)
        parts = [part for part in target.scales if len(part.face)]
        windows, canvas, hollow, at = _canvas(target, parts)
        columns: list[tuple[Tensor, ...]] = []
        for number, part in enumerate(parts):
            owner = _rows_of(part, target)[:, None, None].expand(part.share.shape)
            columns.append((part.cells.to(box), owner, owner + faces * number, part.share, part.quiet, part.seen))
        cells, owner, group, share, quiet, seen = (
            torch.cat([column.flatten(0, 2) for column in same]) for same in zip(*columns, strict=True)
        )
        side, size = (cells[:, 2:] - cells[:, :2]).tile(2), (box[:, 2:] - box[:, :2]).tile(2)
        unit = 1 / (_P_TOLERANCE * size[owner])
        nothing = box.new_zeros(len(cells), 10)
        of_cells = Rows(
            torch.cat([(cells - box[owner]) * unit, nothing], dim=1),
            torch.cat([side * unit, nothing], dim=1),
            share.to(box),
            owner,
        )
        plan = cls(
            looks=windows,
            canvas=canvas,
            crops=(0, 0),
            hollow=hollow,
            at=at,
            places=torch.cat([cells, side, square(box)[owner]], dim=1),
            owner=owner,
            group=group,
            seen=seen,
            quiet=_NEW_CELL_WEIGHT * quiet.to(box),
            fixed=(of_cells, of_cells, of_cells),
            bounds=torch.cat([target.near, target.wide], dim=1),
            goals=_goals(target),
            counted=(torch.tensor(_FROM, device=box.device), torch.tensor(_ALONG, device=box.device)),
            mix=box.new_tensor([1 / 4] * 4 + [1 / 10] * 10),
        )
        (r_rows, r_looks), (o_rows, o_looks) = (
            plan._fixed(target, target.r_crops, 0),
            plan._fixed(target, target.o_crops, 1),
        )
        every = (windows, r_looks, o_looks)
        return replace(
            plan,
            looks=Looks(torch.cat([look.corners for look in every], dim=1), torch.cat([look.area for look in every])),
            crops=(len(r_rows.slot), len(o_rows.slot)),
            fixed=(of_cells, r_rows, o_rows),
        )

    def always(self, pixels: SummedArea) -> tuple[Tensor, Tensor, Tensor]:
        """What the networks look at in any case: P-Net's canvases ``(F, 3, h, w)``, R-Net's and O-Net's fixed crops.

        Args:
            pixels: of the faces' patches.
        """
        shapes = [(len(self.bounds), *self.canvas), *((n, s, s) for n, s in zip(self.crops, SIDES, strict=True))]
        parts = torch.split(pixels.means(self.looks), [math.prod(shape) for shape in shapes])
        canvas, r_crops, o_crops = (
            part.view(*shape, -1).permute(0, 3, 1, 2) for part, shape in zip(parts, shapes, strict=True)
        )
        return canvas, r_crops, o_crops

    def rows(self, boxes: Tensor, face: Tensor, stage: Literal[0, 1], kind: int = 3) -> Rows:
        """What is to be said in crops.

        Args:
            boxes: ``(q, 4)`` of the crops.
            face: ``(q,)`` long, the row of the face.
            stage: of R-Net or O-Net.
            kind: of rows, as in :class:`Rows`, if it were R-Net.
        """
        goal, unit = torch.split(self.goals[stage][face], 14, dim=1)
        counted_from, along = self.counted
        side = boxes[:, 2:] - boxes[:, :2] + 1
        # The crops of a face count once together.
        ones, faces = torch.ones_like(side[:, 0]), len(self.bounds)
        count = ones.new_zeros(faces).index_add_(0, face, ones)
        offset = (boxes[:, counted_from] - goal) * unit
        return Rows(offset, side[:, along] * unit, 1 / count[face], face + (kind + stage) * faces)

    def _fixed(self, target: MTCNNTarget, crops: Tensor, stage: Literal[0, 1]) -> tuple[Rows, Looks]:
        """The rows of crops ``(F, K, 4)`` that show pixels near their faces, and where those lie."""
        boxes, face = crops.flatten(0, 1), torch.arange(len(crops), device=crops.device)
        face = face.repeat_interleave(crops.shape[1])
        whole, shown = self.within(boxes, face, target.size)
        good = shown.nonzero().squeeze(1)
        boxes, face, whole = boxes[good], face[good], whole[good]
        looks = Looks.of_crops(face, whole, SIDES[stage], target.extent)
        return self.rows(boxes, face, stage, kind=1), looks

    def within(self, boxes: Tensor, owner: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Which pixels of the face's patch a crop of each box takes, and whether there are any and all near the face.

        Args:
            boxes: ``(q, 4)``.
            owner: ``(q,)`` long, the row of the face.
            size: height and width of the frame.

        Returns:
            ``(q, 4)`` long and ``(q,)`` bool.
        """
        low, high = torch.split(whole_pixels(boxes, *size), 2, dim=1)
        least, most, corner = torch.split(self.bounds[owner], 2, dim=1)
        inside = (low >= least) & (high <= most) & (high > low)
        return torch.cat([low - corner, high - corner], dim=1), inside.all(dim=1)


def _goals(target: MTCNNTarget) -> tuple[Tensor, Tensor]:
    """:attr:`MTCNNPlan.goals`."""
    size = target.box[:, 2:] - target.box[:, :2]
    of_points = size.prod(dim=1).sqrt()[:, None].expand(-1, 10)
    points = target.points.transpose(1, 2).flatten(1)
    # A crop's corner is the pixel before the one that its points are counted from.
    numbers = torch.cat([target.box, points.nan_to_num(nan=0.0) + 1], dim=1)
    units = torch.cat([size.tile(2), of_points.masked_fill(points.isnan(), torch.inf)], dim=1)
    of_r, of_o = 1 / (_R_TOLERANCE * units), 1 / (_O_TOLERANCE * units)
    # R-Net says nothing of points.
    of_r[:, 4:] = 0
    return torch.cat([numbers, of_r], dim=1), torch.cat([numbers, of_o], dim=1)


def _rows_of(part: CellTarget, target: MTCNNTarget) -> Tensor:
    """The faces' rows in the target, ``(n,)`` long."""
    return (part.face[:, None] == target.face).long().argmax(dim=1)


def _canvas(target: MTCNNTarget, parts: Sequence[CellTarget]) -> tuple[Looks, tuple[int, int], Tensor | None, Tensor]:
    """Put what P-Net sees of each face, at all scales, on a canvas of its own.

    Returns:
        Where the canvases look; their height and width; ``hollow`` and ``at`` of the plan, scale by scale.
    """
    device, faces = target.frame.device, len(target.face)
    # Of each face its windows: the number of the part and the row in it.
    own: list[list[tuple[int, int]]] = [[] for _ in range(faces)]
    for number, part in enumerate(parts):
        for row, face in enumerate(_rows_of(part, target).tolist()):
            own[face].append((number, row))
    sizes = [(part.rows.shape[1], part.columns.shape[1]) for part in parts]
    layouts = [packed([sizes[number] for number, _ in windows]) for windows in own]
    height, width = (max(canvas[axis] for _, canvas in layouts) for axis in (0, 1))
    corners = torch.zeros(4, faces, height, width, dtype=torch.long, device=device)
    area = torch.ones(faces, height, width, dtype=torch.long, device=device)
    hollow = torch.zeros(faces, 1, height - 2, width - 2, dtype=target.box.dtype, device=device)
    # What P-Net answers to a canvas.
    across, down = ((side - CELL) // STRIDE + 1 for side in (width, height))
    at = [torch.zeros(part.share.shape, dtype=torch.long, device=device) for part in parts]
    cut_short = False
    for face, (windows, (tops, _)) in enumerate(zip(own, layouts, strict=True)):
        for (number, row), (top, left) in zip(windows, tops, strict=True):
            part, (high, wide) = parts[number], sizes[number]
            patch = torch.full((1,), face, device=device)
            columns = part.columns[row : row + 1] + part.corner[row, 0]
            lines = part.rows[row : row + 1] + part.corner[row, 1]
            looks = Looks.crossing(patch, columns, lines, target.extent)
            inside = (face, slice(top, top + high), slice(left, left + wide))
            corners[(slice(None), *inside)] = looks.corners.view(4, high, wide)
            area[inside] = looks.area.view(high, wide)
            # The last pool of an odd window has one row or column less.
            if high % 2:
                hollow[face, 0, top + high - 2, left : left + wide - 1] = -torch.inf
            if wide % 2:
                hollow[face, 0, top : top + high - 1, left + wide - 2] = -torch.inf
            cut_short |= bool(high % 2 or wide % 2)
            i, j = (torch.arange(n, device=device) for n in part.share.shape[1:])
            at[number][row] = (face * down + top // STRIDE + i[:, None]) * across + left // STRIDE + j
    return (
        Looks(corners.reshape(4, -1), area.reshape(-1, 1)),
        (height, width),
        hollow if cut_short else None,
        torch.cat([places.flatten() for places in at]),
    )
