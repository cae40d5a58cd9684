"""Damaged files of every kind: our error, or a result; see :mod:`benchmarks.fuzz`."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.fuzz import Kind, case, damaged, fuzz
from deidlib.media import MediaReadError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="waits for a process as Linux does")


@pytest.mark.slow
def test_damaged_files_of_every_kind() -> None:
    tally = fuzz(seed=15, count=300)
    assert tally.findings == []
    assert sum(tally.ends.values()) == 300
    # Damage is seen, and not everything is refused.
    assert min(sum(n for (_, end), n in tally.ends.items() if end == wanted) for wanted in ("read", "refused")) > 50


def _raw(folder: Path) -> None:
    raise KeyError("frames")


def _of_another(folder: Path) -> None:
    int("none")


def _two_lines(folder: Path) -> None:
    raise MediaReadError("one\ntwo")


def _half(folder: Path) -> None:
    (folder / ".a.partial").touch()
    raise MediaReadError("a is damaged")


def _under_its_name(folder: Path) -> None:
    (folder / "out.mkv").touch()
    raise MediaReadError("a is damaged")


def _refuses(folder: Path) -> None:
    raise MediaReadError("a is damaged")


def _protects(folder: Path) -> None:
    (folder / "out.mkv").write_bytes((folder / "a").read_bytes())


@pytest.mark.parametrize(
    ("read", "end"),
    [
        (_raw, "raw error: KeyError"),
        (_of_another, "raw error: ValueError"),
        (_two_lines, "not one line"),
        (_half, "left over: .a.partial"),
        (_under_its_name, "left over after an error"),
        (_refuses, "refused"),
        (_protects, "read"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, read: Callable[[Path], object], end: str) -> None:
    found = case(Kind(read, "a", b"sound"), 1, tmp_path / "case")
    assert found.startswith(end)
    assert not (tmp_path / "case").exists()


def test_damage_is_drawn_by_its_number_and_json_mostly_stays_json() -> None:
    sound = json.dumps({"frames": [{"pts": k, "boxes": [[1.0, 2.0, 3.0, 4.0]]} for k in range(3)]}).encode()
    drawn = [damaged(sound, random.Random(number)) for number in range(200)]
    assert drawn == [damaged(sound, random.Random(number)) for number in range(200)]
    assert sum(content == sound for content in drawn) < 20
    begins = sum(content[:1] == b"{" and content[-1:] == b"}" for content in drawn)
    assert begins > 100
