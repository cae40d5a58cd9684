"""``RetinaFace`` as an authorised detector: box, score and five points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss, softplus
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import nms

from deidlib import weights as checkpoints
from deidlib.faces import Faces
from deidlib.geometry.boxes import anchors, decode, decode_points, iou
from deidlib.images import check_image_shape, check_images
from deidlib.models.base import Target, TargetModel, matched

_STRIDES = (8, 16, 32)
# Anchors per face that must carry it: the detector reports one of the best, so training more of them only takes
# capacity from those (measured: 3 to 4 give IoU 0.99 where 20 give 0.975).
_CARRIERS = 4
# Box and point errors below this share of the face's size are squared, larger ones absolute.
_TOLERANCE = 0.02
_POINT_WEIGHT = 2.0
_PUBLISHED = {"mobilenet0.25": "retinaface_mobilenet0.25", "resnet50": "retinaface_resnet50"}


@dataclass(frozen=True, eq=False)
class RetinaFaceTarget(Target):
    """One row per anchor that lies on a face of the original.

    Args:
        frame: ``(F,)`` the frame of the row.
        anchor: ``(F,)`` long, index into the anchors of the frame.
        share: ``(F,)`` how much the anchor counts in its face, summing to 1 per face; 0: it may fire or not.
        prior: ``(F, 4)`` the anchor, centre and size in pixels.
        box: ``(F, 4)`` the face's box, xyxy pixels.
        points: ``(F, 5, 2)`` the face's points, pixels.
    """

    anchor: Tensor
    share: Tensor
    prior: Tensor
    box: Tensor
    points: Tensor


class RetinaFace(TargetModel[RetinaFaceTarget]):
    r"""RetinaFace (Deng et al., arXiv 1905.00641), MobileNet-0.25 or ResNet-50.

    The loss is the paper's box-proposal loss L_B. Let :math:`m_a` be the face-minus-background logit of anchor a,
    and let each face of the original be carried by the anchors that reported it best, with shares
    :math:`w_a` that sum to 1:

    .. math::
        L_B = \frac{1}{|faces|} \sum_a w_a \left[ softplus(-m_a) + H(\Delta box_a) + 2 H(\Delta points_a) \right]
              + \sum_{b\ elsewhere} \sigma(m_b)\, softplus(m_b)

    H is the Huber loss of the *decoded* box and points against those of the original, relative to the face's size,
    in units of 2 %. The last term keeps new faces from appearing elsewhere; anchors on the face that carry
    nothing may fire or not.

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
        self.net = _fold_batch_norm(net.eval()).to(memory_format=torch.channels_last)

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

    @torch.no_grad()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Boxes, scores and five points of the faces found, best first; ``faces`` is not needed."""
        check_images(images)
        priors = self._priors(images)
        code, logits, points = self.raw(images)
        return [self._detect(*heads, priors) for heads in zip(code, logits.softmax(-1)[..., 1], points, strict=True)]

    @torch.no_grad()
    def target(self, images: Tensor, faces: Sequence[Faces]) -> RetinaFaceTarget:
        """The model's own reading of those ``faces`` that it finds, at the anchors that carry it."""
        check_images(images)
        priors = self._priors(images)
        code, logits, points = self.raw(images)
        scores = logits.softmax(-1)[..., 1]
        rows: list[tuple[Tensor, ...]] = []
        for i, wanted in enumerate(faces):
            own = self._detect(code[i], scores[i], points[i], priors)
            own = own[matched(own.boxes, wanted)]
            if not len(own):
                continue
            assert own.landmarks is not None
            overlap, owner = iou(decode(code[i], priors), own.boxes).max(dim=1)
            for face in range(len(own)):
                near = ((owner == face) & (overlap > 0.5) & (scores[i] > 0.02)).nonzero().squeeze(1)
                near = near[scores[i, near].argsort(descending=True)]
                carries = scores[i, near] > self.score_threshold
                carries[_CARRIERS:] = False
                rows.append(
                    (
                        torch.full_like(near, i),
                        near,
                        carries / carries.sum(),
                        priors[near],
                        own.boxes[face].expand(len(near), 4),
                        own.landmarks[face].expand(len(near), 5, 2),
                    )
                )
        if not rows:
            none = images.new_zeros(0)
            index = none.long()
            return RetinaFaceTarget(index, index, none, none.view(0, 4), none.view(0, 4), none.view(0, 5, 2))
        return RetinaFaceTarget(*(torch.cat(column) for column in zip(*rows, strict=True)))

    def loss(self, images: Tensor, target: RetinaFaceTarget) -> Tensor:
        """L_B of each frame, ``(B,)``; around 20 for a hidden face, below 0.2 for one that reads as the original."""
        check_image_shape(images)
        code, logits, points = self.raw(images)
        margin = logits[..., 1] - logits[..., 0]
        at = (target.frame, target.anchor)
        size = (target.box[:, 2:] - target.box[:, :2]).to(images)
        box_error = (decode(code[at], target.prior.to(images)) - target.box) / size.repeat(1, 2)
        point_error = decode_points(points[at], target.prior.to(images)) - target.points
        point_error = point_error / size.prod(dim=1).sqrt()[:, None, None]
        row = softplus(-margin[at]) + _huber(box_error) + _POINT_WEIGHT * _huber(point_error)

        faces_in_frame = images.new_zeros(len(images)).index_add(0, target.frame, target.share.to(images))
        carried = images.new_zeros(len(images)).index_add(0, target.frame, row * target.share)
        elsewhere = torch.ones_like(margin)
        elsewhere[at] = 0
        new_faces = (margin.sigmoid() * softplus(margin) * elsewhere).sum(dim=1)
        return carried / faces_in_frame.clamp(min=1) + new_faces * (faces_in_frame > 0)

    def _priors(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        return anchors(height, width, self.anchor_sizes, _STRIDES, device=images.device).to(images)

    def _detect(self, code: Tensor, scores: Tensor, points: Tensor, priors: Tensor) -> Faces:
        """The faces of one frame from its heads."""
        good = (scores > self.score_threshold).nonzero().squeeze(1)
        boxes = decode(code[good], priors[good])
        kept = nms(boxes, scores[good], self.nms_threshold)
        good = good[kept]
        return Faces(boxes[kept], scores[good], decode_points(points[good], priors[good]))


def _huber(error: Tensor) -> Tensor:
    """Mean Huber loss of each row's relative errors, in units of the tolerance."""
    scaled = (error / _TOLERANCE).flatten(1)
    return smooth_l1_loss(scaled, torch.zeros_like(scaled), reduction="none").mean(dim=1)


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


def _fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold each batch norm that follows a convolution in an ``nn.Sequential`` into it; same outputs in eval mode."""
    for child in module.children():
        _fold_batch_norm(child)
    if isinstance(module, nn.Sequential):
        for i in range(len(module) - 1):
            convolution, norm = module[i], module[i + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[i], module[i + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return module
