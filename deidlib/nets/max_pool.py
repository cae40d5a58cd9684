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
        # At least as much as the windows cover: what lies outside the maps is as great as nothing.
        high = max((height - 1) * down + rows, above + maps.shape[-2])
        wide = max((width - 1) * across + columns, left + maps.shape[-1])
        around = (left, wide - left - maps.shape[-1], above, high - above - maps.shape[-2])
        padded = pad(maps, around, value=-torch.inf) if any(around) else maps
        least = torch.sub(greatest, greatest.abs() + 1, alpha=_TIE)
        # One storage for all views below.
        padded = padded if padded.storage_offset() == 0 else padded.clone()
        shared = _place_by_place if maps.device.type == "cpu" else _at_once
        result = shared(padded, least, gradients[0], ctx.windows)
        return result[..., above : above + maps.shape[-2], left : left + maps.shape[-1]], None


def _at_once(padded: Tensor, least: Tensor, gradient: Tensor, windows: _Windows) -> Tensor:
    """The gradient in a dozen operations on copies of all windows: for who waits for the launch, not for the memory."""
    (rows, columns), (down, across), _, _ = windows
    seen = padded.unfold(2, rows, down).unfold(3, columns, across)
    ties = seen >= least[..., None, None]
    spread = ties * (gradient / ties.sum(dim=(4, 5)))[..., None, None]
    high, wide = padded.shape[2:]
    bands = torch.ops.aten.unfold_backward(spread, [*padded.shape[:2], least.shape[2], wide, rows], 3, columns, across)
    result: Tensor = torch.ops.aten.unfold_backward(bands, [*padded.shape[:2], high, wide], 2, rows, down)
    return result


def _place_by_place(padded: Tensor, least: Tensor, gradient: Tensor, windows: _Windows) -> Tensor:
    """The same without a copy, one place of all windows after the other: a fifth of the time on a CPU."""
    (rows, columns), (down, across), _, _ = windows
    of_place = (padded.stride(2), padded.stride(3))
    of_window = (padded.stride(0), padded.stride(1), down * of_place[0], across * of_place[1])
    places = [i * of_place[0] + j * of_place[1] for i in range(rows) for j in range(columns)]
    count, ties = torch.zeros_like(least), []
    for first in places:
        # That place of every window, without a copy; whether it ties as a number, to be multiplied with.
        tie = torch.ge(padded.as_strided(least.shape, of_window, first), least, out=torch.empty_like(least))
        count += tie
        ties.append(tie)
    share, result = gradient / count, torch.zeros_like(padded)
    for first, tie in zip(places, ties, strict=True):
        result.as_strided(least.shape, of_window, first).addcmul_(share, tie)
    return result


def _both(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
