"""Whatever goes wrong: nothing is lost, and nothing is exposed."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from forks import Forks
from skimage.data import astronaut
from torch import Tensor
from torch.nn.functional import avg_pool2d

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.media import MediaError, MediaReadError, MediaWriteError, VideoReader, read_image
from deidlib.models.mtcnn import MTCNN
from deidlib.obfuscate import Pixelate
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.output import Output
from deidlib.protect.summary import Summary
from deidlib.protect.video import protect_video

# Of the astronaut at half size: from the brows to the mouth, and from cheek to cheek.
LEFT, TOP, RIGHT, BOTTOM = 97, 40, 127, 78
SIDE = 80
# Corners of the camera's view: the face in the middle of it, and no face.
FACE, ELSEWHERE = (70, 15), (0, 128)

Corner = tuple[int, int]
linux = pytest.mark.skipif(sys.platform != "linux", reason="signals, limits and capabilities of Linux")


def filmed(corners: Sequence[Corner], height: int = SIDE, width: int = SIDE) -> Tensor:
    """The astronaut, seen by a camera that moves: ``(T, 3, height, width)``."""
    picture = avg_pool2d(torch.from_numpy(astronaut()).permute(2, 0, 1) / 255, 2)
    return torch.stack([picture[:, y : y + height, x : x + width] for x, y in corners]).mul(255).round() / 255


def steady(count: int) -> list[Corner]:
    return [(FACE[0] + k % 8, FACE[1] + k // 8) for k in range(count)]


def make(
    path: Path,
    frames: Tensor,
    *,
    encoder: str = "ffv1",
    pixel_format: str = "bgr0",
    times: Sequence[int] | None = None,
    prepare: Callable[[Any], None] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A video by PyAV alone; ``times`` are in milliseconds."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames.shape[2], frames.shape[3], pixel_format
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if prepare:
            prepare(stream)
        for k, image in enumerate(frames):
            pixels = image.permute(1, 2, 0).mul(255).round().to(torch.uint8).contiguous().numpy()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path: Path, *, strict: bool = True) -> tuple[Tensor, list[Fraction]]:
    """Frames, and when each is shown."""
    if path.is_dir():
        return torch.cat([read_image(picture) for picture in sorted(path.glob("*.png"))]), []
    with VideoReader(path, strict=strict) as reader:
        frames = list(reader)
    return torch.stack([frame.image for frame in frames]), [frame.pts * reader.info.time_base for frame in frames]


def assert_hidden(images: Tensor, originals: Tensor, corners: Sequence[Corner]) -> int:
    """Of the part of the face that is in a frame, hardly a pixel is as it was; return how many frames show some."""
    height, width = originals.shape[2:]
    shown = 0
    for image, original, (x, y) in zip(images, originals, corners, strict=True):
        rows, columns = (slice(max(TOP - y, 0), max(BOTTOM - y, 0)), slice(max(LEFT - x, 0), max(RIGHT - x, 0)))
        change = (image - original)[:, rows, columns].abs()
        if change.numel() == 0:
            continue
        shown += 1
        assert float((change.amax(dim=0) > 1.5 / 255).float().mean()) > 0.9
        # Over a mere strip of cheek, a mosaic may come close.
        if TOP - y >= 0 and BOTTOM - y <= height and LEFT - x >= 0 and RIGHT - x <= width:
            assert float(change.mean()) > 0.05
    return shown


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Processes that come to harm

COUNT, SEGMENT = 16, 4
ORDER: dict[str, Any] = {"segment": SEGMENT, "batch_size": 2, "repairs": 1}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clips") / "in.mkv", filmed(steady(COUNT)))


@pytest.fixture(scope="module")
def whole(forks: Forks, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The uninterrupted result, and the seconds that it took."""
    target = tmp_path_factory.mktemp("whole") / "out.mkv"
    end = forks.protect(clip, target, **ORDER)
    assert (end.signal, end.error, end.message) == (0, (), "")
    assert end.summary is not None
    assert (end.summary["frames"], end.summary["found"]) == (COUNT, COUNT)
    assert assert_hidden(read(target)[0], read(clip)[0], steady(COUNT)) == COUNT
    return target, end.seconds


def look_into(folder: Path, clip: Path) -> int:
    """Look at every frame of every file in a work folder, finished or not; return how many there are."""
    originals, looked = read(clip)[0], 0
    for path in folder.rglob("*"):
        if path.is_dir() or path.suffix == ".json" or path.name == "lock" or ".json." in path.name:
            continue
        try:
            images = read(path, strict=False)[0]
        except MediaReadError:
            # Not yet a video that anyone could play.
            continue
        number = re.search(r"(\d{6})\.\d\.mkv", path.name)
        first = SEGMENT * int(number[1]) if number else 0
        part = slice(first, first + len(images))
        looked += assert_hidden(images, originals[part], steady(COUNT)[part])
    return looked


