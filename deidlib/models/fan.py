"""``FAN`` as an authorised landmark model: 68 points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deidlib import weights as checkpoints
from deidlib.faces import Faces
from deidlib.geometry.warp import carried, crop_grid, sample
from deidlib.images import check_image_shape, check_images, to_grid
from deidlib.models.base import Target, TargetModel, frame_mean, frame_of, needs_boxes, rows_of
from deidlib.nets.fold import without_batch_norm

_PUBLISHED = "2dfan4"
_CROP = 256
_MAP = 64
# A face of scale 1 is 200 pixels high, and its centre lies above that of its box by this share of the height.
_UNIT = 200.0
_UP = 0.12
# What 2D-FAN was trained to answer at a point: a Gaussian of this standard deviation in cells, height 1, cut off beyond
# 7 x 7 cells.
_SIGMA, _REACH = 1.75, 3.5
# Soft-argmax: how sharp, relative to the highest value of the map; and the point error, as a share of the crop, that
# counts 1.
_SHARPNESS = 25.0
_POINT_UNIT = 0.1


@dataclass(frozen=True, eq=False)
class FANTarget(Target):
    """One row per face.

    Args:
        frame: ``(F,)`` the frame of the row.
        grid: ``(F, 256, 256, 2)`` where the crop reads the frame.
        heatmaps: ``(F, 68, 64, 64)`` as the net should answer.
        known: ``(F, 68)`` bool, which of them are known; the others cost nothing.
        unit: ``(F,)`` the squared distance from them that counts 1.
    """

    grid: Tensor
    heatmaps: Tensor
    known: Tensor
    unit: Tensor


class FAN(TargetModel[FANTarget]):
    r"""2D-FAN (Bulat and Tzimiropoulos, ICCV 2017, arXiv 1703.07332): 68 landmarks, a heat map each.

    The loss is the paper's landmark loss L_LM: the squared L2 distance between the heat maps H of the protected frame
    and those that the net was trained to answer for the landmarks of the reading, :math:`H^0`: a Gaussian at each.

    .. math::
        L_{LM} = \frac{1}{|faces|} \sum_{face} \frac{\lVert H - H^0 \rVert_2^2}{\lVert H^0 \rVert_2^2}

    It is 0 for the maps wanted, and 1 for maps that show nothing. With ``coordinates`` > 0 the mean squared distance
    between the soft-argmax points of H and :math:`H^0` is added, times that factor, in units of a tenth of the crop.
    Landmarks that are NaN, or that lie outside the crop of their box, cost nothing.

    Crops, maps and points are those of face-alignment 1.5: centre, scale, whole-pixel window, 256 x 256 pixels,
    highest cell and a quarter of a cell towards its higher neighbour, cut down to whole pixels towards 0. Only
    ``predict`` rounds the crop to uint8 as they do.

    Args:
        weights: a name in :mod:`deidlib.weights.store`, a file, or a state dict. The published weights if not given.
            ``"random"`` leaves the net as it is initialised, for tests, after ``torch.manual_seed``.
        modules: number of stacked hourglasses; the published weights have 4.
        reference_scale: width plus height of a box at which the crop shows 200 pixels of the frame: 165 for boxes
            of RetinaFace, as in face-alignment; 195 for its SFD boxes, and in the paper's code.
        flip: read the mirrored crop too and add the maps; more accurate, twice the time.
        coordinates: weight of the soft-argmax points in the loss.
        at_once: most crops in one go. Beyond it the net runs in portions, and again for the gradient: a third more
            time, but never more memory than for that many (2D-FAN-4 takes about 0.3 GB per crop).

    Raises:
        ValueError: an argument is out of range, or unknown weights.
        FileNotFoundError: the weights cannot be had.
        RuntimeError: the state dict does not fit the net.

    Example:
        >>> import torch
        >>> from deidlib.faces import Faces
        >>> fan = FAN("random", modules=1)
        >>> face = Faces(boxes=torch.tensor([[40., 30., 90., 100.]]), scores=torch.ones(1))
        >>> fan.predict(torch.rand(1, 3, 120, 120), [face])[0].landmarks.shape
        torch.Size([1, 68, 2])
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "landmarks"
    mirror: Tensor

    def __init__(
        self,
        weights: str | Path | Mapping[str, Tensor] | None = None,
        *,
        modules: int = 4,
        reference_scale: float = 165.0,
        flip: bool = False,
        coordinates: float = 0.0,
        at_once: int = 16,
    ) -> None:
        super().__init__()
        if not reference_scale > 0:
            raise ValueError(f"reference_scale must be positive, got {reference_scale}.")
        if not coordinates >= 0:
            raise ValueError(f"coordinates must be >= 0, a weight in the loss, got {coordinates}.")
        for argument, value in (("modules", modules), ("at_once", at_once)):
            if value < 1:
                raise ValueError(f"{argument} must be at least 1, got {value}.")
        # Imported here: face_alignment takes seconds to load, and only this model needs it.
        from face_alignment.models import FAN as Net

        self.reference_scale = reference_scale
        self.flip = flip
        self.coordinates = coordinates
        self.at_once = at_once
        net: nn.Module = Net(modules)
        if weights is None:
            weights = _PUBLISHED
        if isinstance(weights, Mapping):
            checkpoints.fill(net, weights, weights)
        elif weights != "random":
            checkpoints.fill(net, checkpoints.load_state(weights), weights)
        # Measured on a CPU: 15 % less time and 24 % less memory than with batch norms and channels first.
        self.net = without_batch_norm(net).to(memory_format=torch.channels_last)
        self.register_buffer("mirror", torch.tensor(_mirror()), persistent=False)

    def heatmaps(self, crops: Tensor) -> Tensor:
        """Heat maps ``(F, 68, 64, 64)`` of crops ``(F, 3, 256, 256)``, RGB in [0, 1]; differentiable."""
        if len(crops) <= self.at_once:
            return self._maps(crops)
        return torch.cat(
            [checkpoint(self._maps, part, use_reentrant=False) for part in torch.split(crops, self.at_once)]
        )

    @torch.no_grad()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """``faces`` with 68 landmarks each, in whole pixels."""
        check_images(images)
        faces = needs_boxes(self, images, faces)
        boxes, frame = rows_of(faces).to(images), frame_of(faces).to(images.device)
        points = boxes.new_zeros(0, 68, 2)
        if len(boxes):
            grid = crop_grid(self._windows(boxes).to(images), (_CROP, _CROP))
            peaks = _peaks(self.heatmaps(to_grid(sample(images, grid, frame))))
            points = self._to_frame(peaks, boxes)
        per_frame = torch.split(points, [len(face) for face in faces])
        return [face.replace(landmarks=p.to(face.boxes)) for face, p in zip(faces, per_frame, strict=True)]

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> FANTarget:
        """The crop of each face, and heat maps with its landmarks.

        Raises:
            ValueError: a face without 68 landmarks.
        """
        boxes, frame, points = rows_of(reading), frame_of(reading), rows_of(reading, "landmarks")
        if points.shape[1] != 68:
            if len(points):
                raise ValueError(
                    f"FAN needs 68 landmarks to aim at, the reading has {points.shape[1]}. Let it read the originals, "
                    "read_originals(originals, [RetinaFace(), FAN()]), or give the landmarks of another reader."
                )
            points = points.new_zeros(0, 68, 2)
        cells = self._to_cells(points.to(boxes), boxes)
        # What is not a number is in no place.
        known = ((cells >= 0) & (cells <= _MAP)).all(dim=2)
        rows = known.any(dim=1).nonzero().squeeze(1)
        maps = _rendered(cells[rows]) * known[rows, :, None, None] * (2 if self.flip else 1)
        grid = crop_grid(self._windows(boxes[rows]).to(boxes), (_CROP, _CROP))
        return FANTarget(frame[rows], grid, maps, known[rows], _squares(maps))

    def loss(self, images: Tensor, target: FANTarget) -> Tensor:
        """L_LM of each frame, ``(B,)``."""
        check_image_shape(images)
        if not len(target.frame):
            return images.new_zeros(len(images))
        maps, goal = self.heatmaps(sample(images, target.grid.to(images), target.frame)), target.heatmaps.to(images)
        per_face = _squares((maps - goal) * target.known[:, :, None, None]) / target.unit.to(images)
        if self.coordinates:
            sharpness = _SHARPNESS / goal.amax(dim=(2, 3), keepdim=True).clamp(min=torch.finfo(goal.dtype).eps)
            distance = (_soft_argmax(maps * sharpness) - _soft_argmax(goal * sharpness)) / _POINT_UNIT
            square = (distance.square().sum(dim=2) * target.known).sum(dim=1) / target.known.sum(dim=1)
            per_face = per_face + self.coordinates * square
        return frame_mean(per_face, target.frame, len(images))

    def _maps(self, crops: Tensor) -> Tensor:
        crops = crops.contiguous(memory_format=torch.channels_last)
        # Every module of the stack gives maps; upstream reads the last.
        maps: Tensor = self.net(crops)[-1]
        if self.flip:
            maps = maps + self.net(crops.flip(-1))[-1].flip(-1)[:, self.mirror]
        return maps

    def _centre_and_scale(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Of boxes ``(F, 4)``, in float64 on the CPU: ``(F, 2)`` and ``(F,)``."""
        boxes = boxes.detach().cpu().double()
        size = boxes[:, 2:] - boxes[:, :2]
        centre = boxes[:, 2:] - size / 2
        centre[:, 1] -= size[:, 1] * _UP
        # A box without area would have no crop: show two pixels.
        return centre, (size.sum(dim=1) / self.reference_scale).clamp(min=2 / _UNIT)

    def _windows(self, boxes: Tensor) -> Tensor:
        """What the crops of boxes ``(F, 4)`` show, xyxy, in whole pixels; it may leave the frame."""
        # In float32, as upstream: the rounding decides which side of a whole pixel the window ends.
        back = torch.linalg.inv(_to_crop(*self._centre_and_scale(boxes), _CROP).float())
        corners = torch.tensor([[1.0, 1.0], [_CROP, _CROP]], dtype=back.dtype)
        return carried(back[:, None], corners)[..., :2].trunc().flatten(1)

    def _to_cells(self, points: Tensor, boxes: Tensor) -> Tensor:
        """Points ``(F, 68, 2)`` of the frame in heat-map cells, cell k from k to k + 1."""
        matrices = _to_crop(*self._centre_and_scale(boxes), _MAP)
        # A reading is cut down to whole pixels: half of one more is what it stands for, and what comes out as it again.
        padded = nn.functional.pad(points.detach().cpu().double() + 0.5, (0, 1), value=1.0)
        return torch.einsum("fij,fpj->fpi", matrices, padded)[..., :2].to(points)

    def _to_frame(self, peaks: Tensor, boxes: Tensor) -> Tensor:
        """Points ``(F, 68, 2)`` in heat-map cells as whole pixels of the frame."""
        matrices = _to_crop(*self._centre_and_scale(boxes), _MAP)
        # Not the plain inverse: where a point falls on a whole pixel, its last bits decide, and upstream has these.
        back = torch.from_numpy(np.linalg.pinv(matrices.numpy()))
        return carried(back[:, None], peaks.cpu().double())[..., :2].trunc()


def _to_crop(centre: Tensor, scale: Tensor, resolution: int) -> Tensor:
    """Matrices ``(F, 3, 3)`` from the frame to a square crop."""
    side = _UNIT * scale
    matrices = torch.eye(3, dtype=centre.dtype).repeat(len(centre), 1, 1)
    matrices[:, 0, 0] = matrices[:, 1, 1] = resolution / side
    matrices[:, :2, 2] = resolution * (-centre / side[:, None] + 0.5)
    return matrices


def _rendered(cells: Tensor) -> Tensor:
    """Heat maps ``(F, 68, 64, 64)`` with a Gaussian at each of the points ``(F, 68, 2)``."""
    offset = torch.arange(_MAP, device=cells.device, dtype=cells.dtype) + 0.5 - cells.nan_to_num()[..., None]
    # (F, 68, 2, 64): a Gaussian over the plane is the product of one along x and one along y.
    x, y = (torch.exp(-0.5 * (offset / _SIGMA).square()) * (offset.abs() <= _REACH)).unbind(dim=2)
    return y[..., :, None] * x[..., None, :]


def _peaks(maps: Tensor) -> Tensor:
    """The highest cell of each map ``(F, 68, h, w)``, refined by a quarter: ``(F, 68, 2)``, cell k from k to k + 1."""
    height, width = maps.shape[-2:]
    flat = maps.flatten(2)
    index = flat.argmax(dim=-1)
    x, y = index % width, index // width

    def rise(step: int) -> Tensor:
        last = height * width - 1
        after, before = (flat.gather(2, (index + s).clamp(0, last)[..., None])[..., 0] for s in (step, -step))
        return after - before

    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    towards = torch.stack([rise(1), rise(width)], dim=-1).sign() * inside[..., None]
    return torch.stack([x, y], dim=-1) + 0.5 + 0.25 * towards


def _squares(maps: Tensor) -> Tensor:
    """Sum of squares of each row of ``(F, 68, h, w)``: ``(F,)``."""
    return maps.square().sum(dim=(1, 2, 3))


def _soft_argmax(maps: Tensor) -> Tensor:
    """Mean position under the softmax of each map ``(F, 68, h, w)``: ``(F, 68, 2)``, in shares of the crop."""
    height, width = maps.shape[-2:]
    mass = maps.flatten(2).softmax(dim=-1).reshape(maps.shape)
    x = (torch.arange(width, device=maps.device, dtype=maps.dtype) + 0.5) / width
    y = (torch.arange(height, device=maps.device, dtype=maps.dtype) + 0.5) / height
    return torch.stack([mass.sum(dim=2) @ x, mass.sum(dim=3) @ y], dim=-1)


def _mirror() -> list[int]:
    """Which of the 68 points each becomes in a mirrored face."""
    order = list(range(68))
    # Jaw, brows, nostrils, and the lips' upper and lower edges run from one side to the other.
    for first, last in ((0, 16), (17, 26), (31, 35), (48, 54), (55, 59), (60, 64), (65, 67)):
        order[first : last + 1] = range(last, first - 1, -1)
    for right, left in ((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)):
        order[right], order[left] = left, right
    return order
