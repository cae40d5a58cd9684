from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from clips import make_sounding_video, make_video
from skimage.data import astronaut
from torch import Tensor
from toys import Sees, White, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.attack.steps import SignStep
from deidlib.attack.tolerance import Tolerance
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.media import MediaWriteError, VideoReader, read_image, write_image
from deidlib.obfuscate import Solid
from deidlib.protect import work_folder
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.frame_record import FrameRecord
from deidlib.protect.image import protect_image
from deidlib.protect.output import Output
from deidlib.protect.readback import Readback
from deidlib.protect.segments import COUNTED
from deidlib.protect.summary import Summary
from deidlib.protect.video import protect_video
from deidlib.protect.work_folder import WorkFolder
from deidlib.records.files import commit

SIZE = 32
# Frames of a clip of two whole segments and a batch and a half.
SEGMENT = 16
COUNT = 2 * SEGMENT + 6


def cornered(image: Tensor, number: int) -> list[list[float]]:
    """A face where, and as long as, the frame's corner pixel is bright."""
    shift = 8 * float(image[1, 0, 0])
    return [[8 + shift, 8, 20 + shift, 20]] if image[0, 0, 0] > 0.5 else []


def moving(count: int = COUNT) -> Tensor:
    """The astronaut's face behind a moving camera; now and then the detector misses it."""
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
    frames = torch.stack([picture[:, 60 + k : 60 + k + SIZE, 200 : 200 + SIZE] for k in range(count)])
    seen = torch.arange(count) % 7 != 3
    seen[:5] = False
    frames[:, 0, 0, 0] = seen.float()
    frames[:, 1, 0, 0] = (torch.arange(count) % 50 / 255).float()
    return frames


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "in.mkv", moving())


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four batches: what matters are the borders."""
    monkeypatch.setattr("deidlib.protect.deidentifier._PART", SEGMENT)


def protector(model: Sees | None = None, **settings: Any) -> Deidentifier:
    tracker = tracking(settings)
    # What a toy reads in a frame's corner it cannot read in the turned frame.
    settings.setdefault("lookout", None)
    return Deidentifier(IFGSMAttacker([model or Sees(cornered)], max_iterations=2), tracker=tracker, **settings)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Stop(Exception):
    pass


def stopping_after(frames: int) -> Callable[[int], None]:
    total = 0

    def progress(more: int) -> None:
        nonlocal total
        total += more
        if total >= frames:
            raise Stop

    return progress


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """The uninterrupted result."""
    target = tmp_path_factory.mktemp("whole") / "out.mkv"
    return target, protect_video(protector(), source, target, output=Output(codec="ffv1"), batch_size=4)


# Going on


@pytest.mark.parametrize("stops", [[6], [18], [37], [18, 35], [17, 18, 38]])
def test_a_job_that_goes_on_gives_the_same_bytes(
    source: Path, whole: tuple[Path, Summary], tmp_path: Path, stops: list[int]
) -> None:
    target = tmp_path / "out.mkv"
    for stop in stops:
        with pytest.raises(Stop):
            protect_video(protector(), source, target, batch_size=4, progress=stopping_after(stop))
        assert not target.exists()
    again = Sees(cornered)
    counts: list[int] = []
    summary = protect_video(protector(again), source, target, batch_size=4, progress=counts.append)
    assert sha(target) == sha(whole[0])
    assert summary == whole[1]
    assert json.loads((tmp_path / "out.mkv.json").read_text()) == json.loads(
        whole[0].with_name("out.mkv.json").read_text()
    )
    assert sum(counts) == COUNT
    assert names(tmp_path) == ["out.mkv", "out.mkv.json"]


def test_a_warm_start_goes_on_from_what_is_on_the_disk(source: Path, tmp_path: Path) -> None:
    """Frames start from those before them, across an interruption, too."""

    def warm() -> Deidentifier:
        return protector(chain=Chain(iterations=1, length=SEGMENT), smoothing=0)

    protect_video(warm(), source, tmp_path / "whole.mkv", batch_size=4)
    for stop in (18, 34):
        target = tmp_path / f"{stop}.mkv"
        with pytest.raises(Stop):
            protect_video(warm(), source, target, batch_size=4, progress=stopping_after(stop))
        protect_video(warm(), source, target, batch_size=4)
        assert sha(target) == sha(tmp_path / "whole.mkv")
    # The first frame of a chain depends on none before it, the others do.
    frames = moving()
    (whole,) = warm().frames([frames])
    (chain,), (within,) = warm().frames([frames[SEGMENT:]]), warm().frames([frames[SEGMENT + 1 :]])
    assert torch.equal(whole.images[SEGMENT], chain.images[0])
    assert torch.equal(whole.images[SEGMENT + 1], chain.images[1])
    assert not torch.equal(whole.images[SEGMENT + 1], within.images[0])


def test_what_is_complete_is_not_done_again(source: Path, tmp_path: Path) -> None:
    once, again = Sees(cornered), Sees(cornered)
    protect_video(protector(once), source, tmp_path / "once.mkv", check=None, batch_size=2)
    # Three batches of the last segment: one that is being written, and two that wait.
    with pytest.raises(Stop):
        protect_video(
            protector(), source, tmp_path / "out.mkv", check=None, batch_size=2, progress=stopping_after(COUNT)
        )
    work = tmp_path / ".out.mkv.deidlib-work"
    assert {"000000.0.json", "000000.0.mkv", "000001.0.json", "000001.0.mkv"} <= set(names(work))
    protect_video(protector(again), source, tmp_path / "out.mkv", check=None, batch_size=2)
    # Detectors and attack read the last 6 frames only.
    assert 0 < again.frames_read < once.frames_read / 5
    assert sha(tmp_path / "out.mkv") == sha(tmp_path / "once.mkv")


def test_another_batch_goes_on_and_changes_nothing(source: Path, whole: tuple[Path, Summary], tmp_path: Path) -> None:
    target, again = tmp_path / "out.mkv", Sees(cornered)
    with pytest.raises(Stop):
        protect_video(protector(), source, target, batch_size=4, progress=stopping_after(COUNT))
    protect_video(protector(again), source, target, batch_size=7)
    assert sha(target) == sha(whole[0])


def test_another_setting_or_input_starts_again(source: Path, tmp_path: Path) -> None:
    changed = make_video(tmp_path / "changed.mkv", 1 - moving())
    fresh = Sees(cornered)
    protect_video(protector(fresh), source, tmp_path / "all.mkv", check=None, batch_size=4)
    attempts: list[tuple[Path, dict[str, Any], Output]] = [
        (source, {"hold": 3}, Output()),
        (source, {}, Output("h264-lossless")),
        (changed, {}, Output()),
    ]
    for path, mine, output in attempts:
        target = tmp_path / "out.mkv"
        with pytest.raises(Stop):
            protect_video(protector(), source, target, check=None, batch_size=4, progress=stopping_after(COUNT))
        again = Sees(cornered)
        protect_video(protector(again, **mine), path, target, output=output, check=None, batch_size=4)
        assert again.frames_read >= COUNT
    assert len({sha(tmp_path / name) for name in ("all.mkv", "out.mkv")}) == 2


def test_a_segment_that_the_disk_spoiled_is_done_again(
    source: Path, whole: tuple[Path, Summary], tmp_path: Path
) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(Stop):
        protect_video(protector(), source, target, batch_size=2, progress=stopping_after(COUNT))
    work = tmp_path / ".out.mkv.deidlib-work"
    for name, change in (("000000.0.mkv", 1), ("000001.0.json", -9)):
        content = (work / name).read_bytes()
        (work / name).write_bytes(content[:-5] + b"wrong" if change == 1 else content[:change])
    (work / ".half.partial").write_bytes(b"left by a killed process")
    protect_video(protector(), source, target, batch_size=4)
    assert sha(target) == sha(whole[0])
    assert names(tmp_path) == ["out.mkv", "out.mkv.json"]


def test_killed_while_it_writes_the_output(source: Path, whole: tuple[Path, Summary], tmp_path: Path) -> None:
    """Every stage is one that a job can be stopped in."""
    for stage in ("protecting", "writing", "checking"):
        target = tmp_path / stage / "out.mkv"
        target.parent.mkdir()

        def stop(name: str, last: str = stage) -> None:
            if name == last:
                raise Stop

        with pytest.raises(Stop):
            protect_video(protector(), source, target, batch_size=4, stage=stop)
        assert not target.exists()
        protect_video(protector(), source, target, batch_size=4)
        assert sha(target) == sha(whole[0])
        assert names(target.parent) == ["out.mkv", "out.mkv.json"]


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_a_state_to_go_on_from(source: Path, whole: tuple[Path, Summary], tmp_path: Path) -> None:
    target, total = tmp_path / "out.mkv", [0]

    def interrupt(more: int) -> None:
        total[0] += more
        # A batch is written, and two wait, when the next one is done: the first segment is complete by now.
        if total[0] == 36:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        protect_video(protector(), source, target, batch_size=4, progress=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("deidlib")]
    assert names(tmp_path) == [".out.mkv.deidlib-work"]
    assert "000000.0.json" in names(tmp_path / ".out.mkv.deidlib-work")
    assert not list((tmp_path / ".out.mkv.deidlib-work").glob("*.partial"))
    protect_video(protector(), source, target, batch_size=4)
    assert sha(target) == sha(whole[0])


def test_a_full_disk_loses_nothing_that_is_complete(
    source: Path, whole: tuple[Path, Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.mkv"

    def full(temporary: Path, path: Path) -> None:
        if path.name == "000001.0.mkv":
            raise OSError(28, "No space left on device")
        commit(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr("deidlib.media.writer.commit", full)
        with pytest.raises(MediaWriteError, match=r"000001.0.mkv: could not write .*No space left on device"):
            protect_video(protector(), source, target, batch_size=4)
    assert names(tmp_path) == [".out.mkv.deidlib-work"]
    assert {"000000.0.json", "000000.0.mkv"} <= set(names(tmp_path / ".out.mkv.deidlib-work"))
    protect_video(protector(), source, target, batch_size=4)
    assert sha(target) == sha(whole[0])


def test_nothing_half_written_lies_outside_the_work_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may be killed at any moment, and nobody clears up elsewhere."""
    written = list[Path]()

    def seen(temporary: Path, path: Path) -> None:
        written.append(temporary)
        commit(temporary, path)

    for module in ("deidlib.records.files", "deidlib.media.writer"):
        monkeypatch.setattr(f"{module}.commit", seen)
    protect_video(protector(), source, tmp_path / "out.mkv", batch_size=4)
    # Three segments and their records, the job, two notes or more, the output and its description.
    assert len(written) >= 10
    assert {path.relative_to(tmp_path).parts[0] for path in written} == {".out.mkv.deidlib-work"}


