"""Where memory is not enough, fewer frames are worked on at a time, with the same result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clips import make_video
from toys import PixelTarget, White, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.attack.steps import SignStep
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.memory import is_out_of_memory
from deidlib.protect.video import protect_video

COUNT = 12


class Full(White):
    """Has memory for so many frames at a time."""

    def __init__(self, most: int, error: Callable[[], Exception]) -> None:
        super().__init__(lambda image, number: [[8, 8, 20, 20]])
        self.most, self.error = most, error

    def loss(self, images: torch.Tensor, target: PixelTarget) -> torch.Tensor:
        if len(images) > self.most:
            raise self.error()
        return super().loss(images, target)


ERRORS: dict[str, Callable[[], Exception]] = {
    "of a device": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "of the CPU": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    "of Apple's": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    "of Python": MemoryError,
}


def toy(most: int, error: Callable[[], Exception] = MemoryError, *, chain: bool = False) -> Deidentifier:
    attacker = IFGSMAttacker([Full(most, error)], epsilon=16 / 255, max_iterations=3, step=SignStep(1 / 255))
    return Deidentifier(
        attacker,
        Solid((0.5, 0.5, 0.5)),
        chain=Chain(iterations=2, length=3, step=SignStep(1 / 255)) if chain else None,
        tracker=tracking({"window": 0, "hold": 0, "smoothing": 0}),
        lookout=None,
    )


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device that works on many frames at once."""
    for place in ("attack.chain", "protect.readers", "protect.found_frames"):
        monkeypatch.setattr(f"deidlib.{place}.read_together", lambda count, device: [slice(0, count)])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "in.mkv", torch.rand(COUNT, 3, 32, 32))


@pytest.mark.parametrize("chain", [False, True])
@pytest.mark.parametrize("name", ERRORS)
def test_half_as_many_frames_are_tried_and_the_file_is_the_same(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, chain: bool
) -> None:
    if chain and name != "of a device":
        pytest.skip("one kind of error will do")
    told = list[int]()
    with caplog.at_level(logging.WARNING, "deidlib"):
        protect_video(toy(COUNT, chain=chain), clip, tmp_path / "a.mkv", batch_size=8, check=None)
        assert not caplog.records
        protect_video(
            toy(2, ERRORS[name], chain=chain), clip, tmp_path / "b.mkv", batch_size=8, check=None, progress=told.append
        )
    # Said once, however often it is halved, and frames that are done again are told of once.
    (record,) = caplog.records
    assert "the memory of cpu is not enough for" in record.getMessage()
    assert sum(told) == COUNT
    assert min(told) > 0
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_of_a_single_frame_it_is_an_error(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"in\.mkv: the memory of cpu is not enough for 1 frame of 32x32 .* Scale it"):
        protect_video(toy(0), clip, tmp_path / "b.mkv", batch_size=4, check=None)
    assert not (tmp_path / "b.mkv").exists()


def test_other_errors_are_none_of_memory(clip: Path, tmp_path: Path) -> None:
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        protect_video(toy(0, lambda: RuntimeError("shapes differ")), clip, tmp_path / "b.mkv", check=None)
