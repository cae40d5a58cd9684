"""Where frames come from: a file, a camera, or a pipe."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path

from deidlib.media.errors import MediaReadError

# FFmpeg's demuxers that read one stream of bytes and open nothing else. Not playlists and the like (hls, dash, concat,
# sdp, image2, ...), which name other files and addresses. Some are here to be told that they are no video.
_SELF_CONTAINED = (
    "mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "asf", "flv", "live_flv", "gif", "apng", "ogg", "mxf",
    "dv", "ivf", "h264", "hevc", "av1", "obu", "m4v", "h263", "vc1", "mjpeg", "nut", "rm", "wtv", "yuv4mpegpipe", "swf",
    "dhav", "wav", "mp3", "flac", "aac", "png_pipe", "jpeg_pipe", "bmp_pipe", "tiff_pipe", "webp_pipe", "tty",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """What FFmpeg is asked to open.

    Args:
        name: for messages.
        path: the file; None for a live source, which can be read once only.
        address: what FFmpeg calls it.
        kind: the input format, where FFmpeg cannot guess it.
        options: what FFmpeg may open on the way; for files and pipes nothing but themselves.
    """

    name: str
    path: Path | None
    address: str
    kind: str | None = None
    options: dict[str, str] = field(default_factory=dict)


def source_of(given: str | Path | int) -> Source:
    """A file by its path, a camera by its number, standard input as the string ``"-"``.

    Raises:
        MediaReadError: cameras have no number here.

    Example:
        >>> source_of("-").name, source_of("drive.mp4").name
        ('standard input', 'drive.mp4')
    """
    if isinstance(given, int):
        system = platform.system()
        if system == "Linux":
            return Source(f"camera {given}", None, f"/dev/video{given}", "v4l2")
        if system == "Darwin":
            return Source(f"camera {given}", None, str(given), "avfoundation")
        raise MediaReadError(
            f"camera {given}: cameras are opened by number on Linux and macOS only. Read it with your own "
            "program and hand its frames to Deidentifier.frames."
        )
    if given == "-":
        return Source("standard input", None, "pipe:0", options=_only("pipe"))
    # An absolute path after "file:", or FFmpeg would open a name such as "http:a.mp4" as an address.
    return Source(str(given), Path(given), f"file:{Path(given).absolute()}", options=_only("file"))


def _only(protocol: str) -> dict[str, str]:
    return {"format_whitelist": ",".join(_SELF_CONTAINED), "protocol_whitelist": protocol}
