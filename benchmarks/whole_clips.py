"""Whole clips from file to file: ``python -m benchmarks.whole_clips FOLDER``.

Both shared clips are protected by the command line, once without loss and once in H.264 that the attack is told of;
files that are there already are measured as they are, and a run that was interrupted goes on. Then the written files
are read: number and times of the frames, what the authorised detector reads, and whether any face still shows. Prints
the tables of docs/results.md. Needs the shared weights and media beside the project.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from footage import SHARED
from torch import Tensor
from torch.nn.functional import avg_pool2d
from tqdm.auto import tqdm

from deidlib.faces import Faces
from deidlib.media import VideoReader, VideoWriter
from deidlib.metrics import difference
from deidlib.models.base import TargetModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.records.detections import Detections, read_detections, write_detections
from deidlib.records.files import sha256_of

CLIPS = ("T002_talk", "talk_video00")
H264 = ["--codec", "h264", "--quality", "23", "--survive", "h264:23"]
# Faces of a hundred pixels, cut by the border, need a larger epsilon in H.264.
COMMANDS = {
    "T002_talk.mkv": ["--start", "predecessor"],
    "T002_talk.mp4": H264,
    "talk_video00.mkv": ["--start", "predecessor"],
    "talk_video00.mp4": [*H264, "--epsilon", "16"],
}
# A face's box is looked at in this many parts by this many, of so many pixels at least: fewer correlate by chance.
PARTS, SIDE = 4, 16
# Detail is what differs from the mean of this many pixels squared, in grey levels; a part that has less than so much of
# it shows nothing in the original either.
REACH, LEAST = 9, 2.0
# Detail that correlates by more than this with the original's is the original's.
SHOWN = 0.5


def detail(image: Tensor) -> Tensor:
    """``(3, H, W)`` in [0, 1] to the grey levels ``(H, W)`` that differ from their surroundings."""
    grey = image.mean(dim=0, keepdim=True)[None] * 255
    return (grey - avg_pool2d(grey, REACH, 1, REACH // 2, count_include_pad=False))[0, 0]


def shown(original: Tensor, written: Tensor, box: Sequence[float]) -> float:
    """The highest correlation of the written file's detail with the original's, of all parts of a face's box.

    Args:
        original: ``(H, W)`` detail.
        written: ``(H, W)`` detail.
        box: x1, y1, x2, y2.
    """
    height, width = original.shape
    x1, y1, x2, y2 = (round(edge) for edge in box)
    x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    highest = 0.0
    count = min(PARTS, max(1, min(x2 - x1, y2 - y1) // SIDE))
    for a, b in zip(_parts(original[y1:y2, x1:x2], count), _parts(written[y1:y2, x1:x2], count), strict=True):
        a, b = a - a.mean(), b - b.mean()
        if a.numel() and float(a.std(correction=0)) >= LEAST:
            highest = max(highest, float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-6)))
    return highest


def _parts(area: Tensor, count: int) -> Iterator[Tensor]:
    for rows in area.tensor_split(count, dim=0):
        yield from rows.tensor_split(count, dim=1)


@dataclass
class Measured:
    """What is read from one written file."""

    frames: tuple[int, int] = (0, 0)
    late: Fraction = Fraction(0)
    iou: list[float] = field(default_factory=list)
    boxes: dict[str, list[float]] = field(default_factory=dict)
    control: list[float] = field(default_factory=list)


def timed(path: Path) -> Iterator[tuple[Tensor, Fraction]]:
    """The frames of a video, and their times in seconds."""
    with VideoReader(path) as reader:
        for frame in reader:
            yield frame.image, frame.pts * reader.info.time_base


def looked_at(clip: Path, folder: Path) -> list[dict[str, Faces]]:
    """Where faces are in the original frames, by each who says so; what detectors say is kept in the folder."""
    detectors: dict[str, TargetModel[Any]] = {"RetinaFace": RetinaFace(), "MTCNN": MTCNN()}
    seen: list[dict[str, Faces]] = []
    for name, model in detectors.items():
        kept = folder / f"{clip.stem}.{name}.json"
        if not kept.exists():
            images = tqdm(timed(clip), desc=f"{name} looks at {clip.name}", unit="frame")
            found = [model.predict(image[None])[0] for image, _ in images]
            with VideoReader(clip) as reader:
                size = (reader.info.height, reader.info.width)
            write_detections(kept, Detections(found, size, sha256_of(clip), (name,)))
        read = read_detections(kept).frames
        seen = seen or [{} for _ in read]
        for faces, known in zip(seen, read, strict=True):
            faces[name] = known
    csv = clip.with_suffix(".csv")
    if csv.exists():
        for faces, known in zip(seen, read_detections(csv, frames=len(seen)).frames, strict=True):
            faces["the organisers' csv"] = known
    return seen


def measure(clip: Path, written: Path, seen: Sequence[dict[str, Faces]]) -> Measured:
    """Read a written file beside the original."""
    result, model = Measured(), RetinaFace()
    others, count = timed(written), 0
    # No more than the originals: what is left over is counted below.
    for known, (original, time), (image, other) in zip(seen, timed(clip), others, strict=False):
        count += 1
        result.late = max(result.late, abs(other - time))
        faces = known["RetinaFace"]
        read = model.predict(image[None])[0]
        result.iou += difference(Faces(faces.boxes, faces.scores), read, min_iou=0.5).iou.tolist()
        before, after = detail(original), detail(image)
        for name, found in known.items():
            values = [shown(before, after, box) for box in found.boxes.tolist()]
            result.boxes.setdefault(name, []).extend(values)
    result.frames = (len(seen), count + sum(1 for _ in others))
    return result


def control(clip: Path, written: Path, seen: Sequence[dict[str, Faces]]) -> list[float]:
    """The same question about every tenth original, stored as the written file is: all of its faces show."""
    values = []
    with TemporaryDirectory() as folder:
        path = Path(folder, written.name)
        lossless = written.suffix == ".mkv"
        codec, quality = ("ffv1", None) if lossless else ("h264", 23)
        with VideoReader(clip) as reader:
            info = reader.info
            with VideoWriter(path, info.fps, (info.height, info.width), codec=codec, quality=quality) as writer:
                for images, _ in reader.batches(8):
                    writer.write(images)
        for number, ((a, _), (b, _), known) in enumerate(zip(timed(clip), timed(path), seen, strict=True)):
            if number % 10 == 0:
                before, after = detail(a), detail(b)
                values += [shown(before, after, box) for box in known["RetinaFace"].boxes.tolist()]
    return values


def protect(clip: Path, written: Path) -> None:
    """The command that a user types."""
    command = ["deidlib", "protect", str(clip), str(written), "--targets", "retinaface"]
    subprocess.run([*command, *COMMANDS[written.name]], check=True)


def main() -> None:
    """Protect what is not there, measure, print."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="files whose name contains this")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    for name in CLIPS:
        clip = SHARED / "media" / f"{name}.mp4"
        targets = [options.folder / made for made in COMMANDS if Path(made).stem == name and options.only in made]
        for target in targets:
            if not target.exists():
                protect(clip, target)
        seen = looked_at(clip, options.folder) if targets else []
        for target in targets:
            found = measure(clip, target, seen)
            iou = torch.tensor(found.iou)
            share, mean, low = float((iou > 0).float().mean()), float(iou.mean()), float(iou.min())
            print(
                f"| {target.name} | {found.frames[0]} / {found.frames[1]} | {float(found.late) * 1000:.3f} ms "
                f"| {share:.2%} of {len(iou)} | {mean:.3f} | {low:.3f} |"
            )
            for who, values in [*found.boxes.items(), ("control", control(clip, target, seen))]:
                # What is said to show is to be looked at: a box may be wider than the face.
                still = sum(value > SHOWN for value in values)
                print(
                    f"  {who}: {still} of {len(values)} faces show, correlation {max(values, default=0.0):.2f} at most"
                )


if __name__ == "__main__":
    main()
