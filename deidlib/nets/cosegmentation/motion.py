"""Parts of a face and how they move: affine motions, a field of them, and pictures sampled along it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate


class Parts(NamedTuple):
    """What the segmentation net sees in an image: K parts and the background.

    Positions are (x, y), -1 to 1 from the centre of the first pixel to that of the last.

    Args:
        shift: ``(B, K, 2)`` where each part is.
        affine: ``(B, K, 2, 2)`` how it is turned and scaled; ``None``: it only moves.
        masks: ``(B, K + 1, h, w)`` how much of a pixel belongs to each, summing to 1, the background first;
            ``None`` if the net has no head for it.
    """

    shift: Tensor
    affine: Tensor | None
    masks: Tensor | None

    def expand(self, count: int) -> Parts:
        """The parts of one image, for each of ``count``."""
        if len(self.shift) == count:
            return self
        return Parts(
            self.shift.expand(count, -1, -1),
            None if self.affine is None else self.affine.expand(count, -1, -1, -1),
            None if self.masks is None else self.masks.expand(count, -1, -1, -1),
        )


class Motion(NamedTuple):
    """Where to look in the source for what is in a target, and what can be seen of it.

    Args:
        field: ``(B, h, w, 2)`` (x, y) in the source for every place of the target.
        visibility: ``(B, 1, h, w)`` in [0, 1]; ``None``: everything.
    """

    field: Tensor
    visibility: Tensor | None


class SegmentMotion(nn.Module):
    """Every place moves with the part that it belongs to (co-part segmentation, no weights of its own).

    What is background in the target and a part in the source is not visible.

    Args:
        visibility: whether to say what is visible.
    """

    def __init__(self, *, visibility: bool = True) -> None:
        super().__init__()
        self.visibility = visibility

    def forward(self, image: Tensor, source: Parts, target: Parts) -> Motion:
        """The motion from target to source.

        Args:
            image: ``(B, 3, H, W)`` the source; not looked at, the parts say it all.
            source: its parts.
            target: the parts of the targets.

        Raises:
            ValueError: parts without masks.
        """
        if source.masks is None or target.masks is None:
            raise ValueError("motion by segments needs the parts' masks, and these Parts have none.")
        motions = part_motions(source, target, target.masks.shape[-2], target.masks.shape[-1])
        field = (motions * target.masks[..., None]).sum(dim=1)
        if not self.visibility:
            return Motion(field, None)
        was = source.masks[:, 1:].sum(dim=1, keepdim=True)
        now = target.masks[:, 1:].sum(dim=1, keepdim=True)
        return Motion(field, 1 - was * (1 - now))


def coordinate_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Every pixel's position (x, y), -1 to 1 from the first pixel's centre to the last one's.

    Returns:
        ``(height, width, 2)``, device and dtype of ``like``.

    Example:
        >>> coordinate_grid(2, 3, torch.zeros(1))[1]
        tensor([[-1.,  1.],
                [ 0.,  1.],
                [ 1.,  1.]])
    """
    x = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype)
    y = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def part_motions(source: Parts, target: Parts, height: int, width: int) -> Tensor:
    """Where in the source a place of the target is, if it belongs to one part or another.

    For part k it is ``A_s inv(A_t) (z - p_t) + p_s``, with p the shifts and A the affine parts; for the background
    it is ``z``.

    Returns:
        ``(B, K + 1, height, width, 2)``, the background first.
    """
    grid = coordinate_grid(height, width, target.shift)
    moved = grid - target.shift[:, :, None, None]
    if source.affine is not None and target.affine is not None:
        affine = source.affine @ _inverse(target.affine)
        moved = torch.einsum("bkij,bkhwj->bkhwi", affine, moved)
    moved = moved + source.shift[:, :, None, None]
    return torch.cat([grid.expand(len(moved), 1, -1, -1, -1), moved], dim=1)


def sample(images: Tensor, field: Tensor, *, align_corners: bool) -> Tensor:
    """Images as seen along a field; black where it leaves them.

    Args:
        images: ``(B, C, H, W)``.
        field: ``(B, h, w, 2)``, resized to H, W if it is another size.
        align_corners: whether -1 and 1 mean the centres of the outermost pixels, or their outer edges.

    Returns:
        ``(B, C, H, W)``.
    """
    if field.shape[1:3] != images.shape[-2:]:
        resized = interpolate(field.permute(0, 3, 1, 2), size=images.shape[-2:], mode="bilinear", align_corners=False)
        field = resized.permute(0, 2, 3, 1)
    return grid_sample(images, field, mode="bilinear", padding_mode="zeros", align_corners=align_corners)


def _inverse(matrices: Tensor) -> Tensor:
    """Of 2x2 matrices, in closed form: no library call that waits for the device or raises for one in a batch."""
    a, b, c, d = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 0], matrices[..., 1, 1]
    adjugate = torch.stack([d, -b, -c, a], dim=-1).reshape(matrices.shape)
    return adjugate / (a * d - b * c)[..., None, None]
