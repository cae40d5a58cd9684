"""The pictures of docs/gallery.md: ``python -m benchmarks.gallery FOLDER``, half a minute, no download."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from skimage.data import astronaut
from torch import Tensor

from deidlib import (
    MTCNN,
    Deidentifier,
    Faces,
    GaussianBlur,
    Key,
    Keyed,
    Pixelate,
    Solid,
    TargetModel,
    WarpSwapper,
    from_pixels,
    recommended,
    write_image,
)
from deidlib.geometry import FaceRegion, iou
from deidlib.models import read_originals
from deidlib.obfuscate import Concealment
from deidlib.visualize import amplified, sheet

STEPS = 60
ORIGINAL = from_pixels(astronaut()[:256, 96:352])[None]


def protected(
    hide: Concealment,
    model: TargetModel,  # type: ignore[type-arg]  # of any target
    faces: Sequence[Faces] | None = None,
    *,
    levels: int = 8,
) -> tuple[Tensor, Tensor, str]:
    """The hidden picture, the protected one, and how the model reads it."""
    readings = read_originals(ORIGINAL, [model]) if faces is None else {model.name: list(faces)}
    known = readings[model.name]
    hidden, mask = hide(ORIGINAL, known), hide.mask(known, 256, 256)
    images = recommended(model, epsilon=levels / 255, max_iterations=STEPS)(hidden, readings, mask=mask).images
    (seen,) = model.predict(images)
    overlap = float(iou(known[0].boxes, seen.boxes).max()) if len(seen) else 0.0
    return hidden[0], images[0], f"read at an IoU of {overlap:.2f}" if overlap else "not found"


def ways(model: MTCNN) -> Tensor:
    """Each way to hide a face: hidden, protected, and the perturbation."""
    hiding = {
        "solid (default)": Solid(),
        "solid, ellipse": Solid(region=FaceRegion(shape="ellipse")),
        "pixelate, 4 blocks": Pixelate(blocks=4),
        "blur": GaussianBlur(),
    }
    columns = [protected(way, model) for way in hiding.values()]
    rows = [[column[0] for column in columns], [column[1] for column in columns]]
    rows.append([amplified(after, before) for before, after, _ in columns])
    captions = [[""] * len(columns), [said for _, _, said in columns], [""] * len(columns)]
    return sheet(rows, list(hiding), ["hidden", "protected", "perturbation x 16"], captions)


def strengths(model: MTCNN) -> Tensor:
    """How much pixels may move."""
    steps = {levels: protected(Solid(), model, levels=levels) for levels in (2, 4, 8, 16)}
    rows = [
        [after for _, after, _ in steps.values()],
        [amplified(after, before) for before, after, _ in steps.values()],
    ]
    captions = [[said for _, _, said in steps.values()], [""] * len(steps)]
    return sheet(rows, [f"{levels} levels" for levels in steps], ["protected", "perturbation x 16"], captions)


def shares(model: MTCNN) -> Tensor:
    """All that is read, and the box alone."""
    (read,) = model.predict(ORIGINAL)
    columns = {"box and five points": [read], "the box alone": [Faces(read.boxes, read.scores)]}
    found = [protected(Solid(), model, faces) for faces in columns.values()]
    rows = [[after for _, after, _ in found], [amplified(after, before) for before, after, _ in found]]
    captions = [[said for _, _, said in found], [""] * len(found)]
    return sheet(rows, list(columns), ["protected", "perturbation x 16"], captions)


def keyed(model: MTCNN) -> Tensor:
    """What is seen with the key, with another, and without."""
    mine, other = (Keyed(model, Key(bytes(range(first, first + 32)))) for first in (0, 32))
    before, after, said = protected(Solid(), mine, levels=16)
    faces = read_originals(ORIGINAL, [mine])[mine.name]
    panels, captions = [after], [f"with the key {said}"]
    for reader in (mine, other):
        plan = reader.target(faces, (256, 256)).plan
        panels.append(amplified(reader.scramble(after[None], plan), reader.scramble(before[None], plan), 8)[0])
        captions.append("" if reader is mine else f"finds {len(reader.predict(after[None])[0])}")
    panels.append(amplified(after, before, 8))
    captions.append(f"finds {len(model.predict(after[None])[0])}")
    titles = ["protected", "as seen with the key", "with another key", "without a key"]
    return sheet([panels], titles, captions=[captions])


def swapped(model: MTCNN) -> Tensor:
    """Another face instead; for want of somebody else, the mirror image."""
    swapper = WarpSwapper(from_pixels(astronaut()[:300, 60:400])[None].flip(-1), model)
    attacker = recommended(model, max_iterations=STEPS)
    (batch,) = Deidentifier(attacker, obfuscator=swapper).frames([ORIGINAL])
    panels = [batch.originals[0], batch.hidden[0], batch.images[0], amplified(batch.images[0], batch.hidden[0])]
    return sheet([panels], ["original", "swapped", "swapped and protected", "perturbation x 16"])


def main(folder: Path) -> None:
    """Make all of them."""
    torch.manual_seed(0)
    model = MTCNN()
    for make in (ways, strengths, shares, keyed, swapped):
        write_image(folder / f"gallery-{make.__name__}.jpg", make(model), quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
