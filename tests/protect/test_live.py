from __future__ import annotations

import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import Pixels

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.media import VideoReader, VideoWriter
from deidlib.obfuscate import Pixelate
from deidlib.protect.check import Check
from deidlib.protect.clip import ClipJob
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.live import Recording
from deidlib.protect.output import Output
from deidlib.protect.source import ClipSource
from deidlib.protect.summary import Summary
from deidlib.tracking import FaceTracker

COUNT = 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    base = Fraction(1, 1000)
    with VideoWriter(path, Fraction(25), (32, 32), codec="h264-lossless", time_base=base) as writer:
        # A camera's clock, and a hiccup.
        writer.write(torch.rand(COUNT, 3, 32, 32), [5_000_000 + 40 * k + 7 * (k > 9) for k in range(COUNT)])
    return path


def deidentifier(model: Pixels | None = None, window: int = 4) -> Deidentifier:
    tracker = FaceTracker(window=window, smoothing=1)
    return Deidentifier(IFGSMAttacker([model or Pixels()], max_iterations=1), Pixelate(), tracker=tracker)


def record(
    source: Path,
    target: Path,
    *,
    model: Pixels | None = None,
    limit: int | None = None,
    check: Check | None = None,
    progress: Callable[[int], object] | None = None,
) -> Summary:
    """Protect a file as if it came live."""
    recording = Recording(source, limit)
    clip = ClipSource(lambda: recording, None)
    return ClipJob(deidentifier(model), clip, target, Output(), check, batch_size=2, progress=progress).run()


def read(path: Path) -> tuple[Tensor, list[Fraction]]:
    with VideoReader(path) as reader:
        frames = list(reader)
    return torch.stack([f.image for f in frames]), [f.pts * reader.info.time_base for f in frames]


def test_what_comes_is_protected_and_its_times_begin_at_zero(source: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    summary = record(source, tmp_path / "out.mkv", progress=steps.append, check=Check())
    assert (summary.frames, summary.found, sum(steps)) == (COUNT, COUNT, COUNT)
    assert summary.losses.keys() == {"pixels"}
    before, after = read(source)[0], read(tmp_path / "out.mkv")
    assert after[1] == [Fraction(40 * k + 7 * (k > 9), 1000) for k in range(COUNT)]
    inside = (before - after[0]).abs()[:, :, 10:22, 10:22].amax(dim=(1, 2, 3))
    assert inside.min() > 0.2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mkv", "out.mkv.json"]
    # Originals are gone, and what was read from them is not: the file is checked, and never mended.
    assert summary.readback is not None
    assert (summary.readback.models["pixels"].faces, summary.readback.repaired) == (COUNT, 0)


@pytest.mark.parametrize("limit", [1, 2, 5, 19, 99])
def test_it_ends_after_so_many_frames(source: Path, tmp_path: Path, limit: int) -> None:
    summary = record(source, tmp_path / "out.mkv", limit=limit)
    assert summary.frames == len(read(tmp_path / "out.mkv")[0]) == min(limit, COUNT)


def test_an_interrupt_ends_the_recording_and_keeps_it(source: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    def interrupt(more: int) -> None:
        calls.append(more)
        if len(calls) == 6:
            raise KeyboardInterrupt

    summary = record(source, tmp_path / "out.mkv", progress=interrupt)
    # What was protected is written, and what is counted is what is there.
    assert summary.frames == len(read(tmp_path / "out.mkv")[0]) == 12
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("deidlib")]


def test_an_interrupt_before_anything_leaves_nothing(source: Path, tmp_path: Path) -> None:
    class Interrupted(Pixels):
        def loss(self, images: Tensor, target: object) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(source, tmp_path / "out.mkv", model=Interrupted())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]
