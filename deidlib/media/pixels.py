"""Between files and tensors: the only place where 0..255 becomes [0, 1] and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]


def to_float(pixels: Pixels) -> Tensor:
    """``(..., H, W, 3)`` uint8 to ``(..., 3, H, W)`` float32: k / 255, correctly rounded, as ``images.to_grid``."""
    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3)))
    return tensor.to(torch.float32).div_(255)


def to_uint8(images: Tensor) -> Pixels:
    """``(B, 3, H, W)`` in [0, 1] to ``(B, H, W, 3)`` uint8."""
    levels = images.detach().mul(255).round_().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
