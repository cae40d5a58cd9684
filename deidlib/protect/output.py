"""``Output``: how a protected clip is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deidlib.media import VideoInfo, VideoWriter
from deidlib.media.codecs import check_quality, is_lossless


@dataclass(frozen=True)
class Output:
    """How a protected video is written. (An image becomes a PNG.)

    Args:
        codec: one of ``deidlib.media.CODECS``; ``"ffv1"`` loses nothing.
        quality: of ``"h264"`` the constant rate factor, 0 best to 51 worst; of ``"mjpeg"`` the quantiser, 2 best to 31
            worst. The codec's default if not given.
        audio: ``"drop"``, since a voice identifies, or ``"copy"``.

    Raises:
        ValueError: a quality that the codec does not have, or another word for the sound.

    Example:
        >>> Output("h264", quality=23).audio
        'drop'
    """

    codec: str = "ffv1"
    quality: int | None = None
    audio: Literal["drop", "copy"] = "drop"

    def __post_init__(self) -> None:
        check_quality(self.codec, self.quality)
        if self.audio not in ("drop", "copy"):
            raise ValueError(f"audio must be 'drop' or 'copy', got {self.audio!r}.")

    @property
    def lossless(self) -> bool:
        """Whether every pixel comes back exactly."""
        return is_lossless(self.codec)

    def writer(self, path: Path, like: VideoInfo, *, sound: Path | None = None) -> VideoWriter:
        """A writer of a file like the one that was read."""
        return VideoWriter(
            path,
            like.fps,
            (like.height, like.width),
            codec=self.codec,
            quality=self.quality,
            time_base=like.time_base,
            sound=sound,
            shown=like.shown,
        )
