"""Still images: ``read_image``, ``write_image``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from deidlib.images import Pixels, check_images, from_pixels, to_pixels
from deidlib.media.errors import MediaReadError, MediaWriteError, reporting
from deidlib.media.files import check_readable, check_writable, image_format
from deidlib.records.files import atomic_write

# Pillow's own decoders of pixels (MPO comes by JPEG): none starts a program, as EPS does, or opens another file.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")


def read_image(path: str | Path) -> Tensor:
    """Read a still image.

    It is turned upright as its EXIF orientation says. Grey becomes RGB; 16 bits are rounded to 8; transparent
    parts are shown on white, as viewers do; a colour profile is not applied.

    Args:
        path: a PNG, JPEG, BMP, TIFF, WebP, GIF, AVIF, JPEG 2000, PPM or TGA file, whatever its name. EPS, for which
            Pillow would start another program, is not read.

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
        with Image.open(path, formats=_FORMATS) as file:
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
    return from_pixels(_to_rgb(image))[None]


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
