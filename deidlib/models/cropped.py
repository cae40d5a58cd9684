"""``CroppedDetector``: a detector whose loss looks at the surroundings of the faces only, not at the whole frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from deidlib.faces import FaceBatch, Faces
from deidlib.geometry.boxes import Rectangle, grid_window
from deidlib.images import check_image_shape
from deidlib.models.base import Reading, Target, TargetModel, with_network

# Windows begin and end on this grid, which is that of a detector's coarsest cells.
_GRID = 32
# Windows that cover more of a frame than this are not worth cutting out.
_WHOLE = 0.75


@dataclass(frozen=True, eq=False)
class WindowTarget(Target):
    """Windows of one size.

    Args:
        frame: ``(W,)`` the frame of each window.
        share: ``(W,)`` how much a window counts in its frame: the share of the frame's faces that it shows.
        places: per window its frame, and left and top in pixels.
        extent: height and width of them all.
        inner: what the detector must still read in them, window by window.
    """

    share: Tensor
    places: tuple[tuple[int, int, int], ...]
    extent: tuple[int, int]
    inner: Target

    def select(self, frames: Tensor) -> Self:
        """Keep the windows of some frames, renumbered."""
        match = self.frame[:, None] == frames[None, :]
        rows = match.any(dim=1).nonzero().squeeze(1)
        frame = match[rows].long().argmax(dim=1)
        places = [self.places[row][1:] for row in rows.tolist()]
        return replace(
            self,
            frame=frame,
            share=self.share[rows],
            places=tuple((number, *corner) for number, corner in zip(frame.tolist(), places, strict=True)),
            inner=self.inner.select(rows),
        )


@dataclass(frozen=True, eq=False)
class CroppedTarget(Target):
    """All windows: one row per frame, and the windows by size."""

    windows: tuple[WindowTarget, ...]

    def select(self, frames: Tensor) -> Self:
        """Keep some frames, and the windows that they have."""
        kept = [part for part in self.windows if bool(torch.isin(part.frame, frames).any())]
        numbers = torch.arange(len(frames), device=frames.device)
        return replace(self, frame=numbers, windows=tuple(part.select(frames) for part in kept))


class CroppedDetector(TargetModel[CroppedTarget]):
    """A detector whose loss looks at the surroundings of the faces only.

    What a face is read as depends on what lies around it, and hardly on what lies far away. So the loss and its
    gradient are taken on windows around the faces, and the time of an iteration goes with the size of the faces rather
    than with that of the frame: two fifths, for a face of 137 x 194 pixels in 1280 x 720. Reading is done on whole
    frames, as by everybody else.

    For detectors that are convolutions on one grid, such as :class:`~deidlib.RetinaFace`: a window shows them what
    the frame does, but for its border. :class:`~deidlib.MTCNN` cuts out windows of its own.

    Args:
        model: a detector.
        context: pixels around a face that are looked at, at least; a large face gets half of its longer side.

    Raises:
        ValueError: the model is no detector, or a negative context.

    Example:
        >>> from deidlib.models.mtcnn import MTCNN
        >>> model = CroppedDetector(MTCNN())
        >>> model.name, model.predict(torch.rand(1, 3, 64, 64))
        ('mtcnn', [Faces(n=0)])
    """

    def __init__(self, model: TargetModel[Any], *, context: int = 128) -> None:
        super().__init__()
        if model.task != "boxes":
            raise ValueError(f"CroppedDetector is for detectors, got {model.name}, which reads {model.task}.")
        if context < 0:
            raise ValueError(f"context must be >= 0 pixels, got {context}.")
        self.model = model
        self.context = context

    @property
    def task(self) -> Literal["boxes", "landmarks", "gaze"]:  # type: ignore[override]
        """Boxes."""
        return self.model.task

    @property
    def name(self) -> str:
        """The detector's."""
        return self.model.name

    @property
    def for_originals(self) -> TargetModel[Any]:
        """The detector's."""
        return self.model.for_originals

    def at(self, numbers: Sequence[int]) -> Self:
        """This model for the frames of those numbers."""
        told = self.model.at(numbers)
        return self if told is self.model else with_network(self, "model", told)

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """What the detector reads on the whole frames."""
        return self.model.predict(images, faces)

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> CroppedTarget:
        """What the detector is to read in the windows around the faces."""
        by_size: dict[tuple[int, int], list[tuple[int, Rectangle, Tensor]]] = {}
        for i, known in enumerate(reading):
            for window, inside in _windows(known.boxes, self.context, *size):
                extent = (window.bottom - window.top, window.right - window.left)
                by_size.setdefault(extent, []).append((i, window, inside))
        windows = [self._target(reading, rows, extent) for extent, rows in by_size.items()]
        # Faces that no window shows count nowhere.
        boxes = reading[0].boxes
        total = boxes.new_zeros(len(reading))
        for part in windows:
            total.index_add_(0, part.frame, part.share)
        windows = [replace(part, share=part.share / total[part.frame]) for part in windows]
        return CroppedTarget(torch.arange(len(reading), device=boxes.device), tuple(windows))

    def loss(self, images: Tensor, target: CroppedTarget) -> Tensor:
        """The detector's loss in the windows, ``(B,)``: the mean over a frame's faces."""
        return self.loss_and_reading(images, target)[0]

    def loss_and_reading(self, images: Tensor, target: CroppedTarget) -> tuple[Tensor, Reading | None]:
        """The loss, and what the detector reads in the windows, if it says so."""
        check_image_shape(images)
        total = images.new_zeros(len(images))
        found: list[list[Faces]] = [[] for _ in images]
        silent = False
        for part in target.windows:
            losses, reading = self.model.loss_and_reading(_cut(images, part.places, part.extent), part.inner)
            total = total.index_add(0, part.frame, losses * part.share.to(losses))
            if isinstance(reading, FaceBatch):
                reading = reading.frames()
            silent |= reading is None
            for (i, left, top), faces in zip(part.places, reading or [], strict=False):
                found[i].append(_moved(faces, -left, -top))
        return total, None if silent else [Faces.cat(parts) if parts else Faces.empty() for parts in found]

    def extra_repr(self) -> str:
        """The context."""
        return f"context={self.context}"

    def _target(
        self, reading: Sequence[Faces], rows: Sequence[tuple[int, Rectangle, Tensor]], extent: tuple[int, int]
    ) -> WindowTarget:
        boxes = reading[0].boxes
        shown = [_moved(reading[i][inside], window.left, window.top) for i, window, inside in rows]
        return WindowTarget(
            frame=torch.tensor([i for i, _, _ in rows], device=boxes.device),
            share=boxes.new_tensor([len(faces) for faces in shown]),
            places=tuple((i, window.left, window.top) for i, window, _ in rows),
            extent=extent,
            inner=self.model.target(shown, extent),
        )


