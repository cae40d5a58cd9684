"""``Marking``: the faces of a clip that a person looks at: found, drawn by hand, checked to be hidden, or not."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deidlib.app.marked_face import Box, DrawnFace, MarkedFace
from deidlib.faces import Faces
from deidlib.geometry.boxes import clip as clip_boxes
from deidlib.protect.given import check_places


class Marking:
    """Which faces there are, and which of them are hidden: all, but for those that somebody unchecks.

    Args:
        frames: how many frames there are.
        size: their height and width in pixels.

    Example:
        >>> marking = Marking(1, (64, 64))
        >>> marking.corner(0, 30, 8), marking.corner(0, 10, 40)  # its number, after the second corner
        (None, 0)
        >>> marking.given()[0].boxes
        tensor([[10.,  8., 30., 40.]])
        >>> marking.check([])
        >>> len(marking.given()[0]), marking.unchecked
        (0, [0])
    """

    def __init__(self, frames: int, size: tuple[int, int]) -> None:
        self.frames, self.size = frames, size
        self.faces: list[MarkedFace] = []
        self.checked: set[int] = set()
        self.disputed: list[int] = []
        self._corner: tuple[int, float, float] | None = None

    def found(self, faces: Sequence[MarkedFace], disputed: Sequence[int]) -> None:
        """Take what detectors found, instead of what they found before; what was drawn stays. All are checked.

        Args:
            faces: these.
            disputed: frames in which detectors disagree about the number of faces.
        """
        self.faces = [*faces, *(face for face in self.faces if isinstance(face, DrawnFace))]
        self.checked, self.disputed, self._corner = set(range(len(self.faces))), list(disputed), None

    def check(self, numbers: Sequence[int]) -> None:
        """Say which faces are to be hidden, by their numbers from 0.

        Raises:
            ValueError: there is no such face.
        """
        if unknown := [number for number in numbers if not 0 <= number < len(self.faces)]:
            raise ValueError(f"there are {len(self.faces)} faces, got number {unknown[0] + 1}.")
        self.checked = set(numbers)

    @property
    def unchecked(self) -> list[int]:
        """The faces that stay as they are."""
        return [number for number in range(len(self.faces)) if number not in self.checked]

    def draw(self, frame: int, box: Box, *, face: int | None = None) -> int:
        """Draw a face that nobody found; it is checked.

        Args:
            frame: in which it is seen.
            box: xyxy pixels; corners in any order.
            face: one that was drawn in another frame; None for a new one.

        Returns:
            Its number from 0.

        Raises:
            ValueError: no such frame, a box that hides no face, or a face that was not drawn.
        """
        if not 0 <= frame < self.frames:
            raise ValueError(f"there are frames 0 to {self.frames - 1}, got {frame}.")
        (x0, x1), (y0, y1) = sorted((box[0], box[2])), sorted((box[1], box[3]))
        inside = clip_boxes(torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32), *self.size)
        check_places([Faces(inside, torch.ones(1))], self.size, frame)
        made: Box = tuple(inside[0].tolist())
        if face is None:
            self.faces.append(DrawnFace({frame: made}))
            face = len(self.faces) - 1
        else:
            known = self.faces[face] if 0 <= face < len(self.faces) else None
            if not isinstance(known, DrawnFace):
                raise ValueError("only a face that was drawn by hand can be drawn in another frame.")
            self.faces[face] = known.moved(frame, made)
        self.checked.add(face)
        return face

    def corner(self, frame: int, x: float, y: float, *, face: int | None = None) -> int | None:
        """Draw a face by two opposite corners, one after the other.

        Returns:
            The face's number, or None after the first corner.

        Raises:
            ValueError: as :meth:`draw`; the first corner is forgotten.
        """
        if self._corner is None or self._corner[0] != frame:
            self._corner = (frame, x, y)
            return None
        _, x0, y0 = self._corner
        self._corner = None
        return self.draw(frame, (x0, y0, x, y), face=face)

    def corner_in(self, frame: int) -> tuple[float, float] | None:
        """The first corner, if it waits for another one in that frame."""
        return self._corner[1:] if self._corner is not None and self._corner[0] == frame else None

    def undraw(self) -> None:
        """Forget a corner that waits, or else the face drawn last."""
        if self._corner is not None:
            self._corner = None
        elif self.faces and isinstance(self.faces[-1], DrawnFace):
            self.faces.pop()
            self.checked.discard(len(self.faces))

    def given(self) -> list[Faces]:
        """Per frame the faces that are checked: those that will be hidden, and read by who may."""
        return self._of(sorted(self.checked))

    def left(self) -> list[Faces]:
        """Per frame those that are not: they stay as they are."""
        return self._of(self.unchecked)

    def _of(self, numbers: Sequence[int]) -> list[Faces]:
        return [
            Faces.cat([Faces.empty(), *(self.faces[face].at(frame) for face in numbers)])
            for frame in range(self.frames)
        ]
