"""Image batches: the one representation every block speaks, and its only ways from and to the 256 levels of files."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]
"""Images as files and other libraries hold them: ``(..., H, W, 3)``, 0 to 255."""


def check_images(images: Tensor, *, name: str = "images") -> Tensor:
    """Return ``images`` unchanged if it is a valid image batch, else raise.

    Args:
        images: ``(B, 3, H, W)``, float32 (float64 is accepted for gradient checks), RGB, range [0, 1], B >= 1.
        name: what the caller calls the tensor, for the message.

    Raises:
        TypeError: not a tensor, or not a floating dtype.
        ValueError: wrong shape, an empty batch, NaN, or values outside [0, 1].

    Example:
        >>> check_images(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """
    check_image_shape(images, name=name)
    # One reduction and one host sync for both bounds; NaN fails the comparison too.
    low, high = torch.aminmax(images.detach())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} must lie in [0, 1], got values from {low.item():g} to {high.item():g}. "
            "Divide 0..255 data by 255; remove mean/std normalisation (each model applies its own)."
        )
    return images


def check_image_shape(images: Tensor, *, name: str = "images") -> Tensor:
    """Check type and shape as :func:`check_images` does, without reading the values.

    For hot loops: it costs no synchronisation with the device.

    Raises:
        TypeError: not a tensor, or not a floating dtype.
        ValueError: wrong shape or an empty batch.
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"{name} must be a float tensor (B, 3, H, W) in [0, 1], got {type(images).__name__}. "
            "Read files with deidlib.read_image or deidlib.media.VideoReader."
        )
    if images.dtype not in (torch.float32, torch.float64):
        hint = "images.float() / 255" if images.dtype == torch.uint8 else "images.float()"
        raise TypeError(f"{name} must be float32 in [0, 1], got {images.dtype}. Convert with `{hint}`.")
    if images.ndim != 4 or images.shape[1] != 3:
        hint = "Add the batch axis with images[None]." if images.ndim == 3 else "Channels come second: RGB."
        raise ValueError(f"{name} must have shape (B, 3, H, W), got {tuple(images.shape)}. {hint}")
    if 0 in images.shape:
        raise ValueError(f"{name} must hold at least one frame with pixels, got shape {tuple(images.shape)}.")
    return images


def read_together(count: int, device: torch.device) -> list[slice]:
    """Which of so many frames networks are given at once: on a CPU each alone, elsewhere all.

    What a network adds up goes, in its last bits, by the frames beside it. On a CPU nothing is gained by several at
    once (docs/benchmarks.md), so that there the bytes of a protected frame need not hang on its batch.

    Args:
        count: frames.
        device: where they are.

    Example:
        >>> read_together(2, torch.device("cpu"))
        [slice(0, 1, None), slice(1, 2, None)]
    """
    return [slice(i, i + 1) for i in range(count)] if device.type == "cpu" else [slice(0, count)]


