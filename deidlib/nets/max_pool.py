"""``MaxPool2d``: torch's, with a gradient that does not hang on last bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

# Values that fall short of the greatest by less than this share of it are as great. Networks round at 1e-7 to 1e-6.
_TIE = 1e-5


class MaxPool2d(nn.MaxPool2d):
    """The greatest value of each window; its gradient is shared by all that are as great, up to rounding.

    Where a picture is flat, and a mosaic is flat nearly everywhere, all values of a window are equal but for what the
    convolution before rounded. torch gives the whole gradient to the greatest of them, so that rounding decides which
    pixel an attack changes: MTCNN's gradient on a mosaic differs by a quarter (L1) between two implementations of the
    same convolution, and by 1e-6 if it is shared.

    Takes what ``torch.nn.MaxPool2d`` takes, but for dilation and ``return_indices``, and gives the same values.

    Example:
        >>> flat = torch.ones(1, 1, 2, 2, requires_grad=True)
        >>> MaxPool2d(2)(flat).backward()
        >>> flat.grad[0, 0]
        tensor([[0.2500, 0.2500],
                [0.2500, 0.2500]])
    """

    def forward(self, maps: Tensor) -> Tensor:
        """The greatest values, ``(N, C, h, w)`` of ``(N, C, H, W)``."""
        windows = _Windows(_both(self.kernel_size), _both(self.stride), _both(self.padding), self.ceil_mode)
        result: Tensor = _Shared.apply(maps, windows)
        return result


def with_shared_ties(module: nn.Module) -> nn.Module:
    """The module, each ``torch.nn.MaxPool2d`` within it replaced by one whose gradient is shared.

    Args:
        module: changed in place.

    Returns:
        The same module.

    Raises:
        ValueError: a pool with dilation, or one that returns indices.
    """
    for name, child in module.named_children():
        if type(child) is nn.MaxPool2d:
            if _both(child.dilation) != (1, 1) or child.return_indices:
                raise ValueError(f"expected a max pool without dilation that returns values alone, got {child}.")
            setattr(module, name, MaxPool2d(child.kernel_size, child.stride, child.padding, ceil_mode=child.ceil_mode))
        else:
            with_shared_ties(child)
    return module


class _Windows(NamedTuple):
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil: bool


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, windows: _Windows) -> Tensor:
        greatest = max_pool2d(maps, windows.size, windows.stride, windows.padding, ceil_mode=windows.ceil)
        ctx.save_for_backward(maps, greatest)
        ctx.windows = windows
        return greatest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        maps, greatest = ctx.saved_tensors
        (rows, columns), (down, across), (above, left), _ = ctx.windows
        height, width = greatest.shape[-2:]
        if above or left:
            maps = pad(maps, (left, left, above, above), value=-torch.inf)
        least = greatest - _TIE * (1 + greatest.abs())
        ties = []
        count = torch.zeros_like(greatest)
        for i in range(rows):
            for j in range(columns):
                # The windows at the lower and right border may lack this place.
                values = maps[..., i::down, j::across][..., :height, :width]
                tie = values >= least[..., : values.shape[-2], : values.shape[-1]]
                count[..., : values.shape[-2], : values.shape[-1]] += tie
                ties.append((i, j, tie))
        share = gradients[0] / count
        result = torch.zeros_like(maps)
        for i, j, tie in ties:
            result[..., i::down, j::across][..., :height, :width] += share[..., : tie.shape[-2], : tie.shape[-1]] * tie
        return result[..., above : maps.shape[-2] - above, left : maps.shape[-1] - left], None


def _both(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
