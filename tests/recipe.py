"""Weights and inputs that are the same on every machine: each number is a hash of its index (splitmix64).

The parity vectors were computed by the models' own code with these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def uniform(count: int, stream: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """``count`` numbers in [0, 1), the first of a stream."""
    start = ((stream << 40) + 0x9E3779B97F4A7C15) & _MASK
    # Unsigned arithmetic of arrays wraps around modulo 2**64, which is what the hash wants.
    x = np.arange(count, dtype=np.uint64) + np.uint64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    # 53 bits: what a double holds.
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53


def image(shape: Sequence[int], stream: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """A tensor of noise in [low, high)."""
    values = low + (high - low) * uniform(math.prod(shape), stream)
    return torch.from_numpy(values.astype(np.float32)).reshape(tuple(shape))


def fill(shapes: Mapping[str, Sequence[int]], *, gain: float = 1.0, first: int = 0) -> dict[str, Tensor]:
    """A state dict for a net, given the shape of each key: one stream per key, in sorted order from ``first``."""
    state = {}
    for stream, key in enumerate(sorted(shapes), start=first):
        shape = tuple(shapes[key])
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros(shape, dtype=torch.int64)
            continue
        u = uniform(math.prod(shape), stream)
        if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
            values = 0.5 + u
        elif key.endswith("running_mean") or len(shape) == 1:
            values = 0.2 * (u - 0.5)
        else:
            fan_in = math.prod(shape[1:])
            values = (2 * u - 1) * np.sqrt(3.0) * gain / np.sqrt(fan_in)
        state[key] = torch.from_numpy(values.astype(np.float32)).reshape(shape)
    return state


def filled(net: torch.nn.Module, *, gain: float = 1.0, first: int = 0) -> dict[str, Tensor]:
    """The state dict of :func:`fill` for a net that exists already."""
    return fill({key: tuple(value.shape) for key, value in net.state_dict().items()}, gain=gain, first=first)
