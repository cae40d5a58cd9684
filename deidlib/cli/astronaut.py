"""The main job on the embedded default: MTCNN may read a face that nobody else sees. No download, no file of yours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.presets import recommended, recommended_chain
from deidlib.attack.tolerance import ReadingError, Tolerance
from deidlib.faces import Faces
from deidlib.geometry.camera import Camera, angle_between, head_pose
from deidlib.geometry.warp import crop_resize
from deidlib.images import from_pixels, to_grid
from deidlib.media import VideoReader, VideoWriter, write_image
from deidlib.models.base import FaceModel
from deidlib.models.mtcnn import MTCNN
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.summary import Summary
from deidlib.protect.video import protect_video
from deidlib.visualize import amplified, draw_faces, sheet

_SIZE = 256
_FPS = Fraction(12)

UNTIL = Tolerance(iou=0.95, nme=0.02)
"""When a frame is done: nearer than this a viewer sees no difference, and it takes twice as long."""


def moving_astronaut(frames: int = 12) -> Tensor:
    """A short clip: the camera pans over and zooms into ``skimage.data.astronaut()`` (NASA, public domain).

    Returns:
        ``(frames, 3, 256, 256)`` in [0, 1].
    """
    from skimage.data import astronaut

    picture = from_pixels(astronaut())[None]
    progress = torch.linspace(0, 1, frames)
    left, top, side = 50 + 25 * progress, 0 * progress, 330 - 25 * progress
    boxes = torch.stack([left, top, left + side, top + side], dim=1).round()
    clip = crop_resize(picture.expand(frames, -1, -1, -1), boxes, (_SIZE, _SIZE))
    return to_grid(clip)


def run(
    folder: str | Path,
    *,
    frames: int = 12,
    others: Mapping[str, FaceModel] | None = None,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Make the clip, protect it, read the written file back and measure it.

    Args:
        folder: where ``original.mkv``, ``protected.mkv``, ``sheet.png`` and ``demo.json`` are written.
        frames: length of the clip.
        others: detectors that nobody has authorised, by name: the file is shown to them too.
        progress: called with the number of frames protected since the last call.

    Returns:
        What ``demo.json`` holds: per stage what the authorised model reads (faces found, mean IoU with a miss as 0, how
        far points are off in face sizes, and where the head looks in degrees, None where no face is found); how many
        faces the others find; the size of the perturbation in grey levels; how many frames are within :data:`UNTIL`;
        seconds.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    original, protected = folder / "original.mkv", folder / "protected.mkv"
    with VideoWriter(original, _FPS, (_SIZE, _SIZE)) as writer:
        writer.write(moving_astronaut(frames))

    # What is shipped is what is measured: everything that is read comes from the files.
    before, others = _read(original), others or {}
    model = MTCNN()
    deidentifier = Deidentifier(recommended([model], until=UNTIL), chain=recommended_chain("ffv1", until=UNTIL))
    with ThreadPoolExecutor(max_workers=1) as beside:
        # On another core, where there is one.
        known = {name: {"original": beside.submit(other.predict, before)} for name, other in others.items()}
        began = time.perf_counter()
        # What is written is read below, stage by stage: no need to do it here.
        summary = protect_video(deidentifier, original, protected, check=None, progress=progress)
        seconds = time.perf_counter() - began
        after = _read(protected)
        for name, other in others.items():
            known[name]["protected"] = beside.submit(other.predict, after)
        truth = model.predict(before)
        # Hidden by the same pipeline, places held included; only the attack takes no step.
        unattacked = Deidentifier(IFGSMAttacker([model], max_iterations=0))
        hidden = torch.cat([batch.hidden for batch in unattacked.frames(torch.split(before, 16), faces=truth)])
        for name, other in others.items():
            known[name]["obfuscated"] = beside.submit(other.predict, hidden)
        stages = {"original": before, "obfuscated": hidden, "protected": after}
        readings = {name: truth if name == "original" else model.predict(images) for name, images in stages.items()}
    # Who finds the face of each frame, stage by stage.
    found = {model.name: {name: _again(truth, seen) for name, seen in readings.items()}}
    for name, asked in known.items():
        seen_by = {stage: asked[stage].result() for stage in stages}
        found[name] = {stage: _again(seen_by["original"], seen) for stage, seen in seen_by.items()}
    change = (after - hidden).abs().mul(255).amax(dim=1)
    inside = deidentifier.obfuscator.mask(truth, _SIZE, _SIZE)[:, 0] > 0
    report = {
        "authorised": model.name,
        "stages": {name: _score(truth, seen) for name, seen in readings.items()},
        "others": {
            name: {stage: {"faces": len(again), "found": sum(again.values())} for stage, again in found[name].items()}
            for name in others
        },
        "within": summary.found - (summary.beyond or 0),
        "tolerance": {"iou": UNTIL.iou, "points": UNTIL.nme},
        "perturbation": {
            "largest": round(float(change.max()), 3),
            "mean_inside": round(float(change[inside].mean()), 3),
            "outside": round(float(change[~inside].max()), 3),
        },
        "seconds": round(seconds, 1),
        "frames": _counts(summary),
        "files": {"original": original.name, "protected": protected.name, "sheet": "sheet.png"},
    }
    write_image(folder / "sheet.png", _sheet(stages, readings, found, [0, frames // 2, frames - 1]))
    (folder / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _read(path: Path) -> Tensor:
    with VideoReader(path) as reader:
        return torch.cat([images for images, _ in reader.batches(16)])


def _score(truth: Sequence[Faces], seen: Sequence[Faces]) -> dict[str, float | None]:
    """Faces of the original found again, and how far they are off; of a clip that shows one face at most.

    By what the tolerance goes by, not by :mod:`deidlib.metrics`: loading torchmetrics takes longer than measuring.
    """
    pairs = [(known, read) for known, read in zip(truth, seen, strict=True) if len(known)]
    error = ReadingError.between([known for known, _ in pairs], [read for _, read in pairs], "boxes")
    again = error.iou > 0
    found = [pair for pair, good in zip(pairs, again.tolist(), strict=True) if good]
    return {
        "faces": len(pairs),
        "found": len(found),
        "iou": round(float(error.iou.mean()), 4),
        "points": round(float(error.nme[again].mean()), 4) if found else None,
        "head_pose_deg": round(float(torch.tensor([_turned(*pair) for pair in found]).mean()), 2) if found else None,
    }


def _turned(known: Faces, read: Faces) -> float:
    """Degrees between where the first face of either looks: the third axis of the head's pose."""
    camera = Camera.default(_SIZE, _SIZE)
    points = [faces.landmarks[:1] for faces in (known, read) if faces.landmarks is not None]
    return float(angle_between(*(head_pose(some, camera)[0][0, :, 2] for some in points)).rad2deg())


