"""Short clips of a face, written and read back."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch
from skimage.data import astronaut
from torch import Tensor

from deidlib.media import VideoReader, VideoWriter


def astronauts(count: int, *, side: int = 128) -> Tensor:
    """The astronaut's face, moving, on the uint8 grid: ``(count, 3, side, side)``."""
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
    return torch.stack([picture[:, 20 + k : 20 + k + side, 160 + k : 160 + k + side] for k in range(count)])


def make_video(path: Path, frames: Tensor | Sequence[Tensor], *, codec: str | None = None) -> Path:
    """Write frames at 25 a second, unless told otherwise without loss."""
    images = torch.stack(list(frames))
    codec = codec or ("h264-lossless" if path.suffix == ".mp4" else "ffv1")
    with VideoWriter(path, Fraction(25), (images.shape[2], images.shape[3]), codec=codec) as writer:
        writer.write(images)
    return path


def read_video(path: Path) -> Tensor:
    """All frames: ``(N, 3, H, W)``."""
    with VideoReader(path) as reader:
        return torch.cat([images for images, _ in reader.batches(16)])
