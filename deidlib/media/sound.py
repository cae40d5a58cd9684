"""Sound that is taken over from another file, packet by packet, as it is."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from deidlib.media.errors import MediaReadError, MediaWriteError, reason_of
from deidlib.media.sources import source_of

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet


class SoundCopy:
    """The first sound track of a file, for a container that is being written.

    Its time stamps stay as they are, as those of the frames do, so that the two keep in step. What a codec plays
    before time 0 to warm up is left out. Of the track's metadata nothing is taken over.

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
        if not self.container.streams.audio:
            return
        stream = self.container.streams.audio[0]
        codec = stream.codec_context.name
        if stream.codec_context.codec.canonical_name not in container.supported_codecs:
            self.container.close()
            raise MediaWriteError(
                f"{target}: sound in {codec!r} cannot be stored in {target.suffix}. Write .mkv, or leave the sound out."
            )
        self._out = container.add_stream_from_template(stream)
        self._out.metadata.clear()
        self._base = stream.time_base or Fraction(1, av.time_base)
        self._packets = self.container.demux(stream)
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
