"""``Network``: a network in a file that somebody else's library runs, without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """Pictures in, all outputs out."""

    def outputs(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Run it.

        Args:
            batch: ``(N, C, H, W)``, N may be 0; on any device, float.

        Returns:
            Its outputs in the file's order, each ``(N, ...)``, on the batch's device and in its dtype.

        Raises:
            ValueError: the batch does not fit the network's input.
        """
        ...


def in_rows(batch: Tensor, run: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Run a network that takes one picture at a time, and put its outputs together.

    Args:
        batch: ``(N, ...)``, N may be 0: then a black picture says which shapes the outputs have.
        run: from ``(1, ...)`` float32 on the CPU to the outputs, each with a first dimension of one.
    """
    values = batch.detach().to("cpu", torch.float32)
    if not len(batch):
        return tuple(output[:0].to(batch) for output in run(values.new_zeros(1, *values.shape[1:])))
    rows = [run(row) for row in values[:, None].unbind()]
    return tuple(torch.cat(output).to(batch) for output in zip(*rows, strict=True))
