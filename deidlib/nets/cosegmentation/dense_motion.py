"""The dense motion net of the first-order model: from how key points move to how every place does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deidlib.nets.cosegmentation.blocks import Hourglass, Shrink
from deidlib.nets.cosegmentation.motion import Motion, Parts, coordinate_grid, part_motions, sample


class DenseMotion(nn.Module):
    """Which of the parts' motions each place follows, and what of the source is visible (arXiv 2003.00196, 3.2).

    It is shown, for the background and for each part, the source moved by that motion alone and how the part's
    place differs between source and target (two Gaussians, eq. 6); it answers with a softmax over the motions.

    Args:
        parts: K, how many beside the background.
        widths: channels of the hourglass, see :class:`Hourglass`.
        visibility: whether there is a head that says what is visible.
        shrink: by what factor the source is made smaller before anything else.
        variance: of the Gaussians, image width 2.
        align_corners: see :func:`sample`.
    """

    def __init__(
        self,
        parts: int = 10,
        widths: Sequence[int] = (64, 128, 256, 512, 1024, 1024),
        *,
        visibility: bool = True,
        shrink: int = 4,
        variance: float = 0.01,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.variance = variance
        self.multiple = shrink * 2 ** (len(widths) - 1)  # what height and width must be divisible by
        self.align_corners = align_corners
        self.hourglass = Hourglass(4 * (parts + 1), widths)
        self.mask = nn.Conv2d(self.hourglass.outputs, parts + 1, 7, padding=3)
        self.occlusion = nn.Conv2d(self.hourglass.outputs, 1, 7, padding=3) if visibility else None
        self.down = Shrink(3, shrink) if shrink > 1 else None

    def forward(self, image: Tensor, source: Parts, target: Parts) -> Motion:
        """The motion from target to source.

        Args:
            image: ``(B, 3, H, W)`` the source, RGB in [0, 1]; one for all targets, or one for each.
            source: its parts, one or B likewise.
            target: the parts of the B targets.

        Returns:
            Field and visibility at ``H / shrink``.
        """
        small = image if self.down is None else self.down(image)
        small = small.expand(len(target.shift), -1, -1, -1)
        motions = part_motions(source, target, small.shape[-2], small.shape[-1])
        seen = torch.cat([self.differences(source, target, small), self.moved(small, motions)], dim=2)
        features = self.hourglass(seen.flatten(1, 2))
        follows = self.mask(features).softmax(dim=1)
        field = (motions * follows[..., None]).sum(dim=1)
        return Motion(field, None if self.occlusion is None else self.occlusion(features).sigmoid())

    def moved(self, image: Tensor, motions: Tensor) -> Tensor:
        """The source moved by each part's motion alone.

        Args:
            image: ``(B, 3, h, w)``.
            motions: ``(B, K + 1, h, w, 2)``.

        Returns:
            ``(B, K + 1, 3, h, w)``.
        """
        count = motions.shape[1]
        images = image.repeat_interleave(count, dim=0)
        moved = sample(images, motions.flatten(0, 1), align_corners=self.align_corners)
        return moved.reshape(-1, count, *image.shape[1:])

    def differences(self, source: Parts, target: Parts, like: Tensor) -> Tensor:
        """Gaussians at the target's places minus those at the source's, nothing for the background.

        Returns:
            ``(B, K + 1, 1, h, w)``, the size of ``like``.
        """
        grid = coordinate_grid(like.shape[-2], like.shape[-1], like)
        here, there = (
            torch.exp((grid - parts.shift[:, :, None, None]).square().sum(dim=-1) / (-2 * self.variance))
            for parts in (target, source)
        )
        return nn.functional.pad(here - there, (0, 0, 0, 0, 1, 0))[:, :, None]
