"""``QuarterTurn``: a picture turned by quarters, and what was read on it turned back, exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deidlib.faces import Faces


@dataclass(frozen=True)
class QuarterTurn:
    """Turn a picture counter-clockwise by quarters, and turn back what is read there.

    No pixel is computed anew, and a coordinate is at most taken from the length of a side: whole numbers stay exact.

    Args:
        quarters: 0 to 3.

    Raises:
        ValueError: another number.

    Example:
        >>> turn = QuarterTurn(1)
        >>> turn.image(torch.arange(4.0).reshape(1, 1, 2, 2))[0, 0]
        tensor([[1., 3.],
                [0., 2.]])
        >>> turn.back(Faces(torch.tensor([[0.0, 0.0, 2.0, 1.0]]), torch.ones(1)), (5, 8)).boxes
        tensor([[7., 0., 8., 2.]])
    """

    quarters: int

    def __post_init__(self) -> None:
        if self.quarters not in (0, 1, 2, 3):
            raise ValueError(f"quarters must be 0, 1, 2 or 3 quarter turns, got {self.quarters!r}.")

    @property
    def degrees(self) -> int:
        """The same in degrees."""
        return 90 * self.quarters

    def image(self, images: Tensor) -> Tensor:
        """``(..., H, W)`` turned: ``(..., W, H)`` after an odd number of quarters."""
        return torch.rot90(images, self.quarters, (-2, -1)).contiguous()

    def back(self, faces: Faces, size: tuple[int, int]) -> Faces:
        """Faces read on the turned picture, as they lie on the picture itself.

        Left and right of landmarks are the subject's, so their order stays; gaze is turned about the camera's axis.

        Args:
            faces: in the turned picture's coordinates.
            size: height and width of the picture before it was turned.
        """
        first, second = self._points(faces.boxes[:, :2], size), self._points(faces.boxes[:, 2:], size)
        return Faces(
            torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=1),
            faces.scores,
            None if faces.landmarks is None else self._points(faces.landmarks, size),
            None if faces.gaze is None else self._directions(faces.gaze),
        )

    def _points(self, points: Tensor, size: tuple[int, int]) -> Tensor:
        """``(..., 2)`` x, y."""
        height, width = size
        x, y = points.unbind(dim=-1)
        return torch.stack([(x, y), (width - y, x), (width - x, height - y), (y, height - x)][self.quarters], dim=-1)

    def _directions(self, gaze: Tensor) -> Tensor:
        """``(N, 3)`` x, y, z."""
        x, y, z = gaze.unbind(dim=-1)
        return torch.stack([(x, y, z), (-y, x, z), (-x, -y, z), (y, -x, z)][self.quarters], dim=-1)
