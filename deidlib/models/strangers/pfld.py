"""``PFLD``: a small landmark network in ONNX."""

from __future__ import annotations

from pathlib import Path

from deidlib import weights as checkpoints
from deidlib.models.strangers.colours import Colours
from deidlib.models.strangers.net_points import NetPoints
from deidlib.nets.onnx import OnnxNet


class PFLD(NetPoints):
    """PFLD (Guo et al., arXiv 1902.10859): 68 landmarks of faces that a detector has found.

    Needs onnxruntime: ``pip install deidlib[onnx]``.

    Args:
        weights: ``"pfld"``, or an ONNX file from RGB crops ``(N, 3, 112, 112)`` in [0, 1] to ``(N, 136)``: x and y of
            each point as a share of the crop.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ModuleNotFoundError: onnxruntime is not installed.
    """

    def __init__(self, weights: str | Path = "pfld") -> None:
        super().__init__(
            "pfld",
            OnnxNet(checkpoints.find(weights)),
            side=112,
            # Its publisher's demonstration cuts out a square of 1.1 times the longer side of the face box.
            margin=1.1,
            colours=Colours(),
            points=lambda outputs: outputs[0].reshape(-1, 68, 2),
        )
