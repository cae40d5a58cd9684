"""Target models whose losses and optima are known exactly, for tests of the attack loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.models.base import Target, TargetModel, frame_mean, frame_of, rows_of
from deidlib.tracking import FaceTracker


def one_face(images: Tensor, frames: Sequence[int] | None = None) -> list[Faces]:
    """A face over the middle half of each frame, or of those frames only."""
    height, width = images.shape[-2:]
    box = torch.tensor([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]])
    wanted = range(len(images)) if frames is None else frames
    return [Faces(box, torch.ones(1)) if i in wanted else Faces.empty() for i in range(len(images))]


# A reading is numbers alone. What these toys read on a frame is which picture it is: its place in here.
_GALLERY: list[Tensor] = []


def seen_on(images: Tensor, faces: Sequence[Faces]) -> list[Faces]:
    """The faces, as toys read them on these images: in the place of a gaze stands the number of the picture."""
    first = len(_GALLERY)
    _GALLERY.extend(images.detach().clone())
    return [
        known.replace(gaze=torch.tensor([[float(first + i), 0.0, 0.0]]).repeat(len(known), 1))
        for i, known in enumerate(faces)
    ]


def painted(images: Tensor, frames: Sequence[int] | None = None) -> list[Faces]:
    """:func:`one_face` in each frame, or in those frames only, as toys read it on these images."""
    return seen_on(images, one_face(images, frames))


@dataclass(frozen=True, eq=False)
class PixelTarget(Target):
    pixels: Tensor


class Pixels(TargetModel[PixelTarget]):
    """Loss: half the summed squared distance to the picture that was read, so the gradient is the difference."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        return painted(images)

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> PixelTarget:
        pictures = [_GALLERY[int(number)] for number in rows_of(reading, "gaze")[:, 0]]
        return PixelTarget(frame_of(reading), torch.stack(pictures) if pictures else torch.zeros(0, 3, *size))

    def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
        rows = (images[target.frame] - target.pixels).square().sum(dim=(1, 2, 3)) / 2
        return frame_mean(rows, target.frame, len(images))


class Linear(Pixels):
    """Loss: the sum over fixed coefficients times pixels, plus an offset that keeps it positive."""

    def __init__(self, coefficients: Tensor) -> None:
        super().__init__()
        self.register_buffer("coefficients", coefficients)

    def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
        assert isinstance(self.coefficients, Tensor)
        return (images * self.coefficients).sum(dim=(1, 2, 3)) + self.coefficients.abs().sum()


class NotANumber(Pixels):
    """As ``Pixels``, but both loss and gradient are NaN while a frame's mean is above one half."""

    def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
        bright = images.mean(dim=(1, 2, 3)) > 0.5
        return super().loss(images, target) * torch.where(bright, torch.nan, 1.0)


def tracking(settings: dict[str, Any]) -> FaceTracker:
    """The tracker of those settings that are a tracker's, which are taken out."""
    names = [field.name for field in fields(FaceTracker) if field.name in settings]
    return FaceTracker(**{name: settings.pop(name) for name in names})
