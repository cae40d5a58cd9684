"""How cost grows with size, number and size of faces, length and batch: ``python -m benchmarks scaling``."""

from __future__ import annotations

import time

import torch
from footage import SHARED, frames
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.measure import Spread, Table
from deidlib.attack.presets import TOLERANCES, recommended, recommended_chain
from deidlib.images import to_grid
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier


def table(quick: bool, device: str) -> Table:
    """RetinaFace, ``quick``, frames in memory: detection, hiding and attack; frames in a row of T002_radio."""
    result = Table(
        "CPU ms per frame with --until quick, RetinaFace: detection, hiding and attack, no file",
        [
            "frames",
            "faces: number, side",
            "batch",
            "ms: median (10th to 90th percentile)",
            "gradients per frame",
            "within",
        ],
        axes=("million pixels", "CPU ms per frame"),
    )
    count = 4 if quick else 12
    clip = frames(SHARED / "media" / "T002_radio.mp4", range(count)).to(device)
    cases: list[tuple[Tensor, int]] = [(_scaled(clip, side), 4) for side in (240, 360, 480, 720, 960)]
    # The same frame with more of the same face, and with more frame around it.
    cases += [(_tiled(_scaled(clip, 240), 1, 2), 4), (_tiled(_scaled(clip, 240), 2, 2), 4), (_padded(clip, 960), 4)]
    cases += [(clip, batch) for batch in (1, 12)]
    cases += [(clip[: count // 2], 4)]
    sizes, costs = list[float](), list[float]()
    for k, (images, batch) in enumerate(cases):
        spent, steps, within, faces = _run(images, batch, device, 2 if quick else 5)
        result.rows.append(
            [f"{len(images)} of {images.shape[3]} x {images.shape[2]}", faces, batch, Spread.of(spent),
             float(steps.float().mean()), f"{within} of {len(images)}"]
        )  # fmt: skip
        if k < 5:
            sizes.append(images.shape[2] * images.shape[3] / 1e6)
            costs.append(Spread.of(spent).median)
    result.curves["T002_radio, scaled"] = (sizes, costs)
    return result


def _run(images: Tensor, batch: int, device: str, turns: int) -> tuple[list[float], Tensor, int, str]:
    """Milliseconds per frame, turn by turn; steps per frame; how many are within; faces in words."""
    model = RetinaFace().to(device)
    until = TOLERANCES["quick"]
    deidentifier = Deidentifier(
        recommended([model], until=until), Solid(), detectors=[model], chain=recommended_chain("ffv1", until=until)
    )
    spent = []
    for _ in range(turns):
        began = time.process_time()
        done = list(deidentifier.frames(torch.split(images, batch)))
        spent.append(1000 * (time.process_time() - began) / len(images))
    attacks = [part.attack for part in done if part.attack is not None]
    steps = torch.cat([attack.iterations for attack in attacks])
    within = sum(int(attack.within.sum()) for attack in attacks if attack.within is not None)
    first = done[0].faces[0].boxes
    side = float((first[:, 2:] - first[:, :2]).prod(dim=1).sqrt().mean()) if len(first) else 0.0
    return spent, steps, within, f"{len(first)}, {side:.0f}"


def _scaled(images: Tensor, side: int) -> Tensor:
    sized = interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return to_grid(sized.clamp(0, 1))


def _tiled(images: Tensor, rows: int, columns: int) -> Tensor:
    return images.repeat(1, 1, rows, columns)


def _padded(images: Tensor, side: int) -> Tensor:
    padded = images.new_full((len(images), 3, side, side), 128 / 255)
    padded[:, :, : images.shape[2], : images.shape[3]] = images
    return padded
