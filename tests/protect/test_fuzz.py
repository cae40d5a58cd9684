"""Containers with bytes that somebody changed: frames, or one of our errors, and never half an output."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import pytest
from forks import Forks
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from skimage.data import astronaut

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, to survive a decoder that crashes")

FRAMES, SIDE = 5, 32
CLIPS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "mpeg4.mp4": ("mpeg4", "yuv420p"),
    "ffv1.mkv": ("ffv1", "bgr0"),
    "mjpeg.avi": ("mjpeg", "yuvj420p"),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small ones, of which a good part is the container's."""
    folder, picture, contents = tmp_path_factory.mktemp("clips"), astronaut(), {}
    for name, (encoder, pixel_format) in CLIPS.items():
        # Metadata and versions would be bytes that do not matter.
        with av.open(str(folder / name), "w", container_options={"fflags": "+bitexact"}) as container:
            stream: Any = container.add_stream(encoder, rate=25, options={"flags": "+bitexact"})
            stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, pixel_format
            for k in range(FRAMES):
                pixels = picture[60 + k : 60 + k + SIDE, 200 : 200 + SIDE].copy()
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        contents[name] = (folder / name).read_bytes()
    return contents


def changed(content: bytes, seed: int) -> bytes:
    """Some bytes changed, most of them in the first or the last kilobyte; at times a part cut out or doubled."""
    chance, mutated = random.Random(seed), bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        first = chance.choice([0, 0, max(len(content) - 1024, 0)])
        place = chance.randrange(first, min(first + 1024, len(content)) if chance.random() < 0.8 else len(content))
        kind = chance.randrange(4)
        if kind == 0:
            mutated[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            mutated[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            # The size of something, or a time.
            mutated[place : place + 4] = chance.choice(
                [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"]
            )
        else:
            mutated[place] = chance.randrange(256)
    if chance.random() < 0.15:
        start = chance.randrange(len(content))
        end = min(start + chance.randrange(1, 200), len(content))
        mutated[start:end] = bytes(mutated[start:end]) * chance.choice([0, 2])
    return bytes(mutated)


@pytest.mark.parametrize("examples", [4, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CLIPS)
def test_whatever_the_bytes_frames_or_our_error(
    forks: Forks, clips: dict[str, bytes], name: str, examples: int
) -> None:
    outcomes: list[bool] = []

    @settings(max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(seed=st.integers(0, 2**32 - 1))
    def attempt(seed: int) -> None:
        with TemporaryDirectory() as folder:
            source, target = Path(folder, f"in{Path(name).suffix}"), Path(folder, "out.mkv")
            source.write_bytes(changed(clips[name], seed))
            end = forks.protect(source, target, toy=True, read=True, batch_size=4, repairs=0)
            left = sorted(path.name for path in Path(folder).iterdir())
            assert end.signal == 0, f"killed by signal {end.signal}"
            if end.error:
                assert "MediaError" in end.error, (end.error, end.message)
                assert folder in end.message
                # A sound input whose output cannot be written may be gone on with, when there is room.
                work = [".out.mkv.deidlib-work"] if end.read is not None else []
                assert left in ([source.name], [*work, source.name])
            else:
                assert end.summary is not None
                assert end.summary["frames"] == end.read
                assert left == [source.name, "out.mkv", "out.mkv.json"]
            outcomes.append(bool(end.error))

    attempt()
    # Some do harm, or the changes say nothing.
    assert any(outcomes)
