"""Cameras, head pose, and the normalisation that gaze networks expect, with its inverse.

The camera frame has x to the right, y down, z forward, in metres. Head poses come from a generic face model
(FaceModel68 of ptgaze: 90 mm between the outer eye corners, origin at the tip of the nose), so distances are those of
an average face and orientations do not depend on it. Angles are radians.

Geometry is computed once per frame, by OpenCV, and is returned as float64 on the CPU: move what you need. It takes
landmarks and gives warps in the same pixel coordinates, as the reference implementations do.

The normalisation is that of Zhang, Sugano & Bulling, "Revisiting data normalization for appearance-based gaze
estimation" (ETRA 2018), as in ptgaze: the camera is turned towards the eye or face, with the head's x axis level, and
moved to a fixed distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from deidlib.faces import five_points
from deidlib.geometry.face_model import PARTS, face_model


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion, all values in pixels.

    Args:
        fx: focal length along x.
        fy: focal length along y.
        cx: principal point, x.
        cy: principal point, y.

    Raises:
        ValueError: a value is not finite, or a focal length is not positive.

    Example:
        >>> Camera.default(width=640, height=480)
        Camera(fx=640.0, fy=640.0, cx=320.0, cy=240.0)
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.fx, self.fy, self.cx, self.cy))):
            raise ValueError(f"a camera needs finite numbers, got {self}.")
        if not (self.fx > 0 and self.fy > 0):
            raise ValueError(f"focal lengths must be positive pixels, got fx={self.fx}, fy={self.fy}.")

    @classmethod
    def default(cls, width: int, height: int) -> Camera:
        """The guess for an unknown camera: focal length = image width, principal point in the middle."""
        return cls(float(width), float(width), width / 2, height / 2)

    @property
    def matrix(self) -> Tensor:
        """``(3, 3)`` float64, mapping camera coordinates to homogeneous pixels."""
        return torch.tensor([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]], dtype=torch.float64)

    def project(self, points: Tensor) -> Tensor:
        """Where points of the camera frame appear.

        Args:
            points: ``(..., 3)`` metres, in front of the camera (z > 0).

        Returns:
            ``(..., 2)`` pixels x, y.

        Example:
            >>> Camera(100.0, 100.0, 50.0, 40.0).project(torch.tensor([0.5, 0.0, 2.0]))
            tensor([75., 40.])
        """
        focal, centre = points.new_tensor([self.fx, self.fy]), points.new_tensor([self.cx, self.cy])
        return points[..., :2] / points[..., 2:] * focal + centre


@dataclass(frozen=True)
class NormalizedCamera:
    """The imagined camera from which a gaze network was trained to see an eye or a face.

    Args:
        focal: focal length, pixels.
        size: height and width of its images; the principal point is in their middle.
        distance: from camera to eye or face, metres.

    Raises:
        ValueError: a value is not positive.
    """

    focal: float
    size: tuple[int, int]
    distance: float

    def __post_init__(self) -> None:
        if not (self.focal > 0 and min(self.size) > 0 and self.distance > 0):
            raise ValueError(f"focal, size and distance must be positive, got {self}.")

    @property
    def camera(self) -> Camera:
        """The same without the distance."""
        height, width = self.size
        return Camera(self.focal, self.focal, width / 2, height / 2)


def head_pose(landmarks: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Head poses from landmarks, by ``cv2.solvePnP``.

    From 68 points the reprojection error is minimised iteratively, starting from a frontal face at 1 m, as the
    reference does; where that ends behind the camera, and from five points, SQPnP finds the global optimum. Of 68
    points that are not all known (NaN), the five are taken, see :meth:`deidlib.Faces.cat`.
    Where no pose fits (points that coincide, say), the face is taken to look straight along the camera's axis, at the
    points' mean.

    Args:
        landmarks: ``(N, 68, 2)`` iBUG order, or ``(N, 5, 2)``: eyes, nose, mouth corners; pixels.
        camera: the camera that took the frame.

    Returns:
        rotation ``(N, 3, 3)`` and translation ``(N, 3)`` from face model to camera frame, float64 on the CPU.

    Raises:
        ValueError: landmarks have another shape.

    Example:
        >>> camera = Camera.default(480, 480)
        >>> points = camera.project(face_model(5) + torch.tensor([0.0, 0.1, 0.6]))
        >>> rotation, translation = head_pose(points[None], camera)
        >>> bool((rotation - torch.eye(3)).abs().max() < 1e-4), translation.round(decimals=3).tolist()
        (True, [[0.0, 0.1, 0.6]])
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] not in ((68, 2), (5, 2)):
        raise ValueError(f"landmarks must have shape (N, 68, 2) or (N, 5, 2), got {tuple(landmarks.shape)}.")
    points = landmarks.detach().to("cpu", torch.float64)
    whole, five = face_model(points.shape[1]), face_model(5)
    rotation = torch.eye(3, dtype=torch.float64).repeat(len(points), 1, 1)
    translation = torch.zeros(len(points), 3, dtype=torch.float64)
    for row, face in enumerate(points):
        model = whole
        if not bool(torch.isfinite(face).all()):
            model, face = five, five_points(face)
        pose = _solve(model, face, camera)
        if pose is None:
            # The model's middle at 1 m on the ray through the middle of the points.
            x, y = face.mean(dim=0).nan_to_num().tolist()
            ray = torch.tensor([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, 1.0], dtype=torch.float64)
            translation[row] = ray - model.mean(dim=0)
        else:
            rotation[row], translation[row] = pose
    return rotation, translation


def _solve(model: Tensor, face: Tensor, camera: Camera) -> tuple[Tensor, Tensor] | None:
    import cv2
    import numpy as np

    if not bool(torch.isfinite(face).all()):
        return None
    for flag in (cv2.SOLVEPNP_SQPNP,) if len(face) == 5 else (cv2.SOLVEPNP_ITERATIVE, cv2.SOLVEPNP_SQPNP):
        # Only the iterative method reads the starting values.
        turn, shift = np.zeros((3, 1)), np.array([[0.0], [0.0], [1.0]])
        guess = flag == cv2.SOLVEPNP_ITERATIVE
        try:
            solved, turn, shift = cv2.solvePnP(
                model.numpy(), face.numpy(), camera.matrix.numpy(), None, turn, shift, guess, flag
            )
        except cv2.error:
            continue
        # OpenCV 4 and 5 return different shapes.
        position = torch.from_numpy(np.asarray(shift).ravel())
        rotation = torch.from_numpy(cv2.Rodrigues(np.asarray(turn).ravel())[0])
        if solved and bool(torch.isfinite(rotation).all() & torch.isfinite(position).all()) and position[2] > 0:
            return rotation, position
    return None


def part_centers(rotation: Tensor, translation: Tensor, part: str) -> Tensor:
    """Where eyes and faces are that gaze networks look at.

    Args:
        rotation: ``(N, 3, 3)`` head rotation.
        translation: ``(N, 3)`` head position, metres.
        part: ``"right eye"``, ``"left eye"`` (the middle of its corners), ``"eyes and mouth"`` (the mean of
            their corners: MPIIFaceGaze) or ``"eyes and nose"`` (ETH-XGaze).

    Returns:
        ``(N, 3)`` in the camera frame.

    Raises:
        ValueError: unknown part.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {list(PARTS)}, got {part!r}.")
    middle = face_model()[list(PARTS[part])].to(rotation).mean(dim=0)
    centers: Tensor = rotation @ middle + translation
    return centers


