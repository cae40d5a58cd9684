"""``Faces``: what is known about the faces of one frame, the currency between all blocks."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


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
        if n and not bool(torch.isfinite(self.boxes).all()):
            raise ValueError("Faces.boxes holds NaN or infinity; drop such detections before building Faces.")
        if n and not bool((self.boxes[:, 2:] >= self.boxes[:, :2]).all()):
            raise ValueError("Faces.boxes must be xyxy with x2 >= x1 and y2 >= y1; for xywh add w and h to x and y.")

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        known = [f for f in ("landmarks", "gaze") if getattr(self, f) is not None]
        return f"Faces(n={len(self)}{''.join(', ' + f for f in known)})"

    @classmethod
    def empty(cls, *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Faces:
        """A frame without faces."""
        return cls(torch.zeros(0, 4, device=device, dtype=dtype), torch.zeros(0, device=device, dtype=dtype))

    def __getitem__(self, index: Tensor | Sequence[int] | slice) -> Faces:
        """The faces picked by a boolean mask, indices or a slice, as ``Faces`` again."""
        if not isinstance(index, Tensor | slice):
            index = torch.as_tensor(index, dtype=torch.long, device=self.boxes.device)
        return Faces(
            self.boxes[index],
            self.scores[index],
            None if self.landmarks is None else self.landmarks[index],
            None if self.gaze is None else self.gaze[index],
        )

    def to(self, device: torch.device | str) -> Faces:
        """The same faces with every tensor on ``device``."""
        return Faces(
            self.boxes.to(device),
            self.scores.to(device),
            None if self.landmarks is None else self.landmarks.to(device),
            None if self.gaze is None else self.gaze.to(device),
        )

    def replace(self, **fields: Any) -> Faces:
        """A copy with the named fields with_network, validated again."""
        return replace(self, **fields)


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
