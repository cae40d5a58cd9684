"""Protect one image: hide its faces, let MTCNN still read them, and check what the written file shows."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from skimage.data import astronaut

from deidlib import MTCNN, Deidentifier, read_image, recommended, write_image
from deidlib.geometry.boxes import iou
from deidlib.protect.image import protect_image


def main(source: Path | None = None, target: Path | None = None, iterations: int = 60) -> None:
    folder = Path(tempfile.mkdtemp())
    if source is None:
        source = folder / "astronaut.png"
        write_image(source, torch.from_numpy(astronaut()[:256, 96:352]).permute(2, 0, 1) / 255)
    target = target or folder / "protected.png"

    model = MTCNN()
    attacker = recommended([model], epsilon=8 / 255, max_iterations=iterations)
    summary = protect_image(Deidentifier(attacker), source, target)
    print(f"{target}: {summary}")

    # What counts is what is in the file.
    (before,), (after,) = model.predict(read_image(source)), model.predict(read_image(target))
    print(f"MTCNN finds {len(before)} faces in the original and {len(after)} in the protected image")
    if len(before) and len(after):
        print("IoU of each original face with its best match:", iou(before.boxes, after.boxes).amax(dim=1).tolist())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", help="an image; a photograph of an astronaut if not given")
    parser.add_argument("target", type=Path, nargs="?", help="the PNG to write")
    parser.add_argument("--iterations", type=int, default=60)
    given = parser.parse_args()
    main(given.source, given.target, given.iterations)
