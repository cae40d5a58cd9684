"""``VideoWriter``: frames to a video file that appears when it is complete."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor

from deidlib.images import check_images, to_pixels
from deidlib.media.codecs import CODEC_TABLE, check_quality
from deidlib.media.errors import MediaWriteError, reporting
from deidlib.media.files import check_video_target
from deidlib.media.presentation import Presentation
from deidlib.media.sinks import FileSink, FolderSink, Sink
from deidlib.records.files import commit, remove, temporary_name

_PLAIN = Presentation()


class VideoWriter:
    """Writes frames to a video file that appears under its name only when it is complete.

    Until then it lies beside it under a temporary name, which is removed when the ``with`` block ends in an
    error. Sound is left out, and so is everything the original's container said about place, time and device.

    Args:
        path: the file; an existing one is replaced. For ``"png-folder"`` a folder that does not exist or is empty.
        fps: frames per second, exact.
        size: ``(height, width)`` of the frames in pixels.
        codec: ``"ffv1"`` (lossless, ``.mkv``), ``"h264"`` (lossy, ``.mp4``, ``.mov`` or ``.mkv``),
            ``"h264-lossless"`` (RGB, same containers), ``"mjpeg"`` (lossy, ``.avi`` or ``.mkv``), or
            ``"png-folder"`` (lossless, numbered PNGs and a ``frames.json`` with the time stamps).
        quality: of ``"h264"`` the constant rate factor, 0 best to 51 worst, default 18; of ``"mjpeg"`` the quantiser,
            2 best to 31 worst, default 3.
        time_base: seconds per tick of the time stamps; ``1 / fps`` if not given. MKV keeps times to the
            nearest millisecond, MP4 and MOV exactly, AVI to the nearest frame.
        sound: a file whose sound is copied as it is, in step. A voice identifies: by default there is none.
        shown: how the pixels are to be shown, which the file says: their aspect, fields, and what the colours are.

    Raises:
        TypeError: fps or time_base is no ``Fraction``.
        MediaWriteError: an unknown codec, a name that does not fit it, a folder that is missing or cannot be
            written.

    Example:
        >>> import tempfile, torch
        >>> from deidlib.media import VideoReader
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
        sound: Path | None = None,
        shown: Presentation = _PLAIN,
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
        check_quality(codec, quality)
        check_video_target(self.path, codec)
        if sound is not None and codec == "png-folder":
            raise MediaWriteError(
                f"{path}: a folder of pictures holds no sound. Choose another codec, or leave it out."
            )
        self._frames = 0
        self._last_pts: int | None = None
        self._temporary = temporary_name(self.path)
        self._sink: Sink | None = None
        try:
            self._sink = (
                FolderSink(self._temporary, fps, self.time_base, shown)
                if codec == "png-folder"
                else FileSink(
                    self._temporary, self.path, CODEC_TABLE[codec], fps, self.time_base, size, quality, sound, shown
                )
            )
        except BaseException:
            remove(self._temporary)
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
        for pixels, tick in zip(to_pixels(images), pts, strict=True):
            if self._last_pts is not None and tick <= self._last_pts:
                raise ValueError(f"time stamps must increase: frame {self._frames} at {tick} after {self._last_pts}.")
            with reporting(self.path, f"frame {self._frames}"):
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
            with reporting(self.path, "the end of the file"):
                self._sink.finish()
                commit(self._temporary, self.path)
        except BaseException:
            self.abort()
            raise
        self._sink = None

    def abort(self) -> None:
        """Give up: remove what was written."""
        if self._sink is not None:
            self._sink.discard()
            self._sink = None
        remove(self._temporary)

    def _ticks(self, frames: int) -> int:
        return round(frames / (self.fps * self.time_base))
