"""The codecs that video is written with."""

from __future__ import annotations

from dataclasses import dataclass

from deidlib.media.errors import MediaWriteError
from deidlib.media.presentation import Fields


@dataclass(frozen=True)
class Codec:
    """How FFmpeg is asked for one of our codecs.

    Args:
        encoder: FFmpeg's name.
        formats: container by file suffix.
        pixel_format: for frames of even size.
        odd_pixel_format: for others: colour at half resolution needs even sides.
        options: of the encoder.
        quality: best, default and worst quality; None if nothing is lost.
        threads: of the encoder, wherever it runs, where its bytes hang on it; 0: as many as there may be.
    """

    encoder: str
    formats: dict[str, str]
    pixel_format: str
    odd_pixel_format: str
    options: dict[str, str]
    quality: tuple[int, int, int] | None = None
    threads: int = 0

    def options_for(self, quality: int | None) -> dict[str, str]:
        """The encoder's options, with a quality that :func:`check_quality` has seen."""
        if self.quality is None:
            return dict(self.options)
        level = self.quality[1] if quality is None else quality
        if self.encoder == "libx264":
            return {**self.options, "crf": str(level)}
        # A fixed quantiser: the least and the most are the same.
        return {**self.options, "qmin": str(level), "qmax": str(level)}

    def options_of_fields(self, fields: Fields, height: int) -> dict[str, str]:
        """What says, in the file, that frames hold two fields, and which one comes first; nothing for whole frames."""
        if fields == "progressive":
            return {}
        said = {"field_order": "tt" if fields == "top" else "bb"}
        if not self.encoder.startswith("libx264"):
            return said
        # It codes fields apart, of which the chroma has half the lines; of other heights only the container tells.
        params = {"x264-params": "tff=1" if fields == "top" else "bff=1"}
        return said | params if height % 4 == 0 else said


_MP4 = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}

CODEC_TABLE = {
    # Every frame a key frame, with checksums.
    "ffv1": Codec("ffv1", {".mkv": "matroska"}, "bgr0", "bgr0", {"level": "3", "g": "1", "slicecrc": "1"}),
    "h264": Codec("libx264", _MP4, "yuv420p", "yuv444p", {}, (0, 18, 51)),
    "h264-lossless": Codec("libx264rgb", _MP4, "rgb24", "rgb24", {"qp": "0"}, threads=4),
    "mjpeg": Codec("mjpeg", {".avi": "avi", ".mkv": "matroska"}, "yuvj420p", "yuvj444p", {}, (2, 3, 31), threads=1),
}

CODECS = (*CODEC_TABLE, "png-folder")
"""What :class:`VideoWriter` can write. All but ``h264`` and ``mjpeg`` keep every pixel exactly."""


def is_lossless(codec: str) -> bool:
    """Whether every pixel comes back exactly.

    Example:
        >>> [codec for codec in CODECS if not is_lossless(codec)]
        ['h264', 'mjpeg']
    """
    known = CODEC_TABLE.get(codec)
    return known is None or known.quality is None


def check_quality(codec: str, quality: int | None) -> None:
    """Refuse a quality that the codec does not have.

    Raises:
        MediaWriteError: an unknown codec.
        ValueError: a lossless codec, or a number out of its range.
    """
    if codec not in CODECS:
        raise MediaWriteError(f"unknown codec {codec!r}. Known: {', '.join(CODECS)}.")
    known = CODEC_TABLE.get(codec)
    if quality is None:
        return
    if known is None or known.quality is None:
        lossy = " and ".join(repr(name) for name, other in CODEC_TABLE.items() if other.quality)
        raise ValueError(f"quality belongs to codecs {lossy} only, got codec {codec!r}, which loses nothing.")
    best, _, worst = known.quality
    if not best <= quality <= worst:
        raise ValueError(f"quality of {codec!r} must lie in {best} (best) to {worst} (worst), got {quality}.")
