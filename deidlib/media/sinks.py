"""Where a writer's frames go."""

from __future__ import annotations

import contextlib
import json
import os
from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deidlib.images import Pixels
from deidlib.media.codecs import Codec
from deidlib.media.errors import MediaWriteError, reporting
from deidlib.media.matroska import set_display_width
from deidlib.media.presentation import UNSPECIFIED, Presentation
from deidlib.media.sound import SoundCopy
from deidlib.media.threads import set_threads
from deidlib.records.files import sync_folder

if TYPE_CHECKING:
    from av.video.stream import VideoStream


class Sink(ABC):
    """Where a writer's frames go."""

    @abstractmethod
    def add(self, pixels: Pixels, pts: int) -> None:
        """Append a frame ``(H, W, 3)``."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is still held back."""

    @abstractmethod
    def discard(self) -> None:
        """Let go of the file; it will be removed."""


class FileSink(Sink):
    """A container with one video stream."""

    def __init__(
        self,
        temporary: Path,
        path: Path,
        codec: Codec,
        fps: Fraction,
        time_base: Fraction,
        size: tuple[int, int],
        quality: int | None,
        sound: Path | None,
        shown: Presentation,
    ) -> None:
        import av

        # AVI has no time stamps: its frames stand in a fixed rhythm.
        self.rhythm = fps if path.suffix.lower() == ".avi" else None
        self.times, self.last = time_base, -1
        if self.rhythm is not None:
            time_base = 1 / fps
        height, width = size
        odd = bool(height % 2 or width % 2)
        self.pixel_format = codec.odd_pixel_format if odd else codec.pixel_format
        options = codec.options_for(quality) | codec.options_of_fields(shown.fields, height)
        kind = codec.formats[path.suffix.lower()]
        # FFmpeg takes it over from the stream, which PyAV does not let us tell it to.
        wide = round(width * shown.pixel_aspect) if kind == "matroska" else width
        self.file, self.display_width = temporary, wide if wide != width else None
        self.time_base = time_base
        self.duration = max(1, round(1 / (fps * time_base)))
        self.sound: SoundCopy | None = None
        with reporting(path, "the header"):
            # Bit-exact: no random identity and no version in the file, so that the same work gives the same bytes
            # (but for H.264: x264's macroblock tree differs between runs, and without it files grow by a quarter).
            exact = {"fflags": "+bitexact"}
            self.container = av.open(str(temporary), mode="w", format=kind, container_options=exact)
            try:
                stream: Any = self.container.add_stream(codec.encoder, rate=fps, options=options)
            except ValueError as error:
                self.container.close()
                raise MediaWriteError(
                    f"{path}: this installation of PyAV has no encoder {codec.encoder!r}; "
                    "`pip install av` brings one that has."
                ) from error
        self.stream: VideoStream = stream
        context = self.stream.codec_context
        context.height, context.width, context.pix_fmt = height, width, self.pixel_format
        context.time_base = time_base
        set_threads(context, codec.threads)
        if shown.pixel_aspect != 1:
            context.sample_aspect_ratio = shown.pixel_aspect
        for name, said in (("color_primaries", shown.primaries), ("color_trc", shown.transfer)):
            if said != UNSPECIFIED:
                setattr(context, name, said)
        if sound is not None:
            try:
                self.sound = SoundCopy(sound, self.container, path)
            except BaseException:
                self.discard()
                raise
        self.colours: dict[str, Any] = {}
        if self.pixel_format.startswith("yuv4"):
            # Say which matrix was used, or players guess one by the size of the frame.
            context.colorspace, context.color_range = _BT709, _LIMITED
            context.color_primaries = _BT709 if shown.primaries == UNSPECIFIED else shown.primaries
            context.color_trc = _BT709 if shown.transfer == UNSPECIFIED else shown.transfer
            self.colours = {"dst_colorspace": _BT709, "dst_color_range": _LIMITED}

    def add(self, pixels: Pixels, pts: int) -> None:
        """Encode a frame."""
        from av import VideoFrame

        frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=self.pixel_format, **self.colours)
        if self.rhythm is not None:
            pts = self.last = max(self.last + 1, round(pts * self.times * self.rhythm))
        frame.pts, frame.time_base, frame.duration = pts, self.time_base, self.duration
        if self.sound is not None:
            # In turns, or the container would keep in memory what has to wait for the other stream.
            for packet in self.sound.until(pts * self.time_base):
                self.container.mux(packet)
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Encode what the codec holds back, and close."""
        self.container.mux(self.stream.encode(None))
        if self.sound is not None:
            for packet in self.sound.until(None):
                self.container.mux(packet)
            self.sound.close()
        self.container.close()
        if self.display_width is not None:
            set_display_width(self.file, self.display_width)

    def discard(self) -> None:
        """Close, whatever state it is in."""
        import av

        if self.sound is not None:
            self.sound.close()
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self.container.close()


_BT709, _LIMITED = 1, 1


class FolderSink(Sink):
    """Numbered PNG files, and their time stamps."""

    def __init__(self, folder: Path, fps: Fraction, time_base: Fraction, shown: Presentation) -> None:
        self.folder, self.fps, self.time_base, self.shown = folder, fps, time_base, shown
        self.pts: list[int] = []
        folder.mkdir()

    def add(self, pixels: Pixels, pts: int) -> None:
        """Write a file."""
        from PIL import Image

        Image.fromarray(pixels).save(self.folder / f"{len(self.pts):06d}.png")
        self.pts.append(pts)

    def finish(self) -> None:
        """Write the time stamps."""
        times = {"fps": str(self.fps), "time_base": str(self.time_base), "pts": self.pts, **self.shown.to_json()}
        (self.folder / "frames.json").write_text(json.dumps(times))
        for path in self.folder.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        # And their names, before the folder gets its own.
        sync_folder(self.folder)

    def discard(self) -> None:
        """Nothing is open."""
