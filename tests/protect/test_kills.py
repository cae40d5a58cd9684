"""Killed in the middle of a step: called again, a job ends as if nothing had happened, and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from clips import make_video
from forks import Forks

from deidlib.protect.sidecar import Sidecar
from deidlib.records.files import sha256_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and signals of Linux")

ORDER: dict[str, Any] = {"segment": 4, "batch_size": 2, "repairs": 1, "toy": True}
MANIFEST = "deidlib-manifest.jsonl"
Step = tuple[str, int]
# Of every form, at which step and which time; the first ones are quick. Renames are those of the lock's owner, the key,
# the job, each segment's record, the notes, and both final names, which are the last two: of a clip there are 17, of a
# recording 11, of a folder 26. In a folder "note" 2 is between a result and the line that says that it is done.
STEPS: dict[str, tuple[list[Step], list[Step]]] = {
    "file": (
        [("repair", 2), ("rename", 16)],
        [
            *[("mux", n) for n in (1, 4)],
            *[("rename", n) for n in (1, 5, 11, 13, 15)],
            *[("repair", n) for n in (1, 4)],
            *[("describe", 1), ("publish", 1), ("clear", 3)],
        ],
    ),
    "recording": (
        [("rename", 10)],
        [("mux", 1), ("mux", 2), ("rename", 1), ("rename", 5), ("describe", 1), ("publish", 1), ("clear", 2)],
    ),
    "folder": (
        [("note", 2), ("rename", 12)],
        [("mux", 1), ("mux", 4), ("rename", 1), ("rename", 24), ("repair", 3), ("describe", 2), ("clear", 6)],
    ),
}


class Job(NamedTuple):
    """What is protected how."""

    form: str
    codec: str
    keyed: bool


JOBS = [Job(form, codec, keyed) for form in STEPS for codec in ("ffv1", "png-folder") for keyed in (False, True)]
CASES = [
    pytest.param(job, step, id=f"{job.form}-{job.codec}{'-keyed' * job.keyed}-{step[0]}-{step[1]}", marks=marks)
    for job in JOBS
    for steps, marks in zip(STEPS[job.form], ([], [pytest.mark.slow]), strict=True)
    for step in steps
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of each form, something to be protected."""
    place = tmp_path_factory.mktemp("clips")
    clip = make_video(place / "in.mkv", torch.rand(8, 3, 32, 32))
    (place / "in" / "sub").mkdir(parents=True)
    for name in ("a.mkv", "sub/b.mkv"):
        make_video(place / "in" / name, torch.rand(4, 3, 32, 32))
    return {"file": clip, "recording": clip, "folder": place / "in"}


def protect(forks: Forks, clips: dict[str, Path], job: Job, place: Path, kill: Step | None = None) -> Any:
    """Into a folder of its own."""
    name = "out.mkv" if job.codec == "ffv1" else "out"
    target = place if job.form == "folder" else place / name
    return forks.protect(clips[job.form], target, codec=job.codec, keyed=job.keyed, form=job.form, kill=kill, **ORDER)


class Wholes:
    """The uninterrupted results, each made when it is asked for."""

    def __init__(self, forks: Forks, clips: dict[str, Path], places: pytest.TempPathFactory) -> None:
        self.forks, self.clips, self.places = forks, clips, places
        self.known: dict[Job, Path] = {}

    def of(self, job: Job) -> Path:
        """The folder that it lies in."""
        if job not in self.known:
            place = self.places.mktemp("whole")
            assert protect(self.forks, self.clips, job, place).error == ()
            self.known[job] = place
        return self.known[job]


@pytest.fixture(scope="module")
def wholes(forks: Forks, clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    return Wholes(forks, clips, tmp_path_factory)


def content(place: Path) -> dict[str, str]:
    """Every file by its hash, whatever its name; what is drawn anew for each folder has none."""
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    ours = (MANIFEST, ".deidlib-inputs.key")
    return {name: "" if name in ours else sha256_of(path) for name, path in files.items()}


def results(place: Path) -> dict[str, str]:
    """The files and folders of pictures under their final names; folders that were made for them are none."""
    sound = {}
    for path in place.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
        pictures = path.is_dir() and any(path.glob("*.png"))
        inside = path.is_file() and any(path.parent.glob("*.png"))
        if not hidden and not inside and path.name != MANIFEST and path.suffix != ".json" and (path.suffix or pictures):
            sound[path.relative_to(place).as_posix()] = sha256_of(path)
    return sound


@pytest.mark.parametrize(("job", "step"), CASES)
def test_killed_at_a_step_it_ends_as_if_nothing_had_happened(
    forks: Forks, clips: dict[str, Path], wholes: Wholes, tmp_path: Path, job: Job, step: Step
) -> None:
    expected = wholes.of(job)
    whole = results(expected)
    assert protect(forks, clips, job, tmp_path, step).signal == signal.SIGKILL
    # Each is whole, or not there.
    assert results(tmp_path).items() <= whole.items()
    there = tmp_path / "out"
    finished = there.is_dir()
    again = protect(forks, clips, job, tmp_path)
    if finished and again.error:
        # It had its name already, and a folder of pictures is not written over.
        assert "exists and is no empty folder" in again.message
    else:
        assert (again.signal, again.error, again.message) == (0, (), "")
    assert results(tmp_path) == whole
    assert content(tmp_path) == content(expected)
    if job.form == "folder":
        last = {}
        for line in (tmp_path / MANIFEST).read_text().splitlines():
            last[json.loads(line)["output"]] = json.loads(line)
        assert {name: (line["status"], line["output_sha256"]) for name, line in last.items()} == {
            name: ("done", sha256) for name, sha256 in whole.items()
        }


@pytest.mark.parametrize("time", [16, 17, 18, 19])
def test_over_an_older_file_either_is_described(
    forks: Forks, clips: dict[str, Path], wholes: Wholes, tmp_path: Path, time: int
) -> None:
    """At every rename of the last ones: of the description of both, the file, and its own."""
    old, new = Job("file", "ffv1", True), Job("file", "ffv1", False)
    for path in wholes.of(old).iterdir():
        shutil.copy(path, tmp_path)
    assert protect(forks, clips, new, tmp_path, ("rename", time)).signal == signal.SIGKILL
    assert Sidecar.describes(tmp_path / "out.mkv")
    assert results(tmp_path) == results(wholes.of(new if time > 18 else old))
    assert protect(forks, clips, new, tmp_path).error == ()
    assert content(tmp_path) == content(wholes.of(new))
    assert sorted(os.listdir(tmp_path)) == ["out.mkv", "out.mkv.json"]
