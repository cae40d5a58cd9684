"""What ``WarpSwapper`` achieves on real frames, from the written files: ``python -m benchmarks.swap``.

Needs the shared weights and media beside the project. Prints the tables of docs/swap.md. ``--stride 3`` takes every
third frame; what needs neighbours (jitter) takes all.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from footage import SHARED
from torch import Tensor
from torch.nn.functional import interpolate

from deidlib import IFGSMAttacker
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.geometry.boxes import iou
from deidlib.images import from_pixels, from_uint8, to_uint8
from deidlib.media import VideoReader, VideoWriter, read_image
from deidlib.metrics import OnnxEmbedder, align
from deidlib.models.base import FaceModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.models.strangers import PFLD
from deidlib.obfuscate import Pixelate
from deidlib.protect.deidentifier import Deidentifier
from deidlib.swap import FaceSwapper, WarpSwapper, average_face, steady
from deidlib.swap.base import Patch
from deidlib.swap.warp import Part

MEDIA = SHARED / "media"
BATCH = 15


def clip(stride: int) -> Tensor:
    """``(N, 3, H, W)`` uint8: the driver."""
    with VideoReader(MEDIA / "T002_talk.mp4") as reader:
        frames = [to_uint8(frame.image) for number, frame in enumerate(reader) if number % stride == 0]
    return torch.stack(frames)


def batches(frames: Tensor) -> Sequence[Tensor]:
    """Some frames at a time, in [0, 1]."""
    return [from_uint8(part) for part in torch.split(frames, BATCH)]


def through_a_file(frames: Tensor) -> Tensor:
    """What a reader of the written file gets: ``(N, 3, H, W)`` uint8."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "out.mkv")
        with VideoWriter(path, Fraction(30000, 1001), (frames.shape[2], frames.shape[3])) as writer:
            for part in batches(frames):
                writer.write(part)
        with VideoReader(path) as reader:
            return torch.cat([to_uint8(images) for images, _ in reader.batches(BATCH)])


def embedded(embed: OnnxEmbedder, images: Tensor, faces: Sequence[Faces]) -> Tensor:
    """Unit vectors ``(F, D)``."""
    vectors = embed(align(images, faces))
    unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
    return unit


class Counting(WarpSwapper):
    """Counts the faces that it leaves to the fallback."""

    left = 0

    def swap(self, images: Tensor, faces: Sequence[Faces]) -> list[list[Patch | str]]:
        """As the swapper itself."""
        patches = super().swap(images, faces)
        self.left += sum(isinstance(patch, str) for frame in patches for patch in frame)
        return patches


@dataclass(frozen=True, eq=False)
class Original:
    """The driver, and what is read of him: RetinaFace's boxes and five points, 68 points."""

    frames: Tensor
    faces: list[Faces]
    fine: list[Faces]
    vectors: Tensor


def read(frames: Tensor, detector: RetinaFace, pfld: PFLD, embed: OnnxEmbedder) -> Original:
    """Read the original frames."""
    faces = [known[[0]] for part in batches(frames) for known in detector.predict(part)]
    vectors = torch.cat(
        [embedded(embed, part, faces[i * BATCH :][: len(part)]) for i, part in enumerate(batches(frames))]
    )
    fine = [
        known for i, part in enumerate(batches(frames)) for known in pfld.predict(part, faces[i * BATCH :][: len(part)])
    ]
    return Original(frames, faces, fine, vectors)


def row(
    name: str,
    original: Original,
    places: Sequence[Faces],
    swap: Counting,
    source: Tensor,
    detector: RetinaFace,
    embed: OnnxEmbedder,
) -> None:
    """One line of the table."""
    began, parts = time.perf_counter(), []
    for i, part in enumerate(batches(original.frames)):
        mine = places[i * BATCH :][: len(part)]
        parts.append(to_uint8(swap(part, mine)))
    seconds = (time.perf_counter() - began) / len(original.frames)
    written = through_a_file(torch.cat(parts))
    height, width = written.shape[2:]
    overlaps, errors, vectors, outside = [], [], [], 0
    for i, part in enumerate(batches(written)):
        known = original.faces[i * BATCH :][: len(part)]
        clear = (swap.mask(known, height, width) == 0).expand_as(part)
        outside += int((part[clear] != batches(original.frames)[i][clear]).sum())
        vectors.append(embedded(embed, part, known))
        for before, after in zip(known, detector.predict(part), strict=True):
            overlap = iou(before.boxes, after.boxes)[0] if len(after) else torch.zeros(1)
            overlaps.append(float(overlap.max()))
            size = (before.boxes[0, 2:] - before.boxes[0, :2]).prod().sqrt()
            assert before.landmarks is not None
            points = after.landmarks[int(overlap.argmax())] if len(after) and after.landmarks is not None else None
            error = torch.inf if points is None else float((points - before.landmarks[0]).norm(dim=1).mean() / size)
            errors.append(error)
    to_driver = (original.vectors * torch.cat(vectors)).sum(dim=1)
    to_source = torch.cat(vectors) @ source[0]
    good = sum(a >= 0.85 and b <= 0.06 for a, b in zip(overlaps, errors, strict=True)) / len(overlaps)
    print(
        f"| {name} | {len(original.frames)} | {swap.left} | "
        f"{min(overlaps):.3f} / {sum(overlaps) / len(overlaps):.3f} | "
        f"{max(errors):.1%} / {sum(errors) / len(errors):.1%} | {good:.1%} | "
        f"{float(to_driver.mean()):.2f} / {float(to_driver.max()):.2f} | {float(to_source.mean()):.2f} | {outside} | "
        f"{seconds:.2f} |",
        flush=True,
    )


