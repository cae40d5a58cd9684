"""Distortions: differentiable stand-ins for what happens to a frame after it leaves, for an attack to survive."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from deidlib.attack.distortion import Distortion
from deidlib.attack.planes import (
    blurred,
    doubled,
    extended,
    from_frequencies,
    halved,
    mixed,
    repeated,
    to_frequencies,
)

# The weights of red and blue in the luma: of JPEG files (ITU-R BT.601) and of HD video (BT.709).
_BT601 = (0.299, 0.114)
_BT709 = (0.2126, 0.0722)


@dataclass(frozen=True)
class Blur(Distortion):
    """A soft lens, or a player that scales down and up again.

    Args:
        sigma: of the Gaussian, in pixels.

    Raises:
        ValueError: sigma is not in (0, 100].
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 100:
            raise ValueError(f"sigma must be positive and at most 100 pixels, got {self.sigma}.")

    @property
    def reach(self) -> int:
        """Three deviations."""
        return math.ceil(3 * self.sigma)

    def __call__(self, images: Tensor) -> Tensor:
        """Blur; the outermost pixels repeat beyond the border."""
        bell = [math.exp(-(place**2) / (2 * self.sigma**2)) for place in range(self.reach + 1)]
        total = bell[0] + 2 * math.fsum(bell[1:])
        weights = [weight / total for weight in bell]
        return blurred(blurred(images, 3, weights), 2, weights)


@dataclass(frozen=True)
class ChromaSubsampling(Distortion):
    """Colour at half the resolution in 8 bits, as nearly every video holds it (4:2:0, BT.709, limited range).

    A frame of odd width or height keeps its colour, as ``VideoWriter`` stores it.
    """

    @property
    def reach(self) -> int:
        """A block of halved chroma, and what its conversion takes from beside it."""
        return _BLOCKS

    def __call__(self, images: Tensor) -> Tensor:
        """Convert to luma and halved chroma and back."""
        return _video_rgb(*_video_planes(images))


@dataclass(frozen=True)
class JPEG(Distortion):
    """Baseline JPEG with the tables of its standard (annex K), 4:2:0, as Pillow and libjpeg write and read it.

    Our own and not kornia's: ``jpeg_codec_differentiable`` is two to four times as far from what Pillow reads (1.2 grey
    levels on average at quality 75, here 0.5), its frames are off the uint8 grid, and its sums are tensor products,
    whose order is not fixed.

    Args:
        quality: libjpeg's, 1 worst to 100 best.

    Raises:
        ValueError: no whole number from 1 to 100.

    Example:
        >>> frame = torch.rand(1, 3, 50, 30)
        >>> JPEG(90)(frame).shape
        torch.Size([1, 3, 50, 30])
    """

    quality: int = 75

    def __post_init__(self) -> None:
        if not (isinstance(self.quality, int) and 1 <= self.quality <= 100):
            raise ValueError(f"quality of JPEG must be a whole number from 1 to 100, got {self.quality!r}.")

    @property
    def reach(self) -> int:
        """A block of halved chroma, and what its conversion takes from beside it."""
        return _BLOCKS

    def __call__(self, images: Tensor) -> Tensor:
        """Quantise the 8x8 cosine transform of luma and halved chroma."""
        height, width = images.shape[-2:]
        even = extended(extended(images, 2, 0, height % 2), 3, 0, width % 2)
        levels = [[255 * part for part in row] for row in _matrix(_BT601)]
        luma, chroma = torch.split(mixed(levels, even), [1, 2], dim=1)
        # Means of whole numbers are exact in whatever order.
        chroma = _whole(functional.avg_pool2d(_whole(chroma, -128, 127), 2), -128, 127)
        fine, coarse = (_steps(self.quality, which, images.device, images.dtype) for which in ("luma", "chroma"))
        luma = _whole(_coded(_whole(luma) - 128, 8, fine, 0.5) + 128, 0, 255)
        chroma = _whole(_coded(chroma, 8, coarse, 0.5), -128, 127)
        return _seen(mixed(_back(_BT601), luma, doubled(doubled(chroma, 2), 3)))[..., :height, :width]


@dataclass(frozen=True)
class H264(Distortion):
    """What x264 at a constant rate factor does to a frame, without its neighbours: 4:2:0 and quantised 8x8 transforms.

    The quantiser is the rate factor itself. x264 chooses another one for every frame and block, predicts blocks from
    others, and smooths their edges; the stand-in does not, but what it leaves of a protected face is nearer to what
    x264 leaves than the face itself is (docs/compression.md).

    Args:
        crf: the constant rate factor, 0 best to 51 worst.

    Raises:
        ValueError: crf is not from 0 to 51.
    """

    crf: float = 23

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf of H264 must lie in 0 (best) to 51 (worst), got {self.crf}.")

    @property
    def reach(self) -> int:
        """A block of halved chroma, and what its conversion takes from beside it."""
        return _BLOCKS

    def __call__(self, images: Tensor) -> Tensor:
        """Quantise the transform of luma and halved chroma."""
        luma, chroma = _video_planes(images)
        fine, coarse = (luma.new_full((), 2 ** ((qp - 4) / 6)) for qp in (self.crf, _chroma_qp(self.crf)))
        return _video_rgb(_coded(luma, 8, fine, _ROUNDING), _coded(chroma, 4, coarse, _ROUNDING))


# The largest block, 8 x 8 of halved chroma, and a few pixels for resampling on either side.
_BLOCKS = 24

