"""``FaceRegion``: which pixels of a frame belong to its faces, for hiding them and for confining the attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle, clip, expand


@dataclass(frozen=True)
class FaceRegion:
    """The part of the frame around each face that is hidden.

    Args:
        factor: the face box is scaled by this about its centre.
        shape: ``"box"``, or the ``"ellipse"`` that touches the scaled box.
        feather: width in pixels of a soft edge *outside* the region: the region itself stays fully covered.

    Raises:
        ValueError: factor below 1 (the face would stick out), negative feather, unknown shape.
    """

    factor: float = 1.2
    shape: Literal["box", "ellipse"] = "box"
    feather: float = 0.0

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise ValueError(f"factor must be >= 1 so that the whole face box is covered, got {self.factor}.")
        if self.shape not in ("box", "ellipse"):
            raise ValueError(f"shape must be 'box' or 'ellipse', got {self.shape!r}.")
        if not self.feather >= 0:
            raise ValueError(f"feather must be >= 0 pixels, got {self.feather}.")

    def rectangles(self, faces: Faces, height: int, width: int) -> list[Rectangle]:
        """The whole pixels of each face, rounded outwards and cut at the frame.

        A face whose region lies outside the frame is left out.
        """
        boxes = clip(expand(faces.boxes, self.factor), height, width)
        corners = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1).long().tolist()
        return [Rectangle(x0, y0, x1, y1) for x0, y0, x1, y1 in corners if x1 > x0 and y1 > y0]

    def cover(self, faces: Faces, height: int, width: int) -> Tensor:
        """How much each pixel belongs to each face.

        Returns:
            ``(N, H, W)`` in [0, 1]; 1 inside the region, falling to 0 over ``feather`` pixels outside it.
        """
        boxes = expand(faces.boxes, self.factor)
        x = torch.arange(width, device=boxes.device, dtype=boxes.dtype) + 0.5
        y = torch.arange(height, device=boxes.device, dtype=boxes.dtype) + 0.5
        if self.shape == "box":
            # Rounded outwards, as in `rectangles`: a pixel that the region touches is covered.
            low, high = boxes[:, :2].floor(), boxes[:, 2:].ceil()
            dx = torch.maximum(low[:, :1] - x, x - high[:, :1]).clamp(min=0)
            dy = torch.maximum(low[:, 1:] - y, y - high[:, 1:]).clamp(min=0)
            outside = _length(dx[:, None, :], dy[:, :, None])
        else:
            centre = (boxes[:, :2] + boxes[:, 2:]) / 2
            half = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=0.5)
            u = (x - centre[:, :1])[:, None, :]
            v = (y - centre[:, 1:])[:, :, None]
            radius = _length(u / half[:, :1, None], v / half[:, 1:, None])
            # Distance to the edge along the ray from the centre.
            outside = _length(u, v) * (1 - 1 / radius.clamp(min=1))
        if self.feather == 0:
            return (outside <= 0).to(boxes.dtype)
        return (1 - outside / self.feather).clamp(0, 1)

    def mask(self, faces: Sequence[Faces], height: int, width: int) -> Tensor:
        """Where the frames' faces are: the union over each frame's faces.

        Returns:
            ``(B, 1, H, W)`` in [0, 1]; all 0 for a frame without faces.
        """
        masks = []
        for frame in faces:
            cover = self.cover(frame, height, width)
            masks.append(cover.amax(dim=0) if len(frame) else cover.new_zeros(height, width))
        return torch.stack(masks)[:, None]


def _length(x: Tensor, y: Tensor) -> Tensor:
    # Not torch.hypot: its last bit, which decides about a pixel on the edge, hangs on where in the tensor that lies.
    return (x * x + y * y).sqrt()
