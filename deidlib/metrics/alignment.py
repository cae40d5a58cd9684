"""Aligned faces: turned, scaled and cut out so that eyes, nose and mouth lie where a recogniser expects them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deidlib.faces import Faces, five_points
from deidlib.geometry.warp import warp_perspective
from deidlib.images import check_image_shape
from deidlib.nets.precision import full_precision

SIZE = 112
"""Side of an aligned face, pixels."""

ARCFACE_TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Where ArcFace (Deng et al., arXiv 1801.07698) and its successors expect the five points, pixels of 112 x 112."""


@full_precision()
def similarity(source: Tensor, target: Tensor) -> Tensor:
    """The rotation, scale and shift that bring points onto others with the least squared distance (Umeyama, 1991).

    Args:
        source: ``(N, P, 2)``.
        target: ``(N, P, 2)``, or ``(P, 2)`` for all.

    Returns:
        ``(N, 3, 3)`` mapping source to target, never mirroring. Where all source points coincide, they are shifted to
        the target's mean without a change of size.

    Example:
        >>> square = torch.tensor([[0., 0.], [1., 0.], [1., 1.], [0., 1.]])
        >>> turned = torch.stack([-square[:, 1], square[:, 0]], dim=1) * 2 + torch.tensor([5., 0.])
        >>> similarity(square[None], turned)[0].tolist()
        [[0.0, -2.0, 5.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    target = target.expand_as(source)
    middle, goal = source.mean(dim=1), target.mean(dim=1)
    s, t = source - middle[:, None], target - goal[:, None]
    # In the plane the least-squares similarity is one complex factor: sum(conj(s) t) / sum(|s|^2).
    spread = s.square().sum(dim=(1, 2))
    real = (s * t).sum(dim=(1, 2)) / spread
    imaginary = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(dim=1) / spread
    real, imaginary = torch.where(spread > 0, real, 1.0), torch.where(spread > 0, imaginary, 0.0)
    turn = torch.stack([torch.stack([real, -imaginary], dim=1), torch.stack([imaginary, real], dim=1)], dim=1)
    matrix = torch.eye(3, dtype=source.dtype, device=source.device).repeat(len(source), 1, 1)
    matrix[:, :2, :2] = turn
    matrix[:, :2, 2] = goal - (turn @ middle[..., None])[..., 0]
    return matrix


def align(images: Tensor, faces: Sequence[Faces]) -> Tensor:
    """Cut every face out of its frame, aligned to :data:`ARCFACE_TEMPLATE`.

    The points need not come from ``images``: to give an attacker the best case, align the protected frame by the
    original's points. They are used in OpenCV's pixel coordinates, as recognisers' own preprocessing does.

    Args:
        images: ``(B, 3, H, W)`` RGB in [0, 1].
        faces: B entries with landmarks (68 or five).

    Returns:
        ``(F, 3, 112, 112)``, frame by frame, face by face: F is the number of faces in all. Black outside the frame.

    Raises:
        TypeError, ValueError: images are no batch, there is not one ``Faces`` per frame, or faces lack landmarks.
    """
    return aligned(images, faces, margin=0)


@full_precision()
def aligned(images: Tensor, faces: Sequence[Faces], *, margin: int) -> Tensor:
    """As :func:`align`, with what lies around.

    Args:
        images: ``(B, 3, H, W)`` RGB in [0, 1].
        faces: B entries with landmarks (68 or five).
        margin: pixels of the aligned face on each of its sides.

    Returns:
        ``(F, 3, S, S)`` with ``S = 112 + 2 margin``.

    Raises:
        TypeError, ValueError: as for :func:`align`.
    """
    check_image_shape(images)
    if len(faces) != len(images):
        raise ValueError(f"expected one Faces per frame: {len(images)} frames, got {len(faces)} entries.")
    points, frame = [images.new_zeros(0, 5, 2)], []
    for index, known in enumerate(faces):
        if not len(known):
            continue
        if known.landmarks is None:
            raise ValueError(
                f"alignment needs landmarks, and the faces of frame {index} have none. "
                "Use a reader that gives five points (RetinaFace, MTCNN, YuNet) or 68 (FAN, PFLD)."
            )
        points.append(five_points(known.landmarks).to(images))
        frame += [index] * len(known)
    source = torch.cat(points)
    matrices = similarity(source, source.new_tensor(ARCFACE_TEMPLATE) + margin)
    rows = torch.tensor(frame, dtype=torch.long, device=images.device)
    side = SIZE + 2 * margin
    return warp_perspective(images, matrices, (side, side), rows)
