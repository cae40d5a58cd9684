"""``FaceMesh``: MediaPipe's landmarks, of which it gives 478, and whether it believes that there is a face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from deidlib import weights as checkpoints
from deidlib.faces import Faces
from deidlib.models.strangers.colours import Colours
from deidlib.models.strangers.net_points import NetPoints, needs_faces
from deidlib.nets.runtime import network

_SIDE = 256
# The vertices of the mesh that lie where iBUG's 68 points do: jaw, brows, nose, eyes, outer and inner lips. Those
# of the jaw are the nearest to dlib's on 10 frames of T002_talk and on portraits, 0.1 of the eyes' distance from them.
_IBUG = (
    127, 234, 132, 58, 172, 136, 149, 176, 152, 400, 378, 365, 397, 288, 361, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip


class FaceMesh(NetPoints):
    """MediaPipe's face landmarks (Grishchenko et al., Attention Mesh, arXiv 2006.10962), 68 of them.

    Needs LiteRT: ``pip install deidlib[tflite]``. MediaPipe turns a face upright first; here it is shown as it is.

    Args:
        weights: ``"facemesh"``, or a TFLite file from RGB ``(N, 3, 256, 256)`` in [0, 1] to 478 x 3 coordinates in
            pixels and a logit.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ModuleNotFoundError: LiteRT is not installed.
    """

    def __init__(self, weights: str | Path = "facemesh") -> None:
        super().__init__(
            "facemesh",
            network(checkpoints.find(weights)),
            side=_SIDE,
            margin=1.5,
            colours=Colours(),
            points=lambda outputs: outputs[0].reshape(-1, 478, 3)[:, _IBUG, :2] / _SIDE,
        )

    def presence(self, images: Tensor, faces: Sequence[Faces] | None) -> list[Tensor]:
        """How sure it is that there is a face: per frame ``(N,)`` in [0, 1]; MediaPipe reads on from 0.5.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].
            faces: B entries, where to look.

        Raises:
            TypeError, ValueError: as for ``predict``.
        """
        known = needs_faces(self, images, faces)
        outputs, _ = self._look(images, known)
        sure = outputs[1].flatten().sigmoid()
        return list(torch.split(sure, [len(one) for one in known]))
