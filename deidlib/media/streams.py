"""Which of the streams of a file is meant, and by what clock it goes."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from deidlib.media.clock import Clock

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Seconds: in formats whose clocks leap (MPEG-TS, VOB), a pause of more is none.
_LEAP = 10


def videos_of(container: InputContainer) -> list[VideoStream]:
    """The videos in a file: first the one that it says is to be shown, or the largest.

    Cover pictures, thumbnails, and the tiles of still images are none.
    """
    from av.stream import Disposition

    no_video = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent
    streams = [stream for stream in container.streams.video if not stream.disposition & no_video]

    def rank(stream: VideoStream) -> tuple[bool, bool, int, int]:
        context = stream.codec_context
        size = 0 if context is None else context.width * context.height
        return context is not None, bool(stream.disposition & Disposition.default), size, -stream.index

    return sorted(streams, key=rank, reverse=True)


def sound_of(container: InputContainer) -> AudioStream | None:
    """The sound that belongs to the video that is meant; None if there is none."""
    videos = videos_of(container)
    best: Any = container.streams.best("audio", related=videos[0] if videos else None)
    return best if best is not None else next(iter(container.streams.audio), None)


def clock_of(container: InputContainer, time_base: Fraction, step: Fraction) -> Clock:
    """A clock for one of the streams of a file.

    Args:
        container: the file.
        time_base: seconds per tick.
        step: seconds from one frame, or packet, to the next.
    """
    from av.format import Flags

    flags: Any = container.format.flags
    leap = round(_LEAP / time_base) if flags & Flags.ts_discont.value else None
    return Clock(max(1, round(step / time_base)), leap)
