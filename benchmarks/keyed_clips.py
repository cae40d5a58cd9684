"""Keyed protection of both clips, whole frames, from FFV1: ``python -m benchmarks.keyed_clips``.

Needs the shared weights and media beside the project; about ten minutes of a core.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from footage import SHARED
from protection import Reading, compare
from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.keys.record import new_nonce
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.models.strangers import YuNet
from deidlib.obfuscate import Pixelate
from deidlib.protect.deidentifier import Deidentifier
from deidlib.tracking import FaceTracker

from .results.cases import CLIPS
from .results.work import load, store

WRONG = 20
Read = Callable[[Tensor], list[Faces]]


def in_parts(read: Read, images: Tensor) -> list[Faces]:
    """Four frames at a time."""
    return [faces for part in torch.split(images, 4) for faces in read(part)]


def main() -> None:
    """Print the table."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    model, mtcnn, key = RetinaFace(), MTCNN(), Key(bytes(range(32)))
    strangers: dict[str, Read] = {
        "other weights": RetinaFace("retinaface_mobilenet0.25_1mb").predict,
        "MTCNN": mtcnn.predict,
        "YuNet": YuNet().predict,
    }
    print("| clip | read by | found | IoU mean / min | score | 5-point error |")
    print("|---|---|---|---|---|---|")
    for name, clip in CLIPS.items():
        originals, fps = clip.frames()
        keyed = Keyed(model, key, nonce=new_nonce())
        attacker = IFGSMAttacker([keyed], max_iterations=60, step=APGDStep())
        deidentifier = Deidentifier(
            attacker, obfuscator=Pixelate(), detectors=[model, mtcnn], tracker=FaceTracker(hold=0, window=0)
        )
        images = torch.cat([batch.images for batch in deidentifier.frames(torch.split(originals, 4))])
        with tempfile.TemporaryDirectory() as folder:
            store(Path(folder, "clip.mkv"), images, fps, "ffv1", None)
            images = load(Path(folder, "clip.mkv"))
        truth = in_parts(model.predict, originals)

        def with_key(other: Key, keyed: Keyed = keyed, images: Tensor = images) -> list[Faces]:
            reader = Keyed(model, other, scramble=keyed.scramble, nonce=keyed.nonce)
            return [faces for i in range(len(images)) for faces in reader.at([i]).predict(images[i : i + 1])]

        print(f"| {name} | right key | {compare(truth, with_key(key), clip.smallest)} |", flush=True)
        print(f"| {name} | no key | {compare(truth, in_parts(model.predict, images), clip.smallest)} |", flush=True)
        wrong = [compare(truth, with_key(key.derive(f"wrong {k}")), clip.smallest) for k in range(WRONG)]
        neighbour = compare(truth, with_key(Key(bytes([1, *range(1, 32)]))), clip.smallest)
        found = np.mean([reading.found for reading in wrong])
        print(f"| {name} | {WRONG} wrong keys | {found:.1%} | {overlap(wrong)} | | |")
        print(f"| {name} | neighbour key, one bit | {neighbour} |", flush=True)
        for who, read in strangers.items():
            own = in_parts(read, originals)
            print(f"| {name} | {who} | {compare(own, in_parts(read, images), clip.smallest)} |", flush=True)


def overlap(readings: Sequence[Reading]) -> str:
    """Mean over the keys, and the most that any key reads of any face."""
    values = np.concatenate([reading.iou for reading in readings])
    return f"{values.mean():.3f}, at most {values.max():.3f}"


if __name__ == "__main__":
    main()
