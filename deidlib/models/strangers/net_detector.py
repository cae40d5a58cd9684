"""``NetDetector``: any detector in a file, and what must be known to run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import interpolate, pad

from deidlib.faces import Faces
from deidlib.images import check_images, to_grid
from deidlib.models.strangers.colours import Colours
from deidlib.models.strangers.face_code import FaceCode
from deidlib.models.strangers.framing import Framing
from deidlib.nets.network import Network
from deidlib.nets.precision import full_precision


class NetDetector:
    """A detector that nobody authorised, described by what it is shown and by how it answers.

    It reads what a file would hold: frames are rounded to uint8 first. No gradients.

    Args:
        name: what reports call it.
        network: runs it: :func:`deidlib.nets.runtime.network` of an ONNX or TFLite file, say.
        framing: which part of the frame it is shown, and in what size.
        colours: in what numbers.
        decode: how faces are read off its outputs.
        score_threshold: least score of a face.

    Raises:
        ValueError: the threshold is outside [0, 1].

    Example:
        >>> import torch
        >>> from deidlib.models.strangers.face_code import CentreMap
        >>> from deidlib.models.strangers.framing import RoundedUp
        >>> class Blind:  # four maps without a peak
        ...     def outputs(self, batch):
        ...         height, width = batch.shape[2] // 4, batch.shape[3] // 4
        ...         return tuple(batch.new_zeros(len(batch), n, height, width) for n in (1, 2, 2, 10))
        >>> detector = NetDetector("blind", Blind(), RoundedUp(32), Colours(), CentreMap(), score_threshold=0.5)
        >>> detector.predict(torch.rand(1, 3, 40, 50))
        [Faces(n=0, landmarks)]
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def __init__(
        self,
        name: str,
        network: Network,
        framing: Framing,
        colours: Colours,
        decode: FaceCode,
        *,
        score_threshold: float,
    ) -> None:
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must lie in [0, 1], got {score_threshold}.")
        self.name, self._network, self._framing, self._colours = name, network, framing, colours
        self._decode, self._score_threshold = decode, score_threshold

    @full_precision()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Boxes and scores of the faces found, best first, and five points where it gives them.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].
            faces: not used.

        Raises:
            TypeError, ValueError: images are no valid batch.
        """
        check_images(images)
        window, size = self._framing(images.shape[2], images.shape[3])
        beyond = (-window.left, window.right - images.shape[3], -window.top, window.bottom - images.shape[2])
        # As Pillow scales: what is made smaller is averaged, where MediaPipe's own samples leave out most of it.
        pictures = interpolate(pad(to_grid(images.detach()), beyond), size=size, mode="bilinear", antialias=True)
        found = self._decode(self._network.outputs(self._colours(pictures)), size, self._score_threshold)
        corner = images.new_tensor([window.left, window.top])
        scale = (images.new_tensor([window.right, window.bottom]) - corner) / images.new_tensor([size[1], size[0]])
        return [
            known.replace(
                boxes=known.boxes * scale.repeat(2) + corner.repeat(2),
                landmarks=None if known.landmarks is None else known.landmarks * scale + corner,
            )
            for known in found
        ]
