"""Target models whose losses and optima are known exactly, for tests of the attack loop."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.models.base import Target, TargetModel, frame_mean, frame_of, needs_boxes, rows_of
from deidlib.tracking import FaceTracker


def boxed(*boxes: Sequence[float], scores: Sequence[float] | None = None) -> Faces:
    """Faces of those boxes; score 1, unless given."""
    return Faces(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.ones(len(boxes)) if scores is None else torch.tensor(scores),
    )


def one_face(images: Tensor, frames: Sequence[int] | None = None) -> list[Faces]:
    """A face over the middle half of each frame, or of those frames only."""
    height, width = images.shape[-2:]
    box = torch.tensor([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]])
    wanted = range(len(images)) if frames is None else frames
    return [Faces(box, torch.ones(1)) if i in wanted else Faces.empty() for i in range(len(images))]


# A reading is numbers alone. What these toys read on a frame is which picture it is: its place in here.
_GALLERY: list[Tensor] = []
_HANGING = threading.Lock()


def seen_on(images: Tensor, faces: Sequence[Faces]) -> list[Faces]:
    """The faces, as toys read them on these images: in the place of a gaze stands the number of the picture."""
    # Frames are read in threads of their own, too.
    with _HANGING:
        first = len(_GALLERY)
        _GALLERY.extend(images.detach().clone())
    return [
        known.replace(gaze=torch.tensor([[float(first + i), 0.0, 1.0]]).repeat(len(known), 1))
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


class Sees(Pixels):
    """Reads on a frame what a script says, and counts what it is shown.

    Args:
        script: of a frame ``(3, H, W)`` and its number in the clip, -1 if the model was not told, the faces, or the
            boxes of faces with score 1. Or the same faces for every frame.
        task: what it is taken to read.
        original: who reads frames as they came from the camera; itself if None.
    """

    def __init__(
        self,
        script: Callable[[Tensor, int], Faces | Sequence[Sequence[float]]] | Faces,
        *,
        task: Literal["boxes", "landmarks", "gaze"] = "boxes",
        original: TargetModel[Any] | None = None,
    ) -> None:
        super().__init__()
        self.script, self.original = script, original
        self.task = task  # type: ignore[misc]
        self._numbers: tuple[int, ...] | None = None
        # Shared with the copies that are told numbers.
        self._read: list[int] = []
        self._attacked: list[int] = []
        self._told: list[tuple[int, ...]] = []

    @property
    def frames_read(self) -> int:
        """By ``predict``, however often."""
        return sum(self._read)

    @property
    def frames_attacked(self) -> int:
        """By ``loss``, once a step."""
        return sum(self._attacked)

    @property
    def told(self) -> list[tuple[int, ...]]:
        """The numbers of all batches that were announced."""
        return self._told

    @property
    def for_originals(self) -> TargetModel[Any]:
        return self.original or self

    def at(self, numbers: Sequence[int]) -> Self:
        told = copy.copy(self)
        told._numbers = tuple(numbers)
        self._told.append(told._numbers)
        return told

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        self._read.append(len(images))
        if isinstance(self.script, Faces):
            return seen_on(images, [self.script] * len(images))
        numbers = (-1,) * len(images) if self._numbers is None else self._numbers
        found = [self.script(image, number) for image, number in zip(images, numbers, strict=True)]
        return seen_on(images, [faces if isinstance(faces, Faces) else boxed(*faces) for faces in found])

    def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
        self._attacked.append(len(images))
        return super().loss(images, target)


class White(Sees):
    """As ``Sees``, but wants white: for processes that know nothing of the pictures that toys remember."""

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> PixelTarget:
        frame = frame_of(reading)
        return PixelTarget(frame, torch.ones(len(frame), 3, *size))


class Slow(White):
    """As ``White``, with the same face in every frame, but takes its time; it may go to other processes."""

    def __init__(self, box: Sequence[float], seconds: float) -> None:
        super().__init__(boxed(box))
        self.seconds = seconds

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        time.sleep(self.seconds * len(images))
        return super().predict(images, faces)


class Points(TargetModel[Target]):
    """Reads five points, so many pixels to the right of a box's corner; its loss is the brightness."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "landmarks"

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift
        self.asked: list[Faces] = []

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        known = needs_boxes(self, images, faces)
        shift = torch.tensor([self.shift, 0.0])
        return [face.replace(landmarks=face.boxes[:, None, :2].repeat(1, 5, 1) + shift) for face in known]

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> Target:
        self.asked += reading
        return Target(frame_of(reading))

    def loss(self, images: Tensor, target: Target) -> Tensor:
        return images.mean(dim=(1, 2, 3))


class Looks(Points):
    """Reads a gaze into the camera, turned to the right by so many degrees, once landmarks are known."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "gaze"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        known = needs_boxes(self, images, faces)
        assert all(face.landmarks is not None for face in known), "landmarks come before gaze"
        angle = math.radians(self.shift)
        gaze = torch.tensor([[math.sin(angle), 0.0, -math.cos(angle)]])
        return [face.replace(gaze=gaze.repeat(len(face), 1)) for face in known]


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
