"""How much a command says: ``-q``, ``-v``, and what the library logs."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from clips import astronauts, make_video
from command import deidlib, done

from deidlib.cli.voice import say
from deidlib.media import write_image


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", astronauts(2))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "in.png", astronauts(1))
    return tmp_path / "in.png"


def test_quiet_says_nothing_where_all_is_well(video: Path) -> None:
    result = done(deidlib("protect", video, video.with_name("out.mkv"), "--hide-only", "-q"))
    assert result.output == ""
    assert video.with_name("out.mkv").is_file()


def test_quiet_says_what_is_wrong(tmp_path: Path) -> None:
    write_image(tmp_path / "empty.png", torch.full((3, 64, 64), 0.5))
    result = done(deidlib("protect", tmp_path / "empty.png", tmp_path / "out.png", "--hide-only", "-q"))
    (line,) = result.output.splitlines()
    assert line.startswith("warning: no face was found in")
    result = deidlib("protect", tmp_path / "nothing.png", tmp_path / "out.png", "--quiet")
    assert result.exit_code == 1
    assert result.output.startswith("error: ")


def test_verbose_says_what_is_done_and_ends_with_the_command(video: Path) -> None:
    target = video.with_name("out.mkv")
    result = done(deidlib("protect", video, target, "--hide-only", "-v"))
    told = [line.split(" ", 1)[1] for line in result.stderr.splitlines() if " deidlib.protect.clip: " in line]
    assert [line.rsplit(": ", 1)[1] for line in told] == ["protecting", "writing", "checking", "2 frames written"]
    logger = logging.getLogger("deidlib")
    assert not logger.handlers
    assert logger.level == logging.NOTSET


def test_very_verbose_tells_of_attacks(image: Path) -> None:
    options = ("--iterations", 2, "--silence", "none", "--detectors", "mtcnn")
    result = done(deidlib("protect", image, image.with_name("out.png"), *options, "-vv"))
    assert "deidlib.attack.attacker: 1 frames attacked in [2] steps" in result.stderr
    result = done(deidlib("protect", image, image.with_name("out.png"), *options, "-v"))
    assert "deidlib.attack" not in result.stderr


def test_both_at_once_are_refused(image: Path) -> None:
    result = deidlib("protect", image, image.with_name("out.png"), "-q", "-v")
    assert result.exit_code == 2
    assert "say the contrary" in " ".join(result.stderr.split())


def test_in_python_it_is_logging(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    from deidlib import MTCNN, Deidentifier, IFGSMAttacker, protect_image

    with caplog.at_level(logging.INFO, logger="deidlib"):
        protect_image(Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0)), image, image.with_name("out.png"))
    assert {record.name for record in caplog.records} == {"deidlib.protect.clip"}
    assert "protecting" in caplog.text


def test_evaluate_and_read_are_quiet_too(image: Path) -> None:
    assert done(deidlib("evaluate", image, image, "-q")).output == ""
    assert done(deidlib("read", image, "-q")).output == ""


def test_lines_end_between_words_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((20, 24)))
    said = "  faces: 1 in 4 of 4 frames"
    say(said)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say(said)
    assert capsys.readouterr().out == f"{said}\n  faces: 1 in 4 of 4\n    frames\n"
