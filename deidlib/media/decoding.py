"""One pass over a video file."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from deidlib.images import Pixels
from deidlib.media.colour import HLG, PQ, rgb_of
from deidlib.media.errors import MediaReadError, NoVideoError, reason_of
from deidlib.media.extent import declared_size
from deidlib.media.files import check_readable
from deidlib.media.kind import is_heif
from deidlib.media.presentation import UNSPECIFIED, Fields, Presentation
from deidlib.media.sources import Source
from deidlib.media.streams import clock_of, videos_of
from deidlib.media.threads import set_threads

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself, and its first frame shows.

    Args:
        width: of the upright frame, in pixels.
        height: of the upright frame, in pixels.
        fps: mean frames per second, exact; frames may come at uneven times.
        time_base: seconds per tick: a frame is shown at ``pts * time_base``.
        frames: the number of frames that the header promises, or None. It may be wrong.
        codec: name of the codec, such as ``"h264"``.
        pixel_format: as stored, such as ``"yuv420p10le"``.
        rotation: degrees counter-clockwise by which the stored frames have been turned to be upright.
        interlaced: each frame holds two half-frames, taken at different times.
        has_audio: there is sound too.
        shown: how the pixels are to be shown: their aspect, the order of fields, what the colours are.
        hdr: ``"PQ"`` or ``"HLG"`` where the file is of high dynamic range, and its frames are tone-mapped to SDR.
        left_out: how many other videos the file holds; this one is the one that it says is to be shown, or the largest.
        seconds: how long the header says that it lasts, sound included, or None. It may be wrong.
    """

    width: int
    height: int
    fps: Fraction
    time_base: Fraction
    frames: int | None
    codec: str
    pixel_format: str
    rotation: int
    interlaced: bool
    has_audio: bool
    shown: Presentation = field(default_factory=Presentation)
    hdr: str | None = None
    left_out: int = 0
    seconds: Fraction | None = None

    @property
    def frames_about(self) -> int | None:
        """How many frames the header promises, or, where it does not count them, as many as fit into its time."""
        if self.frames is not None or self.seconds is None:
            return self.frames
        return max(1, round(self.seconds * self.fps))


