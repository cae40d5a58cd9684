"""The bar: by frame, and within a batch by step; it never goes back."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from deidlib.attack import AttackStep
from deidlib.cli.bar import Bar
from deidlib.media import VideoWriter, write_image


def step(number: int, frames: list[int], working: list[int], most: int = 10) -> AttackStep:
    return AttackStep(number, most, frames, working, {})


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "clip.mp4", Fraction(25), (16, 16), codec="h264") as writer:
        writer.write(torch.rand(8, 3, 16, 16))
    return tmp_path / "clip.mp4"


def shown(bar: Bar) -> float:
    assert bar._bar is not None
    return float(bar._bar.n)


def test_a_frame_counts_by_the_share_of_its_steps(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar.begin(clip, "clip.mp4")
    assert bar._bar is not None
    assert bar._bar.total == 8
    bar.stage("protecting")
    places = []
    for one in (
        step(0, [0, 1, 2, 3], [0, 1, 2, 3]),
        step(5, [0, 1, 2, 3], [0, 1, 2, 3]),
        # Frame 1 is done, and then all.
        step(6, [0, 2, 3], [0, 3]),
        step(7, [0, 3], []),
    ):
        bar.on_step(one)
        places.append(shown(bar))
    assert places == [0, 2, pytest.approx(4 - 2 * 0.4), 4]
    bar.progress(4)
    assert shown(bar) == 4
    # Once more, with twice the steps: nothing is taken back.
    bar.on_step(step(0, [4], [4]))
    bar.on_step(step(10, [4], []))
    bar.on_step(step(1, [4], [4], most=20))
    assert shown(bar) == 5
    bar.end()
    lines = re.split(r"[\r\n]+", capsys.readouterr().err.strip())
    assert re.fullmatch(r"clip\.mp4 protecting:  62%\|.*\| 5\.0/8 frames \[00:\d\d<\d\d:\d\d\]", lines[-1])


def test_frames_mended_do_not_move_it_but_say_where_they_are(clip: Path) -> None:
    bar = Bar()
    bar.begin(clip, "clip.mp4")
    bar.stage("protecting")
    bar.progress(8)
    bar.stage("repairing")
    bar.on_step(step(3, [2], [2]))
    assert shown(bar) == 8
    assert bar._bar is not None
    assert bar._bar.postfix == "frame 2, step 3/10"
    bar.end()


def test_an_image_is_one_frame(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.rand(3, 16, 16))
    bar = Bar()
    bar.begin(tmp_path / "a.png", "a.png")
    bar.on_step(step(0, [0], [0]))
    bar.on_step(step(5, [0], [0]))
    assert shown(bar) == 0.5
    bar.end()


def test_none_is_shown_where_nobody_wants_it(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar(shown=False)
    bar.begin(clip, "clip.mp4")
    bar.stage("protecting")
    bar.on_step(step(0, [0], [0]))
    bar.progress(8)
    bar.end()
    assert capsys.readouterr().err == ""
