"""Told to end, or killed: nothing half-done has a final name, no worker is left, and the same call goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from clips import make_video

from deidlib.media import VideoReader
from deidlib.protect.sidecar import Sidecar
from deidlib.records.files import sha256_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="signals and processes of Linux"),
    pytest.mark.usefixtures("_signals_are_heard"),
]

# As the command line does it, with a detector that costs nothing, and an attack that takes its time.
PROGRAM = """
import sys, time
import multiprocessing
import typer
from pathlib import Path
from toys import Pixels, White
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.cli.errors import plain_errors
from deidlib.attack.chain import Chain
from deidlib.obfuscate import Pixelate
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import protect_folder
from deidlib.protect.video import protect_video
from endings import Slow, nothing

def say(word):
    print(word, file=sys.stderr, flush=True)

def progress(count):
    say("frame")
    say("workers " + " ".join(str(child.pid) for child in multiprocessing.active_children()))

deidentifier = Deidentifier(
    IFGSMAttacker([Slow(nothing, original=Pixels())], max_iterations=1),
    Pixelate(4), detectors=[Pixels()], chain=Chain(length=4),
)
source, target = map(Path, sys.argv[1:3])
protect = protect_folder if source.is_dir() else protect_video
try:
    with plain_errors():
        protect(deidentifier, source, target, check=None, workers=2, progress=progress)
except typer.Exit as error:
    sys.exit(error.exit_code)
"""
MODULE = """
import time
from toys import White

class Slow(White):
    def loss(self, images, target):
        time.sleep(0.05)
        return super().loss(images, target)

def nothing(image, number):
    return []
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("endings")
    (place / "endings.py").write_text(MODULE)
    (place / "in").mkdir()
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        make_video(place / "in" / name, torch.rand(12, 3, 32, 32))
    done = started(place, place / "in", place / "whole")
    assert done.stderr is not None
    said = done.stderr.read()
    assert done.wait(120) == 0, said
    done.stderr.close()
    return place


def started(place: Path, source: Path, target: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(place), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(source), str(target)],
        stderr=subprocess.PIPE,
        text=True,
        # Its own group, as that of a terminal, which Ctrl-C reaches as a whole.
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def workers_after(process: subprocess.Popen[str], frames: int) -> list[int]:
    """The workers, once so many frames are done."""
    assert process.stderr is not None
    seen = 0
    for line in process.stderr:
        seen += line.strip() == "frame"
        if line.startswith("workers ") and seen >= frames:
            return [int(word) for word in line.split()[1:]]
    raise AssertionError(f"it ended before {frames} frames were done")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(processes: list[int]) -> bool:
    until = time.monotonic() + 30
    while any(map(alive, processes)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, processes))


def whole(target: Path, name: str) -> bool:
    """Whether a file is there whole, or not at all."""
    path = target / name
    if not path.exists():
        return False
    with VideoReader(path) as reader:
        assert sum(len(batch.images) for batch in reader.batches(4)) == 12
    assert Sidecar.describes(path)
    return True


ENDS = {"ctrl-c": signal.SIGINT, "term": signal.SIGTERM, "kill": signal.SIGKILL}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("what", ["in", "in/a.mkv"], ids=["folder", "clip"])
def test_told_to_end_or_killed(place: Path, tmp_path: Path, end: str, what: str) -> None:
    source, number = place / what, ENDS[end]
    clip = source.suffix == ".mkv"
    target = tmp_path / "out" / "a.mkv" if clip else tmp_path / "out"
    (tmp_path / "out").mkdir()
    process = started(place, source, target)
    workers = workers_after(process, 5)
    assert len(workers) == 2
    os.killpg(process.pid, number) if end == "ctrl-c" else process.send_signal(number)
    assert process.stderr is not None
    said = process.stderr.read()
    code = process.wait(60)
    process.stderr.close()
    assert code == (-number if end == "kill" else 128 + number), said
    assert "Traceback" not in said
    assert gone(workers)
    there = [name for name in ("a.mkv", "b.mkv", "c.mkv") if whole(tmp_path / "out", name)]
    assert len(there) < (1 if clip else 3)
    again = started(place, source, target)
    assert again.stderr is not None
    said = again.stderr.read()
    assert again.wait(120) == 0, said
    again.stderr.close()
    for name in ("a.mkv",) if clip else ("a.mkv", "b.mkv", "c.mkv"):
        assert sha256_of(tmp_path / "out" / name) == sha256_of(place / "whole" / name)
    assert not list((tmp_path / "out").glob(".*.deidlib-work"))
