"""``Distortion``: what may happen to a frame after it leaves; ``CroppedDistortion``: where but a part changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deidlib.geometry.boxes import Rectangle, grid_window

# Blocks of all distortions begin on this grid.
_GRID = 16
# A part that covers more of its frame than this is not worth cutting out.
_WHOLE = 0.75


class Distortion(ABC):
    """What may happen to a frame after it leaves: frames go in, what a reader will see comes out.

    A distortion leaves nothing to chance, so that iterates can be compared and a run repeated; it treats every frame
    by itself; and it passes gradients on, straight through what has none (rounding, clipping). Those here give the same
    bits whatever the batch, the number of threads and the processor.

    Example:
        >>> class Darker(Distortion):
        ...     def __call__(self, images):
        ...         return images / 2
        >>> Darker()(torch.ones(1, 3, 4, 4)).max()
        tensor(0.5000)
    """

    @property
    def reach(self) -> int | None:
        """How many pixels away a pixel may have an effect, on blocks that begin at multiples of 16; None: anywhere."""
        return None

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """What a reader sees.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1], any size.

        Returns:
            A tensor of the same shape, in [0, 1].
        """

    def within(self, start: Tensor, mask: Tensor) -> Distortion:
        """The same on frames that differ from known ones within a mask only, where that is less work.

        A perturbation stays within the face's region, and what a codec makes of a pixel goes by those around it: so
        only the surroundings of the region need be computed anew.

        Args:
            start: ``(B, 3, H, W)`` the known frames.
            mask: broadcasts to ``(B, 3, H, W)``; above 0 where they may change.

        Returns:
            Itself if it has no ``reach``, if the frames' sides are odd (a part of even sides would be stored in another
            way), or if the mask covers much of every frame.
        """
        height, width = start.shape[-2:]
        if self.reach is None or height % 2 or width % 2:
            return self
        whole = Rectangle(0, 0, width, height)
        places: list[Rectangle] = []
        for row in mask.amax(dim=1).expand(-1, height, width) > 0:
            ys, xs = row.any(dim=1).nonzero(), row.any(dim=0).nonzero()
            # Where nothing may change, any part will do.
            box = (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1) if len(ys) else (0, 0, 1, 1)
            place = grid_window(box, self.reach, _GRID, height, width)
            x1, y1, x2, y2 = grid_window(place, self.reach, _GRID, height, width)
            # Each frame by itself: how one is computed must not depend on those beside it.
            places.append(whole if (x2 - x1) * (y2 - y1) > _WHOLE * height * width else place)
        if all(place == whole for place in places):
            return self
        with torch.no_grad():
            return CroppedDistortion(self, self(start), tuple(places))

    def select(self, rows: Tensor) -> Distortion:
        """The distortion of some frames of a batch: called when finished frames leave it.

        Args:
            rows: ``(K,)`` long.
        """
        return self


@dataclass(frozen=True, eq=False)
class CroppedDistortion(Distortion):
    """A distortion of frames that differ from known ones within a mask only: see :meth:`Distortion.within`.

    It is run on the surroundings of what may change, and the rest of the result is that of the known frames.

    Args:
        inner: a distortion with a ``reach``.
        known: ``(B, 3, H, W)`` what it makes of the known frames.
        places: per frame what may come out otherwise.
    """

    inner: Distortion
    known: Tensor
    places: tuple[Rectangle, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """What a reader sees of the known frames, changed within the mask."""
        assert self.inner.reach is not None
        height, width = images.shape[-2:]
        seen = []
        for image, known, inner in zip(images, self.known, self.places, strict=True):
            outer = grid_window(inner, self.inner.reach, _GRID, height, width)
            part = self.inner(image[None, :, outer.top : outer.bottom, outer.left : outer.right])[0]
            left, top = inner.left - outer.left, inner.top - outer.top
            height_in, width_in = inner.bottom - inner.top, inner.right - inner.left
            shown = known.clone()
            shown[:, inner.top : inner.bottom, inner.left : inner.right] = part[
                :, top : top + height_in, left : left + width_in
            ]
            seen.append(shown)
        return torch.stack(seen)

    def select(self, rows: Tensor) -> CroppedDistortion:
        """The distortion of some of the frames."""
        return replace(self, known=self.known[rows], places=tuple(self.places[row] for row in rows.tolist()))
