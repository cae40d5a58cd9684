"""Channels: differentiable stand-ins for what happens to a frame after it leaves, so that an attack can survive it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# The weights of red and blue in the luma: of JPEG files (ITU-R BT.601) and of HD video (BT.709).
_BT601 = (0.299, 0.114)
_BT709 = (0.2126, 0.0722)


class Channel(ABC):
    """What may happen to a frame after it leaves: frames go in, what a reader will see comes out.

    A channel leaves nothing to chance, so that iterates can be compared and a run repeated; it treats every frame
    by itself; and it passes gradients on, straight through what has none (rounding, clipping).

    Example:
        >>> class Darker(Channel):
        ...     def __call__(self, images):
        ...         return images / 2
        >>> Darker()(torch.ones(1, 3, 4, 4)).max()
        tensor(0.5000)
    """

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """What a reader sees.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1], any size.

        Returns:
            A tensor of the same shape, in [0, 1].
        """


@dataclass(frozen=True)
class GaussianBlur(Channel):
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

    def __call__(self, images: Tensor) -> Tensor:
        """Blur; the outermost pixels repeat beyond the border."""
        reach = math.ceil(3 * self.sigma)
        places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        kernel = torch.exp(-places.square() / (2 * self.sigma**2))
        kernel = kernel / kernel.sum()
        frames, colours, height, width = images.shape
        planes = functional.pad(images.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
        planes = functional.conv2d(functional.conv2d(planes, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
        return planes.view(frames, colours, height, width)


@dataclass(frozen=True)
class ChromaSubsampling(Channel):
    """Colour at half the resolution in 8 bits, as nearly every video holds it (4:2:0, BT.709, limited range).

    A frame of odd width or height keeps its colour, as ``VideoWriter`` stores it.
    """

    def __call__(self, images: Tensor) -> Tensor:
        """Convert to luma and halved chroma and back."""
        return _video_rgb(*_video_planes(images))


@dataclass(frozen=True)
class JPEG(Channel):
    """Baseline JPEG with the tables of its standard (annex K), 4:2:0, as Pillow and libjpeg write and read it.

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

    def __call__(self, images: Tensor) -> Tensor:
        """Quantise the 8x8 cosine transform of luma and halved chroma."""
        height, width = images.shape[-2:]
        even = functional.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
        planes = _planes(_BT601, 255 * even)
        luma, *chroma = (_whole(plane) for plane in planes)
        chroma = [_whole(functional.avg_pool2d(plane, 2)) for plane in chroma]
        fine, coarse = (self._steps(table).to(images) for table in (_LUMA_STEPS, _CHROMA_STEPS))
        luma = _coded(luma - 128, 8, fine, 0.5) + 128
        chroma = [_coded(plane - 128, 8, coarse, 0.5) for plane in chroma]
        luma, *chroma = _whole(luma, 0, 255), *(_whole(plane, -128, 127) for plane in chroma)
        # libjpeg's "fancy upsampling".
        chroma = [functional.interpolate(plane, scale_factor=2.0, mode="bilinear") for plane in chroma]
        return _seen(_mixed(_BT601, luma, *chroma))[..., :height, :width]

    def _steps(self, table: Tensor) -> Tensor:
        percent = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return ((table * percent + 50) / 100).floor().clamp(1, 255)


@dataclass(frozen=True)
class H264(Channel):
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

    def __call__(self, images: Tensor) -> Tensor:
        """Quantise the transform of luma and halved chroma."""
        luma, *chroma = _video_planes(images)
        fine, coarse = (2 ** ((qp - 4) / 6) for qp in (self.crf, _chroma_qp(self.crf)))
        luma = _coded(luma, 8, luma.new_tensor(fine), _ROUNDING)
        chroma = [_coded(plane, 4, plane.new_tensor(coarse), _ROUNDING) for plane in chroma]
        return _video_rgb(luma, *chroma)


def channel(name: str) -> Channel:
    """The channel that a command line names.

    Args:
        name: ``"jpeg:75"`` (quality), ``"h264:23"`` (constant rate factor), ``"blur:1.0"`` (sigma in pixels) or
            ``"chroma"``.

    Raises:
        ValueError: an unknown name, or a number that is missing, superfluous or out of range.

    Example:
        >>> channel("h264:23")
        H264(crf=23.0)
    """
    kind, _, level = name.partition(":")
    try:
        if kind == "chroma" and not level:
            return ChromaSubsampling()
        if kind == "jpeg":
            return JPEG(int(level))
        if kind == "h264":
            return H264(float(level))
        if kind == "blur":
            return GaussianBlur(float(level))
    except ValueError as error:
        raise ValueError(f"channel {name!r}: {error} {_NAMES}") from None
    raise ValueError(f"unknown channel {name!r}. {_NAMES}")


_NAMES = "Known: jpeg:QUALITY (1 to 100), h264:CRF (0 to 51), blur:SIGMA (pixels), chroma."

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