def jitter(swap: FaceSwapper, frames: Tensor, faces: Sequence[Faces]) -> float:
    """By how many pixels the mask's border is off the straight way between the frames beside it, on average.

    What the share changes by, summed over a border, is the border's length times how far it moves.
    """
    height, width = frames.shape[2:]
    shares = []
    for i, part in enumerate(batches(frames)):
        for patches in swap.swap(part, faces[i * BATCH :][: len(part)]):
            share = torch.zeros(height, width)
            for patch in patches:
                assert isinstance(patch, Patch)
                share[patch.inside.top : patch.inside.bottom, patch.inside.left : patch.inside.right] = patch.share
            shares.append(share)
    share = torch.stack(shares)
    moved = (share[2:] / 2 - share[1:-1] + share[:-2] / 2).abs().sum(dim=(1, 2))
    down, across = torch.gradient(share[1:-1], dim=(1, 2))
    return float((moved / torch.hypot(down, across).sum(dim=(1, 2))).mean())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--thin", type=int, default=9, help="stride of the lines that compare settings")
    parser.add_argument("--attacked", type=int, default=27, help="stride of the frames that are attacked")
    parser.add_argument("--consecutive", type=int, default=90, help="frames whose jitter is measured")
    wanted = parser.parse_args()
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    from skimage.data import astronaut

    detector, pfld, embed = RetinaFace(), PFLD(), OnnxEmbedder()
    fine: list[FaceModel] = [detector, pfld]
    portraits = [interpolate(read_image(MEDIA / f"portrait0{i}.jpg"), scale_factor=0.4, mode="area") for i in range(2)]
    people = [*portraits, from_pixels(astronaut())[None]]
    nobody = average_face(people, fine, size=384)
    (mean_face,) = detector.predict(nobody)
    own = embedded(embed, nobody, [mean_face[[0]]])[0]
    alike = [float(embedded(embed, image, [detector.predict(image)[0][[0]]])[0] @ own) for image in people]
    print(f"average_face of three people: cosine to each {', '.join(f'{value:.2f}' for value in alike)}\n")

    print("T002_talk.mp4\n")
    print(
        "| | frames | not swapped | IoU min / mean | 5 points max / mean | good | cos driver mean / max | cos source "
        "| changed outside | s |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    sources = {"portrait": portraits[0], "nobody": nobody}
    shown = {name: embedded(embed, image, [detector.predict(image)[0][[0]]]) for name, image in sources.items()}
    original = read(clip(wanted.stride), detector, pfld, embed)
    for name, source in sources.items():
        row(f"{name}, 68 points", original, original.fine, Counting(source, fine), shown[name], detector, embed)
    original = read(clip(wanted.thin), detector, pfld, embed)
    bare = [known.replace(landmarks=None) for known in original.faces]
    for name, source in sources.items():
        row(f"{name}, MTCNN's five", original, bare, Counting(source, MTCNN()), shown[name], detector, embed)
        five = Counting(source, detector)
        row(f"{name}, RetinaFace's five", original, original.faces, five, shown[name], detector, embed)
        kept: tuple[tuple[Part, ...], ...] = ((), ("eyes",), ("mouth",), ("eyes", "mouth"))
        for parts in kept:
            swap = Counting(source, fine, keep=parts)
            what = f"{name}, 68 points, kept: {' and '.join(parts) or 'nothing'}"
            row(what, original, original.fine, swap, shown[name], detector, embed)

    print("\nswap + I-FGSM (RetinaFace authorised), against pixelation + I-FGSM\n")
    frames = batches(clip(wanted.attacked))
    attacker = IFGSMAttacker([detector], max_iterations=30, step=APGDStep())
    for name, hide in (("portrait", WarpSwapper(portraits[0], fine)), ("pixelated", Pixelate())):
        overlaps, steps = [], []
        for batch in Deidentifier(attacker, obfuscator=hide, detectors=[detector]).frames(frames):
            assert batch.attack is not None
            steps += batch.attack.iterations.tolist()
            for before, after in zip(detector.predict(batch.originals), detector.predict(batch.images), strict=True):
                overlaps.append(float(iou(before.boxes[:1], after.boxes).max()) if len(after) else 0.0)
        print(
            f"{name}: {len(overlaps)} frames, IoU min {min(overlaps):.3f} mean {sum(overlaps) / len(overlaps):.3f}, "
            f"iterations {sum(steps) / len(steps):.0f}",
            flush=True,
        )

    print("\njitter of the mask's border, pixels\n")
    consecutive = read(clip(1)[: wanted.consecutive], detector, pfld, embed)
    still = WarpSwapper(portraits[0], fine)
    alone, smooth = (jitter(still, consecutive.frames, known) for known in (consecutive.fine, steady(consecutive.fine)))
    print(f"{len(consecutive.frames)} frames, 68 points: frame by frame {alone:.2f}, steady(faces) {smooth:.2f}")


if __name__ == "__main__":
    main()