# Nothing is exposed


def test_no_unhidden_frame_in_the_work_folder(source: Path, tmp_path: Path) -> None:
    """Whatever lies there at any moment: no frame shows the face as the original does."""
    originals = moving()
    work = tmp_path / ".out.mkv.deidlib-work"
    looked_at = 0

    def look(_: object) -> None:
        nonlocal looked_at
        for path in work.rglob("*.mkv"):
            if "partial" in path.name:
                continue
            with VideoReader(path) as reader:
                seen = torch.cat([images for images, _ in reader.batches(64)])
            first = 0 if path.parent.name == "output" else SEGMENT * int(path.name[:6])
            for k, frame in enumerate(seen):
                face = (slice(None), slice(10, 18), slice(10, 18))
                assert (frame[face] - originals[first + k][face]).abs().max() > 0.02
                looked_at += 1

    class Hidden(Sees):
        """The attack leaves the hidden frame alone, so that nothing but hiding is looked at."""

        def loss(self, images: Tensor, target: Any) -> Tensor:
            return super().loss(images, target) * 0

    protect_video(protector(Hidden(cornered)), source, tmp_path / "out.mkv", batch_size=4, stage=look, progress=look)
    assert looked_at > 3 * COUNT
    readable = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix not in (".mkv", ".json")]
    assert readable == []


# Read back, and mended


class Marked(White):
    """Reads, in some frames, the face moved to the right by what its middle lacks to white, which it wants it to be.

    Its loss falls with every step, so that more steps give a better reading.
    """

    def __init__(self, spoiled: Sequence[int] = ()) -> None:
        def script(image: Tensor, number: int) -> list[list[float]]:
            assert number >= 0, "every frame is told its number"
            # How far the pixels in the middle of the face still are from white.
            lack = float((1 - image[:, 14, 14]).mean())
            shift = 40 * lack if number in spoiled else 0
            return [[x0 + shift, y0, x1 + shift, y1] for x0, y0, x1, y1 in cornered(image, number)]

        super().__init__(script, original=Sees(cornered))


# A step of so many levels then is seen as that.
BLACK = Solid((0.0, 0.0, 0.0))


def test_the_written_file_is_read_back_and_mended(source: Path, tmp_path: Path) -> None:
    """Some frames read badly after two steps of a grey level; they get four more, then eight."""
    spoiled = [6, 7, 18, 34]
    attacker = IFGSMAttacker([Marked(spoiled)], max_iterations=2, epsilon=80 / 255, step=SignStep(8 / 255))
    results = {}
    for repairs in (0, 1, 2, 3):
        target = tmp_path / f"{repairs}.mkv"
        summary = protect_video(
            Deidentifier(attacker, obfuscator=BLACK, lookout=None),
            source,
            target,
            check=Check(repairs=repairs),
            batch_size=4,
        )
        assert summary.readback is not None
        results[repairs] = (summary.readback, target)
    once, twice, thrice, last = (results[repairs][0] for repairs in (0, 1, 2, 3))
    assert once.below == tuple(spoiled)
    assert (once.frames_below, once.repaired) == (4, 0)
    # Black after two steps of 8 levels lacks 239 / 255; whatever is told is what the file itself gives.
    model = once.models["marked"]
    assert model.faces == int((moving()[:, 0, 0, 0] > 0.5).sum())
    assert model.found == 1 - 4 / model.faces
    assert model.min_iou == 0
    assert model.mean_iou == pytest.approx(1 - 4 / model.faces)
    assert twice.repaired == 4
    # 2 + 4 + 8 + 16 steps of 8 levels, of which epsilon allows 80: the reading is 40 * 175 / 255 pixels off.
    before, after = (torch.stack([f.image for f in VideoReader(results[k][1])]) for k in (0, 3))
    changed = [k for k in range(COUNT) if not torch.equal(before[k], after[k])]
    assert changed == spoiled
    assert [round(255 * float(before[k, 0, 14, 14])) for k in spoiled] == [16] * 4
    assert [round(255 * float(after[k, 0, 14, 14])) for k in spoiled] == [80] * 4
    assert last.frames_below == thrice.frames_below == 4


def test_frames_that_are_mended_are_good_then(source: Path, tmp_path: Path) -> None:
    attacker = IFGSMAttacker([Marked([6, 18])], max_iterations=2, epsilon=1.0, step=SignStep(20 / 255))
    protector = Deidentifier(attacker, obfuscator=BLACK, lookout=None)
    bad = protect_video(protector, source, tmp_path / "bad.mkv", check=Check(repairs=0), batch_size=4)
    good = protect_video(protector, source, tmp_path / "good.mkv", check=Check(min_iou=0.99), batch_size=4)
    assert bad.readback is not None
    assert bad.readback.frames_below == 2
    assert good.readback is not None
    # 2 + 4 + 8 steps of 20 levels reach white.
    assert (good.readback.frames_below, good.readback.repaired) == (0, 2)
    assert good.readback.models["marked"].min_iou == 1
    notes = json.loads((tmp_path / "good.mkv.json").read_text())
    assert notes["readback"]["models"]["marked"]["found"] == 1
    assert notes["output"]["sha256"] == sha(tmp_path / "good.mkv")
    assert notes["frames"]["frames"] == COUNT

    # Stopped in the middle of mending, it goes on to the same result.
    for stop in (1, 2):
        stages = list[str]()

        def interrupt(stage: str, stages: list[str] = stages, stop: int = stop) -> None:
            stages.append(stage)
            if stages.count("repairing") == stop:
                raise Stop

        target = tmp_path / f"again{stop}.mkv"
        with pytest.raises(Stop):
            protect_video(protector, source, target, check=Check(min_iou=0.99), batch_size=4, stage=interrupt)
        again = list[str]()
        summary = protect_video(protector, source, target, check=Check(min_iou=0.99), batch_size=4, stage=again.append)
        assert again[0] == "repairing"
        assert again.count("protecting") == 0
        assert summary == good
        assert sha(target) == sha(tmp_path / "good.mkv")


def test_what_a_chain_has_tried_with_all_its_steps_is_not_tried_again(source: Path, tmp_path: Path) -> None:
    spoiled = [6, 18]
    attacker = IFGSMAttacker(
        [Marked(spoiled)], max_iterations=2, epsilon=80 / 255, step=SignStep(8 / 255), until=Tolerance(iou=0.9)
    )
    protector = Deidentifier(attacker, obfuscator=BLACK, lookout=None, chain=Chain(step=SignStep(8 / 255)))
    stages = list[str]()
    summary = protect_video(protector, source, tmp_path / "out.mkv", batch_size=4, stage=stages.append)
    assert summary.readback is not None
    assert (summary.beyond, summary.readback.below, summary.readback.repaired) == (2, tuple(spoiled), 0)
    assert stages == ["protecting", "writing", "checking"]


def test_an_image_is_read_back_and_mended(tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", moving(6)[5:])
    attacker = IFGSMAttacker([Marked([0])], max_iterations=2, epsilon=1.0, step=SignStep(20 / 255))
    protector = Deidentifier(attacker, obfuscator=BLACK, lookout=None)

    def mended(name: str, check: Check) -> tuple[Readback, int]:
        readback = protect_image(protector, tmp_path / "in.png", tmp_path / name, check=check).readback
        assert readback is not None
        return readback, round(255 * float(read_image(tmp_path / name)[0, 0, 14, 14]))

    bad, level = mended("bad.png", Check(repairs=0))
    assert (bad.below, bad.repaired, level) == ((0,), 0, 40)
    # 40 levels of 255 are read 40 * 215 / 255 pixels off, of a box 12 wide: not found.
    assert (bad.models["marked"].found, bad.models["marked"].mean_iou) == (0, 0)
    good, level = mended("good.png", Check(min_iou=0.99))
    assert (good.below, good.repaired, level) == ((), 1, 255)
    assert good.models["marked"].min_iou == 1
    unread = protect_image(protector, tmp_path / "in.png", tmp_path / "unread.png", check=None)
    assert unread.readback is None
    assert (tmp_path / "unread.png").read_bytes() == (tmp_path / "bad.png").read_bytes()
    with pytest.raises(ValueError, match=r"overlap \(IoU\) in \[0, 1\], got 2"):
        mended("no.png", Check(min_iou=2))
    assert not (tmp_path / "no.png").exists()


def test_a_face_that_is_not_found_counts_as_a_failure(tmp_path: Path) -> None:
    # On protected frames.
    blind = Sees(lambda image, number: [], original=Sees(cornered))
    many = make_video(tmp_path / "in.mkv", moving(140))
    summary = protect_video(protector(blind), many, tmp_path / "out.mkv", check=Check(repairs=1), batch_size=4)
    assert summary.readback is not None
    (model,) = summary.readback.models.values()
    assert (model.found, model.mean_iou, model.min_iou) == (0, 0, 0)
    assert summary.readback.frames_below == summary.found == model.faces
    assert model.faces > 100
    # Not all of them are named.
    assert len(summary.readback.below) == 100


def test_without_verifying_nothing_is_read_back(source: Path, tmp_path: Path) -> None:
    stages = list[str]()
    summary = protect_video(protector(), source, tmp_path / "out.mkv", check=None, batch_size=4, stage=stages.append)
    assert summary.readback is None
    # Looked at it is, always.
    assert stages == ["protecting", "writing", "checking"]
    assert json.loads((tmp_path / "out.mkv.json").read_text())["readback"] is None


# What lies beside the output


def test_the_description_says_how_it_was_made_and_nothing_of_where(
    source: Path, whole: tuple[Path, Summary], tmp_path: Path
) -> None:
    key = Key.generate()
    protect_video(protector(), source, tmp_path / "keyed.mkv", check=None, batch_size=4, key=key)
    said = json.loads((tmp_path / "keyed.mkv.json").read_text())["key"]
    assert KeyRecord.from_dict(said).opened_by(key)
    text = whole[0].with_name("out.mkv.json").read_text()
    notes, summary = json.loads(text), whole[1]
    assert notes["format"] == "deidlib-protection/1"
    assert set(notes["versions"]) == {"deidlib", "torch", "torchvision", "av"}
    assert notes["input"] is None
    assert sha(source) not in text
    assert json.loads((tmp_path / "keyed.mkv.json").read_text())["input"] == {
        "mac": key.derive("input").mac(sha(source))
    }
    assert notes["output"]["sha256"] == sha(whole[0])
    assert notes["settings"]["deidentifier"]["attacker"]["max_iterations"] == 2
    assert notes["settings"]["deidentifier"]["attacker"]["epsilon"] == 8 / 255
    assert notes["frames"] == {
        "frames": COUNT,
        "found": summary.found,
        "filled": summary.filled,
        "held": summary.held,
        "partly_held": summary.partly_held,
        "whole_frame": summary.whole_frame,
        "kept": summary.kept,
        "fewest": summary.fewest,
        "most": summary.most,
        "turned": summary.turned,
        "disputed": summary.disputed,
    }
    assert sum(notes["frames"][name] for name in ("found", "filled", "held", "whole_frame", "kept")) == COUNT
    for part in (source, whole[0]):
        assert str(part.parent) not in text
    assert "in.mkv" not in text


def test_sound_is_taken_along_when_asked_for(tmp_path: Path) -> None:
    clip = make_sounding_video(tmp_path / "in.mkv", moving(50))

    def sound(path: Path) -> list[tuple[int, bytes]]:
        with av.open(str(path)) as opened:
            return [(int(p.pts or 0), bytes(p)) for p in opened.demux(audio=0) if p.size]

    protect_video(protector(), clip, tmp_path / "out.mkv", output=Output(audio="copy"))
    assert sound(tmp_path / "out.mkv") == sound(clip)
    protect_video(protector(), clip, tmp_path / "silent.mkv")
    with av.open(str(tmp_path / "silent.mkv")) as silent:
        assert not silent.streams.audio


# One at a time


def test_the_same_output_twice_at_once(source: Path, whole: tuple[Path, Summary], tmp_path: Path) -> None:
    target, refused = tmp_path / "out.mkv", list[str]()

    def also(_: int) -> None:
        if not refused:
            with pytest.raises(MediaWriteError) as caught:
                protect_video(protector(), source, target, batch_size=4)
            refused.append(str(caught.value))

    protect_video(protector(), source, target, batch_size=4, progress=also)
    assert refused == [
        f"{target} is being written by another process (process {os.getpid()}). Wait for it, or choose another name."
    ]
    assert sha(target) == sha(whole[0])


def test_of_a_folder_that_is_removed_the_lock_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets it while others go would lose what it leaves there."""
    folder = WorkFolder(tmp_path / "out.mkv", {})
    folder.leave("clip", {"frames": 3})
    folder.output()
    left, rmtree = list[list[str]](), shutil.rmtree

    def seen(path: Path, **settings: Any) -> None:
        left.append(names(path))
        rmtree(path, **settings)

    monkeypatch.setattr(shutil, "rmtree", seen)
    folder.close(keep=False)
    assert left[-1] == ["lock"]
    assert names(tmp_path) == []


@pytest.mark.parametrize("when", ["before it is looked at", "before its lock"])
def test_a_folder_that_its_last_owner_is_just_removing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    target, work, late = tmp_path / "out.mkv", tmp_path / ".out.mkv.deidlib-work", list[bool]()
    make, mkdir = work_folder._make, Path.mkdir

    def removed(folder: Path, out: Path) -> None:
        make(folder, out)
        if not late:
            late.append(True)
            folder.rmdir()

    def there(self: Path, *arguments: Any, **settings: Any) -> None:
        if self == work and not late:
            late.append(True)
            raise FileExistsError
        mkdir(self, *arguments, **settings)

    if when == "before its lock":
        monkeypatch.setattr(work_folder, "_make", removed)
    else:
        monkeypatch.setattr(Path, "mkdir", there)
    with WorkFolder(target, {}):
        assert late
        assert work.stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == []


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, os, pathlib\nfrom deidlib.protect.work_folder import WorkFolder\n"
        "folder = WorkFolder(pathlib.Path(sys.argv[1]), {'a': 1})\nfolder.leave('clip', {'frames': 3})\n"
        "print('locked', flush=True)\nsys.stdin.read()"
    )
    target = tmp_path / "out.mkv"
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(MediaWriteError, match=f"process {other.pid}"):
            WorkFolder(target, {"a": 1})
        other.kill()
        other.wait()
    folder = WorkFolder(target, {"a": 1})
    assert folder.note("clip", COUNTED) == {"frames": 3}
    folder.close(keep=False)
    assert names(tmp_path) == []


def test_only_one_of_many_gets_the_lock(tmp_path: Path) -> None:
    start, got, refused = threading.Barrier(8), list[WorkFolder](), list[str]()

    def attempt() -> None:
        start.wait()
        try:
            got.append(WorkFolder(tmp_path / "out.mkv", {}))
        except MediaWriteError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    got[0].close(keep=False)


# Records


def test_a_record_comes_back_bit_for_bit() -> None:
    many = Faces(torch.rand(2, 4).cumsum(1), torch.rand(2), torch.rand(2, 68, 2) * 99, torch.randn(2, 3))
    few = Faces(torch.rand(1, 4).cumsum(1), torch.rand(1), torch.rand(1, 5, 2))
    record = FrameRecord(7, few, "found", 1, {"a": many, "b": Faces.empty()}, {"a": 0.1}, within=False)
    back = FrameRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert (back.pts, back.treatment, back.others, back.losses, back.within) == (7, "found", 1, {"a": 0.1}, False)
    for before, after in [(few, back.faces), (many, back.readings["a"]), (Faces.empty(), back.readings["b"])]:
        for field in ("boxes", "scores", "landmarks", "gaze"):
            x, y = getattr(before, field), getattr(after, field)
            assert (x is None and y is None) or torch.equal(x, y)
