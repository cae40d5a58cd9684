"""Whatever went before: a file that shows what should be hidden gets no name."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_video, read_video
from skimage.data import astronaut
from torch import Tensor
from toys import Sees, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle
from deidlib.keys.key import Key
from deidlib.media import VideoWriter, read_image, write_image
from deidlib.obfuscate import Concealment, GaussianBlur, Obfuscator, Pixelate, Solid
from deidlib.protect.check import Check
from deidlib.protect.clip import ClipJob
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.live import Recording
from deidlib.protect.look import ExposedError, LastLook, Written, check_alike
from deidlib.protect.output import Output
from deidlib.protect.segments import SegmentStore
from deidlib.protect.source import ClipSource
from deidlib.protect.video import protect_video
from deidlib.protect.work_folder import ChangedError, WorkFolder
from deidlib.records.files import sha256_of
from deidlib.swap.base import FaceSwapper, Patch

SIDE, COUNT, SEGMENT = 64, 4, 2
BOX = [16.0, 12.0, 48.0, 52.0]


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deidlib.protect.deidentifier._PART", SEGMENT)
    # Nobody pulls the plug here.
    monkeypatch.setattr("os.fsync", lambda handle: None)


@functools.cache
def face() -> Tensor:
    """The astronaut's face, from chin to hair, in a box: ``(COUNT, 3, SIDE, SIDE)``."""
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1)[None] / 255
    small = torch.nn.functional.interpolate(picture[:, :, 20:212, 128:320], (SIDE + COUNT, SIDE + COUNT), mode="area")
    return torch.cat([small[..., k : k + SIDE, k : k + SIDE] for k in range(COUNT)]).mul(255).round() / 255


def another() -> Tensor:
    """Somebody else, as far as a look can tell."""
    return (1 - face()).flip(3)


def protector(concealment: Concealment | None = None) -> Deidentifier:
    known = Sees(lambda image, number: [BOX])
    # Ten levels to the right: every file is read badly, and mended.
    model = Sees(lambda image, number: [[BOX[0] + 10, BOX[1], BOX[2] + 10, BOX[3]]], original=known)
    return Deidentifier(IFGSMAttacker([model], max_iterations=2), concealment or Solid(), tracker=tracking({}))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return make_video(tmp_path / "in" / "in.mkv", face())


def run(source: Path, target: Path, *, hide: Concealment | None = None, **settings: Any) -> None:
    settings.setdefault("check", Check(repairs=1))
    protect_video(protector(hide), source, target, batch_size=SEGMENT, **settings)


def named(folder: Path, codec: str) -> Path:
    folder.mkdir()
    return folder / {"png-folder": "out", "h264": "out.mp4", "mjpeg": "out.avi"}.get(codec, "out.mkv")


class Smooth(FaceSwapper):
    """A face without features, in the middle of the region."""

    def swap(self, images: Tensor, faces: Sequence[Faces]) -> list[list[Patch | None]]:
        inside = Rectangle(20, 16, 44, 48)
        pixels = torch.linspace(0.3, 0.8, 32)[None, :, None].expand(3, 32, 24)
        return [[Patch(inside, pixels, torch.ones(32, 24)) for _ in known.boxes] for known in faces]


OUTPUTS = {
    "ffv1": Output("ffv1"),
    "h264-lossless": Output("h264-lossless"),
    "png-folder": Output("png-folder"),
    "h264": Output("h264"),
    "h264 30": Output("h264", 30),
    "mjpeg": Output("mjpeg"),
    "mjpeg 31": Output("mjpeg", 31),
}
HIDING: dict[str, Concealment] = {
    "solid": Solid(),
    "black": Solid((0.0, 0.0, 0.0)),
    "mosaic": Pixelate(),
    "blur": GaussianBlur(),
    "swap": Smooth(),
}


def slow(value: Any, name: str | None = None) -> Any:
    return pytest.param(value, id=name, marks=pytest.mark.slow)


def some(table: Mapping[str, Any], quick: Sequence[str]) -> list[Any]:
    """All of them, most of them slowly."""
    return [pytest.param(value, id=name) if name in quick else slow(value, name) for name, value in table.items()]


outputs = pytest.mark.parametrize("output", some(OUTPUTS, ["ffv1", "png-folder", "h264", "mjpeg 31"]))
hiding = pytest.mark.parametrize("hide", some(HIDING, ["solid", "swap"]))


# What is as it should be


@pytest.mark.parametrize("key", [None, pytest.param(Key(bytes(32)), marks=pytest.mark.slow)])
@outputs
@hiding
def test_a_clean_file_passes(source: Path, tmp_path: Path, hide: Concealment, output: Output, key: Key | None) -> None:
    target = named(tmp_path / "out", output.codec)
    run(source, target, hide=hide, output=output, key=key)
    assert target.exists()


@pytest.mark.parametrize("quality", [0, slow(40), 51])
def test_a_clean_file_passes_at_any_quality(source: Path, tmp_path: Path, quality: int) -> None:
    target = named(tmp_path / "out", "h264")
    run(source, target, output=Output("h264", quality), check=None)
    assert target.exists()


def test_hiding_by_chance_passes(source: Path, tmp_path: Path) -> None:
    """It never does the same twice, so nothing can be compared to the pixel."""

    class Noise(Obfuscator):
        def fill(self, image: Tensor, inside: Rectangle, face: Rectangle) -> Tensor:
            return 0.5 + 0.2 * (torch.rand(3, inside.bottom - inside.top, inside.right - inside.left) - 0.5)

    run(source, tmp_path / "out.mkv", hide=Noise())
    assert (tmp_path / "out.mkv").exists()


def test_frames_without_a_face_pass(tmp_path: Path) -> None:
    """Held, hidden altogether, or left as they came, since that was asked for."""
    source, first = make_video(tmp_path / "in.mkv", face()), face()[0]
    for missing, expected in (("hold", (1, 1, 2, 0)), ("whole-frame", (1, 0, 3, 0)), ("keep", (1, 1, 0, 2))):
        seen = Sees(lambda image, number: [BOX] if torch.equal(image, first) else [])
        tracker = tracking({"window": 1, "hold": 1, "on_missing": missing})
        deidentifier = Deidentifier(IFGSMAttacker([seen], max_iterations=1), tracker=tracker)
        for output in (Output(), Output("mjpeg")):
            target = tmp_path / f"{missing}{'.mkv' if output.lossless else '.avi'}"
            summary = protect_video(deidentifier, source, target, output=output)
            assert (summary.found, summary.held, summary.whole_frame, summary.kept) == expected
            assert target.exists()


def test_a_swapper_where_nothing_is_to_be_hidden_passes(source: Path, tmp_path: Path) -> None:
    attacker = IFGSMAttacker([Sees(lambda image, number: [])], max_iterations=0)
    deidentifier = Deidentifier(attacker, Smooth(), tracker=tracking({"on_missing": "keep"}))
    assert protect_video(deidentifier, source, tmp_path / "out.mkv", check=None).kept == COUNT


# What shows a face


def shown(hidden: Tensor, frames: Tensor, what: str) -> Tensor:
    """Protected frames, some of which show what they should not."""
    planted = hidden.clone()
    if what == "a frame":
        planted[1] = frames[1]
    elif what == "a face":
        planted[:, :, 12:52, 16:48] = frames[:, :, 12:52, 16:48]
    elif what == "half a face":
        planted[:, :, 12:36, 16:48] = frames[:, :, 12:36, 16:48]
    else:
        planted = frames.clone()
    return planted


def write(path: Path, frames: Tensor, output: Output) -> None:
    if output.codec == "png-folder":
        for number, image in enumerate(frames):
            write_image(path / f"{number:06d}.png", image)
        return
    path.unlink()
    with VideoWriter(path, Fraction(25), (SIDE, SIDE), codec=output.codec, quality=output.quality) as writer:
        writer.write(frames)


def read(path: Path) -> Tensor:
    if path.is_dir():
        return torch.cat([read_image(picture) for picture in sorted(path.glob("*.png"))])
    return read_video(path)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("what", [*["a frame", "half a face"], *map(slow, ["a face", "all"])])
@outputs
@pytest.mark.parametrize("hide", [Solid(), Pixelate()], ids=["solid", "mosaic"])
def test_an_output_that_shows_the_face_is_refused(
    source: Path, tmp_path: Path, hide: Concealment, output: Output, what: str
) -> None:
    """Somebody changes the output after it was written, before anybody looks at it."""
    target = named(tmp_path / "out", output.codec)
    file = target.parent / f".{target.name}.deidlib-work" / "output" / target.name

    def plant(stage: str) -> None:
        if stage == "checking":
            write(file, shown(read(file), face(), what), output)

    with pytest.raises(ExposedError, match=r"frame \d of what was written is not what hides the original"):
        run(source, target, hide=hide, output=output, stage=plant)
    assert left(target.parent) == []


@outputs
@hiding
def test_the_face_of_somebody_else_is_refused(source: Path, tmp_path: Path, hide: Concealment, output: Output) -> None:
    target = named(tmp_path / "out", output.codec)
    file = target.parent / f".{target.name}.deidlib-work" / "output" / target.name

    def plant(stage: str) -> None:
        if stage == "checking":
            write(file, shown(read(file), another(), "a face"), output)

    with pytest.raises(ExposedError):
        run(source, target, hide=hide, output=output, stage=plant)
    assert left(target.parent) == []


@pytest.mark.parametrize("round_", [0, 1])
@pytest.mark.parametrize("codec", ["ffv1", "h264"])
def test_a_forged_segment_is_refused(source: Path, tmp_path: Path, codec: str, round_: int) -> None:
    """By somebody who has read the job's key, which lies in the folder: hash and seal are right."""
    target = named(tmp_path / "out", codec)
    work = target.parent / f".{target.name}.deidlib-work"
    jobs: list[dict[str, Any]] = []
    original = WorkFolder.__init__

    def seen(self: WorkFolder, target: Path, job: dict[str, Any], key: Key | None = None) -> None:
        jobs.append(job)
        original(self, target, job, key)

    class Stop(Exception):
        pass

    def stop(stage: str) -> None:
        if stage == "writing":
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkFolder, "__init__", seen)
        with pytest.raises(Stop):
            run(source, target, output=Output(codec), stage=stop)
    with WorkFolder(target, jobs[0]) as folder:
        store = SegmentStore(folder, SEGMENT)
        records = store.records(1, 0)
        make_video(work / f"000001.{round_}.mkv", face()[SEGMENT:])
        store.add(1, round_, records)
    with pytest.raises(ExposedError):
        run(source, target, output=Output(codec))
    assert left(target.parent) == []
    # What was forged is gone, too.
    run(source, target, output=Output(codec))
    assert target.exists()


@pytest.mark.parametrize("name", ["000000.0.mkv", "000001.0.mkv", "000001.0.json"])
def test_a_segment_changed_while_it_is_worked_with(source: Path, tmp_path: Path, name: str) -> None:
    target = named(tmp_path / "out", "ffv1")
    work = target.parent / ".out.mkv.deidlib-work"

    def plant(stage: str) -> None:
        if stage == "writing" and name.endswith("json"):
            shutil.copy(work / "000000.0.json", work / name)
        elif stage == "writing":
            make_video(work / name, face()[SEGMENT:])

    with pytest.raises(ChangedError, match="was changed while it was worked with"):
        run(source, target, stage=plant)
    assert left(target.parent) == []


def test_an_output_changed_after_the_look(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = named(tmp_path / "out", "ffv1")
    check = Written.check

    def late(self: Written) -> None:
        make_video(self.path, face())
        check(self)

    monkeypatch.setattr(Written, "check", late)
    with pytest.raises(ChangedError, match="changed between the last look at it and its publication"):
        run(source, target)
    assert left(target.parent) == []


def record(source: Path, target: Path, output: Output, stage: Callable[[str], object] | None = None) -> None:
    recording = Recording(source)
    ClipJob(
        protector(), ClipSource(lambda: recording, None), target, output, None, batch_size=SEGMENT, stage=stage
    ).run()


@outputs
def test_of_a_recording_what_was_written_is_what_lies_there(source: Path, tmp_path: Path, output: Output) -> None:
    """There are no originals any more."""
    target = named(tmp_path / "out", output.codec)
    file = target.parent / f".{target.name}.deidlib-work" / "output" / target.name

    def plant(stage: str) -> None:
        if stage == "checking":
            write(file, shown(read(file), another(), "all"), output)

    with pytest.raises(ExposedError, match="is not the one that was written"):
        record(source, target, output, plant)
    assert left(target.parent) == []
    record(source, target, output)
    assert target.exists()


def test_a_recording_that_was_not_hidden_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is at fault: it is seen before it is written."""
    target = named(tmp_path / "out", "ffv1")
    protect = Deidentifier.protect

    def forgetful(self: Deidentifier, batch: Any, tracked: Any, **settings: Any) -> Any:
        protected = protect(self, batch, tracked, **settings)
        protected.images.copy_(batch.originals())
        return protected

    monkeypatch.setattr(Deidentifier, "protect", forgetful)
    with pytest.raises(ExposedError):
        record(source, target, Output())
    assert left(target.parent) == []


def test_a_killed_recording_is_not_mixed_with_the_next(source: Path, tmp_path: Path) -> None:
    """Both have the same settings, and nobody can tell their frames apart."""
    target = named(tmp_path / "out", "ffv1")
    work, kept = target.parent / ".out.mkv.deidlib-work", tmp_path / "kept"

    def save(stage: str) -> None:
        if stage == "writing":
            shutil.copytree(work, kept)

    record(source, target, Output(), save)
    first = sha256_of(target)
    target.unlink()
    # As if it had been killed.
    (kept / "lock").unlink()
    kept.rename(work)
    other = make_video(tmp_path / "other.mkv", another())
    record(other, target, Output())
    record(other, tmp_path / "alone.mkv", Output())
    assert sha256_of(target) == sha256_of(tmp_path / "alone.mkv") != first


def test_in_whatever_mode_the_caller_is_it_is_hidden_again_as_it_was(source: Path, tmp_path: Path) -> None:
    modes: list[bool] = []

    class Modal(Smooth):
        def swap(self, images: Tensor, faces: Sequence[Faces]) -> list[list[Patch | None]]:
            modes.append(torch.is_autocast_enabled("cpu"))
            return super().swap(images, faces)

    with torch.autocast("cpu"):
        run(source, tmp_path / "out.mkv", hide=Modal())
    assert len(modes) > COUNT // SEGMENT
    assert not any(modes)


# The comparison itself


def looked_at(concealment: Concealment) -> tuple[LastLook, Any, Any, Tensor]:
    deidentifier = protector(concealment)
    ((batch, tracked),) = deidentifier.follow([deidentifier.detect(face(), 0)])
    return LastLook(deidentifier, exact=True), batch, tracked, deidentifier.hide(face(), tracked)


def test_one_level_beyond_epsilon_is_refused() -> None:
    look, batch, tracked, hidden = looked_at(Solid())
    inside, outside = (3, 0, 30, 30), (3, 0, 1, 1)
    for place, levels, refused in [(inside, 8, False), (inside, 10, True), (outside, 2, True), (outside, 0, False)]:
        images = hidden.clone()
        images[place] += levels / 255
        if refused:
            with pytest.raises(ExposedError, match="frame 3 "):
                look(batch, tracked, images)
        else:
            look(batch, tracked, images)


def test_epsilon_as_a_map() -> None:
    look, batch, tracked, hidden = looked_at(Solid())
    attacker = IFGSMAttacker(look.deidentifier.attacker.models, epsilon=torch.full((1, 1, SIDE, SIDE), 20 / 255))
    images = hidden.clone()
    images[0, 0, 30, 30] += 20 / 255
    LastLook(Deidentifier(attacker, Solid(), tracker=tracking({})), exact=True)(batch, tracked, images)
    with pytest.raises(ExposedError):
        look(batch, tracked, images)


def test_a_swap_is_computed_again_only_now_and_then() -> None:
    class Counting(Smooth):
        swapped = 0

        def swap(self, images: Tensor, faces: Sequence[Faces]) -> list[list[Patch | None]]:
            self.swapped += len(images)
            return super().swap(images, faces)

    swapper = Counting()
    look, batch, tracked, hidden = looked_at(swapper)
    swapper.swapped = 0
    look(batch, tracked, hidden)
    assert swapper.swapped == 1
    # Unless it looks much like the original.
    with pytest.raises(ExposedError):
        look(batch, tracked, torch.cat([hidden[:2], face()[2:3], hidden[3:]]))


def test_frames_without_an_original_are_those_that_were_written() -> None:
    frames = face()
    check_alike(frames, frames, 0, exact=True)
    check_alike(frames + 0.01, frames, 0, exact=False)
    with pytest.raises(ExposedError, match="frame 12 in the file"):
        check_alike(torch.cat([frames[:2], frames[2:3] + 1 / 255, frames[3:]]), frames, 10, exact=True)
    with pytest.raises(ExposedError, match="frame 10"):
        check_alike(another(), frames, 10, exact=False)
