"""One pass over a video file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deidlib.images import Pixels
from deidlib.media.errors import MediaReadError, reason_of
from deidlib.media.extent import declared_size
from deidlib.media.files import check_readable
from deidlib.media.kind import is_heif
from deidlib.media.sources import Source

if TYPE_CHECKING:
    from av.container import InputContainer
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
            self.stream = self._video_stream()
            if source.path is not None:
                self._check_size(source.path)
            self.frames = self._decode()
            self.first = next(self.frames, None)
            if self.first is None:
                raise MediaReadError(f"{source.name} holds a video stream without a single frame that can be decoded.")
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

    def _video_stream(self) -> VideoStream:
        from av.stream import Disposition

        kind = self.container.format.name
        # FFmpeg opens still images and even text ("tty") as video.
        if kind in ("image2", "tty") or kind.endswith("_pipe"):
            raise MediaReadError(f"{self.path} is no video but {kind!r}. Read images with read_image.")
        # The cover picture of a song is a video stream too.
        streams = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            found = ", ".join(sorted({s.type for s in self.container.streams})) or "none"
            raise MediaReadError(f"{self.path} has no video stream; its streams: {found}.")
        stream = streams[0]
        if stream.codec_context is None:
            raise MediaReadError(f"{self.path}: no decoder for its video stream; convert it to H.264 first.")
        stream.thread_type = "AUTO"
        return stream

    def _decode(self) -> Iterator[VideoFrame]:
        """Frames as the decoder gives them, and an error at the first damage."""
        import av

        count, last = 0, None
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                self._damage(f"frame {count} cannot be read ({reason_of(error)})", count, error)
                break
            if packet is None:
                break
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError) as error:
                self._damage(f"frame {count} cannot be decoded ({reason_of(error)})", count, error)
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._damage(f"frame {count} is damaged", count)
                count, last = count + 1, frame
                yield frame
        if last is not None:
            self._check_end(last, count)

    def _check_size(self, path: Path) -> None:
        """A container that lacks its end is refused before any work, not after all of it."""
        size, promised = path.stat().st_size, declared_size(path)
        if self.strict and promised is not None and size < promised:
            raise MediaReadError(
                f"{self.path} is damaged or cut off: it has {size} of the {promised} bytes that it says it has. "
                "Get a sound copy, or take what there is with VideoReader(path, strict=False)."
            )

    def _check_end(self, last: VideoFrame, count: int) -> None:
        """For formats that do not say how long they are.

        The number of frames in the header counts those that an edit list hides; the duration does not, but is often
        a frame or two off.
        """
        promised, rate = self._promised_end(), self._rate()
        if promised is None or last.pts is None or last.time_base is None:
            return
        end = last.pts * last.time_base + max(last.duration * last.time_base, 1 / rate)
        if promised - end > Fraction(5, 2) / rate:
            self._damage(f"ends after {float(end):.3f} s of the promised {float(promised):.3f} s", count)

    def _promised_end(self) -> Fraction | None:
        """Seconds at which the header says the last frame ends."""
        import av

        stream, base = self.stream, self.stream.time_base or Fraction(1)
        if stream.duration:
            return ((stream.start_time or 0) + stream.duration) * base
        if self.container.duration and len(self.container.streams) == 1:
            # From the first frame or from time 0: programs that write MKV differ, and the sooner end is promised.
            return Fraction(self.container.duration, av.time_base)
        return None

    def _damage(self, what: str, count: int, cause: BaseException | None = None) -> None:
        if self.strict:
            raise MediaReadError(
                f"{self.path}: {what}; {count} frames before that are sound (frame numbers count from 0). The file is "
                "damaged or cut off: get a sound copy, or take what there is with VideoReader(path, strict=False)."
            ) from cause

    def _rate(self) -> Fraction:
        """The mean rate; but 30000/1001 where the mean of times rounded to milliseconds is 29.9698."""
        mean, nominal = self.stream.average_rate, self.stream.guessed_rate
        if mean and nominal and abs(nominal / mean - 1) < Fraction(1, 100):
            return nominal
        return mean or nominal or Fraction(25)

    def _describe(self, first: VideoFrame) -> VideoInfo:
        height, width = _upright(np.empty((first.height, first.width, 1), np.uint8), self.matrix).shape[:2]
        return VideoInfo(
            width=width,
            height=height,
            fps=self._rate(),
            time_base=self.stream.time_base or first.time_base or 1 / self._rate(),
            frames=self.stream.frames or None,
            codec=self.stream.codec_context.name,
            pixel_format=first.format.name,
            rotation=_rotation(self.matrix),
            interlaced=first.interlaced_frame,
            has_audio=bool(self.container.streams.audio),
        )

    def pixels(self, wanted: Callable[[int], bool]) -> Iterator[tuple[Pixels | None, int]]:
        """Frames ``(H, W, 3)`` and time stamps; None in place of frames whose number is not wanted."""
        import av

        assert self.first is not None
        size = (self.first.width, self.first.height)
        step = max(1, round(1 / (self.info.fps * self.info.time_base)))
        frame: VideoFrame | None = self.first
        index, pts = 0, -step
        while frame is not None:
            if (frame.width, frame.height) != size:
                raise MediaReadError(
                    f"{self.path}: frame {index} is {frame.width}x{frame.height} pixels, the first one "
                    f"{size[0]}x{size[1]}. Split the file where the size changes."
                )
            if frame.pts is None:
                pts += step
            else:
                pts = frame.pts if index == 0 else max(frame.pts, pts + 1)
            try:
                pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False) if wanted(index) else None
            except (av.FFmpegError, ValueError) as error:
                raise MediaReadError(
                    f"{self.path}: frame {index} has the pixel format {frame.format.name}, which cannot be "
                    f"turned into RGB ({reason_of(error)}). Convert the file first."
                ) from error
            yield None if pixels is None else _upright(pixels, self.matrix), pts
            frame = next(self.frames, None)
            index += 1


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
