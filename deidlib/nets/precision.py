"""``full_precision``: readings, losses and measures in float32, within ``torch.autocast`` too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Compute as if the caller's code did not autocast; as a decorator, too.

    In half precision a detector's boxes lie tens of pixels elsewhere, and SSIM leaves its range: what is read or
    measured then is of another model, without a word.

    Example:
        >>> @full_precision()
        ... def product(a, b):
        ...     return a @ b
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     product(torch.ones(1, 1), torch.ones(1, 1)).dtype
        torch.float32
    """
    with contextlib.ExitStack() as modes:
        for device in _DEVICES:
            if autocasts(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        yield


def autocasts(device: str) -> bool:
    """Whether ``torch.autocast`` is on for a kind of device, ``"cpu"``, ``"cuda"`` ..."""
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:
        # Before torch 2.4 each device has a function of its own, and others than these have no autocast.
        known = {"cuda": torch.is_autocast_enabled, "cpu": torch.is_autocast_cpu_enabled}
        return device in known and known[device]()
