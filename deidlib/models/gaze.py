"""``GazeResNet``: networks that read where a face looks, on one normalised eye or face at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from deidlib import weights as checkpoints
from deidlib.faces import FaceBatch, Faces, five_points
from deidlib.geometry.camera import (
    Camera,
    NormalizedCamera,
    angles_to_vectors,
    denormalize,
    head_pose,
    normalized_head_angles,
    normalizing_rotation,
    normalizing_warp,
    part_centers,
)
from deidlib.geometry.face_model import face_model
from deidlib.geometry.warp import perspective_grid, sample
from deidlib.images import check_images
from deidlib.models.base import Reading, Target, TargetModel, frame_mean, frame_of, needs_boxes, rows_of
from deidlib.models.equalize import equalize
from deidlib.nets.mpiigaze import MPIIGazeNet

# Moved geometries for eye patches: they are small, a pixel of the frame is two of theirs.
_EYE_JITTER = 8
# Of red, green and blue, as cv2.cvtColor adds them up in whole numbers.
_GREY = (9798 / 32768, 19235 / 32768, 3735 / 32768)
# A gaze that is this far off has loss 1.
_UNIT = math.radians(10)


@dataclass(frozen=True)
class GazeMode:
    """How a gaze network wants to see a face; told by its checkpoint's conventions in :mod:`deidlib.weights`.

    Args:
        name: of the model.
        view: the normalised camera.
        parts: what it looks at, one after the other, as :func:`deidlib.geometry.camera.part_centers` names them.
            The face's gaze is the mean over them.
        channels: ``"RGB"`` or ``"BGR"`` whole faces; ``"grey"``: equalised eye patches, with the head's angles as
            second input, the right eye mirrored.
        mean: of each channel in that order, to be removed.
        std: of each channel.
    """

    name: str
    view: NormalizedCamera
    parts: tuple[str, ...]
    channels: Literal["RGB", "BGR", "grey"]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


Mode = Literal["mpiigaze", "mpiifacegaze", "eth-xgaze"]


# torchvision takes as long to load as torch itself, and only these networks need it.
def _mpiifacegaze() -> nn.Module:
    from deidlib.nets.mpiifacegaze import MPIIFaceGazeNet

    return MPIIFaceGazeNet()


def _eth_xgaze() -> nn.Module:
    from torchvision.models import resnet18

    net: nn.Module = resnet18(num_classes=2)
    return net


# Per mode the checkpoint that tells its conventions, and the layout of its network.
_PUBLISHED: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "mpiigaze": ("mpiigaze", MPIIGazeNet),
    "mpiifacegaze": ("mpiifacegaze", _mpiifacegaze),
    "eth-xgaze": ("eth_xgaze", _eth_xgaze),
}


def _mode(name: str) -> GazeMode:
    if name not in _PUBLISHED:
        raise ValueError(f"mode must be one of {list(_PUBLISHED)}, got {name!r}.")
    told = checkpoints.CHECKPOINTS[_PUBLISHED[name][0]].conventions
    view = NormalizedCamera(told["focal_length"], told["size"], told["distance"])
    return GazeMode(name, view, told["parts"], told["channels"], told.get("mean", ()), told.get("std", ()))


@dataclass(frozen=True, eq=False)
class GazeTarget(Target):
    """One row per face, which is read at G geometries, by its P parts (both eyes, or the face) at each.

    Args:
        frame: ``(F,)`` the frame of the row.
        grid: ``(F, G, P, h, w, 2)`` where the normalised image reads the frame, pixels.
        head: ``(F, G, P, 2)`` the head's angles beside an eye patch, radians.
        basis: ``(F, G, P, 3, 3)`` the axes of the normalised camera in the camera frame.
        gaze: ``(F, 3)`` what is to be read: unit vectors in the camera frame.
        place: ``(F,)`` long, which of its frame's faces it is.
        most: faces of a frame at most.
    """

    grid: Tensor
    head: Tensor
    basis: Tensor
    gaze: Tensor
    place: Tensor
    most: int = 1


class GazeResNet(TargetModel[GazeTarget]):
    r"""Gaze from landmarks: pose by PnP, normalised eyes or face, a ResNet, a unit vector in the camera frame.

    .. math::
        L_G = \frac{1}{F} \sum_f \frac{\|g_f(X) - g_f\|^2}{(2 \sin 5^\circ)^2}

    with a face's gaze g_f in the reading and g_f(X) in the frame: 1 where the gaze is 10 degrees off (``loss="l2"``,
    the paper's L2 between gaze vectors, here squared so that it is smooth at 0), or the same with the angle,
    (angle / 10 degrees)^2 (``loss="angle"``).

    Landmarks may be 68 points or a detector's five. Crops and poses of the attack come from those of the reading;
    whoever reads the protected file has only the landmarks found *there*, a pixel or two off. With ``jitter`` the
    attack also asks for the gaze from that many slightly moved geometries.

    Make one with :meth:`pretrained`, or :meth:`mpiigaze`, :meth:`mpiifacegaze` and :meth:`eth_xgaze` for short.

    Args:
        net: takes normalised images, and the head's angles if ``mode`` is ``"mpiigaze"``; gives pitch and yaw in
            radians, ``(N, 2)``.
        mode: ``"mpiigaze"``, ``"mpiifacegaze"`` or ``"eth-xgaze"``: what the net was trained to see.
        camera: that took the frames; ``None``: ``Camera.default`` of the frame's size.
        loss: ``"l2"`` or ``"angle"``.
        jitter: number of moved geometries beside the true one in each target; costs as many times more.
        jitter_size: standard deviation of each landmark's movement, as a share of the distance between the eyes.

    Raises:
        ValueError: unknown mode or loss, negative jitter.

    Example:
        >>> from deidlib.geometry.face_model import face_model
        >>> points = (face_model()[:, :2] * 300 + 64).float()[None]
        >>> faces = Faces(torch.tensor([[36., 46., 92., 90.]]), torch.ones(1), points)
        >>> (read,) = GazeResNet(MPIIGazeNet(), "mpiigaze").predict(torch.rand(1, 3, 128, 128), [faces])
        >>> read.gaze.norm(dim=1).round(decimals=4)
        tensor([1.])
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "gaze"

    def __init__(
        self,
        net: nn.Module,
        mode: Mode,
        *,
        camera: Camera | None = None,
        loss: Literal["l2", "angle"] = "l2",
        jitter: int = 0,
        jitter_size: float = 0.015,
    ) -> None:
        super().__init__()
        known = _mode(mode)
        if loss not in ("l2", "angle"):
            raise ValueError(f"loss must be 'l2' or 'angle', got {loss!r}.")
        if jitter < 0 or not jitter_size >= 0:
            raise ValueError(f"jitter and jitter_size must be >= 0, got {jitter} and {jitter_size}.")
        self.net = net
        self.mode = known
        self.camera = camera
        self.loss_kind = loss
        self.jitter, self.jitter_size = jitter, jitter_size

    @classmethod
    def pretrained(
        cls,
        mode: Mode,
        weights: str | Path | None = None,
        *,
        camera: Camera | None = None,
        loss: Literal["l2", "angle"] = "l2",
        jitter: int | None = None,
        jitter_size: float = 0.015,
    ) -> Self:
        """A published network, with its weights.

        Args:
            mode: ``"mpiigaze"``: MPIIGaze (Zhang et al., TPAMI 2019), both eyes, grey 36x60, histogram equalised;
                ``"mpiifacegaze"``: MPIIFaceGaze (Zhang et al., CVPR workshops 2017), the face, BGR 224x224 from 1 m;
                ``"eth-xgaze"``: ETH-XGaze (Zhang et al., ECCV 2020), the face, RGB 224x224 from 0.6 m, ResNet-18.
            weights: a name in :mod:`deidlib.weights`, or a file of the same layout; the published ones if not given.
            camera: see :class:`GazeResNet`, as for all that follows.
            loss: ``"l2"`` or ``"angle"``.
            jitter: if not given, 8 for eye patches, which are small, and 0 for faces.
            jitter_size: as a share of the distance between the eyes.

        Raises:
            FileNotFoundError: the weights cannot be had.
            ValueError: unknown mode or loss, negative jitter.
        """
        known = _mode(mode)
        checkpoint, layout = _PUBLISHED[mode]
        net = layout()
        source = checkpoint if weights is None else weights
        checkpoints.fill(net, checkpoints.load_state(source), source)
        if jitter is None:
            jitter = _EYE_JITTER if known.channels == "grey" else 0
        return cls(net, mode, camera=camera, loss=loss, jitter=jitter, jitter_size=jitter_size)

    @classmethod
    def mpiigaze(cls, weights: str | Path | None = None, **settings: Any) -> Self:
        """:meth:`pretrained` of mode ``"mpiigaze"``."""
        return cls.pretrained("mpiigaze", weights, **settings)

    @classmethod
    def mpiifacegaze(cls, weights: str | Path | None = None, **settings: Any) -> Self:
        """:meth:`pretrained` of mode ``"mpiifacegaze"``."""
        return cls.pretrained("mpiifacegaze", weights, **settings)

    @classmethod
    def eth_xgaze(cls, weights: str | Path | None = None, **settings: Any) -> Self:
        """:meth:`pretrained` of mode ``"eth-xgaze"``."""
        return cls.pretrained("eth-xgaze", weights, **settings)

    @property
    def name(self) -> str:
        """``"mpiigaze"``, ``"mpiifacegaze"`` or ``"eth-xgaze"``."""
        return self.mode.name

    @torch.no_grad()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Read every face's gaze from its landmarks.

        For MPIIGaze, whose eyes look for themselves, a face's gaze is the normalised mean of both eyes' vectors.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].
            faces: B entries with landmarks.

        Returns:
            ``faces`` with ``gaze`` filled in; NaN for a face whose landmarks are NaN.

        Raises:
            ValueError: ``faces`` is missing, or a face has no landmarks.
        """
        check_images(images)
        faces = needs_boxes(self, images, faces)
        landmarks, frame = rows_of(faces, "landmarks").to(images), frame_of(faces).to(images.device)
        gaze = self._read(images, self._geometry(landmarks, frame, (images.shape[2], images.shape[3])))[:, 0]
        gaze[~_known(landmarks)] = torch.nan
        return [known.replace(gaze=gaze[frame == number].to(known.boxes)) for number, known in enumerate(faces)]

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> GazeTarget:
        """Each face's gaze, and the geometries to read it at; a face without a number for either has no row.

        Raises:
            ValueError: a face has no landmarks or no gaze.
        """
        landmarks, frame, gaze = rows_of(reading, "landmarks"), frame_of(reading), rows_of(reading, "gaze")
        place = torch.cat([torch.arange(len(faces), device=frame.device) for faces in reading])
        most = max([1, *(len(faces) for faces in reading)])
        rows = (_known(landmarks) & gaze.isfinite().all(dim=1)).nonzero().squeeze(1)
        landmarks, frame, gaze, place = landmarks[rows], frame[rows], normalize(gaze[rows], dim=1), place[rows]
        true = self._geometry(landmarks, frame, size)
        if not self.jitter:
            return replace(true, gaze=gaze, place=place, most=most)
        eyes = landmarks[:, :2] if landmarks.shape[1] == 5 else landmarks[:, [36, 45]]
        scale = self.jitter_size * torch.linalg.vector_norm(eyes[:, 1] - eyes[:, 0], dim=1)
        moved = (
            self._geometry(landmarks + scale[:, None, None] * offsets.to(landmarks), frame, size)
            for offsets in _offsets(self.jitter, landmarks.shape[1])
        )
        geometries = [true, *moved]
        return GazeTarget(
            frame=frame,
            grid=torch.cat([geometry.grid for geometry in geometries], dim=1),
            head=torch.cat([geometry.head for geometry in geometries], dim=1),
            basis=torch.cat([geometry.basis for geometry in geometries], dim=1),
            gaze=gaze,
            place=place,
            most=most,
        )

    def loss(self, images: Tensor, target: GazeTarget) -> Tensor:
        """L_G: squared distance, or squared angle, between the gaze now and the one wanted; 1 at 10 degrees."""
        return self._loss(self._read(images, target), images, target)

    def loss_and_reading(self, images: Tensor, target: GazeTarget) -> tuple[Tensor, Reading | None]:
        """The loss, and the gaze read by the landmarks of the reading that the target is of."""
        vectors = self._read(images, target)
        nothing = vectors.new_full((len(images), target.most, 4), torch.nan)
        gaze = nothing[..., :3].index_put((target.frame, target.place), vectors[:, 0])
        return self._loss(vectors, images, target), FaceBatch(nothing, nothing[..., 0], gaze=gaze)

    def _loss(self, vectors: Tensor, images: Tensor, target: GazeTarget) -> Tensor:
        """The loss of gaze vectors ``(F, G, 3)``."""
        square = (vectors - target.gaze.to(vectors)[:, None]).square().sum(dim=2)
        if self.loss_kind == "angle":
            square = _squared_angle(square)
            unit = _UNIT**2
        else:
            unit = (2 * math.sin(_UNIT / 2)) ** 2
        return frame_mean(square.mean(dim=1) / unit, target.frame, len(images))

    def _geometry(self, landmarks: Tensor, frame: Tensor, size: tuple[int, int]) -> GazeTarget:
        """How each face's parts are seen, at one geometry; ``gaze`` is still 0."""
        height, width = size
        camera = self.camera or Camera.default(width, height)
        rotation, translation = head_pose(landmarks, camera)
        grids, heads, bases = [], [], []
        for part in self.mode.parts:
            centers = part_centers(rotation, translation, part)
            basis = normalizing_rotation(centers, rotation)
            grid = perspective_grid(normalizing_warp(centers, basis, camera, self.mode.view), self.mode.view.size)
            head = normalized_head_angles(rotation, basis)
            if self.mode.channels == "grey" and part == "right eye":
                # The net knows left eyes only: mirror the image, the head's yaw, and the x axis of the answer.
                mirror = head.new_tensor([1.0, -1.0])
                grid, head, basis = grid.flip(2), head * mirror, basis * head.new_tensor([[-1.0], [1.0], [1.0]])
            # A pose so wild that some pixels look backwards reads black there.
            grids.append(grid.nan_to_num(nan=-1e6).clamp(-1e6, 1e6))
            heads.append(head)
            bases.append(basis)
        return GazeTarget(
            frame=frame,
            grid=torch.stack(grids, dim=1).to(landmarks)[:, None],
            head=torch.stack(heads, dim=1).to(landmarks)[:, None],
            basis=torch.stack(bases, dim=1).to(landmarks)[:, None],
            gaze=landmarks.new_zeros(len(frame), 3),
            place=torch.zeros_like(frame),
        )

    def _read(self, images: Tensor, rows: GazeTarget) -> Tensor:
        """Unit gaze vectors ``(F, G, 3)`` in the camera frame: at each geometry the mean over the parts."""
        return normalize(self._read_parts(images, rows).mean(dim=2), dim=2)

    def _read_parts(self, images: Tensor, rows: GazeTarget) -> Tensor:
        """Unit gaze vectors ``(F, G, P, 3)`` in the camera frame, one of each part."""
        faces, geometries, parts, height = rows.grid.shape[:4]
        if not faces:
            return images.new_zeros(0, geometries, parts, 3)
        # All readings of a face in one go: its frame is gathered once.
        seen = sample(images, rows.grid.to(images).flatten(1, 3), rows.frame)
        patches = seen.reshape(faces, 3, geometries * parts, height, -1).transpose(1, 2).flatten(0, 1)
        if self.mode.channels == "grey":
            angles = self.net(equalize(_grey(patches)), rows.head.to(images).flatten(0, 2))
        else:
            if self.mode.channels == "BGR":
                patches = patches.flip(1)
            mean, std = (_per_channel(v, patches.device, patches.dtype) for v in (self.mode.mean, self.mode.std))
            angles = self.net((patches - mean) / std)
        vectors = denormalize(angles_to_vectors(angles), rows.basis.to(images).flatten(0, 2))
        return vectors.reshape(faces, geometries, parts, 3)


