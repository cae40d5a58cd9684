"""``Sums``: what a hidden frame tells of a face: a mosaic's cells and a blur's pixels are weighted sums over it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from deidlib.geometry.boxes import Rectangle, clip, expand, outwards
from deidlib.geometry.region import FaceRegion
from deidlib.obfuscate import GaussianBlur, Pixelate


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted means over a face, read off one hidden frame: value m is the sum of the weights times the face's colour
    at the points of row m.

    Args:
        points: ``(M, S, 2)`` x, y in OpenCV's pixels (0 is the centre of the first).
        weights: ``(S,)``, of sum 1.
        values: ``(M, 3)`` in [0, 1].
    """

    points: Tensor
    weights: Tensor
    values: Tensor


ReadsSums = Callable[[Tensor, Tensor, float], Sums]
"""How an attacker reads a frame: told the frame ``(3, H, W)``, the box ``(4,)`` that was hidden, and how many pixels
apart points shall lie."""


def cells(hide: Pixelate) -> ReadsSums:
    """A mosaic's cells: each is the mean of the face's pixels under it; averaged, since a perturbation lies on it.

    Args:
        hide: the mosaic that is taken to have been used.

    Example:
        >>> image = torch.zeros(3, 8, 8)
        >>> image[:, :, 4:] = 1
        >>> read = cells(Pixelate(blocks=2, region=FaceRegion(factor=1.0)))
        >>> sums = read(image, torch.tensor([0.0, 0.0, 8.0, 8.0]), 2.0)
        >>> sums.values[:, 0].tolist(), sums.points[0].tolist()
        ([0.0, 1.0, 0.0, 1.0], [[0.5, 0.5], [2.5, 0.5], [0.5, 2.5], [2.5, 2.5]])
    """

    def read(image: Tensor, box: Tensor, step: float) -> Sums:
        inside, face = _rectangles(image, box, hide.region)
        x, y = hide.cells(inside, face)
        rows = [part.mean(dim=1) for part in torch.split(image[:, inside.top : inside.bottom], y, dim=1)]
        shown = torch.stack(rows, dim=1)[:, :, inside.left : inside.right]
        means = torch.stack([part.mean(dim=2) for part in torch.split(shown, x, dim=2)], dim=2)
        count = max(1, math.ceil(max(*x, *y) / step))
        share = (torch.arange(count, device=image.device) + 0.5) / count
        across = _starts(x, inside.left, image)[:, None] + share * image.new_tensor(x)[:, None] - 0.5
        down = _starts(y, inside.top, image)[:, None] + share * image.new_tensor(y)[:, None] - 0.5
        # Rows, columns, points down, points across.
        shape = (len(y), len(x), count, count)
        grid = torch.stack([across[None, :, None, :].expand(shape), down[:, None, :, None].expand(shape)], dim=-1)
        points = grid.reshape(len(y) * len(x), count * count, 2)
        return Sums(points, image.new_full((count * count,), 1 / count**2), means.flatten(1).T.contiguous())

    return read


def blurred(hide: GaussianBlur) -> ReadsSums:
    """A blur's pixels, one sigma apart: each is the face's mean under a bell.

    Args:
        hide: the blur that is taken to have been used.
    """

    def read(image: Tensor, box: Tensor, step: float) -> Sums:
        inside, face = _rectangles(image, box, hide.region)
        sigma = max(1.0, hide.sigma * (face.right - face.left))
        centres, values = _pixels(image, inside, sigma)
        # Beyond 2.25 sigma there is a fortieth of the bell.
        offset = torch.arange(-3, 4, device=image.device) * 0.75
        bell = torch.exp(-(offset**2) / 2)
        weights = (bell[:, None] * bell[None]).flatten()
        around = torch.cartesian_prod(offset, offset).flip(1) * sigma
        return Sums(centres[:, None] + around, weights / weights.sum(), values)

    return read


def as_it_is(region: FaceRegion) -> ReadsSums:
    """The pixels themselves: what frames show is averaged where the face is, and nothing is undone."""

    def read(image: Tensor, box: Tensor, step: float) -> Sums:
        centres, values = _pixels(image, _rectangles(image, box, region)[0], step)
        return Sums(centres[:, None], image.new_ones(1), values)

    return read


def reading_of(hide: Any) -> ReadsSums:
    """How somebody reads what was hidden in a way: its cells, its bells, or as it is.

    Args:
        hide: an obfuscator.
    """
    if isinstance(hide, Pixelate):
        return cells(hide)
    return blurred(hide) if isinstance(hide, GaussianBlur) else as_it_is(getattr(hide, "region", FaceRegion()))


def _rectangles(image: Tensor, box: Tensor, region: FaceRegion) -> tuple[Rectangle, Rectangle]:
    """The pixels that are hidden, and the same not cut at the frame, as obfuscators lay them out."""
    height, width = image.shape[1:]
    wide = expand(box[None], region.factor)
    whole = outwards(wide)
    return Rectangle(*clip(whole, height, width)[0].long().tolist()), Rectangle(*whole[0].long().tolist())


def _pixels(image: Tensor, inside: Rectangle, step: float) -> tuple[Tensor, Tensor]:
    """Centres ``(M, 2)`` of pixels about so far apart, and their colours ``(M, 3)``."""
    stride = max(1, round(step))
    x = torch.arange(inside.left, inside.right, stride, device=image.device)
    y = torch.arange(inside.top, inside.bottom, stride, device=image.device)
    down, across = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack([across.flatten(), down.flatten()], dim=1).to(image)
    return centres, image[:, down.flatten(), across.flatten()].T.contiguous()


def _starts(sizes: list[int], first: int, like: Tensor) -> Tensor:
    """Where parts of those sizes begin."""
    return like.new_tensor([first + before for before in accumulate([0, *sizes[:-1]])])
