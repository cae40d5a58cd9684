"""``Cover``: faces hidden where a tracker says that they are, and the pixels that this changes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle
from deidlib.images import to_grid
from deidlib.obfuscate import Concealment, Obfuscator
from deidlib.swap.base import FaceSwapper
from deidlib.tracking import TrackedFrame


@dataclass(frozen=True)
class Cover:
    """Hide faces where they were found, filled in or held.

    Args:
        obfuscator: how.
    """

    obfuscator: Concealment

    def __call__(
        self, originals: Tensor, tracked: Sequence[TrackedFrame]
    ) -> tuple[Tensor, Sequence[Mapping[str, int]]]:
        """Hide what is to be hidden.

        Args:
            originals: ``(B, 3, H, W)`` in [0, 1].
            tracked: where faces are hidden in each.

        Returns:
            ``(B, 3, H, W)`` on the uint8 grid; and how many faces of each frame a swapper swapped, and why not others.
        """
        places, swaps = [self._places(frame) for frame in tracked], list[Mapping[str, int]]()
        if isinstance(self.obfuscator, FaceSwapper):
            images, outcomes = self.obfuscator.with_outcomes(originals, places)
            swaps = [
                {} if frame.treatment == "whole-frame" else Counter(row)
                for frame, row in zip(tracked, outcomes, strict=True)
            ]
        else:
            images = self.obfuscator(originals, places)
        hidden = to_grid(images)
        covered = [i for i, frame in enumerate(tracked) if frame.treatment == "whole-frame"]
        if covered:
            hidden[covered] = to_grid(self.obfuscator.hide_frame(originals[covered]))
        return hidden, swaps

    def regions(self, frame: TrackedFrame, size: tuple[int, int]) -> list[Rectangle] | None:
        """The pixels that are hidden in a frame, at most: outside of them nothing changes. None if it is not known.

        Args:
            frame: where its faces are.
            size: its height and width.

        Returns:
            Rectangles, which may overlap; the frame if it is hidden altogether, nothing if it is kept as it is.
        """
        hides = self.obfuscator.fallback if isinstance(self.obfuscator, FaceSwapper) else self.obfuscator
        if not isinstance(hides, Obfuscator):
            return None
        if frame.treatment == "whole-frame":
            return [Rectangle(0, 0, size[1], size[0])]
        places = [] if frame.treatment == "kept" else hides.region.rectangles(self._places(frame), *size)
        soft = math.ceil(hides.region.feather)
        return [
            Rectangle(max(x0 - soft, 0), max(y0 - soft, 0), min(x1 + soft, size[1]), min(y1 + soft, size[0]))
            for x0, y0, x1, y1 in places
        ]

    def _places(self, frame: TrackedFrame) -> Faces:
        """What is hidden in a frame: the faces last, so that they lie on top."""
        if getattr(self.obfuscator, "follows_face", False):
            # What is put in a face's place follows the face itself; the smoothed box around it shows no other.
            return Faces.cat([frame.held, frame.filled, frame.found])
        # A cover trembles as the box does, so the smoothed box around a face stands for it.
        found = frame.found[~_held_by(frame.found.boxes, frame.smoothed.boxes)]
        return Faces.cat([frame.others, found])


def _held_by(boxes: Tensor, larger: Tensor) -> Tensor:
    """Which boxes lie within one of the larger ones, as a mask ``(N,)``."""
    inside = (boxes[:, None, :2] >= larger[None, :, :2]) & (boxes[:, None, 2:] <= larger[None, :, 2:])
    return inside.all(dim=2).any(dim=1)