def normalizing_rotation(centers: Tensor, head_rotation: Tensor) -> Tensor:
    """The rotation from the camera to the normalised camera, which looks at ``centers`` with the head upright.

    Args:
        centers: ``(N, 3)`` what to look at, camera frame.
        head_rotation: ``(N, 3, 3)``.

    Returns:
        ``(N, 3, 3)``: its rows are the normalised camera's axes.
    """
    z = _unit(centers)
    y = _unit(torch.linalg.cross(z, head_rotation[:, :, 0]))
    x = _unit(torch.linalg.cross(y, z))
    return torch.stack([x, y, z], dim=1)


def normalizing_warp(centers: Tensor, normalizing: Tensor, camera: Camera, view: NormalizedCamera) -> Tensor:
    """The perspective warp from frames to normalised images.

    Args:
        centers: ``(N, 3)`` what the normalised camera looks at, camera frame.
        normalizing: ``(N, 3, 3)`` from :func:`normalizing_rotation`.
        camera: the camera that took the frame.
        view: the normalised camera.

    Returns:
        ``(N, 3, 3)`` mapping frame pixels to pixels of the normalised image, for
        :func:`deidlib.geometry.warp.warp_perspective` or ``cv2.warpPerspective``.
    """
    stretch = torch.ones_like(centers)
    stretch[:, 2] = view.distance / torch.linalg.vector_norm(centers, dim=1)
    turned = stretch[:, :, None] * normalizing
    warp: Tensor = view.camera.matrix.to(turned) @ turned @ torch.linalg.inv(camera.matrix).to(turned)
    return warp


