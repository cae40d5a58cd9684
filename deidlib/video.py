"""Image and video files, frame by frame: the only place where 0..255 becomes [0, 1] and back."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deidlib.images import check_images

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Pixels = NDArray[np.uint8]


class MediaError(ValueError):
    """A media file cannot be used; the message names it."""


class MediaReadError(MediaError):
    """A file that is missing, is not what it is said to be, or is damaged."""


class MediaWriteError(MediaError):
    """A file that cannot be written; nothing lies under its name that was not there before."""


# Reading video


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


class Frame(NamedTuple):
    """One frame ``(3, H, W)`` in [0, 1] and its time stamp in ticks of the video's time base."""

    image: Tensor
    pts: int


class Batch(NamedTuple):
    """Frames ``(B, 3, H, W)`` in [0, 1] and their time stamps in ticks of the video's time base."""

    images: Tensor
    pts: tuple[int, ...]


class VideoReader:
    """The frames of a video file, in order, each exactly once, upright, RGB float32 in [0, 1].

    Memory does not grow with the length of the video. Time stamps increase strictly: a frame without one is
    placed one frame's duration after its predecessor, one that is not later than its predecessor one tick after it.
    A reader may be iterated again; it then starts anew.

    Args:
        path: the video.
        strict: a frame that cannot be decoded or that the decoder reports as damaged, and an end before the time
            that the header promises, are errors. Otherwise what can be decoded is returned and the rest passed
            over. (Some damage decoders mend without a word, and nobody can tell.)

    Raises:
        MediaReadError: on opening, not a video or no frame in it; on iterating, damage (see ``strict``) or a
            change of frame size.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "drive.mkv")
        >>> with VideoWriter(path, fps=Fraction(25), size=(8, 10)) as writer:
        ...     writer.write(torch.zeros(5, 3, 8, 10))
        >>> with VideoReader(path) as reader:
        ...     for images, pts in reader.batches(3):
        ...         print(tuple(images.shape), [float(tick * reader.info.time_base) for tick in pts])
        (3, 3, 8, 10) [0.0, 0.04, 0.08]
        (2, 3, 8, 10) [0.12, 0.16]
    """

    def __init__(self, path: str | Path, *, strict: bool = True) -> None:
        self.path = Path(path)
        self.strict = strict
        # The first frame is decoded at once: only it shows rotation, and that there are frames at all.
        self._opened: _Decoding | None = _Decoding(self.path, strict)
        self.info: VideoInfo = self._opened.info

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, if no iteration is under way."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __iter__(self) -> Iterator[Frame]:
        """Frames one by one, ``(3, H, W)``."""
        for pixels, pts in self._pixels():
            yield Frame(_to_float(pixels), pts)

    def batches(self, size: int) -> Iterator[Batch]:
        """Frames in batches of ``size``; the last batch holds what is left.

        Raises:
            ValueError: size is not at least 1.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1 frame, got {size}.")
        images: list[Pixels] = []
        times: list[int] = []
        for pixels, pts in self._pixels():
            images.append(pixels)
            times.append(pts)
            if len(images) == size:
                yield Batch(_to_float(np.stack(images)), tuple(times))
                images, times = [], []
        if images:
            yield Batch(_to_float(np.stack(images)), tuple(times))

    def _pixels(self) -> Iterator[tuple[Pixels, int]]:
        decoding = self._opened or _Decoding(self.path, self.strict)
        self._opened = None
        try:
            yield from decoding
        finally:
            decoding.close()


class _Decoding:
    """One pass over an open file."""

    def __init__(self, path: Path, strict: bool) -> None:
        import av

        self.path, self.strict = path, strict
        _check_readable(path, "video")
        try:
            self.container: InputContainer = av.open(str(path), mode="r")
        except (av.FFmpegError, OSError, IndexError) as error:
            raise MediaReadError(
                f"{path} is not a video, or cut off so that it cannot be opened ({_reason(error)}). "
                "Expected a file that FFmpeg reads: MP4, MOV, MKV, AVI, WebM."
            ) from error
        try:
            self.stream = self._video_stream()
            self.frames = self._decode()
            self.first = next(self.frames, None)
            if self.first is None:
                raise MediaReadError(f"{path} holds a video stream without a single frame that can be decoded.")
            # Once, as it holds for the whole stream: a frame that was asked for its side data lives until the next
            # garbage collection.
            self.matrix = _display_matrix(self.first)
            self.info = self._describe(self.first)
        except BaseException:
            self.container.close()
            raise

    def close(self) -> None:
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
                self._damage(f"frame {count} cannot be read ({_reason(error)})", count, error)
                break
            if packet is None:
                break
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError) as error:
                self._damage(f"frame {count} cannot be decoded ({_reason(error)})", count, error)
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._damage(f"frame {count} is damaged", count)
                count, last = count + 1, frame
                yield frame
        if last is not None:
            self._check_end(last, count)

    def _check_end(self, last: VideoFrame, count: int) -> None:
        """The number of frames in the header counts those that an edit list hides; the duration does not."""
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
            return Fraction(self.container.duration + max(self.container.start_time, 0), av.time_base)
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

    def __iter__(self) -> Iterator[tuple[Pixels, int]]:
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
                pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            except (av.FFmpegError, ValueError) as error:
                raise MediaReadError(
                    f"{self.path}: frame {index} has the pixel format {frame.format.name}, which cannot be "
                    f"turned into RGB ({_reason(error)}). Convert the file first."
                ) from error
            yield _upright(pixels, self.matrix), pts
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


# Writing video


@dataclass(frozen=True)
class _Codec:
    """How FFmpeg is asked for one of our codecs."""

    encoder: str
    formats: dict[str, str]
    pixel_format: str
    odd_pixel_format: str
    options: dict[str, str]


_CODECS = {
    # Every frame a key frame, with checksums.
    "ffv1": _Codec("ffv1", {".mkv": "matroska"}, "bgr0", "bgr0", {"level": "3", "g": "1", "slicecrc": "1"}),
    "h264": _Codec(
        "libx264",
        {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"},
        "yuv420p",
        # Colour at half resolution needs even sides.
        "yuv444p",
        {"crf": "18"},
    ),
    "h264-lossless": _Codec(
        "libx264rgb", {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}, "rgb24", "rgb24", {"qp": "0"}
    ),
}

CODECS = (*_CODECS, "png-folder")
"""What :class:`VideoWriter` can write. All but ``h264`` keep every pixel exactly."""


def check_paths(source: str | Path, target: str | Path, *, codec: str | None = None) -> None:
    """Make sure, before any work, that ``target`` can be written and is not ``source``.

    Args:
        source: the file to be read.
        target: the file (or for ``png-folder`` the folder) to be written.
        codec: one of ``CODECS`` for a video, None for an image.

    Raises:
        MediaWriteError: output equals input, the name does not fit the codec, or its folder is missing or not
            writable.
    """
    source, target = Path(source), Path(target)
    same = target.exists() and source.exists() and os.path.samefile(source, target)
    if same or source.resolve() == target.resolve():
        raise MediaWriteError(f"output equals input: {target}. Choose another name; the original is never overwritten.")
    if codec is None:
        _image_format(target)
        _check_writable(target)
    else:
        _check_video_target(target, codec)


class VideoWriter:
    """Writes frames to a video file that appears under its name only when it is complete.

    Until then it lies beside it under a temporary name, which is removed when the ``with`` block ends in an
    error. Sound is left out, and so is everything the original's container said about place, time and device.

    Args:
        path: the file; an existing one is replaced. For ``"png-folder"`` a folder that does not exist or is empty.
        fps: frames per second, exact.
        size: ``(height, width)`` of the frames in pixels.
        codec: ``"ffv1"`` (lossless, ``.mkv``), ``"h264"`` (lossy, ``.mp4``, ``.mov`` or ``.mkv``),
            ``"h264-lossless"`` (RGB, same containers), or ``"png-folder"`` (lossless, numbered PNGs and a
            ``frames.json`` with the time stamps).
        quality: the constant rate factor of ``"h264"``: 0 best to 51 worst, default 18.
        time_base: seconds per tick of the time stamps; ``1 / fps`` if not given. MKV keeps times to the
            nearest millisecond, MP4 and MOV exactly.

    Raises:
        TypeError: fps or time_base is no ``Fraction``.
        MediaWriteError: an unknown codec, a name that does not fit it, a folder that is missing or cannot be
            written.

    Example:
        >>> import tempfile
        >>> frames = torch.rand(3, 3, 8, 10).mul(255).round().div(255)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "clip.mkv")
        ...     with VideoWriter(path, fps=Fraction(30000, 1001), size=(8, 10)) as writer:
        ...         writer.write(frames)
        ...     with VideoReader(path) as reader:
        ...         (batch,) = reader.batches(3)
        >>> torch.equal(batch.images, frames), reader.info.fps
        (True, Fraction(30000, 1001))
    """

    def __init__(
        self,
        path: str | Path,
        fps: Fraction,
        size: tuple[int, int],
        *,
        codec: str = "ffv1",
        quality: int | None = None,
        time_base: Fraction | None = None,
    ) -> None:
        self.path, self.size, self.codec = Path(path), size, codec
        for name, value in (("fps", fps), ("time_base", time_base)):
            if value is not None and not isinstance(value, Fraction):
                raise TypeError(
                    f"{name} must be a fractions.Fraction, got {type(value).__name__} {value!r}. "
                    "Take it from VideoInfo, or write Fraction(30000, 1001) for 29.97."
                )
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}.")
        self.fps, self.time_base = fps, time_base or 1 / fps
        if quality is not None and codec != "h264":
            raise ValueError(f"quality belongs to codec 'h264' only, got codec {codec!r}, which loses nothing.")
        if quality is not None and not 0 <= quality <= 51:
            raise ValueError(f"quality must lie in 0 (best) to 51 (worst), got {quality}.")
        _check_video_target(self.path, codec)
        self._frames = 0
        self._last_pts: int | None = None
        self._temporary = _temporary(self.path)
        self._sink: _Sink | None = None
        try:
            self._sink = (
                _FolderSink(self._temporary, fps, self.time_base)
                if codec == "png-folder"
                else _FileSink(self._temporary, self.path, _CODECS[codec], fps, self.time_base, size, quality)
            )
        except BaseException:
            _remove(self._temporary)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, images: Tensor, pts: Sequence[int] | None = None) -> None:
        """Append frames, rounded to the nearest of the 256 levels.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1], of the size given to the constructor.
            pts: their time stamps in ticks of ``time_base``, increasing; by default the frames follow each
                other at the frame rate.

        Raises:
            TypeError: images are not a float tensor.
            ValueError: images are no valid batch or of another size, or time stamps do not increase.
            MediaWriteError: the file cannot be written (any more), e.g. for want of space.
        """
        if self._sink is None:
            raise MediaWriteError(f"{self.path}: the writer is closed.")
        check_images(images)
        if tuple(images.shape[2:]) != tuple(self.size):
            raise ValueError(
                f"frames must be {self.size[0]} high and {self.size[1]} wide, as given to VideoWriter "
                f"(size is (height, width)), got {images.shape[2]} high and {images.shape[3]} wide."
            )
        if pts is None:
            first = 0 if self._last_pts is None else self._last_pts + self._ticks(1)
            pts = [first + self._ticks(k) for k in range(len(images))]
        if len(pts) != len(images):
            raise ValueError(f"pts must hold one time stamp per frame: got {len(pts)} for {len(images)} frames.")
        for pixels, tick in zip(_to_uint8(images), pts, strict=True):
            if self._last_pts is not None and tick <= self._last_pts:
                raise ValueError(f"time stamps must increase: frame {self._frames} at {tick} after {self._last_pts}.")
            with _reporting(self.path, f"frame {self._frames}"):
                self._sink.add(pixels, tick)
            self._last_pts = tick
            self._frames += 1

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises:
            MediaWriteError: no frame was written, or the file could not be completed.
        """
        if self._sink is None:
            return
        if self._frames == 0:
            self.abort()
            raise MediaWriteError(f"{self.path}: no frame was written, so there is no video. Nothing was created.")
        try:
            with _reporting(self.path, "the end of the file"):
                self._sink.finish()
                _commit(self._temporary, self.path)
        except BaseException:
            self.abort()
            raise
        self._sink = None

    def abort(self) -> None:
        """Give up: remove what was written."""
        if self._sink is not None:
            self._sink.discard()
            self._sink = None
        _remove(self._temporary)

    def _ticks(self, frames: int) -> int:
        return round(frames / (self.fps * self.time_base))


