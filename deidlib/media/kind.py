"""``kind_of``: whether a file is an image or a video, by what is in it, whatever its name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

from deidlib.media.extent import head_of, is_container
from deidlib.media.suffixes import IMAGE_SUFFIXES

Kind = Literal["image", "video", "frames"]

# Pillow's own decoders of pixels (MPO comes by JPEG): none starts a program, as EPS does, or opens another file.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM", "ICO")
# Truevision's files begin with nothing that tells them from others, so that only their names do.
_TARGA = (".tga", ".icb", ".vda", ".vst")
# JPEGs one after the other, each of which looks like a whole file.
_MOTION_JPEG = (".mjpeg", ".mjpg")
# Brands of still images in the container of MP4, coded as H.265 video: FFmpeg takes their tiles for videos.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2")
# Formats that hold a still image or a moving one; FFmpeg reads the moving ones, but of WebP.
_MOVING = ("GIF", "PNG", "AVIF")


def kind_of(path: Path) -> Kind:
    """What a path holds; a folder holds frames.

    The content decides. Where it is neither's, or there is none, the name does, and whoever reads it says what is
    wrong.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp(), "a.mp4")
        >>> Image.new("RGB", (8, 8)).save(path, format="JPEG")
        >>> kind_of(path), kind_of(path.with_name("none.mp4"))
        ('image', 'video')
    """
    if path.is_dir():
        return "frames"
    if (known := pictured(path)) is not None:
        return known
    return "image" if path.suffix.lower() in IMAGE_SUFFIXES and not is_container(path) else "video"


def pictured(path: Path) -> Literal["image", "video"] | None:
    """What a file is, if it has one of the formats of images: animations are videos. None of all others."""
    if not path.is_file() or path.suffix.lower() in _MOTION_JPEG:
        return None
    from PIL import Image

    if is_heif(path):
        return "image"
    try:
        with warnings.catch_warnings():
            # It is large; whoever reads it says so.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats_of(path)) as file:
                return "video" if file.format in _MOVING and getattr(file, "n_frames", 1) > 1 else "image"
    except Image.DecompressionBombError:
        return "image"
    except Exception:
        # Over wrong bytes, Pillow's readers raise any of Python's errors.
        return None


def formats_of(path: Path) -> tuple[str, ...]:
    """Which of Pillow's formats a file of this name may have."""
    return (*FORMATS, "TGA") if path.suffix.lower() in _TARGA else FORMATS


def is_heif(path: Path) -> bool:
    """Whether a file is an image of the kind that phones make (HEIC), which FFmpeg and Pillow do not read."""
    head = head_of(path, 64)
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return False
    # AVIF, which Pillow reads, may call itself by the name of the family.
    size = int.from_bytes(head[:4], "big")
    return not {head[at : at + 4] for at in range(16, min(size, 64), 4)} & {b"avif", b"avis"}
