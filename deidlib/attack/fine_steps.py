"""``FineSteps``: which frames of an attack are near, what must be asked of whom, and their fine steps, face by face."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from deidlib.attack.part import rectangle_of
from deidlib.attack.reading_step import ReadingStep, Slopes
from deidlib.faces import FaceBatch, Faces
from deidlib.geometry.boxes import Rectangle, iou

# Boxes of two models that overlap by this are of one face.
_SAME = 0.5
# How much of a face's longer side lies in its window beside it: at least what is hidden of it.
_AROUND = 0.5


class Asked(NamedTuple):
    """What a step of some frames, K of them, needs to know.

    Args:
        near: which frames take a fine step; the others take the rule's.
        offsets: per model ``(K, N, R)`` with a graph, what is read of each face less what is to be read.
        faces: per model and frame, of which faces a gradient is asked: of the length of the offset.
        whole: per model and frame, of which faces R gradients are asked: of each number of the offset.
    """

    near: Sequence[bool]
    offsets: Mapping[str, Tensor]
    faces: Mapping[str, Sequence[Sequence[bool]]]
    whole: Mapping[str, Sequence[Sequence[bool]]]

    def passes(self, row: int) -> int:
        """The backward passes of a frame, by its place among the K: those of the model of which most are asked."""
        if not self.near[row]:
            return 1
        return max(
            any(faces[row]) + self.offsets[name].shape[2] * any(self.whole[name][row])
            for name, faces in self.faces.items()
        )


@dataclass(eq=False)
class _Face:
    """A face of a frame: where it may change, which number it has for each model, and what is known of it.

    Args:
        slopes: how it depends on its pixels.
        numbers: per model that reads it.
        missing: per model the length of the offset before the last step; without one, the slopes are tried as they are.
        corrected: per model how many gradients have corrected its slopes since they were known as a whole.
    """

    slopes: Slopes
    numbers: dict[str, int]
    missing: dict[str, float] = field(default_factory=dict)
    corrected: dict[str, int] = field(default_factory=dict)


class FineSteps:
    """The fine steps of an attack on some frames.

    Args:
        step: the step.
        readings: per model what it is to read, one entry per frame.
        slopes: per frame what is known of the frame before it.
        corner: left and top of the part of the frames that the steps are of.
    """

    def __init__(
        self,
        step: ReadingStep,
        readings: Mapping[str, Sequence[Faces]],
        slopes: Sequence[Sequence[Slopes]] | None,
        corner: tuple[int, int] = (0, 0),
    ) -> None:
        self.step, self.corner = step, corner
        self._boxes = {name: FaceBatch.of(faces).boxes for name, faces in readings.items()}
        frames = len(next(iter(self._boxes.values())))
        self._before = list(slopes or [()] * frames)
        self._left = [step.most] * frames
        self._faces: dict[int, list[_Face]] = {}

    def slopes(self) -> list[Sequence[Slopes]]:
        """Per frame what is known by now."""
        return [
            tuple(face.slopes for face in self._faces[i]) if i in self._faces else before
            for i, before in enumerate(self._before)
        ]

    def ask(
        self, offsets: Mapping[str, Tensor], numbers: Sequence[int], done: Sequence[bool], ball: tuple[Tensor, Tensor]
    ) -> Asked:
        """Look at what is read, and say what a step needs. The lengths of the offsets are waited for.

        Args:
            offsets: per model ``(K, N, R)``, NaN for what is not read.
            numbers: which frames of the batch they are.
            done: which of them need no step.
            ball: lowest and highest values, ``(K, 3, h, w)`` each.
        """
        far = {name: offset.detach().square().mean(dim=2).sqrt() for name, offset in offsets.items()}
        table = torch.cat(list(far.values()), dim=1).tolist()
        lengths, first = {}, 0
        for name, values in far.items():
            lengths[name] = [row[first : first + values.shape[1]] for row in table]
            first += values.shape[1]
        near, faces, whole = list[bool](), _nobody(lengths), _nobody(lengths)
        for k, i in enumerate(numbers):
            is_near = self._left[i] > 0 and all(length <= self.step.near for length in table[k]) and not done[k]
            near.append(is_near)
            if not is_near:
                continue
            self._left[i] -= 1
            if i not in self._faces:
                self._faces[i] = self._found(i, (ball[0][k], ball[1][k]))
            for face in self._faces[i]:
                for name, n in face.numbers.items():
                    length, known = lengths[name][k][n], face.slopes.gradients.get(name)
                    unknown = known is None or len(known) != offsets[name].shape[2]
                    if unknown or length > self.step.poor * face.missing.get(name, math.inf):
                        corrected = face.corrected.get(name, 0)
                        renew = corrected >= self.step.renew
                        (whole if renew else faces)[name][k][n] = True
                        face.corrected[name] = 0 if renew else corrected + 1
                    face.missing[name] = length
        return Asked(near, offsets, faces, whole)

    def take(
        self,
        asked: Asked,
        numbers: Sequence[int],
        images: Tensor,
        ball: tuple[Tensor, Tensor],
        gradients: Mapping[str, Tensor],
        rows: Mapping[str, Iterable[Tensor]],
    ) -> dict[int, Tensor]:
        """The steps of the frames that are near.

        Args:
            asked: what :meth:`ask` said.
            numbers: which frames of the batch they are.
            images: ``(K, 3, h, w)`` the frames' part, on the uint8 grid.
            ball: lowest and highest values, ``(K, 3, h, w)`` each.
            gradients: per model ``(K, 3, h, w)``, of the lengths of the offsets of the faces asked for.
            rows: per model R of ``(K, 3, h, w)``, of each number of the offsets of the faces of which all are asked
                for; none if there are no such faces.

        Returns:
            By their numbers the next frames, ``(3, h, w)``.
        """
        stepped = {}
        for name, each in rows.items():
            self._renew(name, asked.whole[name], numbers, each)
        for k, i in enumerate(numbers):
            if not asked.near[k]:
                continue
            image, within = images[k], (ball[0][k], ball[1][k])
            for face in self._faces[i]:
                offsets = {name: asked.offsets[name][k, n].detach() for name, n in face.numbers.items()}
                here = self._here(face.slopes.window)
                left, top, right, bottom = here
                told = {
                    name: gradients[name][k, :, top:bottom, left:right] / 255
                    for name, n in face.numbers.items()
                    if asked.faces[name][k][n]
                }
                face.slopes = face.slopes.learned(offsets, told)
                fresh = any(asked.whole[name][k][n] for name, n in face.numbers.items())
                image = self.step(image, within, offsets, replace(face.slopes, window=here), fresh=fresh)
            stepped[i] = image
        return stepped

    def _renew(
        self, name: str, whole: Sequence[Sequence[bool]], numbers: Sequence[int], rows: Iterable[Tensor]
    ) -> None:
        """Replace what is known of a model's reading of the faces of which all slopes were asked for."""
        renewed: list[tuple[int, _Face, list[Tensor]]] = [
            (k, face, [])
            for k, i in enumerate(numbers)
            if any(whole[k])
            for face in self._faces[i]
            if name in face.numbers and whole[k][face.numbers[name]]
        ]
        # Only what lies in the windows is kept: a frame's slopes take as much memory as many frames.
        for row in rows:
            for k, face, pieces in renewed:
                left, top, right, bottom = self._here(face.slopes.window)
                pieces.append(row[k, :, top:bottom, left:right] / 255)
        for _, face, pieces in renewed:
            face.slopes = replace(face.slopes, gradients={**face.slopes.gradients, name: torch.stack(pieces)})

    def _here(self, window: Rectangle) -> Rectangle:
        """A window of a frame, in its part."""
        return _moved(window, -self.corner[0], -self.corner[1])

    def _found(self, number: int, ball: tuple[Tensor, Tensor]) -> list[_Face]:
        """The faces of a frame, each with what is known of the face in its place in the frame before."""
        low, high = ball
        free, faces = _moved(rectangle_of(high > low), *self.corner), list[_Face]()
        boxes: list[Tensor] = []
        for name, table in self._boxes.items():
            for n, box in enumerate(table[number].cpu()):
                if not bool(box.isfinite().all()):
                    continue
                mine = [
                    m for m, other in enumerate(boxes)
                    if name not in faces[m].numbers and float(iou(box[None], other[None])) >= _SAME
                ]  # fmt: skip
                if mine:
                    faces[mine[0]].numbers[name] = n
                    continue
                window = _around(box, free)
                if window.left < window.right and window.top < window.bottom:
                    boxes.append(box)
                    faces.append(_Face(self._known(number, window), {name: n}))
        return faces

    def _known(self, number: int, window: Rectangle) -> Slopes:
        """What is known of the face whose window overlaps this one most."""
        before = max(self._before[number], key=lambda slopes: _overlap(slopes.window, window), default=None)
        # Of the same face unless they share less than half of the smaller: what may change grows and shrinks.
        smaller = min(_overlap(one, one) for one in (window, window if before is None else before.window))
        if before is None or 2 * _overlap(before.window, window) < smaller:
            return Slopes(window, {})
        return before.moved(window)


def _around(box: Tensor, free: Rectangle) -> Rectangle:
    """A face's surroundings, within what may change."""
    left, top, right, bottom = box.tolist()
    more = _AROUND * max(right - left, bottom - top)
    return Rectangle(
        max(free.left, math.floor(left - more)),
        max(free.top, math.floor(top - more)),
        min(free.right, math.ceil(right + more)),
        min(free.bottom, math.ceil(bottom + more)),
    )


def _moved(window: Rectangle, right: int, down: int) -> Rectangle:
    return Rectangle(window.left + right, window.top + down, window.right + right, window.bottom + down)


def _overlap(a: Rectangle, b: Rectangle) -> int:
    """The pixels that two windows share."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    return max(width, 0) * max(height, 0)


def _nobody(faces: Mapping[str, Sequence[Sequence[object]]]) -> dict[str, list[list[bool]]]:
    """For each model, frame and face, that nothing is asked."""
    return {name: [[False] * len(row) for row in rows] for name, rows in faces.items()}
