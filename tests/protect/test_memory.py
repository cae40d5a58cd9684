"""Crowds and huge pictures: memory of a frame, whatever the number of faces, or a word about what to do."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clips import astronauts, make_video, read_video
from command import deidlib, refused
from PIL import Image

from benchmarks.memory import Middle, flat
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.media import MediaReadError, read_image, write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.protect import memory
from deidlib.protect.check import Check
from deidlib.protect.clip import ClipJob
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.image import protect_image
from deidlib.protect.output import Output
from deidlib.protect.source import ClipSource
from deidlib.protect.video import protect_video

CPU = torch.device("cpu")
# Peaks are those of a process of its own; what the libraries take is measured in it.
HEAD = """
import torch
from deidlib import MTCNN, Deidentifier, Faces, IFGSMAttacker
from deidlib.geometry.region import FaceRegion
from deidlib.obfuscate import Solid
def peak():
    # Not that of getrusage, which begins with what the process weighed that started this one.
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
"""


def megabytes(code: str) -> float:
    """By how much the peak of a process grows."""
    program = HEAD + code + "\nprint(peak() - before)"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


CROWD = """
corner = torch.rand({count}, 2) * torch.tensor([3700.0, 2000.0])
faces = [Faces(torch.cat([corner, corner + 50], dim=1), torch.ones({count}))]
"""


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["box", "ellipse"])
def test_a_mask_takes_the_memory_of_a_frame(shape: str) -> None:
    """A frame of 3840 x 2160 is 33 MB; 60 covers of it were 2 GB, and with what is computed on the way 4.4 GB."""
    code = CROWD + f"FaceRegion(shape='{shape}', feather=3.0).mask(faces, 2160, 3840)"
    one, sixty = (megabytes(code.format(count=count)) for count in (1, 60))
    assert one < 60
    assert sixty < one + 10


@pytest.mark.slow
def test_hiding_a_crowd_takes_the_memory_of_hiding_one() -> None:
    code = CROWD + "Solid()(torch.zeros(1, 3, 2160, 3840), faces)"
    one, sixty = (megabytes(code.format(count=count)) for count in (1, 60))
    # The frame and the hidden one, 100 MB each.
    assert one < 260
    assert sixty < one + 10


@pytest.mark.slow
def test_192_faces_are_hidden() -> None:
    code = """
from skimage.data import astronaut
face = torch.from_numpy(astronaut()[:256, 96:352].copy()).permute(2, 0, 1)[None] / 255
frame = torch.nn.functional.interpolate(face, (80, 80), mode="area").repeat(1, 1, 12, 16)
(batch,) = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0)).frames([frame])
assert (batch.treatment, len(batch.faces[0])) == (["found"], 192)
"""
    assert megabytes(code) < 1500


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="asks glibc")
def test_no_frame_is_kept() -> None:
    """Four hundred frames, of which one takes 49 kB as bytes and 197 kB as numbers, are 20 MB and more."""
    rows = flat(510, folder=False, detector=Middle())
    for stage in ("protecting", "checking"):
        used = {row.done: row.used for row in rows if row.stage == stage}
        assert used[500] - used[100] < 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="asks glibc")
def test_no_clip_of_a_folder_is_kept() -> None:
    rows = [row for row in flat(16, folder=True, detector=Middle()) if row.stage == "protecting"]
    used = {row.done: row.used for row in rows}
    assert used[15] - used[5] < 1


def huge(path: Path, width: int, height: int) -> Path:
    Image.new("RGB", (width, height), "grey").save(path, compress_level=1)
    return path


def deidentifier(iterations: int = 1) -> Deidentifier:
    return Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=iterations))


def test_a_picture_too_large_for_the_memory_is_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 2_000_000_000)
    source, target = huge(tmp_path / "a.png", 8000, 6000), tmp_path / "b.png"
    line = refused(deidlib("protect", source, target, "--device", "cpu"), "a.png has 8000x6000 pixels")
    assert "about 21.6 GB of memory are needed, and 2.0 GB are free. Scale it down to 2400x1800 or less" in line
    assert "hide only (--hide-only), for which 9.6 GB are enough" in line
    assert 2400 * 1800 * 450 <= 2_000_000_000
    with pytest.raises(ValueError, match=r"needed.*free\. Scale it down") as refusal:
        protect_image(deidentifier(0), source, target)
    assert "hide only" not in str(refusal.value)
    assert not target.exists()


@pytest.mark.slow
def test_refusing_reads_no_pixels(tmp_path: Path) -> None:
    source = huge(tmp_path / "a.png", 8000, 6000)
    code = f"""
