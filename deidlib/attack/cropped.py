"""``CroppedDistortion``: a distortion of frames of which only a part changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from deidlib.attack.distortions import Distortion
from deidlib.geometry.boxes import Rectangle, grid_window

# Blocks of all channels begin on this grid.
_GRID = 16
# A part that covers more of its frame than this is not worth cutting out.
_WHOLE = 0.75


class CroppedDistortion(Distortion):
    """A channel on frames that differ from known ones within a mask only.

    A perturbation stays within the face's region, and what a codec makes of a pixel goes by those around it. So the
    channel is run on the surroundings of the region, and the rest of its result is that of the known frames.

    Args:
        channel: one with a ``reach``.
        start: ``(B, 3, H, W)`` the known frames.
        places: per frame where it may change and be changed by that; see :func:`local`.
    """

    def __init__(self, channel: Distortion, start: Tensor, places: Sequence[Rectangle]) -> None:
        self.channel, self.places = channel, tuple(places)
        with torch.no_grad():
            self.known = channel(start)

    def __call__(self, images: Tensor) -> Tensor:
        """What a reader sees of the known frames, changed within the mask."""
        assert self.channel.reach is not None
        height, width = images.shape[-2:]
        seen = []
        for image, known, inner in zip(images, self.known, self.places, strict=True):
            outer = grid_window(inner, self.channel.reach, _GRID, height, width)
            part = self.channel(image[None, :, outer.top : outer.bottom, outer.left : outer.right])[0]
            left, top = inner.left - outer.left, inner.top - outer.top
            height_in, width_in = inner.bottom - inner.top, inner.right - inner.left
            shown = known.clone()
            shown[:, inner.top : inner.bottom, inner.left : inner.right] = part[
                :, top : top + height_in, left : left + width_in
            ]
            seen.append(shown)
        return torch.stack(seen)

    def select(self, rows: Tensor) -> Self:
        """The channel of some of the frames."""
        other = object.__new__(type(self))
        other.channel, other.known = self.channel, self.known[rows]
        other.places = tuple(self.places[row] for row in rows.tolist())
        return other


def local(channel: Distortion, start: Tensor, mask: Tensor) -> CroppedDistortion | None:
    """The channel on frames that change within a mask only, where that is worth the trouble.

    Args:
        channel: any.
        start: ``(B, 3, H, W)`` the frames before any change.
        mask: ``(B, 1, H, W)``, above 0 where they may change.

    Returns:
        None if the channel does not say how far a pixel reaches, if the frames' sides are odd (a part of even sides
        would be stored in another way), or if the mask covers much of every frame.
    """
    height, width = start.shape[-2:]
    if channel.reach is None or height % 2 or width % 2:
        return None
    whole = Rectangle(0, 0, width, height)
    places: list[Rectangle] = []
    for row in mask[:, 0] > 0:
        ys, xs = row.any(dim=1).nonzero(), row.any(dim=0).nonzero()
        # Where nothing may change, any part will do.
        box = (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1) if len(ys) else (0, 0, 1, 1)
        place = grid_window(box, channel.reach, _GRID, height, width)
        x1, y1, x2, y2 = grid_window(place, channel.reach, _GRID, height, width)
        # Each frame by itself: how one is computed must not depend on those beside it.
        places.append(whole if (x2 - x1) * (y2 - y1) > _WHOLE * height * width else place)
    return None if all(place == whole for place in places) else CroppedDistortion(channel, start, places)
