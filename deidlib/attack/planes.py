"""Planes of a frame: colours mixed, sides halved and doubled, lines blurred, blocks transformed, to the last bit.

A quantiser follows on what is computed here, and turns a last bit into grey levels. A convolution, a matrix product
or ``sum`` adds up in an order that goes by the batch, the number of threads and the processor. So every sum here is
written out as multiplications and additions of whole planes, one after the other: each is rounded as IEEE 754 says,
none is fused with another, and their order hangs on nothing but the frame's size.

All of it is linear, and each map stands beside its transpose: gradients go through the transpose, which is summed in
an order of its own, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor


def mixed(matrix: Sequence[Sequence[float]], *planes: Tensor) -> Tensor:
    """Weighted sums of planes: one by another matrix of colours.

    Args:
        matrix: a row for each plane that comes out, in it a weight for each that goes in.
        planes: ``(B, C, H, W)`` each, taken as one list of planes.

    Returns:
        ``(B, len(matrix), H, W)``.

    Example:
        >>> mixed([[0.5, 0.5], [1, -1]], torch.tensor([3.0, 1.0]).reshape(1, 2, 1, 1)).flatten()
        tensor([2., 2.])
    """
    transposed = list(zip(*matrix, strict=True))
    counts = [part.shape[1] for part in planes]

    def forth(*parts: Tensor) -> Tensor:
        return _weighted(matrix, parts)

    def back(gradient: Tensor) -> tuple[Tensor, ...]:
        return torch.split(_weighted(transposed, [gradient]), counts, dim=1)

    return _linear(forth, back, *planes)


def extended(planes: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Planes whose first and last lines along ``dim`` are repeated ``before`` and ``after`` times more.

    Example:
        >>> extended(torch.tensor([1.0, 2.0]), 0, 1, 2)
        tensor([1., 1., 2., 2., 2.])
    """
    if not before and not after:
        return planes
    length = planes.shape[dim]

    def forth(values: Tensor) -> Tensor:
        sizes = list(values.shape)
        sizes[dim] = 1
        ends = values.narrow(dim, 0, 1), values.narrow(dim, length - 1, 1)
        return torch.cat([*[ends[0]] * before, values, *[ends[1]] * after], dim)

    def back(gradient: Tensor) -> Tensor:
        result = gradient.narrow(dim, before, length).clone()
        for place, repeats in ((0, range(before)), (length - 1, range(before + length, before + length + after))):
            for repeat in repeats:
                result.narrow(dim, place, 1).add_(gradient.narrow(dim, repeat, 1))
        return result

    return _linear(forth, back, planes)


def blurred(planes: Tensor, dim: int, weights: Sequence[float]) -> Tensor:
    """Sums of neighbours along ``dim``; lines beyond the border are as the one there.

    Args:
        planes: any shape.
        dim: counted from the front.
        weights: of a line itself and of those 1, 2, ... away on either side.

    Example:
        >>> blurred(torch.tensor([0.0, 0.0, 4.0, 0.0]), 0, [0.5, 0.25])
        tensor([0., 1., 2., 1.])
    """
    reach = len(weights) - 1
    length = planes.shape[dim]

    def forth(values: Tensor) -> Tensor:
        total = values.narrow(dim, reach, length) * weights[0]
        for away, weight in enumerate(weights[1:], start=1):
            pair = values.narrow(dim, reach - away, length) + values.narrow(dim, reach + away, length)
            total += pair.mul_(weight)
        return total

    def back(gradient: Tensor) -> Tensor:
        sizes = list(gradient.shape)
        sizes[dim] += 2 * reach
        result = gradient.new_zeros(sizes)
        result.narrow(dim, reach, length).copy_(gradient * weights[0])
        for away, weight in enumerate(weights[1:], start=1):
            share = gradient * weight
            result.narrow(dim, reach - away, length).add_(share)
            result.narrow(dim, reach + away, length).add_(share)
        return result

    return _linear(forth, back, extended(planes, dim, reach, reach))


