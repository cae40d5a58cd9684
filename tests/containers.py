"""Clips as other programs write them: any codec and container, tags, clocks, and several streams in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from deidlib.images import Pixels


@dataclass(frozen=True)
class Stream:
    """A stream of video to be written.

    Args:
        pixels: ``(N, H, W, 3)``, of 8 or 16 bits, or ``(N, H, W, 4)`` with alpha.
        codec: FFmpeg's name of the encoder.
        pixel_format: that it is given.
        options: of the encoder.
        pts: when the frames are shown, in 1/25 seconds; one after the other if not given.
        aspect: width of a pixel by its height.
        context: what else is set on the codec's context: colours, field order.
        default: whether the file says that this is the stream to be shown.
    """

    pixels: NDArray[Any]
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    pts: Sequence[int] | None = None
    aspect: Fraction | None = None
    context: Mapping[str, int] = field(default_factory=dict)
    default: bool | None = None


def write(path: Path, *streams: Stream, form: str | None = None, options: Mapping[str, str] | None = None) -> Path:
    """Write streams of 25 frames a second into a file of a format, by its suffix if none is named."""
    with av.open(str(path), "w", format=form, options=dict(options or {})) as container:
        opened = []
        for given in streams:
            stream: Any = container.add_stream(given.codec, rate=25, options=dict(given.options))
            stream.height, stream.width = given.pixels.shape[1:3]
            stream.pix_fmt = given.pixel_format
            if given.aspect is not None:
                stream.codec_context.sample_aspect_ratio = given.aspect
            for name, value in given.context.items():
                setattr(stream.codec_context, name, value)
            if given.default is not None:
                stream.disposition = Disposition.default if given.default else 0
            opened.append(stream)
        for given, stream in zip(streams, opened, strict=True):
            for number, pixels in enumerate(given.pixels):
                kind = {(4, 1): "rgba", (3, 1): "rgb24", (3, 2): "rgb48le"}[pixels.shape[-1], pixels.itemsize]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=kind)
                matrix = given.context.get("colorspace")
                frame = frame.reformat(format=given.pixel_format, dst_colorspace=matrix)
                frame.time_base = Fraction(1, 25)
                frame.pts = number if given.pts is None else given.pts[number]
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def pixels_of(images: Any) -> Pixels:
    """``(N, 3, H, W)`` in [0, 1] as ``(N, H, W, 3)`` levels."""
    levels: Pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return levels


def remuxed(source: Path, path: Path, form: str) -> Path:
    """The packets of a file's video in another container, as they are."""
    with av.open(str(source)) as given, av.open(str(path), "w", format=form) as container:
        source_stream = given.streams.video[0]
        stream = container.add_stream_from_template(source_stream)
        # H.264 in MP4 says how long its parts are; elsewhere marks stand between them.
        name = "h264_mp4toannexb" if source_stream.codec_context.name == "h264" else "null"
        marks = av.BitStreamFilterContext(name, source_stream)
        for packet in given.demux(source_stream):
            for part in marks.filter(packet if packet.size else None):
                part.stream = stream
                container.mux(part)
    return path
