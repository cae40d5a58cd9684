"""``MarkedFace``: a face that the page shows with a check box: found in the clip, or drawn by hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from deidlib.faces import Faces
from deidlib.geometry.matching import same_face, tracks

Box = tuple[float, float, float, float]

# Frames for which a face may be missed and still be the same one here: as many as the tracker looks ahead.
_MISSED = 15


class MarkedFace(ABC):
    """One face through a clip."""

    @abstractmethod
    def at(self, frame: int) -> Faces:
        """The face in a frame, none or one."""

    @abstractmethod
    def said(self, frames: int) -> str:
        """What is known of it, for its check box.

        Args:
            frames: of the clip; 1 of a picture.
        """


@dataclass(frozen=True, eq=False)
class FoundFace(MarkedFace):
    """A face that detectors found.

    Args:
        places: in which frames, and what was read there.
        turned: whether it was found in turned frames only.
    """

    places: Mapping[int, Faces]
    turned: bool = False

    def at(self, frame: int) -> Faces:
        """The face as it was read."""
        return self.places.get(frame, Faces.empty())

    def said(self, frames: int) -> str:
        """Where it is."""
        how = "found in the turned picture only" if self.turned else "found"
        return how if frames == 1 else f"{how}, {_frames(min(self.places), max(self.places))}"


@dataclass(frozen=True, eq=False)
class DrawnFace(MarkedFace):
    """A face that a person has drawn: in every frame of the clip, at a place in between where several were drawn.

    Args:
        corners: by frame, the boxes drawn, xyxy pixels; at least one.

    Example:
        >>> face = DrawnFace({2: (0, 0, 8, 8)}).moved(4, (10, 0, 18, 8))
        >>> [face.at(frame).boxes[0, 0].item() for frame in (0, 2, 3, 9)]
        [0.0, 0.0, 5.0, 10.0]
    """

    corners: Mapping[int, Box] = field(default_factory=dict)

    def moved(self, frame: int, box: Box) -> DrawnFace:
        """The same face, drawn in another frame too."""
        return replace(self, corners={**self.corners, frame: box})

    def at(self, frame: int) -> Faces:
        """Its box, of which nothing else is known."""
        before = max((known for known in self.corners if known <= frame), default=min(self.corners))
        after = min((known for known in self.corners if known >= frame), default=max(self.corners))
        share = (frame - before) / (after - before) if after > before else 0.0
        box = [a + share * (b - a) for a, b in zip(self.corners[before], self.corners[after], strict=True)]
        return Faces(torch.tensor([box], dtype=torch.float32), torch.ones(1))

    def said(self, frames: int) -> str:
        """Where it was drawn."""
        return "drawn by hand" if frames == 1 else f"drawn by hand in {_list(sorted(self.corners))}, for all frames"


def found_faces(frames: Sequence[Faces], turned: Sequence[int]) -> list[FoundFace]:
    """Each face through a clip, those that are missed for some frames as one.

    Args:
        frames: what was found in each.
        turned: how many faces of each, the last ones, were found in turned frames only.

    Returns:
        In the order in which they begin, and in their frame's order.

    Example:
        >>> one = Faces(torch.tensor([[0., 0., 9., 9.]]), torch.ones(1))
        >>> [face.said(3) for face in found_faces([one, Faces.empty(), one], [0, 0, 0])]
        ['found, frames 0 to 2']
    """
    known: list[dict[int, int]] = []
    for track in tracks(frames):
        first, row = track[0]
        box = frames[first].boxes[row : row + 1]
        for face in known:
            last = max(face)
            if last < first <= last + _MISSED + 1 and bool(same_face(box, frames[last].boxes[[face[last]]]).all()):
                face.update(track)
                break
        else:
            known.append(dict(track))
    return [
        FoundFace(
            {frame: frames[frame][[row]] for frame, row in face.items()},
            all(row >= len(frames[frame]) - turned[frame] for frame, row in face.items()),
        )
        for face in known
    ]


def _frames(first: int, last: int) -> str:
    return f"frame {first}" if first == last else f"frames {first} to {last}"


def _list(frames: Sequence[int]) -> str:
    return f"frame{'s' * (len(frames) > 1)} {', '.join(map(str, frames))}"
