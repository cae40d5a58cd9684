"""``Faces``: what is known about the faces of one frame, the currency between all blocks; its two landmark layouts.

``FaceBatch``: the same of several frames in one table, for loops that must not look at values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

# Faces that a notebook lists.
_SHOWN = 12
# iBUG indices of what five points show too.
_RIGHT_EYE, _LEFT_EYE, _NOSE_TIP, _MOUTH = slice(36, 42), slice(42, 48), 30, (48, 54)


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of one frame; a batch of frames is a ``list[Faces]``.

    No face is ``N == 0``, never ``None``; a field that nobody has estimated is ``None``.

    Args:
        boxes: ``(N, 4)`` xyxy in pixels, float; x to the right, y down, (0, 0) the outer corner of the
            top-left pixel.
        scores: ``(N,)`` detection confidence in [0, 1].
        landmarks: ``(N, 68, 2)`` in iBUG order or ``(N, 5, 2)`` (subject's right eye, left eye, nose, right
            and left mouth corner), pixels.
        gaze: ``(N, 3)`` unit vectors in the camera frame, x right, y down, z forward.

    Raises:
        TypeError: a field is not a floating tensor.
        ValueError: a field has the wrong shape or number of faces, holds NaN, or a box is inside out.

    Example:
        >>> faces = Faces(boxes=torch.tensor([[10., 20., 50., 80.]]), scores=torch.tensor([0.99]))
        >>> len(faces), faces.landmarks is None
        (1, True)
        >>> len(Faces.empty())
        0
    """

    boxes: Tensor
    scores: Tensor
    landmarks: Tensor | None = None
    gaze: Tensor | None = None

    def __post_init__(self) -> None:
        for field, value in (
            ("boxes", self.boxes),
            ("scores", self.scores),
            ("landmarks", self.landmarks),
            ("gaze", self.gaze),
        ):
            if value is None and field in ("landmarks", "gaze"):
                continue
            if not isinstance(value, Tensor) or not value.is_floating_point():
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"Faces.{field} must be a floating tensor, got {got}.")
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"Faces.boxes must have shape (N, 4), xyxy pixels, got {tuple(self.boxes.shape)}.")
        n = len(self.boxes)
        if self.scores.shape != (n,):
            raise ValueError(f"Faces.scores must have shape ({n},), one per box, got {tuple(self.scores.shape)}.")
        if self.landmarks is not None and self.landmarks.shape not in ((n, 68, 2), (n, 5, 2)):
            raise ValueError(
                f"Faces.landmarks must have shape ({n}, 68, 2) or ({n}, 5, 2), got {tuple(self.landmarks.shape)}."
            )
        if self.gaze is not None and self.gaze.shape != (n, 3):
            raise ValueError(f"Faces.gaze must have shape ({n}, 3), got {tuple(self.gaze.shape)}.")
        # One wait for both; NaN is in no order.
        if n and not bool(torch.isfinite(self.boxes).all() & (self.boxes[:, 2:] >= self.boxes[:, :2]).all()):
            if not bool(torch.isfinite(self.boxes).all()):
                raise ValueError("Faces.boxes holds NaN or infinity; drop such detections before building Faces.")
            raise ValueError("Faces.boxes must be xyxy with x2 >= x1 and y2 >= y1; for xywh add w and h to x and y.")

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        known = [f for f in ("landmarks", "gaze") if getattr(self, f) is not None]
        return f"Faces(n={len(self)}{''.join(', ' + f for f in known)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: a row per face, in pixels and degrees."""
        head = ("face", "x1", "y1", "x2", "y2", "score", "points", "gaze: right, down (degrees)")
        rows = []
        for number, (box, score) in enumerate(zip(self.boxes[:_SHOWN].tolist(), self.scores.tolist(), strict=False)):
            points = "" if self.landmarks is None else str(self.landmarks.shape[1])
            gaze = ""
            if self.gaze is not None:
                x, y, z = self.gaze[number].tolist()
                gaze = f"{math.degrees(math.atan2(x, -z)):.1f}, {math.degrees(math.atan2(y, math.hypot(x, z))):.1f}"
            rows.append((str(number), *(f"{value:.1f}" for value in box), f"{score:.3f}", points, gaze))
        # Numbers and fixed words: nothing that would have to be escaped.
        lines = [f"<tr>{''.join(f'<{kind}>{cell}</{kind}>' for cell in row)}</tr>"
                 for kind, row in [("th", head), *(("td", row) for row in rows)]]  # fmt: skip
        return f"<table><caption>{self!r}</caption>{''.join(lines)}</table>"

    @classmethod
    def empty(cls, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Faces:
        """A frame without faces."""
        return cls(torch.zeros(0, 4, device=device, dtype=dtype), torch.zeros(0, device=device, dtype=dtype))

    def __getitem__(self, index: Tensor | Sequence[int] | slice) -> Faces:
        """The faces picked by a boolean mask, indices or a slice, as ``Faces`` again."""
        if not isinstance(index, Tensor | slice):
            index = torch.as_tensor(index, dtype=torch.long, device=self.boxes.device)
        return self.map(lambda values: values[index])

    def to(self, device: torch.device | str) -> Faces:
        """The same faces with every tensor on ``device``."""
        return self.map(lambda values: values.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> Faces:
        """The same change to every field that is known; what is not known stays ``None``.

        Args:
            change: takes a field, whose rows are the faces, and gives what stands for it.

        Example:
            >>> faces = Faces(torch.tensor([[0., 0., 4., 4.], [1., 1., 2., 2.]]), torch.tensor([0.9, 0.8]))
            >>> faces.map(lambda values: values.flip(0)).scores
            tensor([0.8000, 0.9000])
        """
        return Faces(
            change(self.boxes),
            change(self.scores),
            None if self.landmarks is None else change(self.landmarks),
            None if self.gaze is None else change(self.gaze),
        )

    def replace(self, **fields: Any) -> Faces:
        """A copy with the named fields replaced, validated again."""
        return replace(self, **fields)

    @classmethod
    def cat(cls, parts: Iterable[Faces]) -> Faces:
        """The faces of all parts, one after the other; nothing that is known is lost.

        A field is ``None`` if no part knows it; else it is NaN for the faces of the parts that do not. Where some have
        68 landmarks and others five, all get 68: of five, nose tip and mouth corners take their places, the middle of
        an eye the places of all six of its points, and the rest is NaN. So :func:`five_points` gives back what was
        there, and whoever asks whether all 68 are finite is told no. A part without faces has no say.

        Args:
            parts: any number; a face in two of them is there twice, see :func:`deidlib.geometry.matching.union`.

        Returns:
            On the device of the first part.

        Example:
            >>> seen = Faces(torch.tensor([[0., 0., 4., 4.]]), torch.ones(1), gaze=torch.tensor([[0., 0., -1.]]))
            >>> place = Faces(torch.tensor([[5., 5., 9., 9.]]), torch.zeros(1))
            >>> Faces.cat([seen, place]).gaze.tolist()
            [[0.0, 0.0, -1.0], [nan, nan, nan]]
        """
        parts = list(parts)
        if not parts:
            return cls.empty()
        device = parts[0].boxes.device
        rows = [part.to(device) for part in parts if len(part)] or parts[:1]
        layouts = [part.landmarks.shape[1] for part in rows if part.landmarks is not None]
        return cls(
            torch.cat([part.boxes for part in rows]),
            torch.cat([part.scores for part in rows]),
            torch.cat([_in_layout(part, max(layouts)) for part in rows]) if layouts else None,
            None
            if all(part.gaze is None for part in rows)
            else torch.cat([_unknown(part, 3) if part.gaze is None else part.gaze for part in rows]),
        )

    def to_supervision(self) -> Any:
        """The same faces as ``supervision.Detections``, for its drawing, counting and export (extra ``[interop]``).

        Returns:
            With ``xyxy`` and ``confidence``; landmarks and gaze, where they are known, in ``data``; ``class_id`` 0.

        Raises:
            ModuleNotFoundError: supervision is not installed.
        """
        from supervision import Detections

        known = {name: value for name in ("landmarks", "gaze") if (value := getattr(self, name)) is not None}
        return Detections(
            xyxy=self.boxes.detach().cpu().numpy(),
            confidence=self.scores.detach().cpu().numpy(),
            class_id=np.zeros(len(self), dtype=np.int64),
            data={name: value.detach().cpu().numpy() for name, value in known.items()},
        )

    @classmethod
    def from_supervision(cls, detections: Any) -> Faces:
        """Faces from ``supervision.Detections``, whatever detector made them.

        Args:
            detections: ``xyxy`` are the boxes, ``confidence`` the scores, 1 where there are none; ``landmarks`` and
                ``gaze`` are taken from ``data`` if they are there.

        Raises:
            ValueError: as for :class:`Faces`.
        """

        def tensor(values: Any) -> Tensor:
            return torch.as_tensor(np.asarray(values), dtype=torch.float32)

        boxes = tensor(detections.xyxy).reshape(-1, 4)
        scores = torch.ones(len(boxes)) if detections.confidence is None else tensor(detections.confidence)
        known = {name: tensor(detections.data[name]) for name in ("landmarks", "gaze") if name in detections.data}
        return cls(boxes, scores, **known)


@dataclass(frozen=True, eq=False)
class FaceBatch:
    """The faces of several frames in one table: row i holds those of frame i, and NaN beyond the last of them.

    Its shape says how many faces the frame with most of them has, and no value is ever looked at: what is computed from
    it, computes on an accelerator without a wait. So a model says in it what it reads of the faces that it is to read
    (:meth:`TargetModel.loss_and_reading`): place by place, NaN for one that it does not find.

    Args:
        boxes: ``(B, N, 4)`` xyxy pixels, N >= 1.
        scores: ``(B, N)``.
        landmarks: ``(B, N, 68 or 5, 2)`` pixels.
        gaze: ``(B, N, 3)`` unit vectors.

    Example:
        >>> one = Faces(torch.tensor([[0., 0., 4., 4.]]), torch.ones(1))
        >>> table = FaceBatch.of([one, Faces.empty(), Faces.cat([one, one])])
        >>> table.boxes.shape, table.boxes.isfinite().all(dim=2).sum(dim=1)
        (torch.Size([3, 2, 4]), tensor([1, 0, 2]))
    """

    boxes: Tensor
    scores: Tensor
    landmarks: Tensor | None = None
    gaze: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(cls, frames: Sequence[Faces]) -> Self:
        """The faces of frames, at least one, in their order.

        A field is ``None`` if no face has it, else NaN for the faces of frames that have not. Where some frames have 68
        landmarks and others five, all are given five.
        """
        with_points = [faces.landmarks for faces in frames if faces.landmarks is not None and len(faces)]
        points = min((known.shape[1] for known in with_points), default=0)
        gaze = any(faces.gaze is not None and len(faces) for faces in frames)
        layouts: list[tuple[Tensor, ...]] = []
        for faces in frames:
            landmarks = _unknown(faces, points, 2) if faces.landmarks is None or not len(faces) else faces.landmarks
            layouts.append(
                (
                    faces.boxes,
                    faces.scores,
                    five_points(landmarks) if points == 5 else landmarks,
                    _unknown(faces, 3) if faces.gaze is None else faces.gaze,
                )
            )
        columns = []
        for column in zip(*layouts, strict=True):
            padded = pad_sequence(list(column), batch_first=True, padding_value=torch.nan)
            # Without a face there is a place for one: the worst of none would be nothing.
            empty = padded.new_full((len(padded), 1, *padded.shape[2:]), torch.nan)
            columns.append(padded if padded.shape[1] else empty)
        boxes, scores, landmarks, directions = columns
        return cls(boxes, scores, landmarks if points else None, directions if gaze else None)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same change to every field that is known."""
        known = {f.name: change(value) for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(self, **known)

    def select(self, rows: Tensor) -> Self:
        """Some of the frames: ``rows`` ``(K,)`` long."""
        return self.map(lambda values: values[rows])

    def frames(self) -> list[Faces]:
        """The faces of each frame as ``Faces``: those with a box."""
        there = self.boxes.isfinite().all(dim=2)
        return [
            Faces(*(None if field is None else field[i, mine] for field in self._fields()))  # type: ignore[arg-type]
            for i, mine in enumerate(there)
        ]

    def _fields(self) -> tuple[Tensor | None, ...]:
        return self.boxes, self.scores, self.landmarks, self.gaze


def check_per_frame(faces: Sequence[Faces], frames: Sized) -> None:
    """Make sure that there is one :class:`Faces` for every frame.

    Args:
        faces: entries.
        frames: as many of them: a batch ``(B, ...)``, say.

    Raises:
        ValueError: there are more or fewer.
    """
    if len(faces) != len(frames):
        raise ValueError(
            f"faces must hold one Faces per frame: got {len(faces)} for {len(frames)} frames. "
            "A frame without faces has Faces.empty()."
        )


def five_points(landmarks: Tensor) -> Tensor:
    """Right eye, left eye, nose tip, right and left mouth corner; left and right are the subject's.

    Args:
        landmarks: ``(..., 68, 2)`` in iBUG order, or ``(..., 5, 2)``, returned as they are.

    Returns:
        ``(..., 5, 2)``; an eye is the mean of its six points.

    Raises:
        ValueError: another number of points.

    Example:
        >>> five_points(torch.arange(136.0).reshape(1, 68, 2))[0, :, 0].tolist()
        [77.0, 89.0, 60.0, 96.0, 108.0]
    """
    if landmarks.shape[-2:] == (5, 2):
        return landmarks
    if landmarks.shape[-2:] != (68, 2):
        raise ValueError(f"landmarks must have shape (..., 68, 2) or (..., 5, 2), got {tuple(landmarks.shape)}.")
    eyes = [landmarks[..., eye, :].mean(dim=-2) for eye in (_RIGHT_EYE, _LEFT_EYE)]
    return torch.stack([*eyes, landmarks[..., _NOSE_TIP, :], *(landmarks[..., i, :] for i in _MOUTH)], dim=-2)


def comparable_points(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """As many points on either side: five, where one has 68 and the other five.

    Args:
        a: ``(..., 68 or 5, 2)``.
        b: likewise.

    Example:
        >>> [points.shape for points in comparable_points(torch.zeros(1, 68, 2), torch.zeros(1, 5, 2))]
        [torch.Size([1, 5, 2]), torch.Size([1, 5, 2])]
    """
    return (a, b) if a.shape == b.shape else (five_points(a), five_points(b))


def _in_layout(faces: Faces, points: int) -> Tensor:
    """Landmarks ``(N, points, 2)``; see :meth:`Faces.cat`."""
    if faces.landmarks is None:
        return _unknown(faces, points, 2)
    if faces.landmarks.shape[1] == points:
        return faces.landmarks
    right_eye, left_eye, nose_tip, *mouth = faces.landmarks.unbind(dim=1)
    spread = faces.landmarks.new_full((len(faces), 68, 2), torch.nan)
    spread[:, _RIGHT_EYE], spread[:, _LEFT_EYE] = right_eye[:, None], left_eye[:, None]
    spread[:, _NOSE_TIP], spread[:, _MOUTH] = nose_tip, torch.stack(mouth, dim=1)
    return spread


def _unknown(faces: Faces, *row: int) -> Tensor:
    return faces.boxes.new_full((len(faces), *row), torch.nan)
