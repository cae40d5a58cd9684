"""``MTCNN``: how it reads faces, what it is to read, and how far frames are from that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from deidlib.faces import FaceBatch, Faces
from deidlib.geometry.boxes import clip, expand, outwards
from deidlib.geometry.summed_area import SummedArea
from deidlib.geometry.suppression import nms
from deidlib.images import check_image_shape, check_images
from deidlib.models.base import Reading, TargetModel, five_points_of, frame_mean, frame_of, rows_of
from deidlib.models.mtcnn.cascade import (
    P_MARGIN,
    THRESHOLDS,
    cell_boxes,
    crop_points,
    pyramid,
    scaled_size,
    shift_cell,
    shift_crop,
    square,
    suppress,
    whole_pixels,
)
from deidlib.models.mtcnn.cells import with_cells
from deidlib.models.mtcnn.stages import Stages, surest
from deidlib.models.mtcnn.target import O_SIDE, R_SIDE, MTCNNTarget
from deidlib.nets.mtcnn_stages import Stage

# Crops that leave this multiple of the face's square do not show the face.
_NEAR = 2.0
# The crops that R- and O-Net must always read: shift x, shift y, growth, in units of the spread.
_JITTER = ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0))
_R_SPREAD, _O_SPREAD = 0.1, 0.05


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
        self.min_face = min_face
        self.pnet, self.rnet, self.onet = Stage.published("pnet"), Stage.published("rnet"), Stage.published("onet")

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
            margins.append((margin - P_MARGIN).flatten(1))
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
            frame, row, column = at = (margin >= P_MARGIN).nonzero(as_tuple=True)
            cells, score = cell_boxes(row, column, scale).to(images), margin[at].sigmoid()
            kept = nms(cells, score, 0.5, frame)
            moved = shift_cell(cells, code[at])
            found.append(torch.cat([cells, moved, score[:, None]], dim=1)[kept])
            frames.append(frame[kept])
        proposals, frame = torch.cat(found), torch.cat(frames)
        kept = nms(proposals[:, :4], proposals[:, 8], 0.7, frame)
        boxes, frame = square(proposals[kept, 4:8]), frame[kept]

        boxes, frame, whole = _with_pixels(boxes, frame, height, width)
        if len(frame):
            code, margin = self.rnet(pixels.crops(frame, whole, R_SIDE))
            boxes, frame = _refined(shift_crop(boxes, code), boxes, margin.sigmoid(), frame)
        boxes, frame, whole = _with_pixels(boxes, frame, height, width)
        if not len(frame):
            return [Faces.empty(device=images.device, dtype=images.dtype)] * len(images)
        code, points, margin = self.onet(pixels.crops(frame, whole, O_SIDE))
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
        near = outwards(around).long()
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
        scales = pyramid(height, width, self.min_face)
        return with_cells(target, outline[inside], scales) if len(target.frame) else target

    def loss(self, images: Tensor, target: MTCNNTarget) -> Tensor:
        """L_B of each frame, ``(B,)``; around 60 for a hidden face, 1 to 2 for one that reads as it should."""
        check_image_shape(images)
        if not len(target.frame):
            return images.new_zeros(len(images))
        total, _ = Stages(self.pnet, self.rnet, self.onet).loss(images, target)
        return frame_mean(total, target.frame, len(images))

    def loss_and_reading(self, images: Tensor, target: MTCNNTarget) -> tuple[Tensor, Reading | None]:
        """The loss, and what its last stage reads of each face, in the crop proposed now that it is surest of."""
        check_image_shape(images)
        read = images.new_full((len(images), target.most, 15), torch.nan)
        loss = images.new_zeros(len(images))
        if len(target.frame):
            total, last = Stages(self.pnet, self.rnet, self.onet).loss(images, target)
            loss = frame_mean(total, target.frame, len(images))
            if len(last.face):
                read[target.frame, target.number] = surest(last, len(target.frame))
        points = read[..., 5:].reshape(*read.shape[:2], 2, 5).transpose(2, 3)
        return loss, FaceBatch(read[..., :4], read[..., 4], points)


def _jittered(outline: Tensor, spread: float) -> Tensor:
    """Squares ``(F, K, 4)`` around the outlines, shifted by ``spread`` times their side."""
    jitter = outline.new_tensor(_JITTER) * spread
    side = (outline[:, 2:] - outline[:, :2])[:, None]
    centre = ((outline[:, :2] + outline[:, 2:]) / 2)[:, None] + jitter[:, :2] * side
    half = side * (1 + jitter[:, 2:]) / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _refined(moved: Tensor, boxes: Tensor, score: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """What R-Net hands on: crops that pass, without overlaps, as squares."""
    passed = (score > THRESHOLDS[1]).nonzero().squeeze(1)
    passed = passed[nms(boxes[passed], score[passed], 0.7, owner[passed])]
    return square(moved[passed]), owner[passed]


def _found(boxes: Tensor, score: Tensor, points: Tensor, frame: Tensor, frames: int) -> list[Faces]:
    """The faces of each frame, best first, from what O-Net reads."""
    result = []
    for i in range(frames):
        mine = ((frame == i) & (score > THRESHOLDS[2])).nonzero().squeeze(1)
        mine = mine[suppress(boxes[mine], score[mine], 0.7)]
        result.append(Faces(boxes[mine], score[mine], points[mine]))
    return result


def _with_pixels(boxes: Tensor, frame: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Those of the boxes, and their frames, that have a pixel in the frame; and which pixels, ``(Q, 4)`` long."""
    whole = whole_pixels(boxes, height, width)
    good = (whole[:, 2:] > whole[:, :2]).all(dim=1).nonzero().squeeze(1)
    return boxes[good], frame[good], whole[good]
