"""``LBPCascade``: scikit-image's cascade of local binary patterns, whose weights come with it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from deidlib.faces import Faces
from deidlib.images import Pixels
from deidlib.models.strangers.pixel_detector import PixelDetector


class LBPCascade(PixelDetector):
    """The frontal faces that scikit-image finds (multi-block local binary patterns, Zhang and others, ICB 2007).

    Box alone, its score always 1. It needs no download: scikit-image has the weights, which are OpenCV's. It reads what
    a file would hold: frames are rounded to uint8 first.

    Args:
        smallest: side of the smallest face looked for, in pixels.

    Example:
        >>> LBPCascade().predict(torch.rand(1, 3, 64, 64))
        [Faces(n=0)]
    """

    name: ClassVar[str] = "lbp"

    def __init__(self, *, smallest: int = 30) -> None:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade

        self._detector: Any = Cascade(lbp_frontal_face_cascade_filename())
        self._smallest = smallest

    def find(self, frame: Pixels) -> Faces:
        """Boxes of the faces of one frame."""
        side = min(frame.shape[:2])
        if side < self._smallest:
            return Faces.empty()
        found = self._detector.detect_multi_scale(
            img=np.ascontiguousarray(frame),
            scale_factor=1.2,
            step_ratio=1,
            min_size=(self._smallest, self._smallest),
            max_size=(side, side),
        )
        rows = [[one["c"], one["r"], one["c"] + one["width"], one["r"] + one["height"]] for one in found]
        return Faces(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4), torch.ones(len(rows)))
