"""A recording that is told to end: it is finished, or nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from clips import astronauts, make_video, read_video

from deidlib.protect.sidecar import Sidecar

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="signals of Linux"),
    pytest.mark.usefixtures("_signals_are_heard"),
]

COUNT = 40
# As the command line does it, with a detector that costs nothing.
PROGRAM = """
import sys
import typer
from toys import Pixels, White
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.cli.errors import plain_errors
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.video import protect_video
from deidlib.tracking import FaceTracker

def say(word):
    print(word, file=sys.stderr, flush=True)

model = White(lambda image, number: [], original=Pixels())
tracker = FaceTracker(window=1, smoothing=0)
deidentifier = Deidentifier(IFGSMAttacker([model], max_iterations=1), detectors=[Pixels()], tracker=tracker)
try:
    with plain_errors():
        say("begun")
        protect_video(deidentifier, "-", sys.argv[1], check=None, batch_size=1, progress=lambda count: say("frame"))
except typer.Exit as error:
    sys.exit(error.exit_code)
"""


class Camera:
    """Feeds a recording by and by, and goes on whatever happens, as a camera does.

    The second half comes when the program is awaited, so that on no machine, however slow to begin, it has all frames
    by the time it is told to end.
    """

    def __init__(self, clip: Path, target: Path, *command: str) -> None:
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [*command, sys.executable, "-c", PROGRAM, str(target)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self.content, self.quick = clip.read_bytes(), threading.Event()
        self.thread = threading.Thread(target=self._feed)
        self.thread.start()

    def _feed(self) -> None:
        assert self.process.stdin is not None
        size = len(self.content) // COUNT
        try:
            for start in range(0, len(self.content), size):
                self.process.stdin.write(self.content[start : start + size])
                self.process.stdin.flush()
                self.quick.wait(0.2 if start < len(self.content) // 2 else 60)
            self.process.stdin.close()
        except (BrokenPipeError, ValueError):
            # Nobody listens any more; closing tries to write what is left.
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def wait_for(self, word: str) -> None:
        assert self.process.stderr is not None
        while line := self.process.stderr.readline().decode():
            if line.strip() == word:
                return
        raise AssertionError(f"it ended before it said {word!r}")

    def end(self) -> tuple[int, str]:
        self.quick.set()
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode()
        self.process.wait(60)
        self.thread.join()
        self.process.stderr.close()
        return self.process.returncode, said


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "in.mkv", astronauts(COUNT, side=64))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_told_to_end_a_recording_is_finished(clip: Path, tmp_path: Path, number: signal.Signals) -> None:
    target = tmp_path / "out.mkv"
    camera = Camera(clip, target)
    camera.wait_for("frame")
    camera.process.send_signal(number)
    code, said = camera.end()
    assert code == 0, said
    assert 0 < len(read_video(target)) < COUNT
    assert Sidecar.describes(target)
    assert sorted(os.listdir(tmp_path)) == ["out.mkv", "out.mkv.json"]


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_told_twice_it_is_whole_or_gone(clip: Path, tmp_path: Path, numbers: tuple[signal.Signals, ...]) -> None:
    target = tmp_path / "out.mkv"
    camera = Camera(clip, target)
    camera.wait_for("frame")
    for number in numbers:
        camera.process.send_signal(number)
        time.sleep(0.02)
    code, said = camera.end()
    left = sorted(os.listdir(tmp_path))
    if code == 0:
        assert left == ["out.mkv", "out.mkv.json"]
        assert Sidecar.describes(target)
    else:
        assert left == [], said


def test_told_before_there_is_a_frame_nothing_is_left(clip: Path, tmp_path: Path) -> None:
    camera = Camera(clip, tmp_path / "out.mkv")
    camera.wait_for("begun")
    camera.process.send_signal(signal.SIGTERM)
    code, said = camera.end()
    assert code == 128 + signal.SIGTERM, said
    assert os.listdir(tmp_path) == []


def test_under_nohup_it_goes_on(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    camera = Camera(clip, target, "nohup")
    camera.wait_for("frame")
    camera.process.send_signal(signal.SIGHUP)
    code, said = camera.end()
    assert code == 0, said
    assert len(read_video(target)) == COUNT
