"""Short clips of a face, written and read back."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from skimage.data import astronaut
from torch import Tensor

from deidlib.images import to_pixels
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


def make_sounding_video(path: Path, frames: Tensor | Sequence[Tensor]) -> Path:
    """Write frames at 25 a second without loss, with a tone of its own under each."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = *frames[0].shape[1:], "bgr0"
        audio: Any = container.add_stream("flac", rate=16000, layout="mono")
        for k, picture in enumerate(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(to_pixels(picture))))
            frame = av.AudioFrame.from_ndarray(np.full((1, 640), 100 * k, np.int16), format="s16", layout="mono")
            frame.rate, frame.pts = 16000, 640 * k
            container.mux(audio.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def read_video(path: Path) -> Tensor:
    """All frames: ``(N, 3, H, W)``."""
    with VideoReader(path) as reader:
        return torch.cat([images for images, _ in reader.batches(16)])
