"""``YuNet``: OpenCV's face detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from deidlib import weights as checkpoints
from deidlib.faces import Faces
from deidlib.images import Pixels
from deidlib.models.strangers.pixel_detector import PixelDetector


class YuNet(PixelDetector):
    """YuNet (Wu et al., Machine Intelligence Research 2023) through ``cv2.FaceDetectorYN``; box, score, five points.

    It reads what a file would hold: frames are rounded to uint8 first.

    Args:
        weights: ``"yunet"``, or an ONNX file that OpenCV takes for this detector.
        score_threshold: least score of a face.
        nms_threshold: overlap above which the lower of two scores is dropped.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: a threshold is outside [0, 1], or OpenCV cannot read the file.
    """

    name: ClassVar[str] = "yunet"

    def __init__(
        self, weights: str | Path = "yunet", *, score_threshold: float = 0.6, nms_threshold: float = 0.3
    ) -> None:
        for what, value in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"{what} must lie in [0, 1], got {value}.")
        self._detector = _load(checkpoints.find(weights), score_threshold, nms_threshold)

    def find(self, frame: Pixels) -> Faces:
        """Boxes, scores and five points of the faces of one frame."""
        self._detector.setInputSize((frame.shape[1], frame.shape[0]))
        # OpenCV's channels are blue, green, red.
        _, rows = self._detector.detect(np.ascontiguousarray(frame[..., ::-1]))
        # No face is None here, and a row is x, y, w, h, five points, score.
        table = torch.from_numpy(np.zeros((0, 15), np.float32) if rows is None else np.ascontiguousarray(rows))
        boxes = torch.cat([table[:, :2], table[:, :2] + table[:, 2:4].clamp(min=0)], dim=1)
        return Faces(boxes, table[:, 14].clamp(0, 1), table[:, 4:14].reshape(-1, 5, 2))


def _load(path: Path, score_threshold: float, nms_threshold: float) -> Any:
    import cv2

    # OpenCV 5 complains that its own loader sets a default which its own engine ignores.
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        return cv2.FaceDetectorYN.create(str(path), "", (320, 320), score_threshold, nms_threshold)
    except cv2.error as error:
        raise ValueError(f"{path} cannot be read as a YuNet model by OpenCV {cv2.__version__}: {error}") from error
    finally:
        cv2.utils.logging.setLogLevel(level)