class Decoding:
    """One pass over an open file."""

    def __init__(self, source: Source, strict: bool) -> None:
        import av

        self.path, self.strict = source.name, strict
        if source.path is not None:
            check_readable(source.path, "video")
            if is_heif(source.path):
                raise MediaReadError(f"{source.name} is no video but a HEIC or HEIF image. Read it with read_image.")
        try:
            # Nobody reads its metadata, in whatever characters they are.
            self.container: InputContainer = av.open(
                source.address,
                mode="r",
                format=source.kind,
                container_options=source.options,
                metadata_errors="ignore",
            )
        except (av.FFmpegError, OSError, IndexError) as error:
            raise MediaReadError(
                f"{source.name} is not a video, or cut off so that it cannot be opened ({reason_of(error)}). "
                "Expected a file that FFmpeg reads: MP4, MOV, MKV, AVI, WebM. Images are read with read_image; "
                "playlists and whatever else names other files are not read."
            ) from error
        try:
            self.stream, self.left_out = self._video_stream()
            self.decoder = self._decoder()
            # AVI says when packets are decoded, and nothing of when frames are shown: in the order that they come out.
            self.in_order = self.container.format.name == "avi"
            if source.path is not None:
                self._check_size(source.path)
            self.frames = self._decode()
            begin = next(self.frames, None)
            if begin is None:
                raise MediaReadError(f"{source.name} holds a video stream without a single frame that can be decoded.")
            self.first, self._first_time = begin
            # Once, as it holds for the whole stream: a frame that was asked for its side data lives until the next
            # garbage collection.
            self.matrix = _display_matrix(self.first)
            self.info = self._describe(self.first)
        except BaseException:
            self.container.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self.container.close()

    def _video_stream(self) -> tuple[VideoStream, int]:
        """The video that is meant to be shown, and how many others there are."""
        kind = self.container.format.name
        # FFmpeg opens still images and even text ("tty") as video.
        if kind in ("image2", "tty") or kind.endswith("_pipe"):
            raise MediaReadError(f"{self.path} is no video but {kind!r}. Read images with read_image.")
        streams = videos_of(self.container)
        if not streams:
            found = sorted({s.type for s in self.container.streams})
            raise NoVideoError(f"{self.path} has no video stream; its streams: {', '.join(found) or 'none'}.", found)
        stream = streams[0]
        if stream.codec_context is None:
            raise MediaReadError(f"{self.path}: no decoder for its video stream; convert it to H.264 first.")
        stream.thread_type = "AUTO"
        set_threads(stream.codec_context)
        return stream, len(streams) - 1

    def _decoder(self) -> VideoCodecContext | None:
        """One that sees the alpha of VP8 and VP9, which FFmpeg's own leave out; None where the stream's own serves."""
        from av import Codec, CodecContext
        from av.codec.codec import UnknownCodecError

        name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(self.stream.codec_context.name)
        if name is None or self.stream.metadata.get("alpha_mode") != "1":
            return None
        try:
            decoder: Any = CodecContext.create(Codec(name, "r"), "r")
        except UnknownCodecError as error:
            raise MediaReadError(
                f"{self.path} is transparent in parts, and this installation of PyAV has no decoder {name!r} that sees "
                "it, so that what is hidden there would be shown. Convert it to ProRes 4444 first."
            ) from error
        set_threads(decoder)
        return cast("VideoCodecContext", decoder)

    def _decode(self) -> Iterator[tuple[VideoFrame, int | None]]:
        """Frames and their time stamps as the decoder gives them, and an error at the first damage."""
        import av

        count, end = 0, Fraction(0)
        packets = self.container.demux(self.stream)
        order: deque[int | None] = deque()
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                self._damage(f"frame {count} cannot be read ({reason_of(error)})", count, error)
                break
            if packet is None:
                break
            if self.in_order and packet.size:
                order.append(packet.dts)
            try:
                frames = self._frames_of(packet)
            except (av.FFmpegError, OSError) as error:
                self._damage(f"frame {count} cannot be decoded ({reason_of(error)})", count, error)
                if order:
                    order.pop()
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._damage(f"frame {count} is damaged", count)
                time = order.popleft() if self.in_order and order else frame.pts
                if time is not None and frame.time_base is not None:
                    end = max(end, time * frame.time_base + max(frame.duration * frame.time_base, 1 / self._rate()))
                count += 1
                yield frame, time
        if count:
            self._check_end(end, count)

    def _frames_of(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        if self.decoder is None:
            return packet.decode()
        # The end of the stream is a packet without bytes.
        frames = self.decoder.decode(packet if packet.size else None)
        for frame in frames:
            frame.time_base = self.stream.time_base or Fraction(1)
        return frames

    def _check_size(self, path: Path) -> None:
        """A container that lacks its end is refused before any work, not after all of it."""
        size, promised = path.stat().st_size, declared_size(path)
        if self.strict and promised is not None and size < promised:
            raise MediaReadError(
                f"{self.path} is damaged or cut off: it has {size} of the {promised} bytes that it says it has. "
                "Get a sound copy, or take what there is with VideoReader(path, strict=False)."
            )

    def _check_end(self, end: Fraction, count: int) -> None:
        """For formats that do not say how long they are.

        The number of frames in the header counts those that an edit list hides; the duration does not, but is often
        a frame or two off.
        """
        promised, rate = self._promised_end(), self._rate()
        if promised is not None and end and promised - end > Fraction(5, 2) / rate:
            self._damage(f"ends after {float(end):.3f} s of the promised {float(promised):.3f} s", count)

    def _promised_end(self) -> Fraction | None:
        """Seconds at which the header says the last frame ends."""
        seconds, stream = self._seconds(), self.stream
        if seconds is not None and stream.duration:
            return (stream.start_time or 0) * (stream.time_base or Fraction(1)) + seconds
        # From the first frame or from time 0: programs that write MKV differ, and the sooner end is promised.
        return seconds if len(self.container.streams) == 1 else None

    def _seconds(self) -> Fraction | None:
        """How long it says that it lasts."""
        import av

        if self.stream.duration:
            return self.stream.duration * (self.stream.time_base or Fraction(1))
        return Fraction(self.container.duration, av.time_base) if self.container.duration else None

    def _damage(self, what: str, count: int, cause: BaseException | None = None) -> None:
        if self.strict:
            raise MediaReadError(
                f"{self.path}: {what}; {count} frames before that are sound (frame numbers count from 0). The file is "
                "damaged or cut off: get a sound copy, or take what there is with VideoReader(path, strict=False)."
            ) from cause

    def _rate(self) -> Fraction:
        """The mean rate; but 30000/1001 where the mean of times rounded to milliseconds is 29.9698."""
        mean, nominal = self.stream.average_rate, self.stream.guessed_rate
        # AVI counts empty packets, too.
        if self.in_order and nominal:
            return nominal
        if mean and nominal and abs(nominal / mean - 1) < Fraction(1, 100):
            return nominal
        return mean or nominal or Fraction(25)

    def _describe(self, first: VideoFrame) -> VideoInfo:
        height, width = _upright(np.empty((first.height, first.width, 1), np.uint8), self.matrix).shape[:2]
        shown = self._shown(first)
        self.transfer, self.primaries = shown.transfer, shown.primaries
        hdr = {PQ: "PQ", HLG: "HLG"}.get(shown.transfer)
        return VideoInfo(
            width=width,
            height=height,
            fps=self._rate(),
            time_base=self.stream.time_base or first.time_base or 1 / self._rate(),
            frames=self.stream.frames or None,
            codec=self.stream.codec_context.name,
            pixel_format=first.format.name,
            rotation=_rotation(self.matrix),
            interlaced=self._fields(first) != "progressive",
            has_audio=bool(self.container.streams.audio),
            # What frames are tone-mapped to.
            shown=replace(shown, primaries=_BT709, transfer=_SRGB) if hdr else shown,
            hdr=hdr,
            left_out=self.left_out,
            seconds=self._seconds(),
        )

    def _shown(self, first: VideoFrame) -> Presentation:
        """What the file says of its pixels, turned upright."""
        context = self.stream.codec_context
        aspect = self.stream.sample_aspect_ratio
        # What frames say themselves is newer than what their container does.
        primaries, transfer = (
            next((int(said) for said in pair if int(said) not in (0, UNSPECIFIED)), UNSPECIFIED)
            for pair in (
                (first.color_primaries, context.color_primaries),
                (first.color_trc, context.color_trc),
            )
        )
        aspect = aspect if aspect and aspect > 0 else Fraction(1)
        shown = Presentation(aspect, self._fields(first), primaries, transfer)
        if abs(self.matrix[1]) > abs(self.matrix[0]):
            return shown.turned()
        return shown.flipped(first.height) if self.matrix[3] < 0 else shown

    def _fields(self, first: VideoFrame) -> Fields:
        """Of the frames as they are stored."""
        fields: Fields = _FIELDS.get(int(self.stream.codec_context.field_order), "progressive")
        return "top" if first.interlaced_frame and fields == "progressive" else fields

    def pixels(self, wanted: Callable[[int], bool]) -> Iterator[tuple[Pixels | None, int]]:
        """Frames ``(H, W, 3)`` and time stamps; None in place of frames whose number is not wanted."""
        import av

        size = (self.first.width, self.first.height)
        for index, (frame, pts) in enumerate(self._timed()):
            if (frame.width, frame.height) != size:
                raise MediaReadError(
                    f"{self.path}: frame {index} is {frame.width}x{frame.height} pixels, the first one "
                    f"{size[0]}x{size[1]}. Split the file where the size changes."
                )
            try:
                pixels = rgb_of(frame, self.transfer, self.primaries) if wanted(index) else None
            except (av.FFmpegError, ValueError) as error:
                raise MediaReadError(
                    f"{self.path}: frame {index} has the pixel format {frame.format.name}, which cannot be "
                    f"turned into RGB ({reason_of(error)}). Convert the file first."
                ) from error
            yield None if pixels is None else _upright(pixels, self.matrix), pts

    def _timed(self) -> Iterator[tuple[VideoFrame, int]]:
        """Frames, and time stamps that increase. To tell a slip from a new clock, the next frame is looked at."""
        clock = clock_of(self.container, self.info.time_base, 1 / self.info.fps)
        frame, time, broken = self.first, self._first_time, None
        while True:
            following = None
            try:
                following = next(self.frames, None)
            except MediaReadError as error:
                # What came before the damage is handed out first.
                broken = error
            yield frame, clock.tick(time, None if following is None else following[1])
            if broken is not None:
                raise broken
            if following is None:
                return
            frame, time = following


_BT709, _SRGB = 1, 13
# FFmpeg's numbers: as coded, and as shown where that differs.
_FIELDS: dict[int, Fields] = {2: "top", 3: "bottom", 4: "bottom", 5: "top"}


Matrix = tuple[int, int, int, int]


def _display_matrix(frame: VideoFrame) -> Matrix:
    """a, b, c, d of: a stored pixel (x, y) is shown in direction (a x + c y, b x + d y)."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    return a, b, c, d


def _rotation(matrix: Matrix) -> int:
    a, b, _, _ = matrix
    return round(math.degrees(math.atan2(-b, a)))


def _upright(pixels: Pixels, matrix: Matrix) -> Pixels:
    """Turned and mirrored as the file says, by quarter turns."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return pixels
