"""The codecs that video is written with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Codec:
    """How FFmpeg is asked for one of our codecs."""

    encoder: str
    formats: dict[str, str]
    pixel_format: str
    odd_pixel_format: str
    options: dict[str, str]


CODEC_TABLE = {
    # Every frame a key frame, with checksums.
    "ffv1": Codec("ffv1", {".mkv": "matroska"}, "bgr0", "bgr0", {"level": "3", "g": "1", "slicecrc": "1"}),
    "h264": Codec(
        "libx264",
        {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"},
        "yuv420p",
        # Colour at half resolution needs even sides.
        "yuv444p",
        {"crf": "18"},
    ),
    "h264-lossless": Codec(
        "libx264rgb", {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}, "rgb24", "rgb24", {"qp": "0"}
    ),
}

CODECS = (*CODEC_TABLE, "png-folder")
"""What :class:`VideoWriter` can write. All but ``h264`` keep every pixel exactly."""
