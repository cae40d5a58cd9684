"""``VideoSettings``: how a video is written and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deidlib.media import VideoInfo, VideoWriter

# Frames, about: what is lost at most when a job is interrupted.
_SEGMENT = 64


@dataclass(frozen=True)
class VideoSettings:
    """How a video is written and checked; see :meth:`~deidlib.Deidentifier.video`."""

    codec: str
    quality: int | None
    batch_size: int
    audio: str
    verify: bool
    quality_wanted: float
    repairs: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 frame, got {self.batch_size}.")
        if self.audio not in ("drop", "copy"):
            raise ValueError(f"audio must be 'drop' or 'copy', got {self.audio!r}.")
        check_checks(self.quality_wanted, self.repairs)

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
        )

    @property
    def segment(self) -> int:
        """Frames in a segment: whole batches, so that a continued clip has the same batches."""
        return self.batch_size * max(1, round(_SEGMENT / self.batch_size))


def check_checks(quality_wanted: float, repairs: int) -> None:
    """Refuse settings of the reading back that make no sense.

    Raises:
        ValueError: an overlap outside [0, 1], or a negative number of rounds.
    """
    if not 0 <= quality_wanted <= 1:
        raise ValueError(f"quality_wanted is an overlap (IoU) in [0, 1], got {quality_wanted}.")
    if repairs < 0:
        raise ValueError(f"repairs must be >= 0 rounds, got {repairs}.")