# The share of a quantiser step by which a coefficient may fall short of the next level and still reach it. x264 rounds
# down nearly always: a bit saved is worth more to it than an error. Fitted to x264 "medium" on protected faces.
_ROUNDING = 0.08

# What is left of the gradient of a coefficient that is 0.
_FLOOR = 0.1

# x264's psychovisual default gives chroma a quantiser 2 lower; from 30 on the standard's table 8-15 lowers it more.
_CHROMA_OFFSET = -2
_CHROMA_QP = (29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39)


def _chroma_qp(qp: float) -> float:
    qp += _CHROMA_OFFSET
    return qp if qp < 30 else _CHROMA_QP[round(qp) - 30]


@lru_cache(maxsize=16)
def _steps(quality: int, which: Literal["luma", "chroma"], device: torch.device, dtype: torch.dtype) -> Tensor:
    """JPEG's quantiser steps at a quality: ``(8, 8)``. Sent to a device once, and outside of inference mode."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    with torch.inference_mode(False):
        table = _LUMA_STEPS if which == "luma" else _CHROMA_STEPS
        return ((table * percent + 50) / 100).floor().clamp(1, 255).to(device, dtype)


# Annex K of the JPEG standard (ITU-T T.81): quantiser steps at quality 50.
_LUMA_STEPS = torch.tensor(
    [
        [16.0, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMA_STEPS = torch.full((8, 8), 99.0)
_CHROMA_STEPS[:4, :4] = torch.tensor([[17.0, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])


class _Straight(torch.autograd.Function):
    """Another result going forward, the gradient as it comes going back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, result: Tensor) -> Tensor:
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _straight(values: Tensor, result: Tensor) -> Tensor:
    """``result`` going forward, the gradient of ``values`` going back."""
    straight: Tensor = _Straight.apply(values, result)
    return straight


def _whole(values: Tensor, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """Rounded to whole numbers of a range."""
    return _straight(values, values.detach().round().clamp_(low, high))


def _seen(levels: Tensor) -> Tensor:
    """RGB levels as 8 bits hold them, in [0, 1]."""
    return _whole(levels, 0, 255) / 255


def _matrix(weights: tuple[float, float]) -> list[list[float]]:
    """Luma and both colour differences, each by red, green and blue."""
    of_red, of_blue = weights
    luma = [of_red, 1 - of_red - of_blue, of_blue]
    to_blue = [(own - part) / (2 - 2 * of_blue) for own, part in zip((0, 0, 1), luma, strict=True)]
    to_red = [(own - part) / (2 - 2 * of_red) for own, part in zip((1, 0, 0), luma, strict=True)]
    return [luma, to_blue, to_red]


def _back(weights: tuple[float, float]) -> list[list[float]]:
    """RGB, each by luma and both colour differences."""
    of_red, of_blue = weights
    blue, red = 2 - 2 * of_blue, 2 - 2 * of_red
    of_green = 1 - of_red - of_blue
    return [[1, 0, red], [1, -of_blue * blue / of_green, -of_red * red / of_green], [1, blue, 0]]


def _video_planes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Luma and chroma in 8 bits, limited range; a frame of even sides has chroma of half its size."""
    luma, *chroma = _matrix(_BT709)
    brightness = mixed([[219 * part for part in luma]], images) + 16
    # Colours are mixed after they are halved: a quarter of the work.
    few = images if images.shape[-1] % 2 or images.shape[-2] % 2 else halved(images)
    colour = mixed([[224 * part for part in row] for row in chroma], few) + 128
    return _whole(brightness, 0, 255), _whole(colour, 0, 255)


def _video_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Back to RGB in [0, 1]; swscale, with which FFmpeg's readers convert, repeats each value of halved chroma."""
    brightness = (_whole(luma, 0, 255) - 16) * (255 / 219)
    colour = (_whole(chroma, 0, 255) - 128) * (255 / 224)
    return _seen(mixed(_back(_BT709), brightness, colour if colour.shape[-2:] == luma.shape[-2:] else repeated(colour)))


def _coded(planes: Tensor, size: int, steps: Tensor, rounding: float) -> Tensor:
    """Planes after their cosine transform, block by block, has been quantised.

    Args:
        planes: ``(B, C, H, W)`` levels.
        size: pixels of a block's side.
        steps: ``(size, size)`` by frequency down and across, or one for all.
        rounding: a coefficient of k + 1 - ``rounding`` steps or more counts as k + 1 of them.
    """
    height, width = planes.shape[-2:]
    whole = extended(extended(planes, 2, 0, -height % size), 3, 0, -width % size)
    coefficients = to_frequencies(whole, size)
    restored = from_frequencies(
        _quantised(coefficients, steps.expand(size, size)[..., None, None, None, None], rounding)
    )
    return restored[..., :height, :width]


def _quantised(coefficients: Tensor, steps: Tensor, rounding: float) -> Tensor:
    """Whole steps going forward; going back, coefficients far below a step are turned down.

    Straight through, an attack would spend its budget on what is quantised to nothing. Without any gradient, nothing
    could ever grow to survive.
    """
    with torch.no_grad():
        # The mean of a block is predicted from others, and what is left of it errs on either side.
        share = torch.full_like(steps, rounding)
        share[0, 0] = 0.5
        levels = coefficients / steps
        size = levels.abs()
        result = (size + share).floor_().copysign_(levels).mul_(steps)
        power = size.square_()
        weight = (power / (power + 0.25)).mul_(1 - _FLOOR).add_(_FLOOR)
    return _straight(coefficients * weight, result)
