"""``plain_arithmetic``: gradients and full precision, whatever mode the caller's code is in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from deidlib.nets.precision import autocasts


@contextlib.contextmanager
def plain_arithmetic(device: torch.device) -> Iterator[None]:
    """Work as if the caller had set nothing.

    Within ``torch.no_grad()`` and ``torch.inference_mode()`` there would be no gradient to attack by, without a word,
    and within ``torch.autocast`` the readings would be those of another model.

    Args:
        device: where the work is done.

    Example:
        >>> with torch.inference_mode(), plain_arithmetic(torch.device("cpu")):
        ...     torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        (True, False)
    """
    with contextlib.ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        if autocasts(device.type):
            modes.enter_context(torch.autocast(device.type, enabled=False))
        yield


def differentiable(tensor: Tensor) -> Tensor:
    """The same values in a tensor that gradients can be taken through: one made in inference mode is copied."""
    return tensor.clone() if tensor.is_inference() else tensor
