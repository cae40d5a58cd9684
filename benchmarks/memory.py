"""Peak memory: ``python -m benchmarks.memory attack`` and ``python -m benchmarks memory``.

``attack``: the paper's three models in one attack: 2D-FAN-4, RetinaFace MobileNet-0.25 and ETH-XGaze's ResNet-18 with
random weights, four frames of 480 x 480 with a face each, on the CPU. What counts is size, not what is read.

The other one: the whole pipeline, from file to file and checked, on clips of 10 and of 60 seconds of 480 x 480, with a
detector that costs nothing and one attack step. Memory must not depend on the length.

``flat``: small frames, 128 x 128, and no step, so that nothing but what is kept per frame can grow: a clip of so many
frames, or a folder of so many clips, in a process of its own; resident memory after what is garbage has been given
back, and how much of it is in use: the rest is what the C library keeps for the next ones who ask.
``python -m benchmarks.memory flat 15000``, ``python -m benchmarks.memory flat 300 --folder``; with ``--mtcnn`` that is
who finds and reads faces.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from benchmarks.measure import Table
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.faces import Faces
from deidlib.geometry.camera import Camera
from deidlib.geometry.face_model import face_model
from deidlib.media import VideoWriter
from deidlib.models.base import Target, TargetModel
from deidlib.models.mtcnn import MTCNN
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import protect_folder
from deidlib.protect.video import protect_video

SIDE, RATE = 480, 25


class Middle(TargetModel[Target]):
    """A detector that costs nothing: a face in the middle of every frame. Its loss pulls towards grey."""

    task: ClassVar[Literal["boxes"]] = "boxes"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """The middle half of each frame."""
        height, width = images.shape[2:]
        box = torch.tensor([[width, height, 3 * width, 3 * height]]) / 4
        return [Faces(box, torch.ones(1))] * len(images)

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> Target:
        """Nothing but the frames."""
        return Target(torch.arange(len(reading)))

    def loss(self, images: Tensor, target: Target) -> Tensor:
        """The summed squared distance ``(B,)``."""
        return (images - 0.5).square().sum(dim=(1, 2, 3))


def main() -> None:
    """Print what an attack takes; or protect one clip, for the other part; or what a run of many frames takes."""
    if len(sys.argv) == 4 and sys.argv[1] == "one":
        protect_one(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:2] == ["flat"]:
        torch.set_num_threads(1)
        detector = MTCNN() if "--mtcnn" in sys.argv else Middle()
        show(flat(int(sys.argv[2]), folder="--folder" in sys.argv, detector=detector))
    else:
        attack()


def attack() -> None:
    """Print seconds per frame and iteration and the peak resident memory."""
    from face_alignment.detection.retinaface.net_retinaface import RetinaFace as RetinaFaceNet
    from torchvision.models import resnet18

    from deidlib.models.fan import FAN
    from deidlib.models.gaze import GazeResNet
    from deidlib.models.retinaface import RetinaFace

    torch.manual_seed(0)
    images = torch.rand(4, 3, SIDE, SIDE)
    # The mean face, looking at the camera from 60 cm.
    points = face_model(68).float()
    depth = points[:, 2:] + 0.6
    landmarks = points[:, :2] / depth * 480 + 240
    box = torch.cat([landmarks.amin(dim=0), landmarks.amax(dim=0)])[None]
    faces = [Faces(box, torch.ones(1), landmarks[None], torch.tensor([[0.0, 0.0, -1.0]]))] * 4
    models: dict[str, TargetModel[Any]] = {
        "retinaface": RetinaFace(RetinaFaceNet().state_dict(), score_threshold=0.0),
        "fan": FAN("random"),
        "eth-xgaze": GazeResNet(resnet18(num_classes=2), "eth-xgaze", camera=Camera.default(480, 480)),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    IFGSMAttacker(models, max_iterations=2)(images, faces)
    seconds = (time.perf_counter() - began) / 4 / 3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"threads {torch.get_num_threads()}, {seconds:.2f} s per frame and iteration")
    print(f"peak RSS {peak / 2**20:.2f} GiB, of which before the attack {before / 2**20:.2f} GiB")


def table(quick: bool, device: str) -> Table:
    """The peaks of a short and of a long clip, and their ratio."""
    result = Table(
        f"Peak memory from file to file, {SIDE} x {SIDE}, a detector that costs nothing, one step",
        ["length, s", "frames", "peak resident memory, MiB", "of the shortest"],
    )
    peaks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (5, 15) if quick else (10, 60):
            source = Path(folder, f"{seconds}.mp4")
            make_clip(source, seconds)
            # A process of its own for each: a peak never falls.
            command = [sys.executable, "-m", "benchmarks.memory", "one", str(source), f"{source}.mkv"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks.append(float(done.stdout))
            result.rows.append([seconds, RATE * seconds, f"{peaks[-1]:.0f}", f"{peaks[-1] / peaks[0]:.3f}"])
    return result


class Row(NamedTuple):
    """Memory at a point of a run, in MiB, what is garbage given back.

    Args:
        stage: what is being done.
        done: how many frames or clips of it.
        resident: memory.
        used: what the C library has given out of it, without the pages in which Python keeps small objects.
        mean: resident, on average since the row before, whatever is garbage.
        most: likewise, at any time.
    """

    stage: str
    done: int
    resident: float
    used: float
    mean: float
    most: float


def flat(count: int, *, folder: bool, detector: TargetModel[Any]) -> list[Row]:
    """Memory while a clip of so many frames, or a folder of so many clips, is protected.

    Args:
        count: frames; of the folder clips, of twenty frames each.
        folder: whether it is a folder.
        detector: who finds faces, and reads the result.
    """
    marks = (
        list(range(5, count, 20 if count > 100 else 5))
        if folder
        else [100, *range(500, count, 500 if count < 5000 else 2500)]
    )
    resident = Resident(marks)
    protector = Deidentifier(IFGSMAttacker([detector], max_iterations=0))
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "in", "0.mp4")
        source.parent.mkdir()
        make_tiny(source, 20 if folder else count)
        resident.stage("protecting")
        if folder:
            for k in range(1, count):
                # Every clip is another one, by some bytes that no decoder looks at.
                other = source.read_bytes() + b"\0\0\0\x10free" + k.to_bytes(8, "big")
                source.with_name(f"{k}.mp4").write_bytes(other)
            target = Path(place, "out")
            done = protect_folder(
                protector, source.parent, target, done=lambda _: resident.more(1, "protecting"), batch_size=4
            )
            assert not done.failed, done.failed[0].error
        else:
            target = Path(place, "out.mkv")
            read = detector.predict

            def checked(images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
                # While it is checked nobody reads but those who read the file back.
                resident.more(len(images), "checking")
                return read(images, faces)

            detector.__dict__["predict"] = checked
            more = partial(resident.more, stage="protecting")
            protect_video(protector, source, target, progress=more, stage=resident.stage, batch_size=4)
        resident.stage("done")
    return resident.rows


def show(rows: Sequence[Row]) -> None:
    """Print them."""
    print(f"{'':12} {'done':>6}  {'resident':>8} {'in use':>7} {'mean':>7} {'most':>7}  MiB")
    for row in rows:
        print(f"{row.stage:12} {row.done:6}  {row.resident:8.1f} {row.used:7.1f} {row.mean:7.1f} {row.most:7.1f}")


class Resident:
    """Looks at memory at points of a run, and all the time in between.

    Args:
        marks: at how many frames or clips of a stage a row is taken; besides, one at the end of each stage.
    """

    def __init__(self, marks: Sequence[int]) -> None:
        self.rows: list[Row] = []
        self._marks, self._left = list(marks), list[int]()
        self._name, self._count, self._samples = "making", 0, list[float]()
        threading.Thread(target=self._watch, daemon=True).start()

    def more(self, count: int, stage: str) -> None:
        """So many frames or clips more are done, if that is what is being done."""
        if stage != self._name:
            return
        self._count += count
        if self._left and self._count >= self._left[0]:
            del self._left[0]
            self._row()

    def stage(self, name: str) -> None:
        """What is done from here on."""
        # The driver says again what is done already.
        if name != self._name:
            self._row()
            self._name, self._count, self._left = name, 0, self._marks.copy()

    def _row(self) -> None:
        seen, self._samples = self._samples or [_resident()], []
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.rows.append(Row(self._name, self._count, _resident(), _in_use(), sum(seen) / len(seen), max(seen)))

    def _watch(self) -> None:
        while True:
            self._samples.append(_resident())
            time.sleep(0.1)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class _Allocated(ctypes.Structure):
    """What glibc says of its memory, in bytes (``mallinfo2``)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def _in_use() -> float:
    """What was asked for and not given back; numbers and small objects of Python lie in pages of their own."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Allocated
    told = library.mallinfo2()
    return float(told.uordblks + told.hblkhd) / 2**20


def make_tiny(path: Path, frames: int) -> None:
    """The astronaut's face, 128 x 128, behind a camera that moves a little."""
    from skimage.data import astronaut

    face = torch.from_numpy(astronaut()).permute(2, 0, 1)[:, 20:180, 140:300][None] / 255
    with VideoWriter(path, Fraction(RATE), (128, 128), codec="h264") as writer:
        for k in range(frames):
            shift = abs(k % 32 - 16)
            writer.write(face[:, :, 16:144, shift : shift + 128])


def make_clip(path: Path, seconds: int) -> None:
    """The astronaut behind a camera that moves a little."""
    from skimage.data import astronaut

    picture = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
    with VideoWriter(path, Fraction(RATE), (SIDE, SIDE), codec="h264") as writer:
        for k in range(RATE * seconds):
            shift = abs(k % 60 - 30)
            writer.write(picture[None, :, shift : shift + SIDE, :SIDE])


def protect_one(source: Path, target: Path) -> None:
    """Protect a clip, and print the peak resident memory in MiB."""
    torch.set_num_threads(1)
    protect_video(Deidentifier(IFGSMAttacker([Middle()], max_iterations=1)), source, target)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


if __name__ == "__main__":
    main()
