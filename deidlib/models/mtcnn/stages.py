"""``Stages``: the loss over all three networks, in few operations, and what the last one reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad, relu, softplus

from deidlib.geometry.boxes import iou_of_pairs
from deidlib.geometry.cut import cut
from deidlib.geometry.matching import SAME_FACE_IOU
from deidlib.geometry.summed_area import SummedArea
from deidlib.models.base import huber
from deidlib.models.mtcnn.cascade import O_MARGIN, P_MARGIN, R_MARGIN, crop_points, shift_crop, square, survivors
from deidlib.models.mtcnn.target import O_SIDE, R_SIDE, MTCNNPlan, MTCNNTarget, Rows
from deidlib.nets.mtcnn_stages import Stage


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes that a network is to look at, q of them.

    Args:
        boxes: ``(q, 4)`` xyxy pixels.
        face: ``(q,)`` long, the row of the face.
        left: ``(q,)`` bool, those that have not fallen; None: none has.
    """

    boxes: Tensor
    face: Tensor
    left: Tensor | None = None


@dataclass(frozen=True, eq=False)
class LastReading:
    """What O-Net reads in the crops that are proposed now.

    Args:
        boxes: ``(q, 4)`` of the crops.
        answers: ``(q, 15)`` margin, box code and points' code.
        face: ``(q,)`` long, the row of the face.
    """

    boxes: Tensor
    answers: Tensor
    face: Tensor


def surest(last: LastReading, faces: int) -> Tensor:
    """Of each face ``(F, 15)`` box, score, five x and five y in the crop that is surest; NaN if none is sure.

    Args:
        last: of at least a crop.
        faces: F.
    """
    margin = last.answers[:, 0]
    mine = last.face == torch.arange(faces, device=margin.device)[:, None]
    score, at = margin.where(mine, margin.new_full((), -torch.inf)).max(dim=1)
    boxes, codes = last.boxes[at], last.answers[at]
    points = crop_points(boxes, codes[:, 5:]).transpose(1, 2).flatten(1)
    read = torch.cat([shift_crop(boxes, codes[:, 1:5]), score.sigmoid()[:, None], points], dim=1)
    return read.where((score > O_MARGIN)[:, None], read.new_full((), torch.nan))


@dataclass(frozen=True)
class Stages:
    """The three networks as an attack sees them.

    An accelerator launches operations one by one, so there are few: each network sees all that it looks at in one pass,
    the errors of all three are weighed together, and what hangs on the target alone stands in its plan.

    Args:
        pnet: proposes, cell by cell.
        rnet: looks again at what is proposed.
        onet: and once more, for the points too.
    """

    pnet: Stage
    rnet: Stage
    onet: Stage

    def loss(self, images: Tensor, target: MTCNNTarget) -> tuple[Tensor, LastReading]:
        """L_B of each face ``(F,)``, and what O-Net reads in the crops proposed.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1].
            target: of at least a face.
        """
        plan = target.plan
        pixels = SummedArea.of(cut(images, target.places, target.extent))
        canvas, r_fixed, o_fixed = plan.always(pixels)

        p_answers = self.pnet.answers(canvas, plan.hollow).flatten(0, 2)[plan.at]
        to_r, r_crops = _shown(_proposed(p_answers.detach(), plan), pixels, target, R_SIDE)
        r_answers = self.rnet.answers(torch.cat([r_fixed, r_crops]))
        to_o, o_crops = _shown(_refined(r_answers.detach()[len(r_fixed) :], to_r), pixels, target, O_SIDE)
        o_answers = self.onet.answers(torch.cat([o_fixed, o_crops]))

        # P- and R-Net say nothing of points.
        answers = torch.cat([pad(torch.cat([p_answers, r_answers]), (0, 10)), o_answers])
        of_cells, of_r, of_o = plan.fixed
        now_r, now_o = plan.rows(to_r.boxes, to_r.face, 0), plan.rows(to_o.boxes, to_o.face, 1)
        total = _weighed(answers, Rows.cat([of_cells, of_r, now_r, of_o, now_o]), plan)
        return total, LastReading(to_o.boxes, o_answers.detach()[len(o_fixed) :], to_o.face)


def _weighed(answers: Tensor, rows: Rows, plan: MTCNNPlan) -> Tensor:
    """The loss of each face ``(F,)``, from all answers ``(n, 15)``."""
    margin, codes = answers[:, 0], answers[:, 1:]
    errors = huber(torch.addcmul(rows.offset, codes, rows.gain))
    values = (softplus(-margin) + (errors * plan.mix).sum(dim=1)) * rows.weight
    anew = relu(margin[: len(plan.owner)] - (P_MARGIN - 1)).square() * plan.quiet
    sums = values.new_zeros(5 * len(plan.bounds)).index_add(0, rows.slot, values).index_add(0, plan.owner, anew)
    # Where no crop comes through, that must not look better than one that does.
    by_kind = sums.view(5, -1)
    weights = torch.zeros_like(sums).index_add_(0, rows.slot, rows.weight).view(5, -1)
    instead = by_kind.detach()[1:3] * (weights[3:] == 0)
    return by_kind.sum(dim=0) + instead.sum(dim=0)


@torch.no_grad()
def _proposed(answers: Tensor, plan: MTCNNPlan) -> Proposals:
    """What P-Net proposes for the faces now, from its answers ``(C, 5)``."""
    at = ((answers[:, 0] >= P_MARGIN) & plan.seen).nonzero().squeeze(1)
    cells, side, outline = torch.split(plan.places[at], 4, dim=1)
    margin, code = torch.split(answers[at], [1, 4], dim=1)
    face = plan.owner[at]
    # Within a scale, and then across them.
    left = survivors(cells, margin[:, 0], [(plan.group[at], 0.5), (face, 0.7)])
    boxes = square(torch.addcmul(cells, code, side))
    return Proposals(boxes, face, left & (iou_of_pairs(boxes, outline) >= SAME_FACE_IOU))


@torch.no_grad()
def _refined(answers: Tensor, crops: Proposals) -> Proposals:
    """What R-Net hands on, from its answers ``(q, 5)`` to all of the crops."""
    margin, code = torch.split(answers, [1, 4], dim=1)
    left = survivors(crops.boxes, margin[:, 0], [(crops.face, 0.7)], among=margin[:, 0] > R_MARGIN)
    return Proposals(square(shift_crop(crops.boxes, code)), crops.face, left)


def _shown(proposals: Proposals, pixels: SummedArea, target: MTCNNTarget, side: int) -> tuple[Proposals, Tensor]:
    """Those of the proposals that are left and lie near their face, and their crops ``(q, 3, side, side)``."""
    whole, near = target.plan.within(proposals.boxes, proposals.face, target.size)
    good = (near if proposals.left is None else near & proposals.left).nonzero().squeeze(1)
    face = proposals.face[good]
    return Proposals(proposals.boxes[good], face), pixels.crops(face, whole[good], side)