def to_grid(images: Tensor) -> Tensor:
    """Round images to the nearest values that uint8 can hold, k / 255.

    What is saved is what is measured: nothing but grid values survives a file.

    Args:
        images: any float tensor in [0, 1].

    Returns:
        Tensor of the same shape and dtype; :func:`to_uint8` gives the exact levels.

    Example:
        >>> to_grid(torch.tensor([0.0, 0.501, 1.0])).mul(255)
        tensor([  0., 128., 255.])
    """
    return images.mul(255).round_().div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """The nearest of the 256 levels, in a quarter of the memory; :func:`from_uint8` gives :func:`to_grid` back.

    Args:
        images: any float tensor in [0, 1].

    Returns:
        uint8 of the same shape, on the same device, without a gradient.

    Example:
        >>> to_uint8(torch.tensor([0.0, 0.501, 1.0]))
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    return images.detach().mul(255).round_().to(torch.uint8)


def on_device(images: Tensor, device: torch.device) -> Tensor:
    """Images of the uint8 grid on a device: to a GPU they travel in 8 bits, and whoever sends them does not wait.

    Args:
        images: any float tensor of the grid, such as frames that were read from a file.
        device: where they are to be.

    Example:
        >>> on_device(torch.ones(1), torch.device("cpu"))
        tensor([1.])
    """
    if device.type == "cuda" and images.device.type == "cpu" and torch.cuda.is_available():
        return from_uint8(to_uint8(images).pin_memory().to(device, non_blocking=True))
    return images.to(device)


def from_uint8(levels: Tensor) -> Tensor:
    """Levels as float32 in [0, 1]: k / 255, correctly rounded, so that it lies on the grid of :func:`to_grid`.

    Args:
        levels: uint8, of any shape.

    Example:
        >>> from_uint8(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    return levels.to(torch.float32).div_(255)


def to_pixels(images: Tensor) -> Pixels:
    """Images as files and other libraries want them: :func:`to_uint8`, channels last, in numpy.

    Args:
        images: ``(..., 3, H, W)`` in [0, 1], on any device.

    Returns:
        ``(..., H, W, 3)``, contiguous.

    Example:
        >>> to_pixels(torch.ones(2, 3, 4, 5)).shape
        (2, 4, 5, 3)
    """
    levels: Tensor = rearrange(to_uint8(images), "... c h w -> ... h w c")
    return levels.contiguous().cpu().numpy()


def from_pixels(pixels: Pixels) -> Tensor:
    """Images from what files and other libraries hold: :func:`from_uint8`, channels first.

    Args:
        pixels: ``(..., H, W, 3)`` uint8, RGB (OpenCV's are BGR: ``pixels[..., ::-1]``); not kept.

    Returns:
        ``(..., 3, H, W)`` float32 in [0, 1], contiguous; with ``[None]`` one picture is a batch of one.

    Raises:
        TypeError: no numpy array of uint8.
        ValueError: not three colours, last.

    Example:
        >>> from_pixels(np.full((4, 5, 3), 255, np.uint8)).shape
        torch.Size([3, 4, 5])
    """
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        got = pixels.dtype if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise TypeError(
            f"pixels must be a numpy array of uint8, 0 to 255, got {got}. Of floats in [0, 1] make "
            "(array * 255).round().astype(np.uint8); of a PIL image np.asarray(image.convert('RGB'))."
        )
    if pixels.ndim < 3 or pixels.shape[-1] != 3:
        raise ValueError(
            f"pixels must have shape (..., H, W, 3), RGB, got {pixels.shape}. Of grey make np.stack([grey] * 3, -1); "
            "of RGBA take [..., :3]."
        )
    return from_uint8(torch.from_numpy(np.ascontiguousarray(rearrange(pixels, "... h w c -> ... c h w"))))


def widest(device: torch.device) -> torch.dtype:
    """The floating type with most digits that a device has: float64, and float32 on Apple's (MPS).

    Example:
        >>> widest(torch.device("cpu")), widest(torch.device("mps"))
        (torch.float64, torch.float32)
    """
    return torch.float32 if device.type == "mps" else torch.float64


def in_double(values: Tensor) -> Tensor:
    """Values in float64: where they are, or on the CPU if they are on a device that has none.

    Args:
        values: of any shape and floating type.

    Example:
        >>> in_double(torch.ones(1)).dtype
        torch.float64
    """
    return (values.cpu() if widest(values.device) != torch.float64 else values).double()


def sum_in_order(terms: Tensor) -> Tensor:
    """Sum over the first dimension, in an order that hangs on its length alone.

    ``Tensor.sum`` adds up in another order for one frame than for several, and for each number of threads; here one
    half is added to the other until a single row is left, which rounds less, too.

    Args:
        terms: ``(N, ...)``, N >= 1; not modified.

    Returns:
        ``(...)``.

    Example:
        >>> sum_in_order(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        tensor([ 9., 12.])
    """
    while len(terms) > 1:
        half = len(terms) // 2
        folded = terms[:half] + terms[half : 2 * half]
        if len(terms) % 2:
            folded[0] += terms[-1]
        terms = folded
    return terms[0]


def total_of_rows(values: Tensor) -> Tensor:
    """Sum of each row, whose bits hang neither on the order of summation nor on the other rows.

    Values are rounded to whole multiples of 2**-37 times the greatest of their row (the next power of two), and whole
    numbers add up exactly in any order: a handful of passes over memory, where :func:`sum_in_order` folds in half some
    twenty times.

    Args:
        values: ``(B, N)`` floating and finite, N at most 2**25.

    Returns:
        ``(B,)``.

    Example:
        >>> total_of_rows(torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]))
        tensor([7., 0.])
    """
    # Below 2**-80 nothing is left of a gradient: its scale must not overflow.
    exponent = values.abs().amax(dim=1, keepdim=True).frexp().exponent.clamp(min=-80)
    scale = torch.exp2(37.0 - exponent)
    return (values * scale).to(torch.int64).sum(dim=1).to(values.dtype) / scale[:, 0]


def scaled_to_one(values: Tensor) -> Tensor:
    """Each image divided by the sum of its absolute values; where all are 0, they stay so.

    Args:
        values: ``(B, C, H, W)`` floating and finite, such as gradients; as many as :func:`total_of_rows` takes.

    Example:
        >>> scaled_to_one(torch.tensor([1.0, -3.0, 0.0, 0.0]).reshape(2, 1, 1, 2)).flatten(1)
        tensor([[ 0.2500, -0.7500],
                [ 0.0000,  0.0000]])
    """
    total = total_of_rows(values.abs().flatten(1))[:, None, None, None]
    return values / total.clamp(min=torch.finfo(values.dtype).tiny)