def _again(truth: Sequence[Faces], seen: Sequence[Faces]) -> dict[int, bool]:
    """Whether what a detector finds in a frame of the original it finds again, by the numbers of those frames."""
    numbers = [i for i, known in enumerate(truth) if len(known)]
    error = ReadingError.between([truth[i] for i in numbers], [seen[i] for i in numbers], "boxes")
    return dict(zip(numbers, (error.iou > 0).tolist(), strict=True))


def _counts(summary: Summary) -> dict[str, int]:
    return {
        "all": summary.frames,
        "found": summary.found,
        "held": summary.held,
        "whole_frame": summary.whole_frame,
    }


def _sheet(
    stages: Mapping[str, Tensor],
    readings: Mapping[str, Sequence[Faces]],
    found: Mapping[str, Mapping[str, Mapping[int, bool]]],
    rows: Sequence[int],
) -> Tensor:
    panels = [
        [draw_faces(images[i], readings[name][i]) for name, images in stages.items()]
        + [amplified(stages["protected"][i], stages["obfuscated"][i])]
        for i in rows
    ]
    captions = [[_found_by(found, stage, i) for stage in stages] + [""] for i in rows]
    titles = ["original", "hidden", "protected", "perturbation x 16"]
    return sheet(panels, titles=titles, labels=[f"frame {i}" for i in rows], captions=captions)


def _found_by(found: Mapping[str, Mapping[str, Mapping[int, bool]]], stage: str, number: int) -> str:
    """Who finds the face of a frame."""
    names = [name for name, seen in found.items() if seen[stage].get(number)]
    if len(names) == len(found) > 1:
        return f"found by all {len(names)}"
    return f"found by {', '.join(names) or 'nobody'}"
