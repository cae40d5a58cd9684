"""How many threads FFmpeg takes: as many as it may, and never what the bytes hang on."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deidlib.media import VideoReader, VideoWriter
from deidlib.media.codecs import CODEC_TABLE
from deidlib.media.sinks import FileSink
from deidlib.media.threads import limit_threads


@pytest.fixture(autouse=True)
def _without_a_limit() -> Iterator[None]:
    yield
    limit_threads(0)


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return torch.rand(6, 3, 96, 128, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)


def written(path: Path, frames: Tensor, codec: str) -> tuple[bytes, int]:
    """The file, and the threads that its encoder had."""
    with VideoWriter(path, Fraction(25), (96, 128), codec=codec) as writer:
        assert isinstance(writer._sink, FileSink)
        writer.write(frames)
        threads = writer._sink.stream.codec_context.thread_count
    return path.read_bytes(), threads


# x264 decides about H.264 as it goes: its bytes differ between runs, whatever its threads.
@pytest.mark.parametrize("codec", [codec for codec in CODEC_TABLE if codec != "h264"])
def test_no_byte_hangs_on_them(codec: str, frames: Tensor, tmp_path: Path) -> None:
    path = (tmp_path / "out").with_suffix(next(iter(CODEC_TABLE[codec].formats)))
    files, pixels = set(), []
    for limit in (0, 1, 3):
        limit_threads(limit)
        files.add(written(path, frames, codec)[0])
        with VideoReader(path) as reader:
            pixels.append(torch.cat([batch.images for batch in reader.batches(4)]))
    assert len(files) == 1
    assert all(torch.equal(other, pixels[0]) for other in pixels[1:])


def test_as_many_as_there_may_be(frames: Tensor, tmp_path: Path) -> None:
    limit_threads(1)
    assert written(tmp_path / "a.mkv", frames, "ffv1")[1] == 1
    assert written(tmp_path / "a.mp4", frames, "h264")[1] == 1
    for name in ("a.mkv", "a.mp4"):
        with VideoReader(tmp_path / name) as reader:
            assert reader._opened is not None
            assert reader._opened.stream.codec_context.thread_count == 1
    with pytest.raises(ValueError, match="got -1"):
        limit_threads(-1)
