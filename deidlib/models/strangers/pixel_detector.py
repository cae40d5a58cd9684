"""``PixelDetector``: what detectors have in common that other libraries run on the pixels of a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from deidlib.faces import Faces
from deidlib.images import Pixels, check_images, to_pixels


class PixelDetector(ABC):
    """A detector that nobody authorised, run by another library on one frame at a time.

    It reads what a file would hold: frames are rounded to uint8 first. No gradients. A detector of this kind has a
    ``name`` and a ``find``.
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"
    name: ClassVar[str]

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """The faces found, best first.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1]; read in their own size, nothing is scaled.
            faces: not used.

        Raises:
            TypeError, ValueError: images are no valid batch.
        """
        check_images(images)
        return [self._best_first(self.find(frame), images) for frame in to_pixels(images)]

    @abstractmethod
    def find(self, frame: Pixels) -> Faces:
        """The faces of one frame ``(H, W, 3)``, RGB, in any order: boxes and scores, and points where it gives some."""

    def _best_first(self, faces: Faces, like: Tensor) -> Faces:
        order = faces.scores.argsort(descending=True, stable=True)
        return faces.map(lambda values: values[order].to(like))
