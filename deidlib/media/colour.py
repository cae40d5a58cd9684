"""``rgb_of``: a decoded frame as 8-bit RGB, on white where it is transparent, as SDR where it is HDR."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deidlib.images import Pixels
from deidlib.media.presentation import UNSPECIFIED

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame

Levels = NDArray[np.float32]

PQ, HLG = 16, 18
"""Transfer characteristics of high dynamic range, as ITU-T H.273 numbers them: SMPTE ST 2084, and ARIB STD-B67."""

# Light of a white sheet of paper in HDR (ITU-R BT.2408), which is 1 in SDR, and of the brightest highlights.
_WHITE, _PEAK = 203.0, 1000.0
# Up to here, of 1, light stays as it is; above, what is up to the peak shares the rest.
_KNEE = 0.8
# From BT.2020's primaries to BT.709's (ITU-R BT.2087).
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # fmt: skip
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
_BT2020 = 9


def is_hdr(transfer: int) -> bool:
    """Whether levels of this transfer are those of high dynamic range."""
    return transfer in (PQ, HLG)


def has_alpha(form: VideoFormat) -> bool:
    """Whether frames of this pixel format say how transparent they are; a palette may."""
    return form.has_palette or any(component.is_alpha for component in form.components)


def rgb_of(frame: VideoFrame, transfer: int, primaries: int) -> Pixels:
    """The frame ``(H, W, 3)``.

    Args:
        frame: as the decoder gives it.
        transfer: that of the stream, as ITU-T H.273 numbers them.
        primaries: those of the stream.
    """
    if is_hdr(transfer):
        # What turns YUV into RGB: what the frame says, or BT.2020's matrix, as all HDR has.
        matrix = None if int(frame.colorspace) not in (0, 2) else _BT2020
        levels = frame.to_ndarray(format="rgb48le", src_colorspace=matrix).astype(np.uint16, copy=False)
        return tone_mapped(levels, transfer, wide=primaries in (_BT2020, UNSPECIFIED))
    if has_alpha(frame.format):
        return on_white(frame.to_ndarray(format="rgba").astype(np.uint8, copy=False))
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def on_white(pixels: Pixels) -> Pixels:
    """``(H, W, 4)`` with alpha as it looks on white, ``(H, W, 3)``."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels), "RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def tone_mapped(levels: NDArray[np.uint16], transfer: int, *, wide: bool = True) -> Pixels:
    """HDR as SDR: sRGB with the primaries of BT.709.

    Levels become light (ITU-R BT.2100: PQ as it is; HLG on a screen of 1000 cd/m²), of which 203 cd/m², the white of
    paper (ITU-R BT.2408), is 1. The brightest of red, green and blue stays as it is up to 0.8; what lies between that
    and the peak is bent into the rest, and the colour goes with it.

    Args:
        levels: ``(H, W, 3)`` of 16 bits, full range.
        transfer: ``PQ`` or ``HLG``.
        wide: whether the primaries are those of BT.2020.

    Returns:
        ``(H, W, 3)``.

    Example:
        >>> paper = np.full((1, 1, 3), 0.5807 * 65535).round().astype(np.uint16)
        >>> tone_mapped(paper, PQ)[0, 0].tolist()
        [244, 244, 244]
    """
    light = _light(transfer)[levels]
    if transfer == HLG:
        # What a screen makes of the scene's light: its luminance to the power of 0.2.
        light *= np.maximum(light @ _LUMINANCE, 1e-6)[..., None] ** np.float32(0.2)
    light *= np.float32(_PEAK / _WHITE) if transfer == HLG else np.float32(1 / _WHITE)
    if wide:
        light = np.maximum(light @ _TO_BT709.T, 0)
    brightest = light.max(axis=2, keepdims=True)
    light *= _bent(brightest) / np.maximum(brightest, 1e-6)
    steps = (light.clip(0, 1) * np.float32(len(_srgb()) - 1)).round().astype(np.uint16)
    return _srgb()[steps]


def _bent(light: Levels) -> Levels:
    """The identity up to the knee; above it a hyperbola that leaves it with slope 1 and takes the peak to 1."""
    peak = _PEAK / _WHITE
    over, room, span = np.maximum(light - _KNEE, 0), 1 - _KNEE, peak - _KNEE
    # over / (1 + over * curve) is room at span.
    curve = 1 / room - 1 / span
    bent: Levels = np.where(light <= _KNEE, light, _KNEE + over / (1 + over * curve)).astype(np.float32)
    return bent


@cache
def _light(transfer: int) -> Levels:
    """Light of each of the 65536 levels: cd/m² of PQ, 0 to 1 of the scene of HLG."""
    level = np.arange(65536) / 65535
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = level ** (1 / m2)
        return (10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    bright = (np.exp((np.maximum(level, 0.5) - c) / a) + b) / 12
    return np.where(level <= 0.5, level**2 / 3, bright).astype(np.float32)


@cache
def _srgb() -> Pixels:
    """The 8-bit level of light in steps of 1 / 65535."""
    light = np.arange(65536) / 65535
    level = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * level).round().astype(np.uint8)
