"""``Lookout``: when further detectors look at a clip, and when frames are turned, for faces that others miss."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import around, expand, iou
from deidlib.geometry.matching import same_face
from deidlib.geometry.quarter_turn import QuarterTurn
from deidlib.geometry.region import FaceRegion
from deidlib.images import from_uint8
from deidlib.models.base import FaceModel
from deidlib.models.turned import Turned
from deidlib.protect.batches import DetectedBatch, FaceCount

# The share of a box that must lie in a face's region to be hidden with it.
_HIDDEN = 0.9


@dataclass(frozen=True)
class Lookout:
    """Let further detectors look, and all of them at turned frames, where and when that can change what is hidden.

    Those that are authorised read every frame anyway. The others, and every detector on the frame turned by a quarter,
    a half and three quarters, look at

    - every so many frames, and the last one of a part of the clip;
    - a frame in which faces come or go: one is not where one was in the frame before, or the other way round;
    - a frame in which nothing is found;
    - all frames between two of these regular ones, as soon as one finds a face in one of them, or at either end, that
      nobody before it has found, or sees one reach farther than it is hidden.

    So what one of them would find in ``every`` frames on end it does find in all of them, as if it looked at every
    frame. Shorter sights than that may be missed where nothing else tells of them (docs/fail-closed.md has numbers).

    What becomes of a frame depends on the frames of its part of the clip alone; on batches, workers and interruptions
    it does not.

    Args:
        every: frames from look to look at most; 1: every frame is looked at in every way.
        turns: the quarter turns (1 to 3) by which frames are turned; none of them: faces are looked for upright only.

    Raises:
        ValueError: less than a frame, or another turn.

    Example:
        >>> from deidlib.models.mtcnn import MTCNN
        >>> [model.name for model in Lookout(turns=(2,)).looks([MTCNN()], MTCNN())]
        ['mtcnn', 'mtcnn turned by 180']
    """

    every: int = 8
    turns: Sequence[int] = (1, 2, 3)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1 frame, got {self.every}.")
        if not set(self.turns) <= {1, 2, 3}:
            raise ValueError(f"turns may hold 1, 2 and 3 quarter turns, got {tuple(self.turns)}.")

    def looks(self, detectors: Sequence[FaceModel], *watching: FaceModel) -> list[FaceModel]:
        """Who looks at times: the detectors that do not watch every frame, then all of them at turned frames."""
        others = [model for model in detectors if not any(model is known for known in watching)]
        turned = [Turned(model, QuarterTurn(quarters)) for quarters in self.turns for model in detectors]
        return [*others, *turned]

    def over(
        self, batches: Iterable[DetectedBatch], looks: Sequence[FaceModel], *, part: int
    ) -> Iterator[DetectedBatch]:
        """Let them look at a clip on its way; batches come out as they went in, by up to ``every`` frames later.

        Args:
            batches: consecutive frames; those that are complete are handed on as they are.
            looks: those who look at times, as :meth:`looks` says.
            part: frames in a part of the clip; a look of several frames never reaches into the next one.
        """
        waiting: deque[DetectedBatch] = deque()
        ready: deque[_Frame] = deque()
        between: list[_Frame] = []
        for batch in batches:
            waiting.append(batch)
            for number, frame in enumerate(_frames(batch), batch.first):
                if batch.complete:
                    ready.append(frame)
                    continue
                between.append(frame)
                ends = (number + 1) % part == 0
                if number % part % self.every == 0 or ends:
                    self._search(between, looks)
                    # What is found in a regular frame is known to both sides of it.
                    keep = 0 if ends else 1
                    ready += between[: len(between) - keep]
                    between = between[len(between) - keep :]
            while waiting and len(ready) >= len(waiting[0].faces):
                yield _joined(waiting.popleft(), ready)
        self._search(between, looks)
        ready += between
        while waiting:
            yield _joined(waiting.popleft(), ready)

    def doubtful(self, frames: Sequence[Faces]) -> list[int]:
        """Which of some consecutive frames deserve a second look, by the faces found in them.

        Example:
            >>> import torch
            >>> one = Faces(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.ones(1))
            >>> Lookout().doubtful([one, one, Faces.empty(), one, one])
            [0, 2, 3]
        """
        return [i for i, faces in enumerate(frames) if not i or not len(faces) or not _same_faces(frames[i - 1], faces)]

    def _search(self, frames: Sequence[_Frame], looks: Sequence[FaceModel]) -> None:
        """Let everybody look at frames from a regular one to the next."""
        if not frames:
            return
        first = sorted({0, len(frames) - 1, *self.doubtful([frame.watched for frame in frames])})
        for model in looks:
            if sum(frames[i].look(model) for i in first):
                for frame in frames:
                    frame.look(model)


class _Frame:
    """A frame on its way, and what has been found in it.

    Args:
        image: ``(1, 3, H, W)`` uint8; None if nobody needs to look.
        faces: found by those who watch.
        count: of these.
    """

    def __init__(self, image: Tensor | None, faces: Faces, count: FaceCount) -> None:
        self.image, self.watched, self.faces, self.count = image, faces, faces, count
        # What those who have looked found besides, by identity: one network may look in several ways.
        self._news: dict[int, int] = {}

    def look(self, model: FaceModel) -> int:
        """Let a detector look, once, and add what it finds; how many faces those are, or are larger by it."""
        if id(model) not in self._news:
            assert self.image is not None
            (seen,) = model.predict(from_uint8(self.image))
            known, (self.faces, news) = self.faces, _together(self.faces, seen)
            larger = (self.faces.boxes[: len(known)] != known.boxes).any(dim=1)
            self._news[id(model)] = news + int(larger.sum())
            if isinstance(model, Turned):
                self.count = replace(self.count, turned=self.count.turned + news)
            else:
                self.count = replace(self.count, upright={**self.count.upright, model.name: len(seen)})
        return self._news[id(model)]


def _frames(batch: DetectedBatch) -> Iterator[_Frame]:
    counts = batch.counts or [FaceCount()] * len(batch.faces)
    for i, (faces, count) in enumerate(zip(batch.faces, counts, strict=True)):
        yield _Frame(None if batch.levels is None else batch.levels[i : i + 1], faces, count)


def _joined(batch: DetectedBatch, frames: deque[_Frame]) -> DetectedBatch:
    """A batch again, with what was found in its frames, the first of those that are ready."""
    mine = [frames.popleft() for _ in batch.faces]
    return replace(batch, faces=[frame.faces for frame in mine], counts=[frame.count for frame in mine], complete=True)


def _same_faces(before: Faces, after: Faces) -> bool:
    """Whether every face of either frame is where one of the other is."""
    return bool(same_face(before.boxes, after.boxes).all() and same_face(after.boxes, before.boxes).all())


def _together(known: Faces, seen: Faces) -> tuple[Faces, int]:
    """The faces that are known and those seen beside them; how many those are.

    A face seen that is known but not hidden where it is known, as of one that lies on its side, makes its place larger:
    of the two boxes, the smaller one that holds both.
    """
    same = same_face(seen.boxes, known.boxes)
    boxes = known.boxes.clone()
    for box in seen.boxes[same]:
        owner = int(iou(box[None], boxes)[0].argmax())
        if not _hidden(box, boxes[owner]):
            boxes[owner] = around(box, boxes[owner])
    return Faces.cat([known.replace(boxes=boxes), seen[~same]]), int((~same).sum())


def _hidden(box: Tensor, known: Tensor) -> bool:
    """Whether nearly all of a box lies in the region by which a known face is hidden."""
    region = expand(known[None], FaceRegion().factor)[0]
    sides = (torch.minimum(box[2:], region[2:]) - torch.maximum(box[:2], region[:2])).clamp(min=0)
    return bool(sides.prod() >= _HIDDEN * (box[2:] - box[:2]).prod())
