"""Sound that is taken over from another file, packet by packet, as it is."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from deidlib.media.errors import MediaReadError, MediaWriteError, reason_of
from deidlib.media.sources import source_of
from deidlib.media.streams import clock_of, sound_of

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet


class SoundCopy:
    """The sound of a file that belongs to its video, for a container that is being written.

    Its time stamps stay as they are, as those of the frames do, so that the two keep in step; where the file's clock
    steps back or leaps, each goes on after its own last one, so that they may come apart by a frame's duration. What a
    codec plays before time 0 to warm up is left out. Of the track's metadata nothing is taken over.

    Raises:
        MediaReadError: the file cannot be read.
        MediaWriteError: the container cannot hold this kind of sound.
    """

    def __init__(self, source: Path, container: OutputContainer, target: Path) -> None:
        import av

        try:
            file = source_of(source)
            self.container = av.open(file.address, mode="r", container_options=file.options, metadata_errors="ignore")
        except (av.FFmpegError, OSError) as error:
            raise MediaReadError(f"{source}: its sound cannot be read ({reason_of(error)}).") from error
        self._packets: Iterator[Packet[AudioStream]] = iter(())
        self._next: Packet[AudioStream] | None = None
        self._base = Fraction(1)
        stream = sound_of(self.container)
        if stream is None:
            return
        codec = stream.codec_context.name
        if stream.codec_context.codec.canonical_name not in container.supported_codecs:
            self.container.close()
            raise MediaWriteError(
                f"{target}: sound in {codec!r} cannot be stored in {target.suffix}. Write .mkv, or leave the sound out."
            )
        self._out = container.add_stream_from_template(stream)
        self._out.metadata.clear()
        self._base = stream.time_base or Fraction(1, av.time_base)
        self._packets = self._mended(stream)
        self._advance()

    def until(self, seconds: Fraction | None) -> Iterator[Packet[AudioStream]]:
        """The packets that begin before a time; all that are left if it is None."""
        while self._next is not None and self._next.pts is not None:
            if seconds is not None and self._next.pts * self._base >= seconds:
                return
            packet = self._next
            packet.stream = self._out
            yield packet
            self._advance()

    def close(self) -> None:
        """Let go of the file."""
        self.container.close()

    def _advance(self) -> None:
        import av

        try:
            self._next = next((p for p in self._packets if p.pts is not None and p.pts >= 0 and p.size), None)
        except (av.FFmpegError, OSError) as error:
            raise MediaReadError(f"{self.container.name}: its sound is damaged ({reason_of(error)}).") from error

    def _mended(self, stream: AudioStream) -> Iterator[Packet[AudioStream]]:
        """The packets, by a clock that goes on where the file's steps back or leaps."""
        packets = (packet for packet in self.container.demux(stream) if packet.pts is not None and packet.size)
        packet = next(packets, None)
        clock = None
        while packet is not None:
            following = next(packets, None)
            if clock is None:
                clock = clock_of(self.container, self._base, max(packet.duration or 0, 1) * self._base)
            assert packet.pts is not None
            lag = packet.pts - (packet.pts if packet.dts is None else packet.dts)
            packet.pts = clock.tick(packet.pts, None if following is None else following.pts)
            packet.dts = packet.pts - lag
            yield packet
            packet = following
