"""What is hidden when detectors look at times, against all of them at every frame: ``python -m benchmarks.lookout``.

Both detectors look at every frame of real clips, upright and turned by a quarter, a half and three quarters. What they
find is replayed: once everybody looks at every frame, and then as ``Lookout(every)`` says, with one of them authorised,
which watches. The tracker follows the faces as in ``deidlib protect``. Of every box that anybody finds in any frame, it
is counted whether it is hidden: nine tenths of its area, or a place hidden that shows the same face (IoU 0.3).

    python -m benchmarks.lookout T002_radio T002_talk talk_video00
    python -m benchmarks.lookout --frames 100 --cache /tmp talk_video00    what is found is kept there for the next run
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from footage import SHARED
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import expand
from deidlib.geometry.matching import same_face
from deidlib.geometry.quarter_turn import QuarterTurn
from deidlib.geometry.region import FaceRegion
from deidlib.images import to_uint8
from deidlib.media import VideoReader
from deidlib.models.base import FaceModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.models.turned import Turned
from deidlib.protect.batches import DetectedBatch, FaceCount
from deidlib.protect.lookout import Lookout
from deidlib.tracking import FaceTracker, TrackedFrame

Found = dict[str, list[Faces]]
# Cells a side, at whose middles it is looked whether a box is hidden.
_GRID = 24


class Replay:
    """A detector that finds again what it has found; a frame's number is its one pixel."""

    task: Literal["boxes", "landmarks", "gaze"] = "boxes"

    def __init__(self, name: str, frames: Sequence[Faces]) -> None:
        self.name, self.frames, self.looks = name, frames, 0

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """What it has found in the one frame."""
        self.looks += 1
        low, high, _ = to_uint8(images)[0, :, 0, 0].tolist()
        return [self.frames[256 * high + low]]


def find(clip: Path, frames: int, cache: Path | None) -> tuple[Found, tuple[int, int], dict[str, float]]:
    """What each looks at and finds, by name; the frames' size; milliseconds of CPU time a frame."""
    file = None if cache is None else cache / f"lookout-{clip.stem}-{frames}.pt"
    if file is not None and file.exists():
        data = torch.load(file, weights_only=True)
        known = {name: [Faces(*row) for row in rows] for name, rows in data["found"].items()}
        return known, tuple(data["size"]), data["cost"]
    detectors: list[FaceModel] = [RetinaFace(), MTCNN()]
    looks = [*detectors, *(Turned(model, QuarterTurn(k)) for k in (1, 2, 3) for model in detectors)]
    found: Found = {model.name: [] for model in looks}
    spent = dict.fromkeys(found, 0.0)
    size = (0, 0)
    with VideoReader(clip) as reader:
        for number, frame in enumerate(reader):
            if number == frames:
                break
            size = (frame.image.shape[1], frame.image.shape[2])
            for model in looks:
                began = time.process_time()
                found[model.name] += model.predict(frame.image[None])
                spent[model.name] += time.process_time() - began
    cost = {name: 1000 * seconds / len(found[name]) for name, seconds in spent.items()}
    if file is not None:
        rows = {name: [(faces.boxes, faces.scores) for faces in known] for name, known in found.items()}
        torch.save({"found": rows, "size": size, "cost": cost}, file)
    return found, size, cost


def tracked(found: Found, size: tuple[int, int], watching: str, lookout: Lookout) -> tuple[list[TrackedFrame], float]:
    """What is hidden in each frame, and how many looks a frame took besides that of whoever watches."""
    looks = [Replay(name, frames) for name, frames in found.items() if name != watching]

    def clip() -> Iterator[DetectedBatch]:
        for number, faces in enumerate(found[watching]):
            levels = torch.tensor([number % 256, number // 256, 0], dtype=torch.uint8)[None, :, None, None]
            yield DetectedBatch(number, levels, size, [faces], [{}], counts=[FaceCount()], complete=False)

    faces = [known for batch in lookout.over(clip(), looks, part=64) for known in batch.faces]
    result = list(FaceTracker().track(faces, *size))
    return result, sum(model.looks for model in looks) / len(faces)


def hidden_share(box: Tensor, frame: TrackedFrame, size: tuple[int, int]) -> float:
    """The share of a box that is hidden; 1 also where a place is hidden that shows the same face."""
    places = torch.cat([frame.found.boxes, frame.others.boxes])
    if frame.treatment == "whole-frame" or bool(same_face(box[None], places)[0]):
        return 1.0
    regions = expand(places, FaceRegion().factor)
    steps = (torch.arange(_GRID) + 0.5) / _GRID
    limit = torch.tensor([size[1], size[0]])
    low, high = (torch.minimum(corner.clamp(min=0), limit) for corner in (box[:2], box[2:]))
    x, y = (low[axis] + steps * (high - low)[axis] for axis in (0, 1))
    across = (x[:, None] >= regions[:, 0]) & (x[:, None] <= regions[:, 2])
    down = (y[:, None] >= regions[:, 1]) & (y[:, None] <= regions[:, 3])
    return float((down[:, None] & across[None]).any(dim=2).float().mean())


def area(frames: Sequence[TrackedFrame], size: tuple[int, int]) -> float:
    """The mean share of the frames that is hidden."""
    shares = []
    for frame in frames:
        places = Faces.cat([frame.found, frame.others])
        covered = FaceRegion().mask([places], *size)
        shares.append(1.0 if frame.treatment == "whole-frame" else float(covered.mean()))
    return sum(shares) / len(shares)


def main() -> None:
    """Print a table for every clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", default=["T002_radio", "T002_talk", "talk_video00"])
    parser.add_argument("--frames", type=int, default=10**6)
    parser.add_argument("--every", type=int, nargs="*", default=[1, 4, 8, 16])
    parser.add_argument("--cache", type=Path)
    said = parser.parse_args()
    for clip in said.clips:
        found, size, cost = find(SHARED / "media" / f"{clip}.mp4", said.frames, said.cache)
        frames = len(next(iter(found.values())))
        print(f"\n{clip}: {frames} frames; CPU ms a look: {', '.join(f'{n} {ms:.0f}' for n, ms in cost.items())}\n")
        print("| watching | every | looks / frame | ms / frame | hidden | upright: boxes, not hidden | turned |")
        print("|---|---|---|---|---|---|---|")
        mean = sum(cost.values()) / len(cost)
        for watching in ("retinaface", "mtcnn"):
            for every in said.every:
                result, looks = tracked(found, size, watching, Lookout(every))
                row = f"| {watching} | {every} | {looks:.2f} | {looks * mean:.0f} | {area(result, size):.1%} |"
                for turned in (False, True):
                    boxes = [
                        hidden_share(box, frame, size)
                        for name, faces in found.items()
                        if ("turned" in name) == turned
                        for known, frame in zip(faces, result, strict=True)
                        for box in known.boxes
                    ]
                    row += f" {len(boxes)}, {sum(share < 0.9 for share in boxes)} |"
                print(row)


if __name__ == "__main__":
    main()
