"""``on_step``: told of every step, without a wait, and with nothing changed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from counting import Work
from toys import Pixels, painted

from deidlib.attack import AttackStep, Chain
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import SignStep
from deidlib.media import VideoWriter
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.file import protect_file
from deidlib.tracking import FaceTracker


def grey(*levels: int) -> torch.Tensor:
    return torch.stack([torch.full((3, 4, 4), level / 255) for level in levels])


def attacker(steps: int = 9) -> IFGSMAttacker:
    return IFGSMAttacker([Pixels()], max_iterations=steps, step=SignStep(1 / 255), threshold=1e-9)


def test_it_is_told_of_every_step_and_of_the_frames_at_work() -> None:
    # Three, one and five steps of a grey level away.
    steps: list[AttackStep] = []
    hidden, readings = grey(100, 100, 100), painted(grey(103, 101, 105))
    result = attacker()(hidden, readings, numbers=[7, 8, 9], on_step=steps.append)
    assert [(step.number, step.most) for step in steps] == [(n, 9) for n in range(6)]
    assert [list(step.frames) for step in steps] == [[7, 8, 9], [7, 8, 9], [7, 9], [7, 9], [9], [9]]
    assert [list(step.working) for step in steps] == [[7, 8, 9], [7, 9], [7, 9], [9], [9], []]
    rows = {7: 0, 8: 1, 9: 2}
    for step in steps:
        expected = result.losses["pixels"][step.number, [rows[frame] for frame in step.frames]]
        assert torch.equal(step.losses["pixels"], expected)
        assert step.mean_losses() == {"pixels": pytest.approx(float(expected.mean()))}


def test_without_numbers_frames_are_places_in_the_batch_and_after_the_last_step_none_is_at_work() -> None:
    steps: list[AttackStep] = []
    attacker(2)(grey(100, 100), painted(grey(150, 150)), on_step=steps.append)
    assert [(step.number, list(step.frames), list(step.working)) for step in steps] == [
        (0, [0, 1], [0, 1]),
        (1, [0, 1], [0, 1]),
        (2, [0, 1], []),
    ]


def test_the_result_is_the_same_and_nothing_is_waited_for() -> None:
    hidden, readings = grey(100, 100, 100), painted(grey(103, 101, 105))
    with Work() as alone:
        silent = attacker()(hidden, readings)
    with Work() as seen:
        told = attacker()(hidden, readings, on_step=lambda step: None)
    assert torch.equal(silent.images, told.images)
    assert torch.equal(silent.losses["pixels"].nan_to_num(-1), told.losses["pixels"].nan_to_num(-1))
    assert seen.by_name == alone.by_name
    assert seen.waited_for == alone.waited_for


def test_what_it_raises_ends_the_attack() -> None:
    class Enough(Exception):
        pass

    def stop(step: AttackStep) -> None:
        if step.number == 2:
            raise Enough

    with pytest.raises(Enough):
        attacker()(grey(100), painted(grey(200)), on_step=stop)


@pytest.mark.parametrize("chain", [None, Chain(length=8)], ids=["together", "one after another"])
def test_through_files_frames_are_numbered_from_the_clips_first(tmp_path: Path, chain: Chain | None) -> None:
    with VideoWriter(tmp_path / "in.mkv", Fraction(25), (16, 16)) as writer:
        writer.write(torch.rand(5, 3, 16, 16))
    steps: list[AttackStep] = []
    counts: list[int] = []
    deidentifier = Deidentifier(
        IFGSMAttacker([Pixels()], max_iterations=2), Solid(), chain=chain, tracker=FaceTracker(window=0)
    )
    protect_file(
        deidentifier, tmp_path / "in.mkv", tmp_path / "out.mkv",
        check=None, batch_size=2, progress=counts.append, on_step=steps.append,
    )  # fmt: skip
    begun = [list(step.frames) for step in steps if step.number == 0]
    # A processor attacks one after the other.
    assert begun == [[0], [1], [2], [3], [4]]
    assert sum(counts) == 5


def test_a_stream_of_frames_tells_too() -> None:
    frames = torch.rand(3, 3, 16, 16)
    streamed: list[AttackStep] = []
    deidentifier = Deidentifier(IFGSMAttacker([Pixels()], max_iterations=1), tracker=FaceTracker(window=0))
    list(deidentifier.frames(torch.split(frames, 2), faces=painted(frames), on_step=streamed.append))
    assert [(step.number, list(step.frames)) for step in streamed] == [
        (0, [0]),
        (1, [0]),
        (0, [1]),
        (1, [1]),
        (0, [2]),
        (1, [2]),
    ]
