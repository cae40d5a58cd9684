"""What adds up: attacks on hidden and protected faces, and controls that must fall to them.

``python -m benchmarks.privacy PEOPLE WORK [PART...]`` prints tables of docs/results.md; PART is clips or
photographs. PEOPLE holds a folder of photographs for each person, two at least, one face in each; WORK keeps
what takes long. Needs the shared weights and media beside the project. dlib's recogniser judges, too, where
``dlib-bin`` and ``face_recognition_models`` are installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from footage import SHARED
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from benchmarks.people import MOST, Photograph, few, pairs, photographs
from deidlib.evaluation.attacks.sums import as_it_is, reading_of
from deidlib.evaluation.attacks.superresolution import SuperResolution, stretched
from deidlib.evaluation.attacks.suspects import Suspects, ranked
from deidlib.faces import Faces, five_points
from deidlib.media import VideoReader, write_image
from deidlib.metrics import Embedder, OnnxEmbedder
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import GaussianBlur, Obfuscator, Pixelate, Solid

MEDIA = SHARED / "media"
DRIVER = 0
CLIPS = ("T002_talk", "T002_radio")
NOISE = 0.7
WAYS: dict[str, Obfuscator] = {"8 blocks": Pixelate(8), "4 blocks": Pixelate(4), "blur": GaussianBlur()}


class Dlib:
    """dlib's recogniser (128 dimensions), on the same aligned faces as the others."""

    def __init__(self) -> None:
        import dlib

        # Not imported: it wants a package that Python no longer has, to say where its files are.
        place = find_spec("face_recognition_models")
        if place is None or place.origin is None:
            raise ImportError("face_recognition_models is not installed.")
        models = Path(place.origin).parent / "models"
        self.net: Any = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, crops: Tensor) -> Tensor:
        """``(N, 3, 112, 112)`` to ``(N, 128)``."""
        large = interpolate(crops, size=(150, 150), mode="bilinear").clamp(0, 1).mul(255).round().byte()
        rows = [self.net.compute_face_descriptor(np.ascontiguousarray(chip.permute(1, 2, 0).numpy())) for chip in large]
        return torch.tensor(np.array([np.array(row) for row in rows]), dtype=torch.float32)


@cache
def judges() -> dict[str, Embedder]:
    """Recognisers by name."""
    known: dict[str, Embedder] = {"MobileFaceNet": OnnxEmbedder()}
    try:
        known["dlib"] = Dlib()
    except ImportError:
        print("dlib is not installed, and does not judge", file=sys.stderr)
    return known


@dataclass(frozen=True, eq=False)
class Footage:
    """A clip of one person, and where RetinaFace sees his face."""

    frames: Tensor
    faces: list[Faces]


def footage(name: str, work: Path, model: RetinaFace) -> Footage:
    """Of the driver; what the detector says is kept."""
    with VideoReader(MEDIA / f"{name}.mp4") as reader:
        frames = torch.stack([frame.image for frame in reader])
    kept = work / f"{name}.pt"
    if not kept.exists():
        found = [known[:1] for part in torch.split(frames, 8) for known in model.predict(part)]
        torch.save([(known.boxes, known.scores, known.landmarks) for known in found], kept)
    return Footage(frames, [Faces(*parts) for parts in torch.load(kept, weights_only=True)])


def protected_clip(name: str, work: Path) -> Path:
    """The clip as the command line protects it: nothing of the face, RetinaFace authorised."""
    path = work / f"{name}.mkv"
    if not path.exists():
        told = ["--targets", "retinaface", "--no-verify"]
        subprocess.run(["deidlib", "protect", str(MEDIA / f"{name}.mp4"), str(path), *told], check=True)
    return path