def assert_goes_on(forks: Forks, clip: Path, target: Path, whole: Path) -> None:
    """Called again, the job ends as if nothing had happened."""
    end = forks.protect(clip, target, **ORDER)
    assert (end.signal, end.error, end.message) == (0, (), "")
    assert sha(target) == sha(whole)
    assert target.with_name("out.mkv.json").read_text() == whole.with_name("out.mkv.json").read_text()
    assert names(target.parent) == ["out.mkv", "out.mkv.json"]


@linux
@pytest.mark.parametrize("moments", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_goes_on(
    forks: Forks, clip: Path, whole: tuple[Path, float], tmp_path: Path, moments: int
) -> None:
    chance, looked = random.Random(11), 0
    for k in itertools.count():
        if k >= moments and looked >= COUNT:
            break
        # On a machine that became slower, it was too early each time.
        assert k < 5 * moments, "hardly a frame was there to be looked at"
        target = tmp_path / str(k) / "out.mkv"
        delay = whole[1] * (k % moments + chance.random()) / moments
        killed = False
        while not killed:
            # A machine that became faster may be done already: then earlier.
            shutil.rmtree(target.parent, ignore_errors=True)
            target.parent.mkdir()
            process = forks.start(clip, target, **ORDER)
            time.sleep(delay)
            os.kill(process, signal.SIGKILL)
            killed = forks.wait(process).signal == signal.SIGKILL
            delay /= 2
        assert not target.exists() or sha(target) == sha(whole[0])
        looked += look_into(target.parent / ".out.mkv.deidlib-work", clip)
        assert_goes_on(forks, clip, target, whole[0])


@linux
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_a_full_disk(forks: Forks, clip: Path, whole: tuple[Path, float], tmp_path: Path, share: float) -> None:
    """No file may grow beyond a part of the output: not even a note, not a segment, the segments but not the output."""
    target, limit = tmp_path / "out.mkv", int(share * whole[0].stat().st_size)
    end = forks.protect(clip, target, file_limit=limit, **ORDER)
    assert end.signal == 0
    assert "MediaWriteError" in end.error, end
    assert "out.mkv" in end.message or ".mkv: could not write" in end.message
    assert not target.exists()
    assert not target.with_name("out.mkv.json").exists()
    work = tmp_path / ".out.mkv.deidlib-work"
    assert not list(tmp_path.rglob("*.partial"))
    assert len(list(work.glob("*.0.mkv"))) == (COUNT // SEGMENT if share > 0.5 else 0)
    assert (look_into(work, clip) > 0) == (share > 0.5)
    assert_goes_on(forks, clip, target, whole[0])


@linux
def test_two_processes_and_one_output(forks: Forks, clip: Path, whole: tuple[Path, float], tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    lock = tmp_path / ".out.mkv.deidlib-work" / "owner"
    first = forks.start(clip, target, **ORDER)
    deadline = time.monotonic() + 60
    while not (lock.exists() and lock.read_text()):
        assert time.monotonic() < deadline
    # While the first one sleeps, the second one is refused, and does no harm.
    os.kill(first, signal.SIGSTOP)
    second = forks.protect(clip, target, **ORDER)
    assert "MediaWriteError" in second.error
    assert f"being written by another process (process {first})" in second.message
    os.kill(first, signal.SIGCONT)
    assert forks.wait(first).error == ()
    assert sha(target) == sha(whole[0])
    assert names(tmp_path) == ["out.mkv", "out.mkv.json"]


@linux
@pytest.mark.parametrize(
    ("forbidden", "mode", "error"),
    [
        ("in/in.mkv", 0o000, "MediaReadError"),
        ("in", 0o000, "MediaReadError"),
        ("out", 0o555, "MediaWriteError"),
        ("out", 0o000, "MediaWriteError"),
        ("out/.out.mkv.deidlib-work", 0o000, "MediaWriteError"),
        ("out/.out.mkv.deidlib-work", 0o555, "MediaWriteError"),
    ],
)
def test_what_must_not_be_read_or_written(
    forks: Forks, clip: Path, tmp_path: Path, forbidden: str, mode: int, error: str
) -> None:
    for folder in ("in", "out", "out/.out.mkv.deidlib-work"):
        (tmp_path / folder).mkdir()
    shutil.copy(clip, tmp_path / "in")
    (tmp_path / "out/out.mkv").write_bytes(b"an earlier result")
    (tmp_path / forbidden).chmod(mode)
    try:
        end = forks.protect(tmp_path / "in/in.mkv", tmp_path / "out/out.mkv", toy=True, powerless=True)
    finally:
        (tmp_path / forbidden).chmod(0o755)
    assert (end.signal, end.error[:1]) == (0, (error,)), end
    assert str(tmp_path) in end.message
    assert (tmp_path / "out/out.mkv").read_bytes() == b"an earlier result"
    assert not (tmp_path / "out/out.mkv.json").exists()
    assert not list(tmp_path.rglob("*.partial")) + list(tmp_path.rglob("*.0.mkv"))


# Files that are none


def sound_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        audio: Any = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.rate = 16000
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def without_frames(path: Path) -> None:
    with av.open(str(path), "w", format="matroska") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "bgr0"
        container.start_encoding()


def truncated(share: float, encoder: str, pixel_format: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = make(path, filmed(steady(9)), encoder=encoder, pixel_format=pixel_format).read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return write


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("in.mp4", lambda path: path.write_bytes(b"")),
        ("in.mp4", lambda path: path.write_text("This is no video.\n" * 40)),
        ("in.mp4", sound_only),
        ("in.mp4", without_frames),
        ("in.mp4", truncated(0.5, "libx264", "yuv420p")),
        ("in.mp4", truncated(0.98, "libx264", "yuv420p")),
        ("in.mkv", truncated(0.7, "ffv1", "bgr0")),
        ("in.avi", truncated(0.7, "mpeg4", "yuv420p")),
        ("in.mkv", lambda path: path.mkdir()),
        ("in.mkv", lambda path: None),
    ],
    ids=["empty", "text", "sound", "no-frames", "half", "end", "mkv", "avi", "folder", "missing"],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_what_is_no_sound_video(tmp_path: Path, name: str, write: Callable[[Path], object], earlier: bool) -> None:
    source, target = tmp_path / name, tmp_path / "out.mkv"
    write(source)
    if earlier:
        target.write_bytes(b"an earlier result")
    before = names(tmp_path)
    with pytest.raises(MediaReadError, match=name.replace(".", r"\.")):
        protect_video(protector(), source, target)
    assert names(tmp_path) == before
    if earlier:
        assert target.read_bytes() == b"an earlier result"


# Faces that come and go


def protector(**settings: Any) -> Deidentifier:
    """Without attack steps, so that nothing but hiding is looked at."""
    return Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0), obfuscator=Pixelate(), **settings)


def protected(
    source: Path, target: Path, corners: Sequence[Corner], *, codec: str = "ffv1", batch_size: int = 8
) -> Summary:
    """Protect a clip; no frame is lost, and none shows the face."""
    summary = protect_video(protector(), source, target, output=Output(codec), check=None, batch_size=batch_size)
    originals, times = read(source)
    images, _ = read(target)
    assert images.shape == originals.shape
    assert summary.frames == len(corners)
    assert summary.kept == 0
    lossy = codec in ("h264", "mjpeg")
    height, width = originals.shape[2:]
    in_view = [x < RIGHT and x + width > LEFT and y < BOTTOM and y + height > TOP for x, y in corners]
    assert assert_hidden(images, originals, corners) == sum(in_view) >= summary.found
    assert [len(faces) for faces in MTCNN().predict(images)] == [0] * len(corners)
    assert lossy or bool(((images - originals).abs().amax(dim=1) == 0).any()) or summary.whole_frame == len(corners)
    if target.is_file():
        assert names(target.parent) == sorted({source.name, target.name, f"{target.name}.json"})
        assert len(read(target)[1]) == len(times)
    return summary


def test_no_face_anywhere(tmp_path: Path) -> None:
    corners = [(k, 128) for k in range(6)]
    source = make(tmp_path / "in.mkv", filmed(corners))
    assert protected(source, tmp_path / "out.mkv", corners).whole_frame == 6
    for image in read(tmp_path / "out.mkv")[0]:
        # A mosaic of 4 x 4 cells over all of it.
        assert len(image.flatten(1).unique(dim=1).T) <= 16


def test_a_face_only_at_the_end(tmp_path: Path) -> None:
    corners = [ELSEWHERE] * 17 + [FACE] * 3
    source = make(tmp_path / "in.mkv", filmed(corners))
    summary = protected(source, tmp_path / "out.mkv", corners)
    # It is seen coming 15 frames ahead.
    assert (summary.whole_frame, summary.held, summary.found) == (2, 15, 3)


@pytest.mark.parametrize("step", [3, 9])
def test_a_face_that_enters_and_leaves(tmp_path: Path, step: int) -> None:
    corners = [(x, 15) for x in range(140, 5, -step)]
    source = make(tmp_path / "in.mkv", filmed(corners))
    originals = read(source)[0]
    seen = [len(faces) for faces in MTCNN().predict(originals)]
    assert (seen[0], seen[-1]) == (0, 0)
    assert 0 < sum(seen) < len(corners)
    summary = protected(source, tmp_path / "out.mkv", corners)
    assert summary.found == sum(seen)


def test_two_faces_of_which_one_comes_late(tmp_path: Path) -> None:
    here, there = steady(8), [*[ELSEWHERE] * 4, *steady(8)[4:]]
    # The second one is mirrored; so must it be when it is looked at.
    both = torch.cat([filmed(here), filmed(there).flip(3)], dim=3)
    source = make(tmp_path / "in.mkv", both)
    summary = protect_video(protector(), source, tmp_path / "out.mkv", check=None)
    images = read(tmp_path / "out.mkv")[0]
    assert (summary.frames, summary.found) == (8, 8)
    assert assert_hidden(images[..., :SIDE], both[..., :SIDE], here) == 8
    assert assert_hidden(images[4:, :, :, SIDE:].flip(3), both[4:, :, :, SIDE:].flip(3), there[4:]) == 4
    assert [len(faces) for faces in MTCNN().predict(images)] == [0] * 8


# Frames of every kind


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (16, 16), (17, 33)])
def test_tiny_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    originals = filmed(steady(4), *size)
    source = make(tmp_path / "in.mkv", originals)
    summary = protect_video(protector(), source, tmp_path / "out.mkv")
    images, times = read(tmp_path / "out.mkv")
    assert (summary.frames, summary.whole_frame) == (4, 4)
    assert times == [Fraction(k, 25) for k in range(4)]
    # Whole frames are hidden, by the means of their cells: of single pixels these are the pixels.
    assert torch.equal(images, Pixelate().hide_frame(originals).mul(255).round() / 255)