class _Sink(ABC):
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


class _FileSink(_Sink):
    """A container with one video stream."""

    def __init__(
        self,
        temporary: Path,
        path: Path,
        codec: _Codec,
        fps: Fraction,
        time_base: Fraction,
        size: tuple[int, int],
        quality: int | None,
    ) -> None:
        import av

        height, width = size
        odd = bool(height % 2 or width % 2)
        self.pixel_format = codec.odd_pixel_format if odd else codec.pixel_format
        self.time_base = time_base
        self.duration = max(1, round(1 / (fps * time_base)))
        options = codec.options if quality is None else {**codec.options, "crf": str(quality)}
        with _reporting(path, "the header"):
            self.container = av.open(str(temporary), mode="w", format=codec.formats[path.suffix.lower()])
            try:
                stream: Any = self.container.add_stream(codec.encoder, rate=fps, options=dict(options))
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
        self.colours: dict[str, Any] = {}
        if self.pixel_format.startswith("yuv"):
            # Say which matrix was used, or players guess one by the size of the frame.
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
            self.colours = {"dst_colorspace": _BT709, "dst_color_range": _LIMITED}

    def add(self, pixels: Pixels, pts: int) -> None:
        from av import VideoFrame

        frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=self.pixel_format, **self.colours)
        frame.pts, frame.time_base, frame.duration = pts, self.time_base, self.duration
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()

    def discard(self) -> None:
        import av

        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self.container.close()


