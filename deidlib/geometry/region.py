"""``FaceRegion``: which pixels of a frame belong to its faces, for hiding them and for confining the attack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle, clip, expand, outwards


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
        corners = outwards(boxes).long().tolist()
        return [Rectangle(x0, y0, x1, y1) for x0, y0, x1, y1 in corners if x1 > x0 and y1 > y0]

    def cover(self, faces: Faces, height: int, width: int) -> Tensor:
        """How much each pixel belongs to each face.

        Returns:
            ``(N, H, W)`` in [0, 1]; 1 inside the region, falling to 0 over ``feather`` pixels outside it.
        """
        boxes = expand(faces.boxes, self.factor)
        return self._cover(boxes, _middles(boxes, 0, width), _middles(boxes, 0, height))

    def patches(self, faces: Faces, height: int, width: int) -> Iterator[tuple[Rectangle, Tensor]]:
        """What :meth:`cover` says, face by face, and only where it is not 0: memory for one face at a time.

        Yields:
            Whole pixels in the frame, outside of which the face's cover is 0, and the cover ``(bottom - top, right -
            left)`` in them; in the order of the faces, and nothing for one that is not in the frame.
        """
        boxes = expand(faces.boxes, self.factor)
        # An ellipse is half a pixel wide at least.
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        low = torch.minimum(boxes[:, :2], middle - 0.5) - self.feather
        high = torch.maximum(boxes[:, 2:], middle + 0.5) + self.feather
        corners = torch.cat([low.floor() - 1, high.ceil() + 1], dim=1).tolist()
        for face, (x0, y0, x1, y1) in enumerate(corners):
            left, top = max(0, int(x0)), max(0, int(y0))
            right, bottom = min(width, int(x1)), min(height, int(y1))
            if right > left and bottom > top:
                box, x, y = boxes[face : face + 1], _middles(boxes, left, right), _middles(boxes, top, bottom)
                yield Rectangle(left, top, right, bottom), self._cover(box, x, y)[0]

    def mask(self, faces: Sequence[Faces], height: int, width: int) -> Tensor:
        """Where the frames' faces are: the union over each frame's faces. Memory does not grow with their number.

        Returns:
            ``(B, 1, H, W)`` in [0, 1]; all 0 for a frame without faces.
        """
        masks = faces[0].boxes.new_zeros(len(faces), 1, height, width)
        for mask, frame in zip(masks[:, 0], faces, strict=True):
            for inside, cover in self.patches(frame, height, width):
                place = mask[inside.top : inside.bottom, inside.left : inside.right]
                torch.maximum(place, cover, out=place)
        return masks

    def _cover(self, boxes: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """How much pixels with these middles ``(W,)`` and ``(H,)`` belong to each face's scaled box: ``(N, H, W)``."""
        if self.shape == "box":
            # Rounded outwards, as in `rectangles`: a pixel that the region touches is covered.
            x0, y0, x1, y1 = outwards(boxes).unbind(dim=1)
            dx = torch.maximum(x0[:, None] - x, x - x1[:, None]).clamp(min=0)
            dy = torch.maximum(y0[:, None] - y, y - y1[:, None]).clamp(min=0)
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


def _middles(like: Tensor, start: int, stop: int) -> Tensor:
    """The middles of the pixels from ``start`` to ``stop``."""
    return torch.arange(start, stop, device=like.device, dtype=like.dtype) + 0.5


def _length(x: Tensor, y: Tensor) -> Tensor:
    # Not torch.hypot: its last bit, which decides about a pixel on the edge, hangs on where in the tensor that lies.
    return (x * x + y * y).sqrt()
