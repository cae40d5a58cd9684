"""``Deidentify``: the pictures of a dataset, protected as they are loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from deidlib.images import check_images, from_pixels, from_uint8, to_pixels, to_uint8
from deidlib.protect.deidentifier import Deidentifier


class Deidentify(v2.Transform):  # type: ignore[misc]  # torchvision is not typed
    """A transform in the manner of ``torchvision.transforms.v2``: each picture of a sample is protected.

    Pictures (``tv_tensors.Image``, PIL images, and the first plain tensor where there are none) come back as what they
    were, boxes, masks, labels and all else untouched: a face keeps its place. A ``tv_tensors.Video`` is a clip, every
    other picture a clip of one frame: one in which no face is found is hidden altogether, unless the tracker of the
    deidentifier is told ``on_missing="keep"``.

    It works in the workers of a ``DataLoader``, forked or spawned; there, the models had better stay on the CPU.

    Args:
        deidentifier: what happens to the pictures.

    Raises:
        TypeError: a sample holds no picture, or one that is neither uint8 nor floating.
        ValueError: a picture has no three colours, or floats outside [0, 1].
        NoFaceError: a picture without a face, with ``on_missing="error"``.

    Example:
        >>> from deidlib import MTCNN, IFGSMAttacker
        >>> hide = Deidentify(Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0)))
        >>> picture, label = hide(torch.zeros(3, 32, 32, dtype=torch.uint8), "nobody")
        >>> picture.shape, picture.dtype, label
        (torch.Size([3, 32, 32]), torch.uint8, 'nobody')
    """

    def __init__(self, deidentifier: Deidentifier) -> None:
        super().__init__()
        self.deidentifier = deidentifier

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuse a sample without a picture: it would leave as it came, as if it had been protected."""
        kinds = (tv_tensors.Image, tv_tensors.Video, PIL.Image.Image)
        if not any(isinstance(part, kinds) or type(part) is Tensor for part in flat_inputs):
            got = ", ".join(sorted({type(part).__name__ for part in flat_inputs})) or "nothing"
            raise TypeError(f"Deidentify found no picture in the sample, but {got}. Put v2.ToImage() before it.")

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Of one part of the sample; called for each."""
        if isinstance(inpt, PIL.Image.Image):
            (picture,) = self._protected(from_pixels(np.asarray(inpt.convert("RGB")))[None])
            return PIL.Image.fromarray(to_pixels(picture))
        if isinstance(inpt, tv_tensors.Image | tv_tensors.Video):
            return tv_tensors.wrap(self._same_kind(inpt.as_subclass(Tensor)), like=inpt)
        # Of plain tensors, the first is a picture where there is no other; torchvision sees to that.
        return self._same_kind(inpt) if type(inpt) is Tensor else inpt

    # What torchvision called it before 0.21.
    _transform = transform

    def _same_kind(self, pictures: Tensor) -> Tensor:
        if pictures.ndim not in (3, 4) or pictures.shape[-3] != 3:
            raise ValueError(
                f"Deidentify takes pictures (3, H, W) and clips (T, 3, H, W), got {tuple(pictures.shape)}. For grey "
                "ones, put torchvision.transforms.v2.RGB() before it."
            )
        frames = pictures.reshape(-1, *pictures.shape[-3:])
        if pictures.dtype == torch.uint8:
            changed = to_uint8(self._protected(from_uint8(frames)))
        elif pictures.is_floating_point():
            changed = self._protected(frames.float()).to(pictures.dtype)
        else:
            raise TypeError(f"Deidentify takes pictures in uint8, or floats in [0, 1], got {pictures.dtype}.")
        return changed.reshape(pictures.shape)

    def _protected(self, frames: Tensor) -> Tensor:
        """``(B, 3, H, W)``, one clip; it comes back to where it was."""
        batches = (part.to(self.deidentifier.device()) for part in torch.split(check_images(frames), 8))
        return torch.cat([batch.images for batch in self.deidentifier.frames(batches)]).to(frames.device)