def _straight(values: Tensor, result: Tensor) -> Tensor:
    """``result`` going forward, the gradient of ``values`` going back."""
    return result.detach() + (values - values.detach())


def _whole(values: Tensor, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """Rounded to whole numbers of a range."""
    return _straight(values, values.round().clamp(low, high))


def _seen(levels: Tensor) -> Tensor:
    """RGB levels as 8 bits hold them, in [0, 1]."""
    return _straight(levels / 255, levels.round().clamp(0, 255) / 255)


def _planes(weights: tuple[float, float], levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Luma in 0 to 255 and both colour differences around 128, each ``(B, 1, H, W)``, of RGB levels 0 to 255."""
    of_red, of_blue = weights
    red, green, blue = levels[:, 0:1], levels[:, 1:2], levels[:, 2:3]
    luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    return luma, 128 + (blue - luma) / (2 - 2 * of_blue), 128 + (red - luma) / (2 - 2 * of_red)


def _mixed(weights: tuple[float, float], luma: Tensor, to_blue: Tensor, to_red: Tensor) -> Tensor:
    """RGB levels of luma and colour differences around 0."""
    of_red, of_blue = weights
    red, blue = luma + (2 - 2 * of_red) * to_red, luma + (2 - 2 * of_blue) * to_blue
    return torch.cat([red, (luma - of_red * red - of_blue * blue) / (1 - of_red - of_blue), blue], dim=1)


def _video_planes(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Luma and chroma in 8 bits, limited range."""
    luma, *chroma = _planes(_BT709, 255 * images)
    chroma = [128 + (plane - 128) * 224 / 255 for plane in chroma]
    if not (images.shape[-1] % 2 or images.shape[-2] % 2):
        chroma = [_halved(plane) for plane in chroma]
    to_blue, to_red = (_whole(plane, 0, 255) for plane in chroma)
    return _whole(16 + luma * 219 / 255, 0, 255), to_blue, to_red


def _video_rgb(luma: Tensor, to_blue: Tensor, to_red: Tensor) -> Tensor:
    chroma = [(_whole(plane, 0, 255) - 128) * 255 / 224 for plane in (to_blue, to_red)]
    if chroma[0].shape != luma.shape:
        # swscale, with which FFmpeg's readers convert, repeats each value.
        chroma = [plane.repeat_interleave(2, -2).repeat_interleave(2, -1) for plane in chroma]
    return _seen(_mixed(_BT709, (_whole(luma, 0, 255) - 16) * 255 / 219, *chroma))


def _halved(plane: Tensor) -> Tensor:
    """Chroma at half the resolution as swscale averages it: pairs of columns, and four rows by 1 3 3 1."""
    columns = functional.pad(functional.avg_pool2d(plane, (1, 2)), (0, 0, 1, 1), mode="replicate")
    kernel = plane.new_tensor([1.0, 3.0, 3.0, 1.0]).view(1, 1, 4, 1) / 8
    return functional.conv2d(columns, kernel, stride=(2, 1))


def _coded(plane: Tensor, size: int, steps: Tensor, rounding: float) -> Tensor:
    """A plane ``(B, 1, H, W)`` after its cosine transform, block by block, has been quantised.

    Args:
        plane: levels.
        size: pixels of a block's side.
        steps: ``(size, size)`` by frequency down and across, or one for all.
        rounding: a coefficient of k + 1 - ``rounding`` steps or more counts as k + 1 of them.
    """
    frames, _, height, width = plane.shape
    below, beside = -height % size, -width % size
    padded = functional.pad(plane, (0, beside, 0, below), mode="replicate")
    basis = _cosines(size).to(plane)
    # Blocks stay in their places, (B, rows of blocks, size, columns of blocks, size): nothing is copied.
    rows = basis @ padded.reshape(frames, -1, size, width + beside)
    coefficients = rows.reshape(frames, -1, size, (width + beside) // size, size) @ basis.T
    steps = steps.expand(size, size)[:, None]
    # The mean of a block is predicted from others, and what is left of it errs on either side.
    share = torch.full_like(basis, rounding)[:, None]
    share[0, 0, 0] = 0.5
    levels = (coefficients.detach().abs() / steps + share).floor() * coefficients.detach().sign()
    kept = _guided(coefficients, levels * steps, steps) @ basis
    restored = basis.T @ kept.reshape(frames, -1, size, width + beside)
    return restored.reshape(frames, 1, height + below, width + beside)[..., :height, :width]


def _guided(coefficients: Tensor, result: Tensor, steps: Tensor) -> Tensor:
    """``result`` going forward; going back, coefficients far below a quantiser step are turned down.

    Straight through, an attack would spend its budget on what is quantised to nothing. Without any gradient, nothing
    could ever grow to survive.
    """
    power = coefficients.detach().square()
    share = _FLOOR + (1 - _FLOOR) * power / (power + (steps / 2).square())
    return _straight(coefficients * share, result)


def _cosines(size: int) -> Tensor:
    """The orthonormal discrete cosine transform, ``(frequency, place)``."""
    place = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * (place + 0.5) * place[:, None]) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis
