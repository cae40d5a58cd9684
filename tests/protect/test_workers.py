"""Work in processes beside this one: the same bytes however many they are, and no harm where one is lost."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import astronauts, make_video
from torch import Tensor
from toys import Pixels, White

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.attack.presets import recommended
from deidlib.attack.steps import SignStep
from deidlib.attack.tolerance import Tolerance
from deidlib.keys.key import Key
from deidlib.media import write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.obfuscate import Pixelate
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import protect_folder
from deidlib.protect.parcel import pickled
from deidlib.protect.video import protect_video
from deidlib.protect.workers import Died, Done, Event, Failed, Told, Workers, one_thread, workers_of
from deidlib.records.files import sha256_of
from deidlib.tracking import FaceTracker

CPU = torch.device("cpu")
KEY = Key(bytes(range(32)))
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def _begun_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers come from a process that has imported everything, where the system has that, rather than each do so."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.set_forkserver_preload(["toys", "deidlib.protect.folder", "deidlib.protect.spread"])
        monkeypatch.setattr("deidlib.protect.workers._START", "forkserver")


def nothing(image: Tensor, number: int) -> list[list[float]]:
    return []


def toy(length: int = 4) -> Deidentifier:
    """A face in the middle of every frame; what the tracker says of a frame hangs on those around it."""
    attacker = IFGSMAttacker([White(nothing, original=Pixels())], max_iterations=3, step=SignStep(1 / 255))
    chain = Chain(iterations=2, length=length, step=SignStep(1 / 255))
    return Deidentifier(attacker, Pixelate(4), detectors=[Pixels()], chain=chain, tracker=FaceTracker(window=6))


# Workers


def task(order: tuple[str, Any], tell: Callable[[Any], None]) -> Any:
    """What the workers of these tests do."""
    what, value = order
    if what == "square":
        tell(f"squaring {value}")
        return value * value
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "threads":
        return torch.get_num_threads()
    if what == "log":
        logging.getLogger("deidlib.there").info("%s of %d", value, 7)
        logging.getLogger("deidlib.there").debug("never said")
        return logging.getLogger("deidlib").getEffectiveLevel()
    if what == "key":
        return value.id, sys.argv, dict(os.environ)
    raise ValueError(f"no {what}")


def heard(workers: Workers, count: int) -> list[Event]:
    """So many events."""
    events: list[Event] = []
    while len(events) < count:
        events += workers.events()
    return events


@posix
def test_each_does_what_it_is_told_and_one_that_dies_is_replaced() -> None:
    with Workers(2, task, CPU) as workers:
        children = {child.pid for child in multiprocessing.active_children()}
        workers.give(0, ("square", 7))
        workers.give(1, ("fail", None))
        events = heard(workers, 3)
        assert [event for event in events if event.worker == 0] == [Told(0, "squaring 7"), Done(0, 49)]
        (failed,) = [event for event in events if event.worker == 1]
        assert isinstance(failed, Failed)
        assert (type(failed.error), str(failed.error)) == (ValueError, "no fail")
        # The other one is not disturbed, and the new one does what comes next.
        workers.give(0, ("die", None))
        workers.give(1, ("square", 3))
        events = heard(workers, 3)
        assert Died(0, "was killed by SIGKILL") in events
        assert Done(1, 9) in events
        workers.give(0, ("key", KEY))
        (done,) = heard(workers, 1)
        assert isinstance(done, Done)
        known, argv, environment = done.result
        assert known == KEY.id
        # Neither what others may see of a process.
        shown = repr(argv) + repr(environment)
        assert KEY._secret.hex() not in shown
        assert repr(KEY._secret) not in shown
        over = list(workers.over([("square", 2), ("fail", None), ("threads", None)], lambda order: None))
        ends = {order: event for order, event in over if not isinstance(event, Told)}
        assert isinstance(ends[1], Failed)
        assert {order: end.result for order, end in ends.items() if isinstance(end, Done)} == {0: 4, 2: 1}
    assert not children & {child.pid for child in multiprocessing.active_children()}


def test_what_workers_write_to_the_log_is_handled_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "deidlib"), Workers(1, task, CPU) as workers:
        workers.give(0, ("log", "three"))
        (done,) = heard(workers, 1)
        assert done == Done(0, logging.INFO)
    told = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [("deidlib.there", "INFO", "three of 7")]


def test_what_cannot_be_sent_is_said_before_anything_is_started() -> None:
    with pytest.raises(ValueError, match="workers are processes, to which everything must be sent"):
        Workers(2, partial(task, lambda: None), CPU)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="workers must be 'auto' or at least 1, got 0"):
        workers_of(0, CPU)


def test_as_many_as_suit_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deidlib.protect.workers._cores", lambda: 6)
    monkeypatch.setattr("deidlib.protect.workers.available", lambda device: 4_700_000_000)
    assert workers_of("auto", CPU) == 3
    monkeypatch.setattr("deidlib.protect.workers.available", lambda device: 100)
    assert workers_of("auto", CPU) == 1
    monkeypatch.setattr("deidlib.protect.workers.available", lambda device: None)
    assert workers_of("auto", CPU) == 6
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert workers_of("auto", torch.device("cuda")) == 4


def test_here_torch_works_on_as_many_threads_as_there() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with one_thread(CPU):
            assert torch.get_num_threads() == 1
        with one_thread(torch.device("cuda")):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_only_to_our_own_processes_keys_are_sent() -> None:
    import pickle

    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEY)
    assert pickle.loads(pickled([KEY])) == [KEY]


# One clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "in.mkv", torch.rand(14, 3, 32, 32))


@pytest.mark.usefixtures("_begun_quickly")
@pytest.mark.parametrize(
    ("workers", "keyed"),
    [
        (2, True),
        pytest.param(1, True, marks=pytest.mark.slow),
        pytest.param(1, False, marks=pytest.mark.slow),
        pytest.param(2, False, marks=pytest.mark.slow),
        pytest.param(3, False, marks=pytest.mark.slow),
    ],
)
def test_a_clip_has_the_same_bytes_however_many_do_it(clip: Path, tmp_path: Path, workers: int, keyed: bool) -> None:
    key = KEY if keyed else None
    counts: list[int] = []
    here = protect_video(toy(), clip, tmp_path / "here.mkv", key=key, batch_size=4)
    there = protect_video(toy(), clip, tmp_path / "there.mkv", key=key, workers=workers, progress=counts.append)
    assert here == there
    assert here.found == 14
    assert sum(counts) == 14
    assert sha256_of(tmp_path / "here.mkv") == sha256_of(tmp_path / "there.mkv")
    assert (tmp_path / "here.mkv.json").read_text() == (tmp_path / "there.mkv.json").read_text()
    assert sorted(os.listdir(tmp_path)) == ["here.mkv", "here.mkv.json", "there.mkv", "there.mkv.json"]


@pytest.mark.usefixtures("_begun_quickly")
@pytest.mark.slow
@pytest.mark.parametrize("chain", [True, False], ids=["chains", "without"])
def test_so_it_has_with_a_network(tmp_path: Path, chain: bool) -> None:
    clip = make_video(tmp_path / "in.mkv", astronauts(9))
    hashes = set()
    with one_thread(CPU):
        for workers, batch in ((None, 1), (None, 4), (None, 16), (1, None), (2, None)):
            deidentifier = Deidentifier(
                recommended([MTCNN()], max_iterations=3, until=Tolerance(iou=0.8)),
                chain=Chain(iterations=2, length=2) if chain else None,
            )
            target = tmp_path / f"{workers}-{batch}.mkv"
            protect_video(deidentifier, clip, target, workers=workers, batch_size=batch)
            hashes.add((sha256_of(target), target.with_name(f"{target.name}.json").read_text()))
    assert len(hashes) == 1


class Killer:
    """Kills one of our workers when so many frames are done, and counts them."""

    def __init__(self, after: int, *, again: bool = False) -> None:
        self.after, self.again, self.frames, self.killed = after, again, 0, 0

    def __call__(self, frames: int) -> None:
        self.frames += frames
        if self.frames >= self.after and (self.again or not self.killed):
            self.killed += 1
            for child in multiprocessing.active_children():
                if child.name.startswith("deidlib-worker") and child.pid is not None:
                    os.kill(child.pid, signal.SIGKILL)
                    child.join()
                    return


@pytest.mark.usefixtures("_begun_quickly")
@posix
@pytest.mark.parametrize(
    "after", [1, pytest.param(6, marks=pytest.mark.slow), pytest.param(13, marks=pytest.mark.slow)]
)
def test_what_a_killed_worker_did_is_done_again(
    clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    protect_video(toy(), clip, tmp_path / "here.mkv", check=None)
    killer = Killer(after)
    with caplog.at_level(logging.WARNING, "deidlib"):
        protect_video(toy(), clip, tmp_path / "there.mkv", check=None, workers=2, progress=killer)
    assert killer.killed == 1
    assert killer.frames == 14
    lines = [record.getMessage() for record in caplog.records]
    # When the last frame is being done, the one that is killed may have nothing to do any more, and nobody minds.
    assert lines == ["there.mkv: a worker was killed by SIGKILL; what it did is done again"] or (
        after == 13 and not lines
    )
    assert sha256_of(tmp_path / "here.mkv") == sha256_of(tmp_path / "there.mkv")
    assert not (tmp_path / ".there.mkv.deidlib-work").exists()


@pytest.mark.usefixtures("_begun_quickly")
@pytest.mark.parametrize("then", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_interrupted_it_goes_on_from_what_is_complete(clip: Path, tmp_path: Path, then: int | None) -> None:
    """By others, or in this process: it is the same work."""
    total, counts = [0], list[int]()

    def stop(frames: int) -> None:
        total[0] += frames
        if total[0] >= 10:
            raise KeyboardInterrupt

    protect_video(toy(), clip, tmp_path / "here.mkv", check=None)
    with pytest.raises(KeyboardInterrupt):
        protect_video(toy(), clip, tmp_path / "there.mkv", check=None, workers=2, progress=stop)
    work = tmp_path / ".there.mkv.deidlib-work"
    assert not (tmp_path / "there.mkv").exists()
    assert list(work.glob("00000*.0.json"))
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("deidlib")]
    protect_video(toy(), clip, tmp_path / "there.mkv", check=None, workers=then, progress=counts.append)
    assert sum(counts) == 14
    assert sha256_of(tmp_path / "here.mkv") == sha256_of(tmp_path / "there.mkv")
    assert not work.exists()


def test_what_comes_live_has_no_workers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers need a file"):
        protect_video(toy(), "-", tmp_path / "out.mkv", workers=2)


# A folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("folder")
    (place / "sub").mkdir()
    for name in ("a.mkv", "b.mkv", "sub/c.mkv"):
        make_video(place / name, torch.rand(5, 3, 32, 32))
    write_image(place / "d.png", torch.rand(3, 32, 32))
    (place / "broken.mkv").write_bytes(b"no video")
    return place


def outputs(place: Path) -> dict[str, str]:
    return {
        path.relative_to(place).as_posix(): sha256_of(path)
        for path in place.rglob("*")
        if path.is_file() and path.name not in ("deidlib-manifest.jsonl", ".deidlib-inputs.key")
    }


@pytest.mark.usefixtures("_begun_quickly")
@pytest.mark.parametrize(
    "workers", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)]
)
def test_a_folder_is_the_same_however_many_do_it(clips: Path, tmp_path: Path, workers: int) -> None:
    begun: list[str] = []
    counts: list[int] = []
    done: list[str] = []
    here = protect_folder(toy(), clips, tmp_path / "here", key=KEY)
    there = protect_folder(
        toy(), clips, tmp_path / "there", key=KEY, workers=workers,
        begin=lambda one: begun.append(one.name), done=lambda one: done.append(one.source.name), progress=counts.append,
    )  # fmt: skip
    assert outputs(tmp_path / "here") == outputs(tmp_path / "there")
    assert [(one.source, one.summary) for one in here.files] == [(one.source, one.summary) for one in there.files]
    assert [one.source.name for one in there.failed] == ["broken.mkv"]
    assert there.failed[0].error == here.failed[0].error
    assert sorted(begun) == sorted(done) == ["a.mkv", "b.mkv", "broken.mkv", "c.mkv", "d.png"]
    assert sum(counts) == 16
    again = protect_folder(toy(), clips, tmp_path / "there", key=KEY)
    assert again.finished_before == 4


@pytest.mark.usefixtures("_begun_quickly")
@posix
@pytest.mark.slow
def test_of_a_killed_worker_the_file_fails_and_no_other(clips: Path, tmp_path: Path) -> None:
    killer = Killer(2)
    lost = protect_folder(toy(), clips, tmp_path, key=KEY, workers=2, progress=killer)
    assert killer.killed == 1
    (mine,) = [one for one in lost.failed if one.source.name != "broken.mkv"]
    assert mine.error is not None
    assert "\n" not in mine.error
    assert "the worker that did it was killed by SIGKILL. Run again: it goes on after" in mine.error
    assert not mine.target.exists()
    lines = [json.loads(line) for line in (tmp_path / "deidlib-manifest.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines if line["output"] == mine.target.relative_to(tmp_path).as_posix()] == [
        "failed"
    ]
    again = protect_folder(toy(), clips, tmp_path, key=KEY, workers=2)
    assert [one.source.name for one in again.failed] == ["broken.mkv"]
    assert again.finished_before == 3
    protect_folder(toy(), clips, tmp_path / "here", key=KEY)
    here = outputs(tmp_path / "here")
    assert {name: outputs(tmp_path)[name] for name in here} == here
