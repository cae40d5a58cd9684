"""``BlazeFace``: MediaPipe's detectors, for faces that are near, and for those up to five metres away."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from deidlib import weights as checkpoints
from deidlib.models.strangers.colours import Colours
from deidlib.models.strangers.face_code import CellOffsets
from deidlib.models.strangers.framing import Letterbox
from deidlib.models.strangers.net_detector import NetDetector
from deidlib.nets.runtime import network

# Side of the picture, and of each layer the pixels from cell to cell and the anchors of a cell.
_SHAPES: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "short": (128, ((8, 2), (16, 6))),
    "full": (192, ((4, 1),)),
    "back": (256, ((16, 2), (32, 6))),
}
_PUBLISHED = {kind: f"blazeface_{kind}" for kind in _SHAPES}


class BlazeFace(NetDetector):
    """BlazeFace (Bazarevsky et al., arXiv 1907.05047): box and score.

    Needs LiteRT: ``pip install deidlib[tflite]``. The corners of the mouth are not among its six
    points, so none is given.

    Args:
        kind: ``"short"`` range, ``"full"`` range, or ``"back"``, the older one for the camera at the back of a phone.
        weights: a TFLite file of that kind; the published one if not given.
        score_threshold: least score of a face.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ModuleNotFoundError: LiteRT is not installed.
        ValueError: an unknown kind, or the threshold is outside [0, 1].
    """

    def __init__(
        self,
        kind: Literal["short", "full", "back"] = "short",
        weights: str | Path | None = None,
        *,
        score_threshold: float = 0.5,
    ) -> None:
        if kind not in _SHAPES:
            raise ValueError(f"kind must be one of {list(_SHAPES)}, got {kind!r}.")
        side, cells = _SHAPES[kind]
        super().__init__(
            f"blazeface-{kind}",
            network(checkpoints.find(_PUBLISHED[kind] if weights is None else weights)),
            Letterbox(side),
            Colours("RGB", scale=255, mean=127.5, std=127.5),
            CellOffsets(cells),
            score_threshold=score_threshold,
        )
