"""``PFLD``: a small landmark network in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from deidlib import weights as checkpoints
from deidlib.faces import Faces
from deidlib.geometry.warp import crop_resize
from deidlib.images import check_images, to_grid
from deidlib.nets.onnx import OnnxNet

_SIZE = 112
# Its publisher's demonstration cuts out a square of 1.1 times the longer side of the face box.
_MARGIN = 1.1


class PFLD:
    """PFLD (Guo et al., arXiv 1902.10859): 68 landmarks of faces that a detector has found.

    It reads what a file would hold: frames are rounded to uint8 first. Needs onnxruntime:
    ``pip install deidlib[onnx]``.

    Args:
        weights: ``"pfld"``, or an ONNX file from RGB crops ``(N, 3, 112, 112)`` in [0, 1] to ``(N, 136)``: x and y of
            each point as a share of the crop.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ModuleNotFoundError: onnxruntime is not installed.
    """

    def __init__(self, weights: str | Path = "pfld") -> None:
        self._net = OnnxNet(checkpoints.find(weights))

    @property
    def task(self) -> Literal["boxes", "landmarks", "gaze"]:
        """``"landmarks"``."""
        return "landmarks"

    @property
    def name(self) -> str:
        """``"pfld"``."""
        return "pfld"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """``faces`` with their 68 landmarks, in pixels.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].
            faces: B entries, the faces that a detector has found.

        Raises:
            TypeError, ValueError: images are no valid batch, or there is not one ``Faces`` per frame.
        """
        check_images(images)
        if faces is None or len(faces) != len(images):
            got = "none" if faces is None else f"{len(faces)} entries"
            raise ValueError(
                f"PFLD needs the boxes of the faces, one Faces for each of the {len(images)} frames, got {got}. "
                "Run a detector first: PFLD().predict(images, YuNet().predict(images))."
            )
        boxes = torch.cat([known.boxes for known in faces]).to(images)
        counts = [len(known) for known in faces]
        frame = torch.repeat_interleave(torch.arange(len(images)), torch.tensor(counts)).to(images.device)
        squares = _squares(boxes)
        crops = crop_resize(to_grid(images.detach()), squares, (_SIZE, _SIZE), frame)
        points = self._net(crops).reshape(-1, 68, 2)
        landmarks = squares[:, None, :2] + points * (squares[:, None, 2:] - squares[:, None, :2])
        rows = torch.split(landmarks, counts)
        return [known.replace(landmarks=row.to(known.boxes)) for known, row in zip(faces, rows, strict=True)]


def _squares(boxes: Tensor) -> Tensor:
    """The squares that the network is shown: ``(N, 4)`` boxes to ``(N, 4)`` xyxy."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True).clamp(min=1.0) * (_MARGIN / 2)
    return torch.cat([centre - half, centre + half], dim=1)
