"""What survives lossy codecs, with and without ``distortions``: ``python -m benchmarks.survival RESULTS.jsonl``.

Consecutive frames are protected, written by ``VideoWriter`` and read back from the file. Each cell of the table is one
line of the results file; cells that it holds are not measured again. Needs the shared weights and media beside the
project.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from footage import SHARED, frames
from protection import compare, facenet_detect
from torch import Tensor

from deidlib import IFGSMAttacker
from deidlib.attack.distortion import Distortion
from deidlib.attack.distortions import H264, JPEG, Blur, ChromaSubsampling
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.images import to_grid
from deidlib.media import VideoReader, VideoWriter
from deidlib.models.base import TargetModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Pixelate

BATCH = 4

FILES: dict[str, tuple[str, str, int | None]] = {
    "FFV1": ("ffv1", "clip.mkv", None),
    "H.264 crf 18": ("h264", "clip.mp4", 18),
    "H.264 crf 23": ("h264", "clip.mp4", 23),
    "H.264 crf 28": ("h264", "clip.mp4", 28),
    "MJPG q 2": ("mjpeg", "clip.avi", 2),
    "MJPG q 5": ("mjpeg", "clip.avi", 5),
}

DISTORTIONS: dict[str, Distortion] = {
    "h264:23": H264(23),
    "h264:28": H264(28),
    "jpeg:75": JPEG(75),
    "chroma": ChromaSubsampling(),
    "blur:1.0": Blur(1.0),
}


@dataclass(frozen=True)
class Cell:
    """One attack.

    Args:
        clip: file in the shared media.
        frames: consecutive ones, from the first.
        model: the authorised detector.
        epsilon: in grey levels.
        survive: names in ``DISTORTIONS``.
        carried: frames start from the perturbation of the frame before their batch, the first batch from its first.
        iterations: of each frame.
    """

    clip: str
    frames: int
    model: str
    epsilon: int
    survive: tuple[str, ...]
    carried: bool
    iterations: int = 60

    def __str__(self) -> str:
        told = " + ".join(self.survive) or "-"
        start = "predecessor" if self.carried else "hidden frame"
        return f"{self.clip}, {self.frames} | {self.model} | {self.epsilon}/255 | {told} | {start}"


T002, TALK = "T002_talk.mp4", "talk_video00.mp4"
CELLS = [
    *(
        Cell(T002, 16, "retinaface", epsilon, survive, carried)
        for epsilon in (8, 16)
        for survive in ((), ("h264:23",))
        for carried in (True, False)
    ),
    Cell(T002, 16, "retinaface", 8, ("h264:28",), True),
    Cell(T002, 16, "retinaface", 8, ("jpeg:75",), True),
    *(Cell(TALK, 4, "retinaface", 8, survive, True, iterations=30) for survive in ((), ("h264:23",))),
    *(Cell(T002, 8, "mtcnn", 8, survive, True) for survive in ((), ("h264:23",))),
]


def protect(cell: Cell, model: TargetModel[Any], originals: Tensor, faces: list[Faces]) -> Tensor:
    """Hidden in blocks and attacked, the perturbation confined to the region."""
    obfuscator = Pixelate(blocks=4)
    hidden = to_grid(obfuscator(originals, faces))
    mask = obfuscator.mask(faces, *originals.shape[-2:])
    attacker = IFGSMAttacker(
        [model],
        epsilon=cell.epsilon / 255,
        max_iterations=cell.iterations,
        step=APGDStep(),
        distortions=[DISTORTIONS[name] for name in cell.survive],
    )
    done: list[Tensor] = []

    def attack(first: int, last: int) -> None:
        part = slice(first, last)
        init = None
        if cell.carried and first:
            carried = done[-1][-1] - hidden[first - 1]
            init = (hidden[part] + carried).clamp(0, 1)
        done.append(attacker(hidden[part], faces[part], mask=mask[part], init=init).images)

    if cell.carried:
        attack(0, 1)
    for first in range(len(done), len(originals), BATCH):
        attack(first, first + BATCH)
    return torch.cat(done)


def stored(images: Tensor, codec: str, name: str, quality: int | None) -> Tensor:
    """Written and read back."""
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        size = (images.shape[-2], images.shape[-1])
        with VideoWriter(path, Fraction(30), size, codec=codec, quality=quality) as writer:
            writer.write(images)
        with VideoReader(path) as reader:
            return torch.cat([batch.images for batch in reader.batches(len(images))])


def read(model: TargetModel[Any], images: Tensor) -> list[Faces]:
    """MTCNN by facenet-pytorch's own unmodified detector."""
    if isinstance(model, MTCNN):
        return facenet_detect(images)
    return [faces for part in torch.split(images, BATCH) for faces in model.predict(part)]


def measure(cell: Cell) -> dict[str, list[float]]:
    """Share found, mean and smallest IoU by file format."""
    model: TargetModel[Any] = MTCNN() if cell.model == "mtcnn" else RetinaFace()
    originals = frames(SHARED / "media" / cell.clip, range(cell.frames))
    truth = read(model, originals)
    known = [faces for part in torch.split(originals, BATCH) for faces in model.predict(part)]
    images = protect(cell, model, originals, known)
    table = {}
    for label, (codec, name, quality) in FILES.items():
        seen = read(model, stored(images, codec, name, quality))
        reading = compare(truth, seen, smallest=60 if cell.clip == TALK else 0)
        table[label] = [reading.found, float(reading.iou.mean()), float(reading.iou.min())]
    return table


def cost() -> dict[str, float]:
    """An iteration with a distortion, in iterations without one: medians of turns taken one after the other."""
    model = RetinaFace()
    originals = frames(SHARED / "media" / T002, range(BATCH))
    faces = model.predict(originals)
    hidden = to_grid(Pixelate(blocks=4)(originals, faces))
    names = ("", "h264:23", "jpeg:75", "chroma", "blur:1.0")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(3):
        for name in names:
            attacker = IFGSMAttacker([model], max_iterations=3, distortions=[DISTORTIONS[name]] if name else [])
            began = time.process_time()
            attacker(hidden, faces)
            seconds[name].append(time.process_time() - began)
    plain, *others = (sorted(turns)[1] for turns in seconds.values())
    return {name: other / plain for name, other in zip(names[1:], others, strict=True)}


def main() -> None:
    """Measure what is missing; print the table."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", default="", help="cells whose row contains this")
    parser.add_argument("--cost", action="store_true", help="print what distortions cost, and nothing else")
    options = parser.parse_args()
    if options.cost:
        print({name: round(ratio, 2) for name, ratio in cost().items()})
        return
    known: dict[str, dict[str, list[float]]] = {}
    if options.results.exists():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            known[row["cell"]] = row["table"]
    print("| clip, frames | authorised | epsilon | `distortions` | start | " + " | ".join(FILES) + " |")
    print("|---|---|---|---|---|" + "---|" * len(FILES))
    for cell in CELLS:
        name = str(cell)
        if name not in known and options.only in name:
            known[name] = measure(cell)
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"cell": name, "settings": asdict(cell), "table": known[name]}) + "\n")
        if name in known:
            entries = [f"{found:.0%} {mean:.3f} / {low:.3f}" for found, mean, low in known[name].values()]
            print(f"| {name} | " + " | ".join(entries) + " |", flush=True)


if __name__ == "__main__":
    main()