from deidlib.protect import memory, protect_image
memory.available = lambda device: 2_000_000_000
try:
    protect_image(Deidentifier(IFGSMAttacker([MTCNN()])), {str(source)!r}, {str(tmp_path / "b.png")!r})
except ValueError as error:
    assert "Scale it down" in str(error)
"""
    # Of it one frame alone is 576 MB.
    assert megabytes(code) < 200


@pytest.mark.slow
@pytest.mark.parametrize(("iterations", "bytes_"), [(0, 200), (2, 450)])
def test_what_is_said_of_the_memory_is_true(tmp_path: Path, iterations: int, bytes_: int) -> None:
    """Six megapixels with a face; what is needed is neither more than is said nor less than a third of it."""
    faces = tmp_path / "a.png"
    write_image(faces, torch.nn.functional.pad(astronauts(1), (0, 2872, 0, 1872), value=0.5))
    code = f"""
from deidlib.attack.presets import recommended
from deidlib.protect import protect_image
attacker = recommended([MTCNN()], max_iterations={iterations})
protect_image(Deidentifier(attacker), {str(faces)!r}, {str(tmp_path / "b.png")!r})
"""
    per_pixel = megabytes(code) * 2**20 / (3000 * 2000)
    assert bytes_ / 3 < per_pixel < bytes_


def test_fewer_frames_at_a_time_where_they_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = astronauts(5, side=64)
    clip = make_video(tmp_path / "a.mkv", frames)
    whole = protect_video(deidentifier(), clip, tmp_path / "whole.mkv")
    monkeypatch.setattr(memory, "available", lambda device: 3 * 450 * 64 * 64)
    job = ClipJob(deidentifier(), ClipSource.of_file(clip), tmp_path / "b.mkv", Output(), Check())
    # Batches are whole ones of a segment of 64.
    assert job.pace.batch == 2
    assert job.run() == whole
    assert (read_video(tmp_path / "b.mkv") - read_video(tmp_path / "whole.mkv")).abs().max() < 1e-6


def test_what_fits() -> None:
    def fit(free: int | None, **settings: bool) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory, "available", lambda device: free)
            return memory.frames_that_fit((100, 100), 8, CPU, attacked=settings.get("attacked", True), name="a.mkv")

    assert fit(None) == 8
    assert fit(8 * 4_500_000) == 8
    assert fit(8 * 4_500_000 - 1) == 7
    assert fit(4_500_000) == 1
    assert fit(4_500_000, attacked=False) == 2
    with pytest.raises(ValueError, match=r"a\.mkv has 100x100 pixels"):
        fit(4_499_999)


def test_what_is_free_is_known_here() -> None:
    free = memory.available(CPU)
    assert free is None or 10**7 < free < 10**14


def test_more_pixels_than_pillow_takes_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = huge(tmp_path / "a.png", 40, 30)
    # Between the limit and twice the limit Pillow warns; above it refuses.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_image(source).shape == (1, 3, 30, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(MediaReadError, match=r"a\.png is too large: .*Scale it down to 500 pixels or less"):
        read_image(source)


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="asks glibc")
def test_what_was_freed_is_given_back() -> None:
    """A hundred megabytes in small blocks, below one that is still in use and so keeps the C library from it."""
    program = """
import ctypes
from deidlib.protect.memory import give_back
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * 4096
blocks = [library.malloc(65536) for _ in range(1600)]
for block in blocks:
    ctypes.memset(block, 1, 65536)
for block in blocks[:-1]:
    library.free(block)
before = resident()
give_back()
print(before - resident())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(run.stdout) > 90e6
