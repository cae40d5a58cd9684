"""``average_face``: a face of nobody, made of several people's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle
from deidlib.images import check_images
from deidlib.models.base import FaceModel
from deidlib.nets.precision import full_precision
from deidlib.swap import outline
from deidlib.swap.landmarks import landmarks_of, read_landmarks
from deidlib.swap.lattice import Lattice, Pyramid
from deidlib.swap.shape import STRAIGHT, mirrored, normal, skewness, turned_to
from deidlib.swap.tps import ThinPlate

# The face's width, and where its middle lies, as shares of the picture.
_WIDTH, _MIDDLE = 0.45, (0.5, 0.55)
_ROUNDS = 5
_AROUND = 16
_STIFFNESS = 1e-3


@full_precision()
@torch.no_grad()
def average_face(
    images: Sequence[Tensor],
    landmarks: FaceModel | Sequence[FaceModel] = (),
    *,
    faces: Sequence[Faces] | None = None,
    size: int = 512,
) -> Tensor:
    """The mean of all faces in some pictures, and of their mirror images: a face that belongs to nobody.

    Every face is bent to the mean of their shapes (Procrustes: without their places, sizes and tilts), and the colours
    are averaged. The result looks straight ahead. The more people, the less it has of each: of two it still looks
    like both. See ``docs/swap.md`` for how much.

    Args:
        images: pictures ``(1, 3, H, W)`` RGB in [0, 1], of any sizes, with two faces or more in all.
        landmarks: models that find them, as for :class:`WarpSwapper`.
        faces: one entry per picture: where faces are, if that is known.
        size: side of the result.

    Returns:
        ``(1, 3, size, size)`` RGB in [0, 1].

    Raises:
        TypeError: a picture is not a float tensor.
        ValueError: fewer than two faces, a face without landmarks, or one turned aside.

    Example:
        >>> from deidlib.geometry.face_model import face_model
        >>> points = (face_model()[:, :2] * 300 + 32).float()[None]
        >>> faces = [Faces(torch.tensor([[8., 14., 56., 58.]]), torch.ones(1), points)] * 2
        >>> pictures = [torch.full((1, 3, 64, 64), 0.2), torch.full((1, 3, 64, 64), 0.6)]
        >>> average_face(pictures, faces=faces, size=64)[0, :, 32, 32]
        tensor([0.4000, 0.4000, 0.4000])
    """
    models = tuple(landmarks) if isinstance(landmarks, Sequence) else (landmarks,)
    if faces is not None and len(faces) != len(images):
        raise ValueError(f"faces must hold one Faces per picture: got {len(faces)} for {len(images)} pictures.")
    pictures, shapes = [], []
    for number, image in enumerate(images):
        check_images(image, name=f"picture {number}")
        known = read_landmarks(image, models)[0] if faces is None else faces[number]
        (rows,) = landmarks_of(image, [known], models)
        for k, points in enumerate(rows):
            if points is None:
                raise ValueError(
                    f"face {k} of picture {number} has no landmarks: give models that read them, such as MTCNN()."
                )
            pictures.append(image.detach().cpu())
            shape = outline.all_points(points.detach().cpu(), known.boxes[k])
            if skewness(shape) > STRAIGHT:
                raise ValueError(
                    f"face {k} of picture {number}, at {[round(v) for v in known.boxes[k].tolist()]}, is turned aside "
                    "too far to be averaged: leave it out of faces, or take people who look towards the camera."
                )
            shapes.append(shape)
    if len(shapes) < 2:
        raise ValueError(
            f"the average of {len(shapes)} faces is no face of nobody: give pictures of two people or more."
        )
    pyramids = [Pyramid(image) for image in pictures] + [Pyramid(image.flip(-1)) for image in pictures]
    reflected = [mirrored(shape, image.shape[3]) for shape, image in zip(shapes, pictures, strict=True)]
    every = torch.stack([*shapes, *reflected])
    mean = _placed(mean_shape(every), size)
    total = torch.zeros(3, size, size)
    for shape, pyramid in zip(every, pyramids, strict=True):
        total += _bent(shape, mean, pyramid, size).to(total)
    return (total / len(every)).clamp(0, 1)[None].to(images[0])


def mean_shape(shapes: Tensor) -> Tensor:
    """The mean of shapes, whatever their places, sizes and tilts (Procrustes).

    Args:
        shapes: ``(N, P, 2)``.

    Returns:
        ``(P, 2)``, around (0, 0), of size 1 (root of the summed squares), as tilted as the first.

    Example:
        >>> triangle = torch.tensor([[0., 0.], [1., 0.], [0., 1.]])
        >>> mean_shape(torch.stack([triangle, 5 * triangle + 7])).round(decimals=3)
        tensor([[-0.2890, -0.2890],
                [ 0.5770, -0.2890],
                [-0.2890,  0.5770]])
    """
    numbers = normal(shapes)
    mean = numbers[0]
    for _ in range(_ROUNDS):
        mean = turned_to(numbers, mean).mean(dim=0)
        mean = mean / mean.abs().square().sum().sqrt()
    return torch.view_as_real(mean)


def _placed(shape: Tensor, size: int) -> Tensor:
    """A shape upright and in the middle of a picture."""
    eyes = shape[36:42].mean(dim=0), shape[42:48].mean(dim=0)
    across = eyes[1] - eyes[0]
    turn = torch.stack([across, torch.stack([-across[1], across[0]])]) / across.norm()
    upright = (shape - shape.mean(dim=0)) @ turn.T
    upright = upright * (_WIDTH * size / (upright[:, 0].amax() - upright[:, 0].amin()))
    middle = (upright.amin(dim=0) + upright.amax(dim=0)) / 2
    placed: Tensor = upright - middle + upright.new_tensor(_MIDDLE) * size
    return placed


def _bent(shape: Tensor, mean: Tensor, pyramid: Pyramid, size: int) -> Tensor:
    """A picture bent so that its face has the mean shape: ``(3, size, size)``."""
    # Around the face the picture is turned and scaled as a whole, or the spline would run wild there.
    here, there = torch.view_as_complex(mean), torch.view_as_complex(shape)
    start, end = here.mean(), there.mean()
    factor: Tensor = ((here - start).conj() * (there - end)).sum() / (here - start).abs().square().sum()
    angle = torch.arange(_AROUND, dtype=torch.float64) * (2 * math.pi / _AROUND)
    ring = size / 2 + 0.75 * size * torch.stack([angle.cos(), angle.sin()], dim=1)
    anchors = torch.view_as_real((torch.view_as_complex(ring) - start) * factor + end)
    plate = ThinPlate.fit(torch.cat([mean, ring]), torch.cat([shape, anchors]), stiffness=_STIFFNESS)
    return pyramid.read(Lattice(plate, Rectangle(0, 0, size, size)), float(factor.abs()))