@pytest.mark.parametrize(
    ("name", "codec"), [("out.mkv", "ffv1"), ("out.mp4", "h264"), ("out.avi", "mjpeg"), ("out", "png-folder")]
)
def test_odd_sizes(tmp_path: Path, name: str, codec: str) -> None:
    source = make(tmp_path / "in.mkv", filmed(steady(4), 79, 81))
    assert protected(source, tmp_path / name, steady(4), codec=codec).found == 4


@pytest.mark.parametrize("pixel_format", ["yuv422p", "yuv422p10le", "yuv420p10le", "gray"])
def test_other_pixel_formats(tmp_path: Path, pixel_format: str) -> None:
    source = make(tmp_path / "in.mkv", filmed(steady(4)), pixel_format=pixel_format)
    with VideoReader(source) as reader:
        assert reader.info.pixel_format == pixel_format
    assert protected(source, tmp_path / "out.mkv", steady(4)).found == 4


@pytest.mark.parametrize(("name", "codec"), [("out.mkv", "ffv1"), ("out.mp4", "h264")])
def test_uneven_times(tmp_path: Path, name: str, codec: str) -> None:
    times = [0, 40, 41, 100, 350, 351, 352, 1000]
    source = make(tmp_path / "in.mkv", filmed(steady(8)), times=times)
    assert protected(source, tmp_path / name, steady(8), codec=codec, batch_size=3).found == 8
    for path in (source, tmp_path / name):
        assert read(path)[1] == [Fraction(time, 1000) for time in times]


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_phone_held_otherwise(tmp_path: Path, turn: int) -> None:
    """Stored turned; protected upright, where detectors know faces, and written upright."""
    upright = filmed(steady(4), 80, 96)
    stored = torch.rot90(upright, k=-turn // 90, dims=(2, 3)).contiguous()
    source = make(
        tmp_path / "in.mp4",
        stored,
        encoder="libx264rgb",
        pixel_format="rgb24",
        options={"qp": "0"},
        prepare=lambda stream: stream.set_display_rotation(turn),
    )
    assert torch.equal(read(source)[0], upright)
    assert protected(source, tmp_path / "out.mkv", steady(4)).found == 4
    with VideoReader(tmp_path / "out.mkv") as reader:
        assert (reader.info.height, reader.info.width, reader.info.rotation) == (80, 96, 0)


def test_errors_are_of_one_kind() -> None:
    assert issubclass(MediaReadError, MediaError)
    assert issubclass(MediaWriteError, MediaError)