_BT709, _LIMITED = 1, 1


class _FolderSink(_Sink):
    """Numbered PNG files, and their time stamps."""

    def __init__(self, folder: Path, fps: Fraction, time_base: Fraction) -> None:
        self.folder, self.fps, self.time_base = folder, fps, time_base
        self.pts: list[int] = []
        folder.mkdir()

    def add(self, pixels: Pixels, pts: int) -> None:
        from PIL import Image

        Image.fromarray(pixels).save(self.folder / f"{len(self.pts):06d}.png")
        self.pts.append(pts)

    def finish(self) -> None:
        times = {"fps": str(self.fps), "time_base": str(self.time_base), "pts": self.pts}
        (self.folder / "frames.json").write_text(json.dumps(times))

    def discard(self) -> None:
        pass


# Images


def read_image(path: str | Path) -> Tensor:
    """Read a still image.

    It is turned upright as its EXIF orientation says. Grey becomes RGB; 16 bits are rounded to 8; transparent
    parts are shown on white, as viewers do; a colour profile is not applied.

    Returns:
        ``(1, 3, H, W)`` float32 RGB in [0, 1].

    Raises:
        MediaReadError: missing, not an image, damaged, or an animation.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    _check_readable(path, "image")
    try:
        with Image.open(path) as file:
            # A camera's MPO is a JPEG with the same picture twice.
            frames = getattr(file, "n_frames", 1)
            if frames > 1 and file.format != "MPO":
                raise MediaReadError(
                    f"{path} is not a still image: it holds {frames} frames. Convert it to a video first."
                )
            image = ImageOps.exif_transpose(file)
            image.load()
    except UnidentifiedImageError as error:
        raise MediaReadError(
            f"{path} is not an image that can be read. Expected PNG, JPEG, BMP, TIFF or WebP."
        ) from error
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise MediaReadError(
            f"{path} cannot be read as an image: {error}. It may be damaged; get a sound copy."
        ) from error
    return _to_float(_to_rgb(image))[None]


def _to_rgb(image: Any) -> Pixels:
    from PIL import Image

    if image.mode.startswith("I"):
        grey = (np.asarray(image).astype(np.float64).clip(0, 65535) / 257).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise MediaReadError("Images of float values have no agreed range. Save it with 8 or 16 bits.")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return np.asarray(image.convert("RGB"))


def write_image(path: str | Path, image: Tensor, *, quality: int | None = None) -> None:
    """Write a still image that appears under its name only when it is complete. It carries no metadata.

    Args:
        path: a ``.png`` (lossless), or with ``quality`` a ``.jpg``; an existing file is replaced.
        image: ``(1, 3, H, W)`` or ``(3, H, W)`` in [0, 1], rounded to the nearest of the 256 levels.
        quality: of a JPEG, 1 to 100. JPEG changes pixels, and with them a perturbation.

    Raises:
        TypeError: image is not a float tensor.
        ValueError: image is no valid single image.
        MediaWriteError: another file type, JPEG without quality, or a place that cannot be written.

    Example:
        >>> import tempfile
        >>> image = torch.rand(1, 3, 4, 5).mul(255).round().div(255)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(Path(folder, "a.png"), image)
        ...     torch.equal(read_image(Path(folder, "a.png")), image)
        True
    """
    from PIL import Image

    path = Path(path)
    images = check_images(image[None] if isinstance(image, Tensor) and image.ndim == 3 else image, name="image")
    if len(images) != 1:
        raise ValueError(f"image must be one image (1, 3, H, W), got {len(images)}. Write them one by one.")
    form = _image_format(path)
    if form == "JPEG" and quality is None:
        raise MediaWriteError(
            f"{path}: JPEG changes pixels, and with them what authorised models read. Write a .png, "
            "or say quality=95 if a JPEG is what you want."
        )
    if form == "PNG" and quality is not None:
        raise ValueError(f"quality belongs to JPEG, got {path}, which loses nothing.")
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must lie in 1 to 100, got {quality}.")
    _check_writable(path)
    options: dict[str, Any] = {} if quality is None else {"quality": quality, "subsampling": 0}
    temporary = _temporary(path)
    try:
        with _reporting(path, "the image"):
            Image.fromarray(_to_uint8(images)[0]).save(temporary, format=form, **options)
            _commit(temporary, path)
    finally:
        _remove(temporary)


# Between files and tensors


def _to_float(pixels: Pixels) -> Tensor:
    """``(..., H, W, 3)`` uint8 to ``(..., 3, H, W)`` float32: k / 255, correctly rounded, as ``images.to_grid``."""
    tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3)))
    return tensor.to(torch.float32).div_(255)


def _to_uint8(images: Tensor) -> Pixels:
    """``(B, 3, H, W)`` in [0, 1] to ``(B, H, W, 3)`` uint8."""
    levels = images.detach().mul(255).round_().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


# Files


def _check_readable(path: Path, kind: str) -> None:
    if not path.exists():
        raise MediaReadError(f"{path} does not exist. Expected a {kind} file; check the path.")
    if path.is_dir():
        raise MediaReadError(f"{path} is a folder. Expected a {kind} file.")
    if path.is_file() and path.stat().st_size == 0:
        raise MediaReadError(f"{path} is empty (0 bytes). Expected a {kind} file; copy it again.")


def _check_video_target(path: Path, codec: str) -> None:
    if codec not in CODECS:
        raise MediaWriteError(f"unknown codec {codec!r}. Known: {', '.join(CODECS)}.")
    if codec == "png-folder":
        if path.suffix:
            raise MediaWriteError(f"{path}: codec 'png-folder' writes a folder; give a name without {path.suffix!r}.")
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise MediaWriteError(f"{path} exists and is no empty folder. Choose another name, or remove it.")
    elif path.suffix.lower() not in _CODECS[codec].formats:
        fitting = [name for name, known in _CODECS.items() if path.suffix.lower() in known.formats]
        other = f", or for {path.suffix} take codec {' or '.join(map(repr, fitting))}" if fitting else ""
        raise MediaWriteError(
            f"{path}: codec {codec!r} goes into {' or '.join(_CODECS[codec].formats)}, not {path.suffix!r}. "
            f"Change the name{other}."
        )
    elif path.is_dir():
        raise MediaWriteError(f"{path} is a folder. Name the file to be written.")
    _check_writable(path)


def _image_format(path: Path) -> str:
    form = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower())
    if form is None:
        raise MediaWriteError(f"{path}: images are written as .png (or .jpg, with a quality), not {path.suffix!r}.")
    return form


def _check_writable(path: Path) -> None:
    """Try it: permissions alone do not tell of read-only disks."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise MediaWriteError(f"{path}: the folder {folder} does not exist. Create it first.")
    probe = _temporary(path)
    try:
        probe.touch(exist_ok=False)
    except OSError as error:
        raise MediaWriteError(
            f"{path}: cannot write into the folder {folder} ({error.strerror}). Choose another folder."
        ) from error
    finally:
        _remove(probe)


def _temporary(path: Path) -> Path:
    """A free name in the same folder, so that renaming is atomic."""
    return path.absolute().parent / f".{path.name}.{uuid.uuid4().hex[:12]}.partial"


def _commit(temporary: Path, path: Path) -> None:
    """Give a complete file its name, and not before its bytes are on the disk."""
    if temporary.is_file():
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    os.replace(temporary, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _reporting(path: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong while writing becomes a MediaWriteError that names the file."""
    import av

    try:
        yield
    except MediaError:
        raise
    except (av.FFmpegError, OSError) as error:
        raise MediaWriteError(
            f"{path}: could not write {what} ({_reason(error)}). Is there space left? Nothing was kept under that name."
        ) from error


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
