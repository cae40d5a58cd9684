"""``Turned``: a detector that looks at frames turned by quarters, for faces that lie on their side or upside down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.quarter_turn import QuarterTurn
from deidlib.models.base import FaceModel


@dataclass(frozen=True, eq=False)
class Turned:
    """What a detector finds in frames turned by quarters, in the frames' own coordinates.

    Detectors have learnt from upright faces. Turned by a quarter or two, the same face is found or not as it happens
    (docs/fail-closed.md). This is a :class:`~deidlib.models.base.FaceModel` that reads and cannot be attacked through:
    what it finds is to be hidden.

    Args:
        detector: finds faces.
        turn: by how much the frames are turned before it sees them.

    Raises:
        ValueError: the model is no detector.

    Example:
        >>> import torch
        >>> from skimage.data import astronaut
        >>> from deidlib.models.mtcnn import MTCNN
        >>> picture = torch.from_numpy(astronaut()[:256, 96:352]).permute(2, 0, 1)[None] / 255
        >>> upside_down = QuarterTurn(2).image(picture)
        >>> detector = MTCNN()
        >>> len(detector.predict(upside_down)[0]), len(Turned(detector, QuarterTurn(2)).predict(upside_down)[0])
        (0, 1)
    """

    detector: FaceModel
    turn: QuarterTurn

    def __post_init__(self) -> None:
        if self.detector.task != "boxes":
            raise ValueError(
                f"only a detector finds faces in turned frames; {self.detector.name} reads {self.detector.task}."
            )

    @property
    def task(self) -> Literal["boxes", "landmarks", "gaze"]:
        """It finds faces."""
        return "boxes"

    @property
    def name(self) -> str:
        """The detector's, and by how much the frames are turned."""
        return f"{self.detector.name} turned by {self.turn.degrees}"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Boxes, scores and points of the faces found, best first; ``faces`` is not needed."""
        size = (images.shape[-2], images.shape[-1])
        return [self.turn.back(seen, size) for seen in self.detector.predict(self.turn.image(images))]
