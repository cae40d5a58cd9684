"""Swap the face in a short clip for another one, then let MTCNN read the result as it reads the original."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from skimage.data import astronaut

from deidlib import MTCNN, Deidentifier, read_image, recommended, write_image
from deidlib.cli.astronaut import moving_astronaut
from deidlib.geometry.boxes import iou
from deidlib.swap import WarpSwapper
from deidlib.visualize import sheet


def main(source: Path | None = None, target: Path | None = None, iterations: int = 60) -> None:
    target = target or Path(tempfile.mkdtemp()) / "swapped.png"
    if source is None:
        # For want of somebody else: the astronaut's mirror image. Make a face of nobody with average_face.
        face = torch.from_numpy(astronaut()[:300, 60:400]).permute(2, 0, 1)[None].flip(-1) / 255
    else:
        face = read_image(source)

    model = MTCNN()
    swapper = WarpSwapper(face, model)
    clip = moving_astronaut(3)
    attacker = recommended([model], max_iterations=iterations)
    (batch,) = Deidentifier(attacker, obfuscator=swapper).frames([clip])

    for before, after in zip(batch.faces, model.predict(batch.images), strict=True):
        print("IoU with the original's box:", iou(before.boxes, after.boxes).amax(dim=1).tolist())
    stages = (batch.originals, batch.hidden, batch.images)
    panels = [[images[i] for images in stages] for i in range(len(clip))]
    write_image(target, sheet(panels, titles=["original", "swapped", "swapped and attacked"])[None])
    print(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="an image of the face to show; the astronaut if not given")
    parser.add_argument("target", type=Path, nargs="?", help="the PNG to write")
    parser.add_argument("--iterations", type=int, default=60)
    given = parser.parse_args()
    main(given.source, given.target, given.iterations)
