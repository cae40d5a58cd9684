"""``CroppedDetector``: a detector whose loss looks at the surroundings of the faces only, not at the whole frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from deidlib.faces import FaceBatch, Faces
from deidlib.geometry.boxes import Rectangle, grid_window
from deidlib.geometry.cut import cut
from deidlib.images import check_image_shape
from deidlib.models.base import Around, Reading, Target, TargetModel

# Windows begin and end on this grid, which is that of a detector's coarsest cells.
_GRID = 32
# Windows that cover more of a frame than this are not worth cutting out.
_WHOLE = 0.75


@dataclass(frozen=True, eq=False)
class WindowTarget(Target):
    """Windows of one size.

    Args:
        frame: ``(W,)`` the frame of each window.
        face: ``(W, n)`` long, which of its frame's faces a window's are, in the order of ``inner``; for a window that
            shows fewer than others, one past the last.
        corner: ``(W, 2)`` left and top in pixels.
        share: ``(W,)`` how much a window counts in its frame: the share of the frame's faces that it shows.
        places: per window its frame, and left and top in pixels.
        extent: height and width of them all.
        inner: what the detector must still read in them, window by window.
    """

    face: Tensor
    corner: Tensor
    share: Tensor
    places: tuple[tuple[int, int, int], ...]
    extent: tuple[int, int]
    inner: Target

    def select(self, frames: Tensor) -> Self:
        """Keep the windows of some frames, renumbered."""
        return self.of({number: k for k, number in enumerate(frames.tolist())})

    def of(self, number: Mapping[int, int]) -> Self:
        """Keep the windows of some frames, by the new number of each."""
        kept = [row for row, (i, _, _) in enumerate(self.places) if i in number]
        places = tuple((number[i], left, top) for i, left, top in (self.places[row] for row in kept))
        rows = torch.tensor(kept, dtype=torch.long, device=self.frame.device)
        return replace(
            self,
            frame=torch.tensor([i for i, _, _ in places], dtype=torch.long, device=self.frame.device),
            face=self.face[rows],
            corner=self.corner[rows],
            share=self.share[rows],
            places=places,
            inner=self.inner.select(rows),
        )


@dataclass(frozen=True, eq=False)
class CroppedTarget(Target):
    """All windows: one row per frame, and the windows by size.

    Args:
        frame: ``(B,)`` the frames, 0 .. B - 1.
        windows: of one size each.
        most: faces of a frame at most.
    """

    windows: tuple[WindowTarget, ...]
    most: int

    def select(self, frames: Tensor) -> Self:
        """Keep some frames, and the windows that they have."""
        number = {number: k for k, number in enumerate(frames.tolist())}
        kept = [part for part in self.windows if any(i in number for i, _, _ in part.places)]
        numbers = torch.arange(len(frames), device=frames.device)
        return replace(self, frame=numbers, windows=tuple(part.of(number) for part in kept))


class CroppedDetector(Around[CroppedTarget]):
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
        super().__init__(model)
        if model.task != "boxes":
            raise ValueError(f"CroppedDetector is for detectors, got {model.name}, which reads {model.task}.")
        if context < 0:
            raise ValueError(f"context must be >= 0 pixels, got {context}.")
        self.context = context

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> CroppedTarget:
        """What the detector is to read in the windows around the faces."""
        by_size: dict[tuple[int, int], list[tuple[int, Rectangle, list[int]]]] = {}
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
        most = max([1, *(len(known) for known in reading)])
        return CroppedTarget(torch.arange(len(reading), device=boxes.device), tuple(windows), most)

    def loss(self, images: Tensor, target: CroppedTarget) -> Tensor:
        """The detector's loss in the windows, ``(B,)``: the mean over a frame's faces."""
        check_image_shape(images)
        total = images.new_zeros(len(images))
        for part in target.windows:
            losses = self.model.loss(cut(images, part.places, part.extent), part.inner)
            total = total.index_add(0, part.frame, losses * part.share.to(losses))
        return total

    def loss_and_reading(self, images: Tensor, target: CroppedTarget) -> tuple[Tensor, Reading | None]:
        """The loss, and what the detector reads in the windows, if it says so."""
        check_image_shape(images)
        total = images.new_zeros(len(images))
        read: list[Reading | None] = []
        for part in target.windows:
            losses, reading = self.model.loss_and_reading(cut(images, part.places, part.extent), part.inner)
            total = total.index_add(0, part.frame, losses * part.share.to(losses))
            read.append(reading)
        known = [reading for reading in read if reading is not None]
        if len(known) < len(read):
            return total, None
        tables = [reading for reading in known if isinstance(reading, FaceBatch)]
        if len(tables) == len(known):
            return total, _in_frames(tables, target, images)
        found: list[list[Faces]] = [[] for _ in images]
        for part, reading in zip(target.windows, known, strict=True):
            frames = reading.frames() if isinstance(reading, FaceBatch) else reading
            for (i, left, top), faces in zip(part.places, frames, strict=True):
                found[i].append(_moved(faces, -left, -top))
        return total, [Faces.cat(parts) if parts else Faces.empty() for parts in found]

    def extra_repr(self) -> str:
        """The context."""
        return f"context={self.context}"

    def _target(
        self, reading: Sequence[Faces], rows: Sequence[tuple[int, Rectangle, list[int]]], extent: tuple[int, int]
    ) -> WindowTarget:
        boxes = reading[0].boxes
        shown = [_moved(reading[i][inside], window.left, window.top) for i, window, inside in rows]
        most, nobody = max(len(inside) for _, _, inside in rows), max(len(known) for known in reading)
        padded = [inside + [nobody] * (most - len(inside)) for _, _, inside in rows]
        return WindowTarget(
            frame=torch.tensor([i for i, _, _ in rows], device=boxes.device),
            face=torch.tensor(padded, device=boxes.device),
            corner=boxes.new_tensor([[window.left, window.top] for _, window, _ in rows]),
            share=boxes.new_tensor([len(faces) for faces in shown]),
            places=tuple((i, window.left, window.top) for i, window, _ in rows),
            extent=extent,
            inner=self.model.target(shown, extent),
        )


def _in_frames(read: Sequence[FaceBatch], target: CroppedTarget, images: Tensor) -> FaceBatch:
    """What is read in the windows, as read in the frames: each face in its place there."""
    points = {table.landmarks.shape[2] for table in read if table.landmarks is not None}
    # One place more, for what pads the windows that show fewer faces than others.
    frames, places = len(images), target.most + 1
    nothing = images.new_full((frames, places, 4), torch.nan)
    boxes, scores = nothing, nothing[..., 0].clone()
    landmarks = images.new_full((frames, places, points.pop(), 2), torch.nan) if len(points) == 1 else None
    for part, table in zip(target.windows, read, strict=True):
        corner = part.corner[:, None].to(images)
        # A table without faces has one place all the same.
        shown = min(table.boxes.shape[1], part.face.shape[1])
        at = (part.frame[:, None], part.face[:, :shown])
        boxes[at] = table.boxes[:, :shown] + corner.repeat(1, 1, 2)
        scores[at] = table.scores[:, :shown]
        if landmarks is not None and table.landmarks is not None:
            landmarks[at] = table.landmarks[:, :shown] + corner[:, :, None]
    return FaceBatch(boxes, scores, landmarks).map(lambda values: values[:, :-1])


def _windows(boxes: Tensor, context: int, height: int, width: int) -> list[tuple[Rectangle, list[int]]]:
    """Windows around boxes, none overlapping another, and which of the boxes each of them shows."""
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
    return [(window, sorted(shows)) for window, shows in found]


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a.left < b.right and b.left < a.right and a.top < b.bottom and b.top < a.bottom


def _moved(faces: Faces, left: int, top: int) -> Faces:
    """Faces in the pixels of a window."""
    corner = faces.boxes.new_tensor([left, top])
    landmarks = None if faces.landmarks is None else faces.landmarks - corner
    return faces.replace(boxes=faces.boxes - corner.repeat(2), landmarks=landmarks)
