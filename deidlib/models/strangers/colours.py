"""``Colours``: the numbers in which a network wants a picture's colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Colours:
    """What becomes of RGB in [0, 1], in the words of the table of checkpoints (:mod:`deidlib.weights.table`).

    Args:
        channels: their order.
        scale: the value of white.
        mean: subtracted from values of that scale.
        std: divided by afterwards.

    Example:
        >>> import torch
        >>> Colours("BGR", scale=255, mean=127.5, std=127.5)(torch.tensor([1.0, 0.0, 0.5]).view(1, 3, 1, 1)).flatten()
        tensor([ 0., -1.,  1.])
    """

    channels: Literal["RGB", "BGR"] = "RGB"
    scale: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    def __call__(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` RGB in [0, 1] as the network wants them."""
        ordered = images.flip(1) if self.channels == "BGR" else images
        return (ordered * self.scale - self.mean) / self.std
