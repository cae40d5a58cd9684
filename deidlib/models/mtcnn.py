"""``MTCNN`` as an authorised detector: a cascade of three networks, every stage of which must pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torchvision.ops import batched_nms

from deidlib.faces import FaceBatch, Faces
from deidlib.geometry.boxes import clip, expand, iou, iou_of_pairs
from deidlib.geometry.cut import Place, cut
from deidlib.geometry.matching import SAME_FACE_IOU
from deidlib.geometry.summed_area import SummedArea
from deidlib.geometry.warp import area_spans, averages
from deidlib.images import check_image_shape, check_images, widest
from deidlib.models.base import Reading, Target, TargetModel, five_points_of, frame_mean, frame_of, huber, rows_of
from deidlib.models.mtcnn_cascade import (
    CELL,
    STRIDE,
    cell_boxes,
    cells_along,
    crop_points,
    pyramid,
    scaled_size,
    shift_cell,
    shift_crop,
    square,
    suppress,
    survivors,
    whole_pixels,
)
from deidlib.nets.mtcnn_stages import Stage

_THRESHOLDS = (0.6, 0.7, 0.7)
# The same as logits.
_P_MARGIN, _R_MARGIN, _O_MARGIN = (math.log(threshold / (1 - threshold)) for threshold in _THRESHOLDS)
_R_SIDE, _O_SIDE = 24, 48
# Cells that must propose a face: those that overlap it most, this many at most, and by so much if any does. Cells that
# overlap it by more than the last number may propose it too.
_CARRIERS, _CARRIES, _ON_FACE = 6, 0.5, 0.4
# P-Net cells this much smaller or larger than the face, or centred outside this multiple of it, cannot propose it.
_CELL_RANGE, _REACH = (0.4, 1.8), 1.3
# Crops that leave this multiple of the face's square do not show the face.
_NEAR = 2.0
# Errors below these shares of the face's size are squared, larger ones absolute; each stage refines the one before.
_P_TOLERANCE, _R_TOLERANCE, _O_TOLERANCE = 0.1, 0.05, 0.02
_NEW_CELL_WEIGHT = 0.1
# The crops that R- and O-Net must always read: shift x, shift y, growth, in units of the spread.
_JITTER = ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0))
_R_SPREAD, _O_SPREAD = 0.1, 0.05


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
        wide: ``(F, 2)`` long, left and top of the face's patch for P-Net.
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
    def plan(self) -> _Plan:
        """What is the same in every iteration, computed once."""
        return _Plan.of(self)

    def select(self, frames: Tensor) -> Self:
        """Keep the faces of some frames, renumbered."""
        number = {number: k for k, number in enumerate(frames.tolist())}
        places = tuple((number[i], left, top) for i, left, top in self.places if i in number)
        return replace(super().select(frames), places=places)


@dataclass(frozen=True, eq=False)
class _Plan:
    """A target for P-Net, ready to be computed with: all cells of all scales one after the other, C of them.

    Args:
        windows: per scale that has some the faces' rows (None: all, in order), and matrices of averages along the rows
            ``(n, w, columns)`` and the columns ``(3 n, rows, h)`` of the faces' patches.
        cells: ``(C, 4)`` what they look at, pixels.
        side: ``(C, 4)`` the cells' sides.
        owner: ``(C,)`` long, the row of the face.
        group: ``(C,)`` long, another number for every face and scale.
        goal: ``(C, 4)`` the face's box.
        unit: ``(C, 4)`` one over what an error of one is.
        share: ``(C,)`` how much a cell counts for its face.
        quiet: ``(C,)`` what it costs to fire where none is to.
        seen: ``(C,)`` bool, whether the cell is the face's own.
        outline: ``(F, 4)`` the squares around the boxes.
        numbers: ``(F, 14)`` the face's box, five x and five y; 0 for what is not known.
        units: ``(F, 14)`` the sizes by which their errors are measured; infinite for what is not known.
        r_crops: R-Net's fixed crops that show pixels: boxes, rows of the faces, and whole pixels of the patch.
        o_crops: O-Net's.
    """

    windows: tuple[tuple[Tensor | None, Tensor, Tensor], ...]
    cells: Tensor
    side: Tensor
    owner: Tensor
    group: Tensor
    goal: Tensor
    unit: Tensor
    share: Tensor
    quiet: Tensor
    seen: Tensor
    outline: Tensor
    numbers: Tensor
    units: Tensor
    r_crops: tuple[Tensor, Tensor, Tensor]
    o_crops: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, target: MTCNNTarget) -> Self:
        """From a target with at least a face."""
        box, faces = target.box, len(target.face)
        height, width = target.extent
        windows: list[tuple[Tensor | None, Tensor, Tensor]] = []
        columns: list[tuple[Tensor, ...]] = []
        for number, part in enumerate(target.scales):
            if not len(part.face):
                continue
            row = (part.face[:, None] == target.face).long().argmax(dim=1)
            across = averages(part.columns + part.corner[:, :1, None], width, box.dtype).transpose(1, 2)
            down = averages(part.rows + part.corner[:, 1:, None], height, box.dtype).repeat_interleave(3, dim=0)
            windows.append((None if len(row) == faces else row, across, down))
            owner = row[:, None, None].expand(part.share.shape)
            columns.append((part.cells.to(box), owner, owner + faces * number, part.share, part.quiet, part.seen))
        cells, owner, group, share, quiet, seen = (
            torch.cat([column.flatten(0, 2) for column in same]) for same in zip(*columns, strict=True)
        )
        size = (box[:, 2:] - box[:, :2]).tile(2)
        return cls(
            windows=tuple(windows),
            cells=cells,
            side=(cells[:, 2:] - cells[:, :2]).tile(2),
            owner=owner,
            group=group,
            goal=box[owner],
            unit=1 / (_P_TOLERANCE * size[owner]),
            share=share.to(box),
            quiet=_NEW_CELL_WEIGHT * quiet.to(box),
            seen=seen,
            outline=square(box),
            numbers=torch.cat([box, target.points.transpose(1, 2).flatten(1).nan_to_num(nan=0.0)], dim=1),
            units=_units(target),
            r_crops=_fixed(target, target.r_crops),
            o_crops=_fixed(target, target.o_crops),
        )

    def resized(self, wide: Tensor) -> Iterator[Tensor]:
        """What P-Net looks at in the faces' patches ``(F, 3, h, w)``, scale by scale: ``(n, 3, rows, columns)``.

        Two products with matrices of averages: area resizes of all windows.
        """
        faces, _, height, width = wide.shape
        patches = wide.reshape(faces, 3 * height, width)
        for row, across, down in self.windows:
            bands = torch.bmm(patches if row is None else patches[row], across).reshape(-1, height, across.shape[2])
            yield torch.bmm(down, bands).reshape(len(across), 3, down.shape[1], -1)


class MTCNN(TargetModel[MTCNNTarget]):
    r"""MTCNN (Zhang et al., arXiv 1604.02878) with the networks and weights of facenet-pytorch: no download.

    ``predict`` reads as ``facenet_pytorch.MTCNN(keep_all=True).detect`` does, best score first. The loss is the
    box-proposal loss L_B over all three stages, per face, with face-minus-background logits m and Huber losses H
    of boxes and points relative to the face's size:

    .. math::
        L_B = \sum_{c} w_c [softplus(-m_c) + H(box_c)] + 0.1 \sum_{c\ new} max(0, m_c - m_{0.6} + 1)^2
            + \sum_{stage \in R, O} mean_k [softplus(-m_k) + H(box_k, points_k)]

    P-Net's cells c are those that overlap the face most; no cell may fire that lies around it rather than on it.
    R- and O-Net read crops k of two kinds: fixed ones, shifted a little around the face, so that there is a
    gradient before anything passes P-Net, and those that the cascade proposes *on the image as it is now*,
    found anew at every call and then treated as constant, so that the loss speaks of the reading that counts
    (it lifts the IoU read from the file from 0.93 to 0.97).

    New faces are suppressed around the faces alone: with the perturbation confined to the face region, as
    it is by default, nothing changes elsewhere.

    Args:
        min_face: side of the smallest face looked for, in pixels.

    Example:
        >>> from skimage.data import astronaut
        >>> picture = torch.from_numpy(astronaut()[:256, 96:352]).permute(2, 0, 1)[None] / 255
        >>> (faces,) = MTCNN().predict(picture)
        >>> faces.boxes.shape, faces.landmarks.shape
        (torch.Size([1, 4]), torch.Size([1, 5, 2]))
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def __init__(self, *, min_face: float = 20.0) -> None:
        super().__init__()
        # Imported here: the package changes the global warning filters when it is loaded.
        from facenet_pytorch.models.mtcnn import ONet, PNet, RNet

        self.min_face = min_face
        self.pnet, self.rnet, self.onet = Stage(PNet()), Stage(RNet()), Stage(ONet())

    def proposals(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Every cell of P-Net, which all else follows: log-odds of a face less those of the threshold, and the cell.

        Returns:
            ``(B, A)``, and ``(A, 4)`` xyxy pixels.
        """
        check_image_shape(images)
        height, width = images.shape[-2:]
        pixels = SummedArea.of(images)
        margins, places = [images.new_zeros(len(images), 0)], [images.new_zeros(0, 4)]
        for scale in pyramid(height, width, self.min_face):
            _, margin = self.pnet(pixels.resized(scaled_size(height, width, scale)))
            margins.append((margin - _P_MARGIN).flatten(1))
            row, column = (torch.arange(side, device=images.device) for side in margin.shape[1:])
            row, column = torch.meshgrid(row, column, indexing="ij")
            places.append(cell_boxes(row.flatten(), column.flatten(), scale).to(images))
        return torch.cat(margins, dim=1), torch.cat(places)

    @torch.no_grad()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Boxes, scores and five points of the faces found, best first; ``faces`` is not needed."""
        check_images(images)
        height, width = images.shape[-2:]
        pixels = SummedArea.of(images)
        found = [images.new_zeros(0, 9)]
        frames = [torch.zeros(0, dtype=torch.long, device=images.device)]
        for scale in pyramid(height, width, self.min_face):
            code, margin = self.pnet(pixels.resized(scaled_size(height, width, scale)))
            frame, row, column = at = (margin >= _P_MARGIN).nonzero(as_tuple=True)
            cells, score = cell_boxes(row, column, scale).to(images), margin[at].sigmoid()
            kept = batched_nms(cells, score, frame, 0.5)
            moved = shift_cell(cells, code[at])
            found.append(torch.cat([cells, moved, score[:, None]], dim=1)[kept])
            frames.append(frame[kept])
        proposals, frame = torch.cat(found), torch.cat(frames)
        kept = batched_nms(proposals[:, :4], proposals[:, 8], frame, 0.7)
        boxes, frame = square(proposals[kept, 4:8]), frame[kept]

        boxes, frame, whole = _with_pixels(boxes, frame, height, width)
        if len(frame):
            code, margin = self.rnet(pixels.crops(frame, whole, _R_SIDE))
            boxes, frame = _refined(shift_crop(boxes, code), boxes, margin.sigmoid(), frame)
        boxes, frame, whole = _with_pixels(boxes, frame, height, width)
        if not len(frame):
            return [Faces.empty(device=images.device, dtype=images.dtype)] * len(images)
        code, points, margin = self.onet(pixels.crops(frame, whole, _O_SIDE))
        boxes, points = shift_crop(boxes, code), crop_points(boxes, points)
        return _found(boxes, margin.sigmoid(), points, frame, len(images))

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> MTCNNTarget:
        """Box and points of each face, and where each stage must see it, by the geometry of the box.

        A face without a pixel in the frame has no row.
        """
        height, width = size
        box, frame = rows_of(reading), frame_of(reading)
        points = five_points_of(reading)
        outline = square(box)
        around = clip(expand(outline, _NEAR), height, width)
        inside = (clip(box, height, width)[:, 2:] - clip(box, height, width)[:, :2] >= 1).all(dim=1)
        near = torch.cat([around[:, :2].floor(), around[:, 2:].ceil()], dim=1).long()
        target = MTCNNTarget(
            frame=frame[inside],
            face=torch.arange(int(inside.sum()), device=frame.device),
            number=torch.cat([torch.arange(len(known), device=frame.device) for known in reading])[inside],
            box=box[inside],
            points=points[inside],
            wide=near[inside, :2],
            near=near[inside],
            r_crops=_jittered(outline[inside], _R_SPREAD),
            o_crops=_jittered(outline[inside], _O_SPREAD),
            scales=(),
            extent=(0, 0),
            size=size,
            most=max([1, *(len(known) for known in reading)]),
        )
        return self._with_cells(target, outline[inside], height, width) if len(target.frame) else target

    def loss(self, images: Tensor, target: MTCNNTarget) -> Tensor:
        """L_B of each frame, ``(B,)``; around 60 for a hidden face, 1 to 2 for one that reads as it should."""
        return self._cascade(images, target)[0]

    def loss_and_reading(self, images: Tensor, target: MTCNNTarget) -> tuple[Tensor, Reading | None]:
        """The loss, and what its last stage reads of each face, in the crop proposed now that it is surest of."""
        loss, (boxes, margin, points, row) = self._cascade(images, target)
        nothing = images.new_full((len(images), target.most, 15), torch.nan)
        if len(row):
            mine = row == torch.arange(len(target.face), device=row.device)[:, None]
            score, surest = margin.where(mine, margin.new_full((), -torch.inf)).max(dim=1)
            answers = torch.cat([boxes[surest], score.sigmoid()[:, None], points[surest].flatten(1)], dim=1)
            read = (score > _O_MARGIN)[:, None]
            nothing[target.frame, target.number] = answers.where(read, answers.new_full((), torch.nan))
        points = nothing[..., 5:].reshape(*nothing.shape[:2], 5, 2)
        return loss, FaceBatch(nothing[..., :4], nothing[..., 4], points)

    def _cascade(self, images: Tensor, target: MTCNNTarget) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The loss, and what O-Net reads in the crops proposed: boxes, margins, points, rows of the faces."""
        check_image_shape(images)
        faces = len(target.frame)
        if not faces:
            nothing = images.new_zeros(0, 4), images.new_zeros(0), images.new_zeros(0, 5, 2), target.frame
            return images.new_zeros(len(images)), nothing
        wide = cut(images, target.places, target.extent)
        total, proposals, face = self._propose(wide, target)

        # All stages look at the same pixels, with a place for every face.
        pixels, plan = SummedArea.of(wide), target.plan
        for fixed, net, side, tolerance in (
            (plan.r_crops, self.rnet, _R_SIDE, _R_TOLERANCE),
            (plan.o_crops, self.onet, _O_SIDE, _O_TOLERANCE),
        ):
            # The fixed crops and those proposed now, in one pass of the network.
            whole, shown = _within(proposals, target.near[face], *target.size)
            good = shown.nonzero().squeeze(1)
            face = face[good]
            whole = whole[good] - target.wide[face].tile(2)
            boxes, owner, whole = (torch.cat(both) for both in zip(fixed, (proposals[good], face, whole), strict=True))
            always = len(fixed[1])
            answers, margin = net.answers(pixels.crops(owner, whole, side))
            seen = _located(boxes, answers)
            numbers = answers.shape[1]
            off = (seen - plan.numbers[owner, :numbers]) / (tolerance * plan.units[owner, :numbers])
            errors = huber(off)
            row = softplus(-margin) + errors[:, :4].mean(dim=1)
            if numbers > 4:
                row = row + errors[:, 4:].mean(dim=1)
            # Per face the mean over each kind of crops.
            kind = torch.cat([fixed[1], face + faces])
            count = row.new_zeros(2 * faces).index_add_(0, kind, torch.ones_like(row))
            mean = row.new_zeros(2 * faces).index_add(0, kind, row) / count.clamp(min=1)
            by_fixed, by_proposed = mean[:faces], mean[faces:]
            # Where no crop comes through, that must not look better than one that does.
            total = total + by_fixed + torch.where(count[faces:] == 0, by_fixed.detach(), by_proposed)
            moved, score = seen.detach()[always:], margin.detach()[always:]
            if net is self.rnet:
                passed = score > _R_MARGIN
                passed &= survivors(boxes[always:], score.where(passed, score - 1e4), face, 0.7)
                proposals = square(moved[:, :4])
                # Who reads them drops those, too.
                proposals = torch.where(passed[:, None], proposals, torch.zeros_like(proposals))
        points = moved[:, 4:].reshape(-1, 2, 5).transpose(1, 2)
        last = moved[:, :4], score, points, face
        return frame_mean(total, target.frame, len(images)), last

    def _propose(self, wide: Tensor, target: MTCNNTarget) -> tuple[Tensor, Tensor, Tensor]:
        """P-Net's loss per face ``(F,)``, and what it proposes for the faces now: boxes ``(n, 4)``, faces ``(n,)``."""
        plan, found = target.plan, []
        for seen in plan.resized(wide):
            codes, margin = self.pnet.answers(seen)
            found.append(torch.cat([codes, margin[..., None]], dim=-1).reshape(-1, 5))
        code, margin = torch.split(torch.cat(found), [4, 1], dim=1)
        margin = margin[:, 0]
        moved = torch.addcmul(plan.cells, code, plan.side)
        off = (moved - plan.goal) * plan.unit
        carried = softplus(-margin) + huber(off).mean(dim=1)
        new = (margin - (_P_MARGIN - 1)).clamp(min=0).square()
        cost = carried * plan.share + new * plan.quiet
        total = cost.new_zeros(len(wide)).index_add(0, plan.owner, cost)

        at = ((margin.detach() >= _P_MARGIN) & plan.seen).nonzero().squeeze(1)
        cells, score, face = plan.cells[at], margin.detach()[at], plan.owner[at]
        # Within a scale, and then across them.
        left = survivors(cells, score, plan.group[at], 0.5)
        left &= survivors(cells, score.where(left, score - 1e4), face, 0.7)
        boxes = square(moved.detach()[at])
        left &= iou_of_pairs(boxes, plan.outline[face]) >= SAME_FACE_IOU
        # Who reads them drops those that have fallen, together with those that show no pixel.
        return total, torch.where(left[:, None], boxes, torch.zeros_like(boxes)), face

    def _with_cells(self, target: MTCNNTarget, outline: Tensor, height: int, width: int) -> MTCNNTarget:
        """Add P-Net's part: which cells carry each face, and the pixels that they need."""
        side = outline[:, 2] - outline[:, 0]
        reach = expand(outline, _REACH)
        candidates: list[list[tuple[float, int, int, int]]] = [[] for _ in side]
        windows = []
        for scale in pyramid(height, width, self.min_face):
            cell_side = CELL / scale
            fits = ((cell_side > _CELL_RANGE[0] * side) & (cell_side < _CELL_RANGE[1] * side)).nonzero().squeeze(1)
            if not len(fits):
                continue
            size = scaled_size(height, width, scale)
            count = fits.new_tensor([cells_along(size[1]), cells_along(size[0])])
            low = ((reach[fits, :2] * scale - CELL / 2) / STRIDE).ceil().long().clamp(min=0)
            high = ((reach[fits, 2:] * scale - CELL / 2) / STRIDE).floor().long() + 1
            low = torch.minimum(low, count - 1)
            high = torch.maximum(torch.minimum(high, count), low + 1)
            windows.append((scale, size, fits, low, high))
            for face, (x0, y0), (x1, y1) in zip(fits.tolist(), low.tolist(), high.tolist(), strict=True):
                row, column = torch.meshgrid(
                    torch.arange(y0, y1, device=fits.device), torch.arange(x0, x1, device=fits.device), indexing="ij"
                )
                cells = cell_boxes(row.flatten(), column.flatten(), scale).to(outline)
                overlap = iou(outline[face : face + 1], cells)[0]
                best = overlap.argsort(descending=True, stable=True)[:_CARRIERS]
                for value, index in zip(overlap[best].tolist(), best.tolist(), strict=True):
                    i, j = divmod(index, x1 - x0)
                    candidates[face].append((value, len(windows) - 1, y0 + i, x0 + j))
        carriers = []
        for ranked in candidates:
            ranked.sort(reverse=True)
            chosen = [c for c in ranked if c[0] > _CARRIES][:_CARRIERS] or ranked[:1]
            carriers.append({(window, i, j): 1 / len(chosen) for _, window, i, j in chosen})
        return _placed(target, outline, windows, carriers, height, width)


def _placed(
    target: MTCNNTarget,
    outline: Tensor,
    windows: list[tuple[float, tuple[int, int], Tensor, Tensor, Tensor]],
    carriers: list[dict[tuple[int, int, int], float]],
    height: int,
    width: int,
) -> MTCNNTarget:
    """Cut windows of equal size per scale, so that faces run in one batch; a face's own cells are marked."""
    device = target.frame.device
    parts = []
    for number, (scale, size, fits, low, high) in enumerate(windows):
        total = fits.new_tensor([cells_along(size[1]), cells_along(size[0])])
        count = (high - low).amax(dim=0)
        start = torch.minimum(low, total - count)
        columns, rows = count.tolist()
        # A window that ends with the image takes the last pixels too: pooling there is partial.
        pixels = [
            STRIDE * (n - 1) + CELL if n < whole else side
            for n, whole, side in zip((columns, rows), total.tolist(), (size[1], size[0]), strict=True)
        ]
        x_spans = area_spans(torch.tensor(0, device=device), torch.tensor(width, device=device), size[1])
        y_spans = area_spans(torch.tensor(0, device=device), torch.tensor(height, device=device), size[0])
        x_index = (STRIDE * start[:, :1] + torch.arange(pixels[0], device=device)).clamp(max=size[1] - 1)
        y_index = (STRIDE * start[:, 1:] + torch.arange(pixels[1], device=device)).clamp(max=size[0] - 1)
        x_spans, y_spans = x_spans[x_index], y_spans[y_index]

        i = start[:, 1, None] + torch.arange(rows, device=device)
        j = start[:, 0, None] + torch.arange(columns, device=device)
        i, j = i[:, :, None].expand(-1, -1, columns), j[:, None, :].expand(-1, rows, -1)
        seen = (
            (i >= low[:, 1, None, None])
            & (i < high[:, 1, None, None])
            & (j >= low[:, 0, None, None])
            & (j < high[:, 0, None, None])
        )
        share = torch.zeros(i.shape, dtype=torch.float32, device=device)
        for row, face in enumerate(fits.tolist()):
            for (window, ci, cj), value in carriers[face].items():
                if window == number:
                    share[row, ci - int(start[row, 1]), cj - int(start[row, 0])] = value
        cells = cell_boxes(i, j, scale)
        overlap = torch.stack(
            [
                iou(outline[face : face + 1], own.flatten(0, 1).to(outline)).view(rows, columns)
                for face, own in zip(fits, cells, strict=True)
            ]
        )
        parts.append(
            CellTarget(
                frame=target.frame[fits],
                face=fits,
                corner=torch.stack([x_spans[:, 0, 0], y_spans[:, 0, 0]], dim=1),
                rows=y_spans - y_spans[:, :1, :1],
                columns=x_spans - x_spans[:, :1, :1],
                cells=cells,
                share=share,
                quiet=(seen & (overlap < _ON_FACE) & (share == 0)).float(),
                seen=seen,
                extent=(
                    int((y_spans[:, -1, 1] - y_spans[:, 0, 0]).max()),
                    int((x_spans[:, -1, 1] - x_spans[:, 0, 0]).max()),
                ),
                scale=scale,
            )
        )
    return _with_patches(target, parts, height, width)


def _with_patches(target: MTCNNTarget, parts: list[CellTarget], height: int, width: int) -> MTCNNTarget:
    """Choose each face's ``wide`` patch so that it holds all that its rows need, all patches of one size."""
    limit = target.frame.new_tensor([width, height])
    moved = []
    low, high = target.near[:, :2].clone(), target.near[:, 2:].clone()
    for part in parts:
        extent = target.frame.new_tensor([part.extent[1], part.extent[0]])
        # Windows differ by a pixel in what they need: a smaller one is moved back inside the image.
        corner = torch.minimum(part.corner, limit - extent)
        back = part.corner - corner
        moved.append(
            replace(
                part,
                corner=corner,
                rows=part.rows + back[:, 1, None, None],
                columns=part.columns + back[:, 0, None, None],
            )
        )
        low[part.face] = torch.minimum(low[part.face], corner)
        high[part.face] = torch.maximum(high[part.face], corner + extent)
    extent = (high - low).amax(dim=0)
    wide = torch.minimum(low, limit - extent)
    scales = tuple(replace(part, corner=part.corner - wide[part.face]) for part in moved)
    places = tuple((i, left, top) for i, (left, top) in zip(target.frame.tolist(), wide.tolist(), strict=True))
    return replace(target, wide=wide, scales=scales, extent=(int(extent[1]), int(extent[0])), places=places)


def _jittered(outline: Tensor, spread: float) -> Tensor:
    """Squares ``(F, K, 4)`` around the outlines, shifted by ``spread`` times their side."""
    jitter = outline.new_tensor(_JITTER) * spread
    side = (outline[:, 2:] - outline[:, :2])[:, None]
    centre = ((outline[:, :2] + outline[:, 2:]) / 2)[:, None] + jitter[:, :2] * side
    half = side * (1 + jitter[:, 2:]) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _refined(moved: Tensor, boxes: Tensor, score: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """What R-Net hands on: crops that pass, without overlaps, as squares."""
    passed = (score > _THRESHOLDS[1]).nonzero().squeeze(1)
    apart, rank = boxes[passed], score[passed]
    # batched_nms moves owners apart by adding to their boxes, which would round those of a later frame more.
    apart, rank = (values.to(widest(boxes.device)) for values in (apart, rank))
    passed = passed[batched_nms(apart, rank, owner[passed], 0.7)]
    return square(moved[passed]), owner[passed]


def _found(boxes: Tensor, score: Tensor, points: Tensor, frame: Tensor, frames: int) -> list[Faces]:
    """The faces of each frame, best first, from what O-Net reads."""
    result = []
    for i in range(frames):
        mine = ((frame == i) & (score > _THRESHOLDS[2])).nonzero().squeeze(1)
        mine = mine[suppress(boxes[mine], score[mine], 0.7)]
        result.append(Faces(boxes[mine], score[mine], points[mine]))
    return result


def _with_pixels(boxes: Tensor, frame: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Those of the boxes, and their frames, that have a pixel in the frame; and which pixels, ``(Q, 4)`` long."""
    whole = whole_pixels(boxes, height, width)
    good = (whole[:, 2:] > whole[:, :2]).all(dim=1).nonzero().squeeze(1)
    return boxes[good], frame[good], whole[good]


def _within(boxes: Tensor, around: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Which pixels a crop of each box takes, ``(Q, 4)`` long, and whether there are any and all within its patch."""
    whole = whole_pixels(boxes, height, width)
    inside = (whole[:, :2] >= around[:, :2]) & (whole[:, 2:] <= around[:, 2:]) & (whole[:, 2:] > whole[:, :2])
    return whole, inside.all(dim=1)


def _located(boxes: Tensor, answers: Tensor) -> Tensor:
    """What R- or O-Net answers in pixels: the box ``(Q, 4)``, and five x and five y beside it, ``(Q, 14)``.

    As :func:`shift_crop` and :func:`crop_points`, together.
    """
    side = boxes[:, 2:] - boxes[:, :2] + 1
    if answers.shape[1] == 4:
        return torch.addcmul(boxes, answers, side.tile(2))
    corner = (boxes[:, :2] - 1)[:, :, None].expand(-1, 2, 5).flatten(1)
    scale = torch.cat([side.tile(2), side[:, :, None].expand(-1, 2, 5).flatten(1)], dim=1)
    return torch.addcmul(torch.cat([boxes, corner], dim=1), answers, scale)


def _units(target: MTCNNTarget) -> Tensor:
    """The sizes by which errors of each face's box and points are measured, ``(F, 14)``; infinite for the unknown."""
    size = target.box[:, 2:] - target.box[:, :2]
    of_points = size.prod(dim=1).sqrt()[:, None].expand(-1, 10)
    unknown = target.points.transpose(1, 2).flatten(1).isnan()
    return torch.cat([size.tile(2), of_points.masked_fill(unknown, torch.inf)], dim=1)


def _fixed(target: MTCNNTarget, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Crops ``(F, K, 4)`` that show pixels of their faces' patches: boxes, rows of the faces, and those pixels."""
    boxes = crops.flatten(0, 1)
    owner = torch.arange(len(crops), device=crops.device).repeat_interleave(crops.shape[1])
    whole, shown = _within(boxes, target.near[owner], *target.size)
    good = shown.nonzero().squeeze(1)
    boxes, owner = boxes[good], owner[good]
    return boxes, owner, whole[good] - target.wide[owner].tile(2)