def normalized_head_angles(head_rotation: Tensor, normalizing: Tensor) -> Tensor:
    """The head's pitch and yaw beside the eye patch, as the MPIIGaze network was trained with them.

    (The product of the rotations is the one of ptgaze, head times normalising, not the reverse.)

    Args:
        head_rotation: ``(N, 3, 3)``.
        normalizing: ``(N, 3, 3)``.

    Returns:
        ``(N, 2)`` radians.
    """
    angles = euler_angles(head_rotation @ normalizing)[:, :2]
    return angles * angles.new_tensor([1.0, -1.0])


def euler_angles(rotation: Tensor) -> Tensor:
    """Angles a, b, c with rotation = Rx(a) Ry(b) Rz(c), b in [-pi/2, pi/2].

    Args:
        rotation: ``(N, 3, 3)``.

    Returns:
        ``(N, 3)`` radians: for a head pose pitch, yaw and roll about the camera's axes, in that order.

    Example:
        >>> euler_angles(torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])).rad2deg()
        tensor([[-0.,  0., 90.]])
    """
    r = rotation
    a = torch.atan2(-r[:, 1, 2], r[:, 2, 2])
    b = torch.atan2(r[:, 0, 2], torch.hypot(r[:, 1, 2], r[:, 2, 2]))
    c = torch.atan2(-r[:, 0, 1], r[:, 0, 0])
    return torch.stack([a, b, c], dim=1)


def angles_to_vectors(angles: Tensor) -> Tensor:
    """Unit gaze vectors from what gaze networks put out.

    Args:
        angles: ``(..., 2)`` pitch and yaw, radians; (0, 0) looks straight into the camera.

    Returns:
        ``(..., 3)``.

    Example:
        >>> angles_to_vectors(torch.zeros(2)) + 0
        tensor([ 0.,  0., -1.])
    """
    pitch, yaw = angles.unbind(dim=-1)
    return -torch.stack([pitch.cos() * yaw.sin(), pitch.sin(), pitch.cos() * yaw.cos()], dim=-1)


def vectors_to_angles(vectors: Tensor) -> Tensor:
    """Pitch and yaw ``(..., 2)`` of vectors ``(..., 3)`` of any length: the inverse of :func:`angles_to_vectors`."""
    x, y, z = vectors.unbind(dim=-1)
    return torch.stack([torch.atan2(-y, torch.hypot(x, z)), torch.atan2(-x, -z)], dim=-1)


def denormalize(vectors: Tensor, normalizing: Tensor) -> Tensor:
    """Vectors ``(N, 3)`` of the normalised cameras ``(N, 3, 3)`` in the camera frame."""
    turned: Tensor = torch.einsum("ni,nij->nj", vectors, normalizing)
    return turned


def angle_between(a: Tensor, b: Tensor) -> Tensor:
    """The angle between vectors, of any length.

    By ``2 atan2(|u - v|, |u + v|)`` of the unit vectors: exactly 0 for equal directions, and accurate near 0 and pi,
    where ``acos`` is not.

    Args:
        a: ``(..., 3)``.
        b: ``(..., 3)``, broadcastable.

    Returns:
        ``(...)`` radians in [0, pi]; NaN where a vector has no direction (length 0).

    Example:
        >>> angle_between(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])).rad2deg()
        tensor(45.)
    """
    # |a x b| of equal vectors is not always 0: fused multiply-add rounds the two products differently.
    u, v = normalize(a, dim=-1), normalize(b, dim=-1)
    angle = 2 * torch.atan2(torch.linalg.vector_norm(u - v, dim=-1), torch.linalg.vector_norm(u + v, dim=-1))
    return angle.where(a.any(dim=-1) & b.any(dim=-1), angle.new_full((), torch.nan))


def project_axes(rotation: Tensor, translation: Tensor, camera: Camera, length: float = 0.05) -> Tensor:
    """The axes of a head, for drawing.

    Args:
        rotation: ``(N, 3, 3)`` head rotation.
        translation: ``(N, 3)`` where the axes start: the head's position is the tip of the nose.
        camera: the camera that took the frame.
        length: of each axis, metres.

    Returns:
        ``(N, 4, 2)`` pixels: origin and the ends of x (subject's left), y (down) and z (into the head).
    """
    ends = torch.cat([rotation.new_zeros(1, 3), length * torch.eye(3).to(rotation)])
    return camera.project(ends @ rotation.mT + translation[:, None])


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return unit
