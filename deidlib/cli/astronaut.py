"""The main job on the embedded default: MTCNN may read a face that nobody else sees. No download, no file of yours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deidlib.attack.presets import recommended
from deidlib.faces import Faces
from deidlib.geometry.warp import crop_resize
from deidlib.images import from_pixels, to_grid
from deidlib.media import VideoReader, VideoWriter, write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.summary import Summary
from deidlib.protect.video import protect_video
from deidlib.visualize import amplified, draw_faces, sheet

_SIZE = 256
_FPS = Fraction(12)


def moving_astronaut(frames: int = 12) -> Tensor:
    """A short clip: the camera pans over and zooms into ``skimage.data.astronaut()`` (NASA, public domain).

    Returns:
        ``(frames, 3, 256, 256)`` in [0, 1].
    """
    from skimage.data import astronaut

    picture = from_pixels(astronaut())[None]
    progress = torch.linspace(0, 1, frames)
    left, top, side = 50 + 50 * progress, 0 * progress, 330 - 50 * progress
    boxes = torch.stack([left, top, left + side, top + side], dim=1).round()
    clip = crop_resize(picture.expand(frames, -1, -1, -1), boxes, (_SIZE, _SIZE))
    return to_grid(clip)


def run(folder: str | Path, *, frames: int = 12, progress: Callable[[int], object] | None = None) -> dict[str, Any]:
    """Make the clip, protect it, read the written file back and measure it.

    Args:
        folder: where ``original.mkv``, ``protected.mkv``, ``sheet.png`` and ``demo.json`` are written.
        frames: length of the clip.
        progress: called with the number of frames protected since the last call.

    Returns:
        What ``demo.json`` holds: per stage the detection rate and mean IoU of the authorised model, counting a
        missed face as IoU 0; the size of the perturbation in grey levels; seconds.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    original, protected = folder / "original.mkv", folder / "protected.mkv"
    with VideoWriter(original, _FPS, (_SIZE, _SIZE)) as writer:
        writer.write(moving_astronaut(frames))

    began = time.perf_counter()
    model = MTCNN()
    deidentifier = Deidentifier(recommended([model]))
    # A demonstration is to be quick: frames that are read less well are not attacked again.
    summary = protect_video(deidentifier, original, protected, check=Check(repairs=0), progress=progress)
    seconds = time.perf_counter() - began

    # What is shipped is what is measured: everything below comes from the files.
    before, after = _read(original), _read(protected)
    truth = model.predict(before)
    # Hidden by the same pipeline, places held included; only the attack takes no step.
    unattacked = replace(deidentifier, attacker=replace(deidentifier.attacker, max_iterations=0))
    hidden = torch.cat([batch.hidden for batch in unattacked.frames(torch.split(before, 16))])
    stages = {"original": before, "obfuscated": hidden, "protected": after}
    readings = {name: model.predict(images) for name, images in stages.items()}
    change = (after - hidden).abs().mul(255).amax(dim=1)
    inside = deidentifier.obfuscator.mask(truth, _SIZE, _SIZE)[:, 0] > 0
    report = {
        "authorised": model.name,
        "stages": {name: _score(truth, seen) for name, seen in readings.items()},
        "perturbation": {
            "largest": round(float(change.max()), 3),
            "mean_inside": round(float(change[inside].mean()), 3),
            "outside": round(float(change[~inside].max()), 3),
        },
        "seconds": round(seconds, 1),
        "frames": _counts(summary),
        "files": {"original": original.name, "protected": protected.name, "sheet": "sheet.png"},
    }
    write_image(folder / "sheet.png", _sheet(stages, readings, [0, frames // 2, frames - 1]))
    (folder / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _read(path: Path) -> Tensor:
    with VideoReader(path) as reader:
        return torch.cat([images for images, _ in reader.batches(16)])


def _score(truth: Sequence[Faces], seen: Sequence[Faces]) -> dict[str, float]:
    """Share of the original's faces found again (IoU above 0.5), and the mean IoU with a miss as 0."""
    from deidlib.metrics import ReadingDifference

    difference = ReadingDifference(min_iou=0.5)
    difference.update(truth, seen)
    values = difference.compute()
    return {
        "faces": int(values["faces"]),
        "found": round(float(values["coverage"]), 4),
        "iou": round(float(values["iou"]), 4),
    }


def _counts(summary: Summary) -> dict[str, int]:
    return {
        "all": summary.frames,
        "found": summary.found,
        "held": summary.held,
        "whole_frame": summary.whole_frame,
    }


def _sheet(stages: Mapping[str, Tensor], readings: Mapping[str, Sequence[Faces]], rows: Sequence[int]) -> Tensor:
    panels = [
        [draw_faces(images[i], readings[name][i]) for name, images in stages.items()]
        + [amplified(stages["protected"][i], stages["obfuscated"][i])]
        for i in rows
    ]
    return sheet(panels, titles=[*stages, "perturbation x 16"], labels=[f"frame {i}" for i in rows])
