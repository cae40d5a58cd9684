"""``with_cells``: which cells of P-Net are to propose each face, and which pixels they look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deidlib.geometry.boxes import expand, iou
from deidlib.geometry.warp import area_spans
from deidlib.models.mtcnn.cascade import CELL, STRIDE, cell_boxes, cells_along, scaled_size
from deidlib.models.mtcnn.target import CellTarget, MTCNNTarget

# Cells that must propose a face: those that overlap it most, this many at most, and by so much if any does. Cells that
# overlap it by more than the last number may propose it too.
_CARRIERS, _CARRIES, _ON_FACE = 6, 0.5, 0.4
# P-Net cells this much smaller or larger than the face, or centred outside this multiple of it, cannot propose it.
_CELL_RANGE, _REACH = (0.4, 1.8), 1.3


def with_cells(target: MTCNNTarget, outline: Tensor, scales: Sequence[float]) -> MTCNNTarget:
    """Add P-Net's part: which cells carry each face, and the pixels that they need.

    Args:
        target: of at least a face, without it.
        outline: ``(F, 4)`` the squares around the boxes.
        scales: of the pyramid.
    """
    height, width = target.size
    side = outline[:, 2] - outline[:, 0]
    reach = expand(outline, _REACH)
    candidates: list[list[tuple[float, int, int, int]]] = [[] for _ in side]
    windows = []
    for scale in scales:
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