def _windows(boxes: Tensor, context: int, height: int, width: int) -> list[tuple[Rectangle, Tensor]]:
    """Windows around boxes, none overlapping another, and which boxes ``(N,)`` each of them shows."""
    found: list[tuple[Rectangle, set[int]]] = []
    for k, box in enumerate(boxes.tolist()):
        around = max(context, max(box[2] - box[0], box[3] - box[1]) / 2)
        window = grid_window(box, around, _GRID, height, width)
        if window.left >= window.right or window.top >= window.bottom:
            # Outside the frame altogether.
            continue
        shows = {k}
        # What overlaps becomes one window, which may overlap others in turn.
        while touching := [other for other in found if _overlap(window, other[0])]:
            for other, theirs in touching:
                (left, top, right, bottom), (x1, y1, x2, y2) = window, other
                window = Rectangle(min(left, x1), min(top, y1), max(right, x2), max(bottom, y2))
                shows |= theirs
            found = [other for other in found if other not in touching]
        found.append((window, shows))
    if sum((right - left) * (bottom - top) for (left, top, right, bottom), _ in found) > _WHOLE * height * width:
        found = [(Rectangle(0, 0, width, height), set().union(*(shows for _, shows in found)))]
    result = []
    for window, shows in found:
        inside = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        inside[sorted(shows)] = True
        result.append((window, inside))
    return result


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


def _cut(images: Tensor, places: Sequence[tuple[int, int, int]], extent: tuple[int, int]) -> Tensor:
    """The windows ``(W, 3, h, w)``."""
    height, width = extent
    return torch.stack([images[i, :, top : top + height, left : left + width] for i, left, top in places])


def _moved(faces: Faces, left: int, top: int) -> Faces:
    """Faces in the pixels of a window."""
    corner = faces.boxes.new_tensor([left, top])
    landmarks = None if faces.landmarks is None else faces.landmarks - corner
    return faces.replace(boxes=faces.boxes - corner.repeat(2), landmarks=landmarks)
