"""``Cascade``: OpenCV's oldest detectors (Viola and Jones, CVPR 2001), of Haar features or of local binary patterns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from deidlib.faces import Faces
from deidlib.images import Pixels
from deidlib.models.strangers.pixel_detector import PixelDetector

# OpenCV's own default: neighbouring windows that must agree.
_NEIGHBOURS = 3


class Cascade(PixelDetector):
    """A cascade of OpenCV's: box alone, its score always 1.

    It reads what a file would hold: frames are rounded to uint8 first. OpenCV 5 has left cascades out:
    ``pip install "opencv-python<5"`` to use it.

    Args:
        weights: an XML file of OpenCV's; ``haarcascade_frontalface_default.xml``, which comes with it, if not given.
        smallest: side of the smallest face looked for, in pixels.

    Raises:
        FileNotFoundError: the file is not there.
        ModuleNotFoundError: this OpenCV has no cascades.
        ValueError: OpenCV cannot read the file.
    """

    name: ClassVar[str] = "haar"

    def __init__(self, weights: str | Path | None = None, *, smallest: int = 30) -> None:
        import cv2

        if not hasattr(cv2, "CascadeClassifier"):
            raise ModuleNotFoundError(
                f"OpenCV {cv2.__version__} has no cascades. Run `pip install 'opencv-python<5'` to read by them."
            )
        # A submodule of OpenCV 4, which the stubs of OpenCV 5 do not know.
        folder: str = getattr(cv2, "data").haarcascades  # noqa: B009
        path = Path(weights or f"{folder}haarcascade_frontalface_default.xml")
        if not path.is_file():
            raise FileNotFoundError(f"no cascade at {str(path)!r}.")
        self._detector: Any = cv2.CascadeClassifier(str(path))
        if self._detector.empty():
            raise ValueError(f"{path} cannot be read as a cascade by OpenCV {cv2.__version__}.")
        self._smallest = smallest

    def find(self, frame: Pixels) -> Faces:
        """Boxes of the faces of one frame."""
        import cv2

        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        rows = self._detector.detectMultiScale(grey, 1.1, _NEIGHBOURS, minSize=(self._smallest, self._smallest))
        # No face is an empty tuple here, and a row is x, y, w, h.
        table = torch.from_numpy(np.asarray(rows, np.float32).reshape(-1, 4))
        return Faces(torch.cat([table[:, :2], table[:, :2] + table[:, 2:]], dim=1), torch.ones(len(table)))
