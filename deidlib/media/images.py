"""Still images: ``read_image``, ``write_image``."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from deidlib.images import Pixels, check_images, from_pixels, to_pixels
from deidlib.media.colour import is_hdr
from deidlib.media.errors import MediaReadError, MediaWriteError, reporting
from deidlib.media.files import check_readable, check_writable, image_format
from deidlib.media.kind import formats_of, is_heif, pictured
from deidlib.media.presentation import UNSPECIFIED
from deidlib.media.sources import source_of
from deidlib.records.files import atomic_write


def read_image(path: str | Path) -> Tensor:
    """Read a still image.

    It is turned upright as its EXIF orientation says. Grey becomes RGB; 16 bits are rounded to 8; transparent
    parts are shown on white, as viewers do; a colour profile is not applied.

    Args:
        path: a PNG, JPEG, BMP, TIFF, WebP, GIF, AVIF, JPEG 2000 or PPM file, whatever its name; a TGA by its name; a
            HEIC or HEIF with the extra ``heif``. EPS, for which Pillow would start another program, is not read.

    Returns:
        ``(1, 3, H, W)`` float32 RGB in [0, 1].

    Raises:
        MediaReadError: missing, not an image, damaged, or an animation.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (5, 4), "white").save(Path(folder, "a.png"))
        ...     read_image(Path(folder, "a.png")).shape
        torch.Size([1, 3, 4, 5])
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    check_readable(path, "image")
    try:
        with _opened(path) as file:
            _check_still(file, path)
            image = ImageOps.exif_transpose(file)
            image.load()
            pixels = _to_rgb(image)
    except UnidentifiedImageError as error:
        raise MediaReadError(
            f"{path} is not an image that can be read. Expected PNG, JPEG, BMP, TIFF, WebP, AVIF or HEIC."
        ) from error
    except MediaReadError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaReadError(
            f"{path} is too large: {error} Scale it down to {Image.MAX_IMAGE_PIXELS} pixels or less."
        ) from error
    except (
        Exception
    ) as error:  # over wrong bytes, Pillow's readers and the libraries below raise any of Python's errors
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise MediaReadError(
            f"{path} cannot be read as an image: {reason}. It may be damaged; get a sound copy."
        ) from error
    return from_pixels(pixels)[None]


def image_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of a still image as it is stored, without a look at its pixels; None of anything else.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp(), "a.png")
        >>> Image.new("RGB", (5, 4)).save(path)
        >>> image_size(path)
        (4, 5)
    """
    if not path.is_file() or pictured(path) != "image":
        return None
    try:
        with _opened(path) as file:
            return int(file.height), int(file.width)
    except Exception:
        # Whoever reads it says why.
        return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An image whose pixels are not read yet."""
    from PIL import Image

    formats = _heif(path) if is_heif(path) else formats_of(path)
    with warnings.catch_warnings():
        # Of what is large; whether there is memory for it is seen to elsewhere.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=formats) as file:
            yield file


def _heif(path: Path) -> tuple[str, ...]:
    """Let Pillow read the images that phones make."""
    try:
        import pillow_heif
    except ImportError as error:
        raise MediaReadError(
            f"{path} is a HEIC or HEIF image, which is read with the package pillow-heif. Install it with "
            "`pip install 'deidlib[heif]'`, or convert the image to PNG or JPEG, whole."
        ) from error
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _check_still(file: Any, path: Path) -> None:
    """Refuse several pictures, and those that are not the one that the camera took."""
    # A camera's MPO is a JPEG with the same picture twice.
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and file.format != "MPO":
        raise MediaReadError(
            f"{path} is not a still image: it holds {frames} frames. Convert it to a video first, or take them apart."
        )
    if file.format == "TIFF" and (_DNG_VERSION in file.tag_v2 or file.tag_v2.get(_SUBFILE, 0) & 1):
        raise MediaReadError(
            f"{path} is a camera's raw file, of which only a thumbnail would be read. Develop it to PNG or JPEG first."
        )
    if is_hdr(_transfer(file, path)):
        raise MediaReadError(
            f"{path} is an HDR image (PQ or HLG), and what it shows would be read wrongly. Convert it to 8-bit sRGB."
        )


# TIFF's tags: a picture of reduced size comes first, and Adobe's raw format.
_SUBFILE, _DNG_VERSION = 254, 50706


def _transfer(file: Any, path: Path) -> int:
    """How levels become light, as ITU-T H.273 numbers it; 2 for what does not say."""
    if file.format == "AVIF":
        # Pillow does not tell.
        import av

        source = source_of(path)
        with (
            contextlib.suppress(av.FFmpegError, OSError, IndexError),
            av.open(source.address, container_options=source.options) as container,
        ):
            return int(container.streams.video[0].codec_context.color_trc)
    return int((file.info.get("nclx_profile") or {}).get("transfer_characteristics", UNSPECIFIED))


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
        >>> import tempfile, torch
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
    form = image_format(path)
    if form == "JPEG" and quality is None:
        raise MediaWriteError(
            f"{path}: JPEG changes pixels, and with them what authorised models read. Write a .png, "
            "or say quality=95 if a JPEG is what you want."
        )
    if form == "PNG" and quality is not None:
        raise ValueError(f"quality belongs to JPEG, got {path}, which loses nothing.")
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must lie in 1 to 100, got {quality}.")
    check_writable(path)
    options: dict[str, Any] = {} if quality is None else {"quality": quality, "subsampling": 0}
    with reporting(path, "the image"), atomic_write(path) as temporary:
        Image.fromarray(to_pixels(images)[0]).save(temporary, format=form, **options)
