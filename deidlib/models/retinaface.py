"""``RetinaFace`` as an authorised detector: box, score and five points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from deidlib import weights as checkpoints
from deidlib.faces import FaceBatch, Faces
from deidlib.geometry.boxes import anchors, corners_of, iou
from deidlib.geometry.suppression import nms
from deidlib.images import check_image_shape, check_images
from deidlib.models.base import Reading, Target, TargetModel, five_points_of, frame_of, huber, rows_of
from deidlib.nets.retinaface_lean import LeanRetinaFace
from deidlib.nets.retinaface_mobilenet import RetinaFaceMobileNet

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
        face: ``(F,)`` long, which of the frame's faces it is.
        place: ``(F,)`` long, which of the face's rows it is.
        anchor: ``(F,)`` long, index into the anchors of the frame.
        share: ``(F,)`` how much the anchor counts in its frame, summing to 1 per frame; 0: it may fire or not.
        prior: ``(F, 4)`` the anchor, centre and size in pixels.
        goal: ``(F, 14)`` the face's box, xyxy, and its five points, pixels; 0 where not known.
        unit: ``(F, 14)`` what a pixel counts: one over the face's size times the tolerance; 0 where not known.
        most: the number of faces, and of rows of a face, at most.
    """

    face: Tensor
    place: Tensor
    anchor: Tensor
    share: Tensor
    prior: Tensor
    goal: Tensor
    unit: Tensor
    most: tuple[int, int]


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
        net = RetinaFaceMobileNet(conventions["negative_slope"]) if backbone == "mobilenet0.25" else _resnet50()
        checkpoints.fill(net, state, weights)
        mean, std = (torch.tensor(conventions[name])[:, None, None] for name in ("mean", "std"))
        if self.bgr:
            # The first convolution takes colours as RGB, once and for all, rather than every frame be turned to BGR.
            first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
            first.weight.data = first.weight.data.flip(1)
            mean, std = mean.flip(0), std.flip(0)
        self.register_buffer("scale", 255 / std, persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        # Batch norms folded into the convolutions and channels last: a third less time per iteration.
        self.net = LeanRetinaFace(net)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The heads over all A anchors: box code ``(B, A, 4)``, logits ``(B, A, 2)``, point code ``(B, A, 5, 2)``."""
        centre, points, size, background, margin = torch.split(self._answers(images), [2, 10, 2, 1, 1], dim=-1)
        code, logits = torch.cat([centre, size], dim=-1), torch.cat([background, background + margin], dim=-1)
        return code, logits, points.reshape(*points.shape[:-1], 5, 2)

    def _answers(self, images: Tensor) -> Tensor:
        """What all anchors answer, ``(B, A, 16)``: see :class:`~deidlib.nets.retinaface_lean.LeanRetinaFace`."""
        answers: Tensor = self.net(torch.addcmul(self.shift.to(images), images, self.scale.to(images)))
        return answers

    def proposals(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Every anchor: log-odds of a face less those of the threshold, ``(B, A)``, and ``(A, 4)`` xyxy pixels."""
        check_image_shape(images)
        _, logits, _ = self.raw(images)
        priors = self._priors((images.shape[2], images.shape[3]), images)
        limit = float(torch.tensor(self.score_threshold).logit())
        return logits[..., 1] - logits[..., 0] - limit, corners_of(priors)

    @torch.no_grad()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Boxes, scores and five points of the faces found, best first; ``faces`` is not needed."""
        check_images(images)
        priors = self._priors((images.shape[2], images.shape[3]), images)
        return [self._detect(answers, priors) for answers in self._answers(images)]

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> RetinaFaceTarget:
        """Box and points of each face, and the anchors that are to carry it, by the geometry of the box.

        A face without an anchor that overlaps it, outside the frame, say, has no rows.
        """
        boxes, frame = rows_of(reading), frame_of(reading)
        points = five_points_of(reading)
        priors = self._priors(size, boxes)
        corners = corners_of(priors)
        rows: list[tuple[Tensor, ...]] = []
        most = [1, 1]
        for i in range(len(reading)):
            mine = (frame == i).nonzero().squeeze(1)
            if not len(mine):
                continue
            overlap, owner = iou(corners, boxes[mine]).max(dim=1)
            of_frame: list[tuple[Tensor, ...]] = []
            for number, face in enumerate(mine):
                near = ((owner == number) & (overlap > 0)).nonzero().squeeze(1)
                near = near[overlap[near].argsort(descending=True, stable=True)]
                place = torch.arange(len(near), device=near.device)
                near = near[(place < _CARRIERS) | (overlap[near] > _ON_FACE)]
                share, place = (place[: len(near)] < _CARRIERS).to(boxes), place[: len(near)]
                box, known = boxes[face], points[face]
                extent = (box[2:] - box[:2]).clamp(min=torch.finfo(boxes.dtype).tiny)
                goal = torch.cat([box, known.flatten()])
                unit = 1 / (_TOLERANCE * torch.cat([extent, extent, extent.prod().sqrt().expand(10)]))
                column = (
                    torch.full_like(near, i),
                    torch.full_like(near, number),
                    place,
                    near,
                    share / share.sum(),
                    priors[near],
                    goal.nan_to_num(nan=0.0).expand(len(near), -1),
                    unit.masked_fill(goal.isnan(), 0.0).expand(len(near), -1),
                )
                if len(near):
                    of_frame.append(column)
                    most = [max(most[0], number + 1), max(most[1], len(near))]
            rows += [(*column[:4], column[4] / len(of_frame), *column[5:]) for column in of_frame]
        if not rows:
            nothing = boxes.new_zeros(0, 14)
            none = frame[:0]
            return RetinaFaceTarget(none, none, none, none, boxes[:0, 0], boxes[:0], nothing, nothing, (1, 1))
        columns = [torch.cat(column) for column in zip(*rows, strict=True)]
        frame, number_of_face, place_of_row, anchor, share, prior, goal, unit = columns
        return RetinaFaceTarget(
            frame, number_of_face, place_of_row, anchor, share, prior, goal, unit, (most[0], most[1])
        )

    def loss(self, images: Tensor, target: RetinaFaceTarget) -> Tensor:
        """L_B of each frame, ``(B,)``; around 20 for a hidden face, below 0.2 for one that reads as it should."""
        return self._loss(images, target)[0]

    def loss_and_reading(self, images: Tensor, target: RetinaFaceTarget) -> tuple[Tensor, Reading | None]:
        """The loss, and what that anchor of each face says which is surest of it: what :meth:`predict` reports."""
        loss, margin, seen = self._loss(images, target)
        (faces, rows), at = target.most, (target.frame, target.face, target.place)
        answers = seen.new_full((len(images), faces, rows, 15), torch.nan)
        answers[at] = torch.cat([margin[:, None], seen], dim=1)
        surest = answers[..., 0].detach().nan_to_num(nan=-torch.inf).argmax(dim=2)
        answer = answers.take_along_dim(surest[:, :, None, None], dim=2).squeeze(2)
        scores = answer[..., 0].sigmoid()
        answer = answer.where((scores > self.score_threshold)[..., None], answer.new_full((), torch.nan))
        return loss, FaceBatch(answer[..., 1:5], scores, answer[..., 5:].reshape(*scores.shape, 5, 2))

    def _loss(self, images: Tensor, target: RetinaFaceTarget) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and per row of the target the margin ``(F,)`` and the box and points it gives, ``(F, 14)``."""
        check_image_shape(images)
        answers, at = self._answers(images), (target.frame, target.anchor)
        moves, growth, _, margin = torch.split(answers[at], [12, 2, 1, 1], dim=1)
        prior = target.prior.to(images)
        seen = _decoded(moves, growth, prior)
        errors = huber((seen - target.goal) * target.unit)
        # The mean over the box's four numbers, and that over the points' ten.
        row = softplus(-margin[:, 0]) + errors[:, :4].mean(dim=1) + _POINT_WEIGHT * errors[:, 4:].mean(dim=1)
        carried = images.new_zeros(len(images)).index_add(0, target.frame, row * target.share)

        everywhere = answers[..., 15]
        elsewhere = torch.zeros_like(everywhere).index_fill_(0, target.frame, 1.0).index_put_(at, prior.new_zeros(()))
        new_faces = (everywhere.sigmoid() * softplus(everywhere) * elsewhere).sum(dim=1)
        return carried + new_faces, margin[:, 0], seen

    def _priors(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """The anchors of frames of that height and width."""
        return _anchors(size, self.anchor_sizes, like.device, like.dtype)

    def _detect(self, answers: Tensor, priors: Tensor) -> Faces:
        """The faces of one frame from what its anchors answer."""
        scores = answers[:, 15].sigmoid()
        good = (scores > self.score_threshold).nonzero().squeeze(1)
        seen = _decoded(answers[good, :12], answers[good, 12:14], priors[good])
        kept = nms(seen[:, :4], scores[good], self.nms_threshold)
        return Faces(seen[kept, :4], scores[good[kept]], seen[kept, 4:].reshape(-1, 5, 2))


@lru_cache(maxsize=16)
def _anchors(
    size: tuple[int, int], sizes: tuple[tuple[int, ...], ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    # Computed once for a clip, and outside of inference mode: whoever asks next may want a gradient.
    with torch.inference_mode(False):
        return anchors(*size, sizes, _STRIDES, device=device).to(dtype)


def _decoded(moves: Tensor, growth: Tensor, prior: Tensor) -> Tensor:
    """Box and five points, ``(F, 14)`` pixels, of code of centre and points ``(F, 12)`` and of the size ``(F, 2)``.

    As :func:`~deidlib.geometry.boxes.decode` and :func:`~deidlib.geometry.boxes.decode_points`, together.
    """
    centre, size = torch.split(prior, 2, dim=1)
    moved = torch.addcmul(centre.repeat(1, 6), moves, 0.1 * size.repeat(1, 6))
    middle, points = torch.split(moved, [2, 10], dim=1)
    half = size / 2 * (0.2 * growth).exp()
    return torch.cat([middle - half, middle + half, points], dim=1)


def _resnet50() -> nn.Module:
    # Imported here: torchvision takes as long to load as torch itself, and only this backbone needs it.
    from deidlib.nets.retinaface_resnet50 import RetinaFaceResNet50

    return RetinaFaceResNet50()