def _known(landmarks: Tensor) -> Tensor:
    """Which faces ``(N,)`` have landmarks that tell a pose: five of them at least."""
    return five_points(landmarks).isfinite().flatten(1).all(dim=1)


def _grey(patches: Tensor) -> Tensor:
    """RGB patches as OpenCV would hold them, in bytes, and turned to grey by ``cv2.cvtColor``; (N, 1, h, w).

    The rounding passes the gradient through.
    """
    weights = _per_channel(_GREY, patches.device, patches.dtype)
    smooth = (patches * weights).sum(dim=1, keepdim=True)
    with torch.no_grad():
        levels = (patches * 255).round()
        grey = ((levels * (weights * 32768)).sum(dim=1, keepdim=True) + 16384).div(32768).floor() / 255
    return smooth + (grey - smooth).detach()


@lru_cache(maxsize=16)
def _per_channel(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    # Sent to a device once; through what is made in inference mode, by whoever asks first, no gradient would go.
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype)[:, None, None]


def _squared_angle(chord_squared: Tensor) -> Tensor:
    """The squared angle between unit vectors from their squared distance; smooth at 0, as the angle itself is not."""
    # theta = 2 asin(c / 2), by atan2; below 1e-4 rad theta^2 is c^2 to the last digit, and the root has no slope there.
    small = chord_squared < 1e-8
    safe = torch.where(small, torch.ones_like(chord_squared), chord_squared).clamp(max=4 - 1e-6)
    angle = 2 * torch.atan2(safe.sqrt(), (4 - safe).sqrt())
    return torch.where(small, chord_squared, angle.square())


def _offsets(count: int, points: int) -> Tensor:
    """Movements of landmarks ``(count, points, 2)``, always the same ones; standard normal for five points.

    68 independent movements would cancel out in the pose: those move as the nearest of the five do.
    """
    moves = torch.randn(count, 5, 2, generator=torch.Generator().manual_seed(0))
    if points == 5:
        return moves
    distance = torch.cdist(face_model(points), face_model(5))
    # Metres: half of the distance between an eye and the nose.
    nearness = torch.softmax(-0.5 * (distance / 0.02) ** 2, dim=1).float()
    return nearness @ moves
