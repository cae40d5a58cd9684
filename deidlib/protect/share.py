"""``Share``: what of a reading leaves the original: which of its parts, and how exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deidlib.faces import Faces
from deidlib.geometry.boxes import around, outwards
from deidlib.geometry.camera import Camera, angles_to_vectors, vectors_to_angles
from deidlib.geometry.matching import match, tracks
from deidlib.geometry.proportions import mean_proportions

PARTS = ("boxes", "landmarks", "gaze")
# Steps in which the generic face's box grows until it holds the one that was read: finer would tell the person's form.
_STEP = 0.25


@dataclass(frozen=True)
class Share:
    """What is shared of a reading. Nothing else of it reaches a target or a file, its scores neither.

    Args:
        parts: of ``"boxes"``, ``"landmarks"``, ``"gaze"``; boxes always, and landmarks where there is gaze, since gaze
            is read at eyes.
        pixels: the grid that box edges and points are rounded to; edges outwards, so that a box still holds the face.
            0: as read.
        degrees: that pitch and yaw of gaze are rounded to. 0: as read.

    Raises:
        ValueError: parts that cannot be, or a negative number.

    Example:
        >>> face = Faces(torch.tensor([[3.0, 5.0, 21.0, 30.0]]), torch.tensor([0.9]), torch.ones(1, 5, 2))
        >>> shared = Share(("boxes",), pixels=8)(face)
        >>> shared.boxes.tolist(), shared.scores.tolist(), shared.landmarks
        ([[0.0, 0.0, 24.0, 32.0]], [1.0], None)
    """

    parts: tuple[str, ...] = PARTS
    pixels: float = 0.0
    degrees: float = 0.0

    def __post_init__(self) -> None:
        if unknown := [part for part in self.parts if part not in PARTS]:
            raise ValueError(f"{unknown[0]!r} is no part of a reading; choose from {', '.join(PARTS)}.")
        if "boxes" not in self.parts or ("gaze" in self.parts and "landmarks" not in self.parts):
            raise ValueError(
                f"boxes are shared in any case, and landmarks where gaze is, which is read at eyes; got "
                f"{','.join(self.parts) or 'nothing'}. Try boxes,landmarks,gaze."
            )
        if self.pixels < 0 or self.degrees < 0:
            raise ValueError(f"pixels and degrees must be >= 0, got {self.pixels} and {self.degrees}.")

    def __call__(self, faces: Faces) -> Faces:
        """What is shared of the faces of one frame; of what was shared already, all."""
        boxes, landmarks, gaze = faces.boxes, faces.landmarks, faces.gaze
        if self.pixels:
            boxes = outwards(boxes / self.pixels) * self.pixels
        landmarks = None if "landmarks" not in self.parts else landmarks
        if landmarks is not None and self.pixels:
            landmarks = (landmarks / self.pixels).round() * self.pixels
        gaze = None if "gaze" not in self.parts else gaze
        if gaze is not None and self.degrees:
            step = math.radians(self.degrees)
            gaze = angles_to_vectors((vectors_to_angles(gaze) / step).round() * step).to(gaze)
        return Faces(boxes, torch.ones_like(faces.scores), landmarks, gaze)

    def missing(self, tasks: Sequence[str]) -> list[str]:
        """What models of these tasks read and is not shared."""
        return [task for task in PARTS if task in tasks and task not in self.parts]


def every(frames: Sequence[Faces], step: int) -> list[Faces]:
    """Readings of one frame in so many, each held until the next: how things moved in between is not told.

    A box is that of all frames for which it stands, so that it holds the face in each.

    Args:
        frames: of a clip.
        step: in frames; 1 is all of them.

    Raises:
        ValueError: step is below 1.
    """
    if step < 1:
        raise ValueError(f"step must be at least 1 frame, got {step}.")
    held: list[Faces] = []
    for first in range(0, len(frames), step):
        part = frames[first : first + step]
        known = part[0]
        boxes = known.boxes.clone()
        matches = [match(known.boxes, other.boxes) for other in part]
        for other, pairs in zip(part, matches, strict=True):
            for row, column in pairs.items():
                boxes[row] = around(boxes[row], other.boxes[column])
        for other, pairs in zip(part, matches, strict=True):
            # Faces that come in between stay as they are: they must be hidden, too.
            fresh = [k for k in range(len(other)) if k not in pairs.values()]
            kept = known.replace(boxes=boxes)[sorted(pairs)]
            held.append(Faces.cat([kept, other[fresh]]) if fresh else kept)
    return held


def mean_face(frames: Sequence[Faces], size: tuple[int, int]) -> list[Faces]:
    """Every face through its clip, with the generic face's proportions; see :func:`mean_proportions`.

    Boxes get the generic face's form, too, and are larger by a quarter, which holds what is read of nearly everybody;
    where it does not, by as many quarters as it takes. Faces without points, or whose points are not all known, keep
    their box and lose the points.

    Args:
        frames: of a clip; faces are followed by the overlap of their boxes from frame to frame.
        size: (height, width) of the frames, for the camera.
    """
    camera = Camera.default(size[1], size[0])
    out = [faces.replace(landmarks=None if faces.landmarks is None else faces.landmarks.clone()) for faces in frames]
    boxes = [faces.boxes.clone() for faces in frames]
    for track in tracks(frames):
        known = [(k, row, frames[k].landmarks) for k, row in track]
        told = [(k, row, points[row]) for k, row, points in known if points is not None]
        whole = [(k, row, points) for k, row, points in told if bool(points.isfinite().all())]
        for k, row, points in told:
            out[k].landmarks[row] = torch.nan if not bool(points.isfinite().all()) else points  # type: ignore[index]
        if not whole:
            continue
        moved, around = mean_proportions(torch.stack([points for *_, points in whole]), camera)
        read = torch.stack([frames[k].boxes[row] for k, row, _ in whole]).cpu().double()
        middle, half = (around[:, :2] + around[:, 2:]) / 2, (around[:, 2:] - around[:, :2]) / 2
        needed = (torch.maximum(middle - read[:, :2], read[:, 2:] - middle) / half).max()
        grown = max(1.0 + _STEP, math.ceil(float(needed) / _STEP) * _STEP)
        held = torch.cat([middle - grown * half, middle + grown * half], dim=1)
        for (k, row, _), points, box in zip(whole, moved, held, strict=True):
            out[k].landmarks[row] = points.to(out[k].boxes)  # type: ignore[index]
            boxes[k][row] = box.to(boxes[k])
    return [faces.replace(boxes=own) for faces, own in zip(out, boxes, strict=True)]