def clips(pictures: Sequence[Photograph], work: Path, model: RetinaFace, names: Sequence[str]) -> None:
    """The driver's clips, hidden and protected, put together and looked for among suspects."""
    known = {name: footage(name, work, model) for name in CLIPS}
    others = sum((Suspects.of(p.image, [p.face], [p.person]) for p in pictures), Suspects.none())
    print(
        "| clip | hidden by | read as | judge | place of the driver | of a grey picture | cosine: he, nearest other |"
    )
    print("|---|---|---|---|---|---|---|")
    shown: list[Tensor] = []
    for name in names:
        clear = next(clip for other, clip in known.items() if other != name)
        # As many pictures as of anybody else.
        rows = range(10, 10 + 40 * MOST, 40)
        suspects = others + Suspects.of(clear.frames[rows], [clear.faces[k] for k in rows], [DRIVER] * MOST)
        clip = known[name]
        with VideoReader(protected_clip(name, work)) as reader:
            written = torch.stack([frame.image for frame in reader])
        default = "nothing of the face (default)"
        cases = [(way, way, hide, hide(clip.frames, clip.faces)) for way, hide in WAYS.items()]
        cases += [(default, way, hide, written) for way, hide in WAYS.items()]
        cases += [(f"{default}, perturbation alone", "as it is, averaged", Solid(), written)]
        for hidden, way, hide, frames in cases:
            solver = put_together(clip, hide, frames)
            picture, parroted = solver.picture(), solver.parroted(suspects.canvases)
            if isinstance(hide, Solid):
                picture = stretched(picture)
            shown.append(picture)
            for judge, embedder in judges().items():
                place = ranked(embedder, picture, parroted, suspects.people, DRIVER)
                print(
                    f"| {name}, {solver.frames} frames | {hidden} | {way} | {judge} | {place.place} of {place.of} "
                    f"| {place.blank} | {place.cosine:.2f}, {place.other or 0:.2f} |",
                    flush=True,
                )
    write_image(work / "clips.png", torch.cat(shown, dim=3))


def put_together(clip: Footage, hide: Obfuscator, frames: Tensor) -> SuperResolution:
    """All frames, read as if they had been hidden that way."""
    solver = SuperResolution(as_it_is(hide.region) if isinstance(hide, Solid) else reading_of(hide))
    for frame, face in zip(frames, clip.faces, strict=True):
        solver.add(frame, face, face.boxes[0])
    return solver


def moving(pictures: Sequence[Photograph], work: Path, model: RetinaFace) -> None:
    """Every photograph as if it moved like the driver, hidden, put together with points that are a little off."""
    clip = footage("T002_talk", work, model)
    suspects = sum((Suspects.of(p.image, [p.face], [p.person]) for p in pictures), Suspects.none())
    print(f"\n{len(suspects)} photographs of {len(set(suspects.people.tolist()))} people\n")
    print("| hidden by | frames | judge | rank 1 | AUC |")
    print("|---|---|---|---|---|")
    for blocks, count in ((8, 270), (4, 270), (4, 1), (2, 270)):
        true, told = (SuperResolution(reading_of(Pixelate(blocks))) for _ in range(2))
        chance = torch.Generator().manual_seed(0)
        blank = torch.full((3, *clip.frames.shape[2:]), 0.5)
        for face in clip.faces[:count]:
            assert face.landmarks is not None
            off = five_points(face.landmarks) + NOISE * torch.randn(1, 5, 2, generator=chance)
            true.add(blank, face, face.boxes[0])
            told.add(blank, face.replace(landmarks=off), face.boxes[0])
        restored = told.put_together(true.sums_of(suspects.canvases))
        gallery = told.parroted(suspects.canvases)
        for judge, embedder in judges().items():
            scores = normalize(embedder(restored), dim=1) @ normalize(embedder(gallery), dim=1).T
            rank1, area = pairs(scores, suspects.people)
            print(f"| {blocks} blocks | {count} | {judge} | {rank1:.0%} | {area:.2f} |", flush=True)


def main() -> None:
    """Print the tables."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("people", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("parts", nargs="*", default=["clips", "photographs"])
    parser.add_argument("--clip", action="append", choices=CLIPS)
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    model = RetinaFace()
    pictures = photographs(options.people, model)
    if "clips" in options.parts:
        clips(few(pictures), options.work, model, options.clip or CLIPS)
    if "photographs" in options.parts:
        moving(pictures, options.work, model)


if __name__ == "__main__":
    main()
