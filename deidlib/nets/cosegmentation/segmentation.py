"""The segmentation net: which parts an image has, where they are, and how they are turned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deidlib.nets.cosegmentation.blocks import Hourglass, Shrink
from deidlib.nets.cosegmentation.motion import Parts, coordinate_grid


class PartSegmentation(nn.Module):
    """Parts of an image, found without labels by how they move (Siarohin et al., arXiv 2004.03234).

    ``forward(images)`` takes ``(B, 3, H, W)``, RGB in [0, 1], and gives :class:`Parts`, masks at ``H / shrink``.
    A part's place is the mean position under the softmax of its heat map; its affine part the mean of a map of
    matrices under the same weights.

    Args:
        parts: K, how many beside the background.
        widths: channels of the hourglass, see :class:`Hourglass`.
        affine: whether the parts turn and scale, or only move.
        masks: whether there is a head for the masks; first-order models have key points only.
        shrink: by what factor images are made smaller before anything else.
        temperature: of the heat maps' softmax.

    Example:
        >>> net = PartSegmentation(10, (8, 16, 32)).eval()
        >>> with torch.no_grad():
        ...     parts = net(torch.rand(2, 3, 64, 64))
        >>> tuple(parts.shift.shape), tuple(parts.affine.shape), tuple(parts.masks.shape)
        ((2, 10, 2), (2, 10, 2, 2), (2, 11, 16, 16))
    """

    def __init__(
        self,
        parts: int = 10,
        widths: Sequence[int] = (32, 64, 128, 256, 512, 1024),
        *,
        affine: bool = True,
        masks: bool = True,
        shrink: int = 4,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.multiple = shrink * 2 ** (len(widths) - 1)  # what height and width must be divisible by
        self.predictor = Hourglass(3, widths)
        channels = self.predictor.outputs
        self.shift = nn.Conv2d(channels, parts, 7, padding=3)
        self.affine = nn.Conv2d(channels, 4 * parts, 7, padding=3) if affine else None
        self.segmentation = nn.Conv2d(channels, 1 + parts, 7, padding=3) if masks else None
        self.down = Shrink(3, shrink) if shrink > 1 else None

    def forward(self, images: Tensor) -> Parts:
        """The parts of each image."""
        features = self.predictor(images if self.down is None else self.down(images))
        logits: Tensor = self.shift(features)
        height, width = logits.shape[-2:]
        weights = (logits.flatten(2) / self.temperature).softmax(dim=2)  # (B, K, h * w)
        shift = weights @ coordinate_grid(height, width, images).flatten(0, 1)
        affine = None
        if self.affine is not None:
            matrices = self.affine(features).reshape(*weights.shape[:2], 2, 2, -1)
            affine = torch.einsum("bkp,bkijp->bkij", weights, matrices)
        masks = None if self.segmentation is None else self.segmentation(features).softmax(dim=1)
        return Parts(shift, affine, masks)