def repeated(planes: Tensor) -> Tensor:
    """Every pixel of ``(B, C, H, W)`` four times, ``(B, C, 2 H, 2 W)``."""

    def forth(values: Tensor) -> Tensor:
        frames, count, height, width = values.shape
        twice = values[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
        return twice.reshape(frames, count, 2 * height, 2 * width)

    def back(gradient: Tensor) -> Tensor:
        pairs = gradient[..., 0::2, :] + gradient[..., 1::2, :]
        return pairs[..., 0::2] + pairs[..., 1::2]

    return _linear(forth, back, planes)


def doubled(planes: Tensor, dim: int) -> Tensor:
    """Twice as many lines along ``dim``, each of three quarters of the nearest and one of the next: libjpeg's "fancy".

    Example:
        >>> doubled(torch.tensor([0.0, 4.0]), 0)
        tensor([0., 1., 3., 4.])
    """
    length = planes.shape[dim]

    def forth(values: Tensor) -> Tensor:
        near, far = values * 0.75, values * 0.25
        first, last = near + _moved(far, dim, 1), near + _moved(far, dim, -1)
        return torch.stack([first, last], dim + 1).flatten(dim, dim + 1)

    def back(gradient: Tensor) -> Tensor:
        first, last = gradient.reshape(*gradient.shape[:dim], length, 2, *gradient.shape[dim + 1 :]).unbind(dim + 1)
        result = (first + last) * 0.75
        for part, step, border in ((first, -1, 0), (last, 1, length - 1)):
            result += _moved(part, dim, step, 0) * 0.25
            result.narrow(dim, border, 1).add_(part.narrow(dim, border, 1) * 0.25)
        return result

    return _linear(forth, back, planes)


def halved(planes: Tensor) -> Tensor:
    """Half of both sides, which are even, of ``(B, C, H, W)`` as in swscale: columns by 1 1, rows by 1 3 3 1."""

    def forth(values: Tensor) -> Tensor:
        pairs = values[..., 0::2] + values[..., 1::2]
        upper, lower = pairs[..., 0::2, :], pairs[..., 1::2, :]
        # Beyond the border lies the outermost row once more.
        above = torch.cat([upper[..., :1, :], lower[..., :-1, :]], -2)
        below = torch.cat([upper[..., 1:, :], lower[..., -1:, :]], -2)
        return ((upper + lower) * 3 + (above + below)) / 16

    def back(gradient: Tensor) -> Tensor:
        share = gradient / 16
        middle = share * 3
        rows = torch.stack([middle + _moved(share, 2, 1), middle + _moved(share, 2, -1)], 3).flatten(2, 3)
        return rows[..., None].expand(*rows.shape, 2).flatten(-2)

    return _linear(forth, back, planes)


def to_frequencies(planes: Tensor, size: int) -> Tensor:
    """The orthonormal discrete cosine transform of square blocks.

    Args:
        planes: ``(B, C, H, W)``, sides multiples of ``size``.
        size: pixels of a block's side, even.

    Returns:
        ``(size, size, B, C, H / size, W / size)`` by frequency down and across.

    Example:
        >>> to_frequencies(torch.ones(1, 1, 8, 8), 8)[0, 0].item()
        8.0
    """
    blocks = rearrange(planes, "b c (y i) (x j) -> i j b c y x", i=size, j=size)
    return _linear(_on_both(_cosines), _on_both(_cosines_back), blocks)


def from_frequencies(coefficients: Tensor) -> Tensor:
    """What :func:`to_frequencies` came from, ``(B, C, H, W)``."""
    blocks = _linear(_on_both(_cosines_back), _on_both(_cosines), coefficients)
    return rearrange(blocks, "i j b c y x -> b c (y i) (x j)")


class _Linear(torch.autograd.Function):
    """A linear map, and its transpose for the gradient."""

    @staticmethod
    def forward(ctx: Any, forth: Callable[..., Tensor], back: Callable[[Tensor], Any], *planes: Tensor) -> Tensor:
        ctx.back = back
        return forth(*planes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        result = ctx.back(gradients[0])
        return None, None, *(result if isinstance(result, tuple) else (result,))


def _linear(forth: Callable[..., Tensor], back: Callable[[Tensor], Any], *planes: Tensor) -> Tensor:
    result: Tensor = _Linear.apply(forth, back, *planes)
    return result


def _weighted(matrix: Sequence[Sequence[float]], planes: Sequence[Tensor]) -> Tensor:
    """One plane per row of ``matrix`` out of all planes of ``(B, C, H, W)``."""
    parts = [plane for group in planes for plane in group.unbind(1)]
    first = parts[0]
    result = first.new_empty(len(first), len(matrix), *first.shape[1:])
    for total, row in zip(result.unbind(1), matrix, strict=True):
        terms = ((part, weight) for part, weight in zip(parts, row, strict=True) if weight)
        part, weight = next(terms)
        total.copy_(part if weight == 1 else part * weight)
        for part, weight in terms:
            total += part if weight == 1 else part * weight
    return result


def _moved(values: Tensor, dim: int, step: int, border: float | None = None) -> Tensor:
    """Lines moved on by one, or back by one; at the border there is ``border``, or the line that was there."""
    length = values.shape[dim]
    edge = values.narrow(dim, 0 if step > 0 else length - 1, 1)
    if border is not None:
        edge = torch.full_like(edge, border)
    if step > 0:
        return torch.cat([edge, values.narrow(dim, 0, length - 1)], dim)
    return torch.cat([values.narrow(dim, 1, length - 1), edge], dim)


def _on_both(transform: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A transform of the first dimension, on the first and on the second."""
    return partial(_both, transform)


def _both(transform: Callable[[Tensor], Tensor], blocks: Tensor) -> Tensor:
    # Divided once by a power of two, rather than by a root twice: the mean of whole numbers comes out exact, which in
    # flat blocks often lies in the middle between two steps of a quantiser.
    return transform(transform(blocks).transpose(0, 1)).transpose(0, 1).div_(len(blocks))


def _cosines(blocks: Tensor) -> Tensor:
    """From places to frequencies along the first dimension.

    Even frequencies are the same from either end of a block, odd ones change their sign: half of the products.
    """
    half = len(blocks) // 2
    head, tail = blocks[:half], blocks[half:].flip(0)
    weights = _basis(2 * half, blocks.device, blocks.dtype)
    return _summed(weights, torch.stack([head + tail, head - tail], dim=1)).flatten(0, 1)


def _cosines_back(coefficients: Tensor) -> Tensor:
    """From frequencies to places along the first dimension."""
    half = len(coefficients) // 2
    weights = _basis(2 * half, coefficients.device, coefficients.dtype).transpose(0, 2)
    even, odd = _summed(weights, coefficients.reshape(half, 2, *coefficients.shape[1:])).unbind(1)
    return torch.cat([even + odd, (even - odd).flip(0)])


def _summed(weights: Tensor, parts: Tensor) -> Tensor:
    """Weights ``(n, 2, m)`` and parts ``(m, 2, ...)`` give sums over m ``(n, 2, ...)``."""
    columns = weights.reshape(*weights.shape, *[1] * (parts.ndim - 2)).unbind(2)
    total = parts[0] * columns[0]
    for part, column in zip(parts[1:], columns[1:], strict=True):
        total += part * column
    return total


@lru_cache(maxsize=16)
def _basis(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Cosines over half a block by frequency ``2 f + parity``: ``(f, parity, place)``, mean square 1."""

    def value(frequency: int, place: int) -> float:
        scale = 1 if frequency == 0 else math.sqrt(2)
        # Of Python's, one by one: torch computes cosines in another way at the end of a tensor than within.
        return scale * math.cos(math.pi / size * (place + 0.5) * frequency)

    half = range(size // 2)
    table = [[[value(2 * f + parity, place) for place in half] for parity in range(2)] for f in half]
    # Rounded from float64 and sent to a device once, and outside of inference mode: a later gradient may go through.
    with torch.inference_mode(False):
        return torch.tensor(table, dtype=torch.float64).to(dtype).to(device)
