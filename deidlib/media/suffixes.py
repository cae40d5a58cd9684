"""How images and videos are called: what a folder is searched by first. What a file is, its content decides."""

from __future__ import annotations

# What Pillow's decoders in deidlib.media.images are called by, and HEIF.
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jfif", ".jpe", ".mpo", ".dib", ".avif", ".avifs",
    ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".pbm", ".pgm", ".ppm", ".pnm", ".tga",
    ".icb", ".vda", ".vst", ".ico", ".apng",
)  # fmt: skip
# What the demuxers in deidlib.media.sources are called by, where there are pictures in it.
VIDEO_SUFFIXES = (
    ".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".m2t", ".trp", ".vob",
    ".mod", ".tod", ".mpe", ".m2p", ".m1v", ".m2v", ".mpv", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".qt",
    ".ism", ".ismv", ".psp", ".mj2", ".insv", ".lrv", ".360", ".mk3d", ".divx", ".ogv", ".ogm", ".mxf", ".dv", ".dif",
    ".dav", ".gif", ".ivf", ".y4m", ".nut", ".rm", ".rmvb", ".wtv", ".swf", ".h264", ".264", ".avc", ".h26l", ".h265",
    ".265", ".hevc", ".obu", ".av1", ".vc1", ".h263", ".mjpeg", ".mjpg",
)  # fmt: skip
