"""``ProtectFrames``: frames in a data set of the user's own, for ``Dataset.map_batches``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from deidlib.images import from_pixels, to_pixels
from deidlib.protect.deidentifier import Deidentifier


class ProtectFrames:
    """Protects the pictures of one column, and leaves all others as they are.

    A picture is a clip of one frame: one in which no face is found is hidden altogether, unless the deidentifier's
    tracker says otherwise. An entry of four dimensions is a clip.

    Args:
        deidentifier: what happens to the frames. Actors with a GPU move nothing there by themselves: give one whose
            models are there, or a function of no arguments that makes one, which is called in the actor.
        column: where the pictures are, ``(H, W, 3)`` in RGB and uint8, or clips ``(T, H, W, 3)``.

    Raises:
        KeyError: there is no such column.
        TypeError: no uint8.
        ValueError: no such shape.
        NoFaceError: a picture without a face, with ``on_missing="error"``.

    Example:
        >>> from deidlib import MTCNN, IFGSMAttacker
        >>> hide = ProtectFrames(Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0)))
        >>> batch = hide({"image": np.zeros((2, 32, 32, 3), np.uint8), "name": np.array(["a", "b"])})
        >>> batch["image"].shape, batch["name"].tolist()
        ((2, 32, 32, 3), ['a', 'b'])

        With Ray, an actor on each half of a GPU:

        >>> frames.map_batches(  # doctest: +SKIP
        ...     ProtectFrames, fn_constructor_args=(make_deidentifier,), num_gpus=0.5, concurrency=4, batch_size=16
        ... )
    """

    def __init__(self, deidentifier: Any, column: str = "image") -> None:
        self.deidentifier: Deidentifier = deidentifier if isinstance(deidentifier, Deidentifier) else deidentifier()
        self.column = column

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The same batch with the column protected; pictures of different sizes are a column of objects."""
        if self.column not in batch:
            raise KeyError(f"there is no column {self.column!r} among {', '.join(batch)}. Name it: column=.")
        pictures = batch[self.column]
        protected = [self._protected(np.asarray(picture)) for picture in pictures]
        if isinstance(pictures, np.ndarray) and pictures.dtype != object:
            return {**batch, self.column: np.stack(protected) if protected else pictures}
        column = np.empty(len(protected), dtype=object)
        for row, picture in enumerate(protected):
            column[row] = picture
        return {**batch, self.column: column}

    def _protected(self, picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if picture.dtype != np.uint8:
            raise TypeError(f"{self.column!r} must hold uint8, got {picture.dtype}. Convert it before.")
        if picture.ndim not in (3, 4) or picture.shape[-1] != 3:
            raise ValueError(
                f"{self.column!r} must hold pictures (H, W, 3) or clips (T, H, W, 3) in RGB, got {picture.shape}."
            )
        frames = picture if picture.ndim == 4 else picture[None]
        images = torch.stack([from_pixels(frame) for frame in frames])
        device = self.deidentifier.device()
        batches = self.deidentifier.frames(part.to(device) for part in torch.split(images, 8))
        made = np.stack([to_pixels(image) for batch in batches for image in batch.images.cpu()])
        return made if picture.ndim == 4 else made[0]
