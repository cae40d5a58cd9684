"""Killed in the middle of a step: called again, a job ends as if nothing had happened, and leaves nothing."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_video
from forks import Forks

from deidlib.protect.sidecar import Sidecar
from deidlib.records.files import sha256_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and signals of Linux")

ORDER: dict[str, Any] = {"segment": 4, "batch_size": 2, "repairs": 1, "toy": True}
# Renames: of each segment, its record and the notes, of the output in the work folder, and of both final names.
STEPS = [
    *[("mux", n) for n in (1, 3, 4, 5)],
    *[("rename", n) for n in (1, 2, 5, 9, 11, 12, 13, 14, 16, 17, 18, 19, 20)],
    ("describe", 1),
    *[("repair", n) for n in (1, 2, 4)],
    ("publish", 1),
]
QUICK = [("repair", 2), ("describe", 1), ("rename", 18)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "in.mkv", torch.rand(8, 3, 32, 32))


@pytest.fixture(scope="module")
def whole(forks: Forks, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Path]:
    """The uninterrupted results."""
    results = {}
    for name, codec in (("out.mkv", "ffv1"), ("out", "png-folder")):
        for keyed in (False, True):
            target = tmp_path_factory.mktemp("whole") / name
            assert forks.protect(clip, target, codec=codec, keyed=keyed, **ORDER).error == ()
            results[codec, keyed] = target
    return results


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("codec", ["ffv1", "png-folder"])
@pytest.mark.parametrize(
    "step", [pytest.param(s, marks=[] if s in QUICK else pytest.mark.slow) for s in STEPS], ids=str
)
def test_killed_at_a_step_it_ends_as_if_nothing_had_happened(
    forks: Forks, clip: Path, whole: dict[tuple[str, bool], Path], tmp_path: Path, step: tuple[str, int], codec: str,
    keyed: bool,
) -> None:  # fmt: skip
    expected = whole[codec, keyed]
    target = tmp_path / expected.name
    order = ORDER | {"codec": codec, "keyed": keyed}
    end = forks.protect(clip, target, kill=step, **order)
    assert end.signal in (signal.SIGKILL, 0)
    # Whole or not there.
    assert not target.exists() or sha256_of(target) == sha256_of(expected)
    again = forks.protect(clip, target, **order)
    if target.is_dir() and again.error:
        # It had its name already, and a folder of pictures is not written over.
        assert "exists and is no empty folder" in again.message
    else:
        assert (again.signal, again.error, again.message) == (0, (), "")
    assert sha256_of(target) == sha256_of(expected)
    assert Sidecar.path_of(target).read_text() == Sidecar.path_of(expected).read_text()
    assert sorted(os.listdir(tmp_path)) == [expected.name, f"{expected.name}.json"]


@pytest.mark.slow
def test_over_an_older_file_either_is_described(forks: Forks, clip: Path, tmp_path: Path) -> None:
    """At every rename of the last ones."""
    target = tmp_path / "out.mkv"
    for time in range(14, 24):
        for name in os.listdir(tmp_path):
            assert name in ("out.mkv", "out.mkv.json")
        assert forks.protect(clip, target, keyed=True, **ORDER).error == ()
        forks.protect(clip, target, keyed=False, kill=("rename", time), **ORDER)
        assert Sidecar.describes(target)
        assert forks.protect(clip, target, keyed=False, **ORDER).error == ()
        assert Sidecar.describes(target)
