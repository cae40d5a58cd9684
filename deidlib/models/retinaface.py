"""``RetinaFace`` as an authorised detector: box, score and five points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torchvision.ops import nms

from deidlib import weights as checkpoints
from deidlib.faces import Faces
from deidlib.geometry.boxes import anchors, decode, decode_points, iou
from deidlib.images import check_image_shape, check_images
from deidlib.models.base import Target, TargetModel, five_points_of, frame_of, huber, rows_of
from deidlib.nets.fold import without_batch_norm

_STRIDES = (8, 16, 32)
# Anchors that must carry a face, those that overlap it most, and the overlap from which on others may fire too: the
# detector reports one anchor of those that fire, so training many of them takes capacity from that one, and leaving
# others free lets one win that reads worse (measured on T002: docs/results.md).
_CARRIERS = 3
_ON_FACE = 0.25
# Box and point errors below this share of the face's size are squared, larger ones absolute.
_TOLERANCE = 0.02
_POINT_WEIGHT = 2.0
_PUBLISHED = {"mobilenet0.25": "retinaface_mobilenet0.25", "resnet50": "retinaface_resnet50"}


@dataclass(frozen=True, eq=False)
class RetinaFaceTarget(Target):
    """One row per anchor that lies on a face.

    Args:
        frame: ``(F,)`` the frame of the row.
        anchor: ``(F,)`` long, index into the anchors of the frame.
        share: ``(F,)`` how much the anchor counts in its face, summing to 1 per face; 0: it may fire or not.
        prior: ``(F, 4)`` the anchor, centre and size in pixels.
        box: ``(F, 4)`` the face's box, xyxy pixels.
        points: ``(F, 5, 2)`` the face's points, pixels; NaN where not known.
    """

    anchor: Tensor
    share: Tensor
    prior: Tensor
    box: Tensor
    points: Tensor


class RetinaFace(TargetModel[RetinaFaceTarget]):
    r"""RetinaFace (Deng et al., arXiv 1905.00641), MobileNet-0.25 or ResNet-50.

    The loss is the paper's box-proposal loss L_B. Let :math:`m_a` be the face-minus-background logit of anchor a,
    and let each face be carried by the three anchors that overlap its box most, with shares :math:`w_a` of a third:

    .. math::
        L_B = \frac{1}{|faces|} \sum_a w_a \left[ softplus(-m_a) + H(\Delta box_a) + 2 H(\Delta points_a) \right]
              + \sum_{b\ elsewhere} \sigma(m_b)\, softplus(m_b)

    H is the Huber loss of the *decoded* box and points against those of the reading, relative to the face's size,
    in units of 2 %. The last term keeps new faces from appearing elsewhere; anchors on the face that carry
    nothing may fire or not. Points that are not known cost nothing; of 68 landmarks the five are taken.

    Args:
        weights: a name in :mod:`deidlib.weights`, a file, or a state dict. The published weights of the backbone if
            not given. A file is recognised by its hash: two MobileNet checkpoints of identical layout need
            different anchors and activations, and read wrong boxes without complaint otherwise.
        backbone: ``"mobilenet0.25"`` or ``"resnet50"``.
        score_threshold: least score of a face.
        nms_threshold: overlap above which the lower of two scores is dropped.

    Raises:
        FileNotFoundError: the weights cannot be had.
        RuntimeError: the state dict does not fit the backbone.

    Example:
        >>> from deidlib.nets.retinaface_resnet50 import RetinaFaceResNet50
        >>> untrained = RetinaFaceResNet50().state_dict()
        >>> model = RetinaFace(untrained, backbone="resnet50", score_threshold=1.0)
        >>> model.predict(torch.rand(1, 3, 64, 64))
        [Faces(n=0, landmarks)]
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        weights: str | Path | Mapping[str, Tensor] | None = None,
        *,
        backbone: Literal["mobilenet0.25", "resnet50"] = "mobilenet0.25",
        score_threshold: float = 0.5,
        nms_threshold: float = 0.4,
    ) -> None:
        super().__init__()
        if backbone not in _PUBLISHED:
            raise ValueError(f"backbone must be one of {list(_PUBLISHED)}, got {backbone!r}.")
        if weights is None:
            weights = _PUBLISHED[backbone]
        if isinstance(weights, Mapping):
            state, known = dict(weights), None
        else:
            state, known = checkpoints.load_state(weights), checkpoints.checkpoint_of(checkpoints.find(weights))
        conventions = (known or checkpoints.CHECKPOINTS[_PUBLISHED[backbone]]).conventions
        self.backbone = backbone
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.anchor_sizes: tuple[tuple[int, ...], ...] = conventions["anchors"]
        self.bgr: bool = conventions["channels"] == "BGR"
        net = _mobilenet(conventions["negative_slope"]) if backbone == "mobilenet0.25" else _resnet50()
        net.load_state_dict(state)
        mean, std = (torch.tensor(conventions[name])[:, None, None] for name in ("mean", "std"))
        if self.bgr:
            # The first convolution takes colours as RGB, once and for all, rather than every frame be turned to BGR.
            first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
            first.weight.data = first.weight.data.flip(1)
            mean, std = mean.flip(0), std.flip(0)
        self.register_buffer("scale", 255 / std, persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        # Batch norms folded into the convolutions and channels last: a third less time per iteration.
        self.net = without_batch_norm(net).to(memory_format=torch.channels_last)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The heads over all A anchors: box code ``(B, A, 4)``, logits ``(B, A, 2)``, point code ``(B, A, 5, 2)``."""
        x = torch.addcmul(self.shift.to(images), images, self.scale.to(images))
        net: Any = self.net
        levels = net.fpn(net.body(x.contiguous(memory_format=torch.channels_last)))
        levels = [ssh(level) for ssh, level in zip((net.ssh1, net.ssh2, net.ssh3), levels, strict=True)]
        code, logits, points = (
            torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], dim=1)
            for heads in (net.BboxHead, net.ClassHead, net.LandmarkHead)
        )
        return code, logits, points.reshape(*points.shape[:-1], 5, 2)

    def proposals(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Every anchor: log-odds of a face less those of the threshold, ``(B, A)``, and ``(A, 4)`` xyxy pixels."""
        check_image_shape(images)
        _, logits, _ = self.raw(images)
        priors = self._priors((images.shape[2], images.shape[3]), images)
        corners = torch.cat([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], dim=1)
        limit = torch.logit(torch.tensor(self.score_threshold)).to(images)
        return logits[..., 1] - logits[..., 0] - limit, corners

    @torch.no_grad()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Boxes, scores and five points of the faces found, best first; ``faces`` is not needed."""
        check_images(images)
        priors = self._priors((images.shape[2], images.shape[3]), images)
        return self._read(self.raw(images), priors)

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> RetinaFaceTarget:
        """Box and points of each face, and the anchors that are to carry it, by the geometry of the box.

        A face without an anchor that overlaps it, outside the frame, say, has no rows.
        """
        boxes, frame = rows_of(reading), frame_of(reading)
        points = five_points_of(reading)
        priors = self._priors(size, boxes)
        corners = torch.cat([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], dim=1)
        rows: list[tuple[Tensor, ...]] = []
        for i in range(len(reading)):
            mine = (frame == i).nonzero().squeeze(1)
            if not len(mine):
                continue
            overlap, owner = iou(corners, boxes[mine]).max(dim=1)
            for number, face in enumerate(mine):
                near = ((owner == number) & (overlap > 0)).nonzero().squeeze(1)
                near = near[overlap[near].argsort(descending=True, stable=True)]
                carries = torch.arange(len(near), device=near.device) < _CARRIERS
                near = near[carries | (overlap[near] > _ON_FACE)]
                share = carries[: len(near)].to(boxes)
                rows.append(
                    (
                        torch.full_like(near, i),
                        near,
                        share / share.sum(),
                        priors[near],
                        boxes[face].expand(len(near), 4),
                        points[face].expand(len(near), 5, 2),
                    )
                )
        if not rows:
            return RetinaFaceTarget(frame[:0], frame[:0], boxes[:0, 0], boxes[:0], boxes[:0], points[:0])
        return RetinaFaceTarget(*(torch.cat(column) for column in zip(*rows, strict=True)))

    def loss(self, images: Tensor, target: RetinaFaceTarget) -> Tensor:
        """L_B of each frame, ``(B,)``; around 20 for a hidden face, below 0.2 for one that reads as it should."""
        check_image_shape(images)
        return self._loss(self.raw(images), images, target)

    def loss_and_reading(self, images: Tensor, target: RetinaFaceTarget) -> tuple[Tensor, list[Faces] | None]:
        """The loss, and what :meth:`predict` reads, from one pass of the network."""
        check_image_shape(images)
        heads = self.raw(images)
        reading = self._read(heads, self._priors((images.shape[2], images.shape[3]), images))
        return self._loss(heads, images, target), reading

    def _loss(self, heads: tuple[Tensor, Tensor, Tensor], images: Tensor, target: RetinaFaceTarget) -> Tensor:
        code, logits, points = heads
        margin = logits[..., 1] - logits[..., 0]
        at = (target.frame, target.anchor)
        size = (target.box[:, 2:] - target.box[:, :2]).to(images)
        box_error = (decode(code[at], target.prior.to(images)) - target.box) / size.repeat(1, 2)
        point_error = decode_points(points[at], target.prior.to(images)) - target.points
        point_error = point_error.masked_fill(target.points.isnan(), 0) / size.prod(dim=1).sqrt()[:, None, None]
        row = softplus(-margin[at]) + huber(box_error, _TOLERANCE) + _POINT_WEIGHT * huber(point_error, _TOLERANCE)

        faces_in_frame = images.new_zeros(len(images)).index_add(0, target.frame, target.share.to(images))
        carried = images.new_zeros(len(images)).index_add(0, target.frame, row * target.share)
        elsewhere = torch.ones_like(margin)
        elsewhere[at] = 0
        new_faces = (margin.sigmoid() * softplus(margin) * elsewhere).sum(dim=1)
        return carried / faces_in_frame.clamp(min=1) + new_faces * (faces_in_frame > 0)

    def _priors(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """The anchors of frames of that height and width."""
        return anchors(*size, self.anchor_sizes, _STRIDES, device=like.device).to(like)

    def _read(self, heads: tuple[Tensor, Tensor, Tensor], priors: Tensor) -> list[Faces]:
        """The faces of each frame from the heads."""
        code, logits, points = heads
        return [self._detect(*rows, priors) for rows in zip(code, logits.softmax(-1)[..., 1], points, strict=True)]

    def _detect(self, code: Tensor, scores: Tensor, points: Tensor, priors: Tensor) -> Faces:
        """The faces of one frame from its heads."""
        good = (scores.detach() > self.score_threshold).nonzero().squeeze(1)
        boxes = decode(code[good], priors[good])
        kept = nms(boxes.detach(), scores[good].detach(), self.nms_threshold)
        good = good[kept]
        return Faces(boxes[kept], scores[good], decode_points(points[good], priors[good]))


def _mobilenet(negative_slope: float) -> nn.Module:
    # Imported here: face_alignment takes seconds to load, and only this backbone needs it.
    from face_alignment.detection.retinaface.net_retinaface import RetinaFace as Net

    net: nn.Module = Net()
    for module in net.modules():
        if isinstance(module, nn.LeakyReLU):
            module.negative_slope = negative_slope
    return net


def _resnet50() -> nn.Module:
    from deidlib.nets.retinaface_resnet50 import RetinaFaceResNet50

    return RetinaFaceResNet50()
