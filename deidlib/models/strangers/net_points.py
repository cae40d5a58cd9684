"""``NetPoints``: any landmark network in a file, and what must be known to run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.warp import crop_resize
from deidlib.images import check_images, to_grid
from deidlib.models.base import frame_of, rows_of
from deidlib.models.strangers.colours import Colours
from deidlib.nets.network import Network
from deidlib.nets.precision import full_precision


class NetPoints:
    """A landmark network that nobody authorised: 68 points of faces that a detector has found, or that are known.

    It reads what a file would hold: frames are rounded to uint8 first. No gradients.

    Args:
        name: what reports call it.
        network: runs it.
        side: of the square picture that it is shown, pixels.
        margin: how much wider than the longer side of the face's box that square is.
        colours: in what numbers.
        points: from its outputs to ``(N, 68, 2)`` x and y as shares of the picture.
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "landmarks"

    def __init__(
        self,
        name: str,
        network: Network,
        *,
        side: int,
        margin: float,
        colours: Colours,
        points: Callable[[Sequence[Tensor]], Tensor],
    ) -> None:
        self.name, self._network, self._side, self._margin = name, network, side, margin
        self._colours, self._points = colours, points

    @full_precision()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """``faces`` with their 68 landmarks, in pixels.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].
            faces: B entries, the faces that a detector has found.

        Raises:
            TypeError, ValueError: images are no valid batch, or there is not one ``Faces`` per frame.
        """
        known = needs_faces(self, images, faces)
        outputs, squares = self._look(images, known)
        shares = self._points(outputs).to(squares)
        landmarks = squares[:, None, :2] + shares * (squares[:, None, 2:] - squares[:, None, :2])
        rows = torch.split(landmarks, [len(one) for one in known])
        return [one.replace(landmarks=row.to(one.boxes)) for one, row in zip(known, rows, strict=True)]

    def _look(self, images: Tensor, faces: Sequence[Faces]) -> tuple[tuple[Tensor, ...], Tensor]:
        """What the network says of each face, and the square that it was shown, ``(F, 4)``."""
        squares = _squares(rows_of(faces).to(images), self._margin)
        frame = frame_of(faces).to(images.device)
        crops = crop_resize(to_grid(images.detach()), squares, (self._side, self._side), frame)
        return self._network.outputs(self._colours(crops)), squares


def needs_faces(reader: object, images: Tensor, faces: Sequence[Faces] | None) -> Sequence[Faces]:
    """Return ``faces`` if there is one entry per frame of a valid batch, else raise what to do about it.

    Raises:
        TypeError, ValueError: images are no valid batch, or there is not one ``Faces`` per frame.
    """
    check_images(images)
    if faces is None or len(faces) != len(images):
        got = "none" if faces is None else f"{len(faces)} entries"
        who = type(reader).__name__
        raise ValueError(
            f"{who} needs the boxes of the faces, one Faces for each of the {len(images)} frames, got {got}. "
            f"Run a detector first: {who}().predict(images, YuNet().predict(images))."
        )
    return faces


def _squares(boxes: Tensor, margin: float) -> Tensor:
    """The squares that the network is shown: ``(N, 4)`` boxes to ``(N, 4)`` xyxy."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True).clamp(min=1.0) * (margin / 2)
    return torch.cat([centre - half, centre + half], dim=1)
