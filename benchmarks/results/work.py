"""Protecting, storing and reading back, each once: what is there already is not done again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.media import VideoReader, VideoWriter
from deidlib.metrics import DiffScore, NormalisedDiffScore, flicker, psnr
from deidlib.models.base import TargetModel
from deidlib.models.gaze import GazeResNet
from deidlib.models.mtcnn import MTCNN
from deidlib.models.observe import observe
from deidlib.models.retinaface import RetinaFace
from deidlib.models.strangers import PFLD, YuNet
from deidlib.protect.deidentifier import Deidentifier
from deidlib.tracking import FaceTracker

from .cases import CLIPS, HIDING, SETS, STORED, Case, large

BATCH = 4


def load(path: Path) -> Tensor:
    """``(T, 3, H, W)`` of a file."""
    with VideoReader(path) as reader:
        return torch.cat([images for images, _ in reader.batches(64)])


def store(path: Path, frames: Tensor, fps: Fraction, codec: str, quality: int | None) -> None:
    """Write a clip."""
    with VideoWriter(path, fps, (frames.shape[2], frames.shape[3]), codec=codec, quality=quality) as writer:
        writer.write(frames)


def protect(case: Case, originals: Tensor, fps: Fraction, folder: Path) -> tuple[Tensor, Tensor]:
    """Hidden and protected frames of a case, as FFV1 in the folder."""
    hidden, protected = folder / f"{case.folder}-hidden.mkv", folder / f"{case.folder}.mkv"
    if not protected.exists():
        before, after = run(case, originals)
        store(hidden, before, fps, "ffv1", None)
        store(protected, after, fps, "ffv1", None)
    return load(hidden), load(protected)


def run(case: Case, originals: Tensor) -> tuple[Tensor, Tensor]:
    """Hide what either detector finds, then attack; or only hide."""
    detectors: list[TargetModel[Any]] = [RetinaFace(), MTCNN()]
    obfuscator = HIDING[case.hiding]
    if not SETS[case.authorised].models:
        faces = [known for part in torch.split(originals, BATCH) for known in observe(part, detectors)]
        hidden = obfuscator(originals, faces)
        return hidden, hidden
    # Kept frames lie about a second apart: where a face was in the last one says nothing about this one, and places
    # held would pile up (a quarter of talk_video00's frames), beside what "none" hides.
    deidentifier = Deidentifier(
        SETS[case.authorised].attacker(),
        obfuscator=obfuscator,
        detectors=detectors,
        tracker=FaceTracker(hold=0, window=0),
    )
    batches = list(deidentifier.frames(torch.split(originals, BATCH)))
    return torch.cat([batch.hidden for batch in batches]), torch.cat([batch.images for batch in batches])


class Readings:
    """Everything that reads, authorised or not. Each is compared with its own reading of the original."""

    def __init__(self) -> None:
        self.retinaface, self.mtcnn, self.gaze = RetinaFace(), MTCNN(), GazeResNet.mpiigaze()
        self.twin, self.yunet, self.pfld = RetinaFace("retinaface_mobilenet0.25_1mb"), YuNet(), PFLD()

    def of(self, frames: Tensor, places: Sequence[Faces] | None = None) -> dict[str, list[Faces]]:
        """Read frames, batch by batch.

        Args:
            frames: ``(T, 3, H, W)``.
            places: where PFLD looks, the best case for it: the boxes that YuNet finds in the originals. If not given,
                these frames are the originals.
        """
        read: dict[str, list[Faces]] = {}
        for start in range(0, len(frames), BATCH):
            part = frames[start : start + BATCH]
            face = self.retinaface.predict(part)
            seen = {
                "RetinaFace": face,
                "MTCNN": self.mtcnn.predict(part),
                "RetinaFace, then MPIIGaze": self.gaze.predict(part, face),
                "RetinaFace, other weights": self.twin.predict(part),
                "YuNet": self.yunet.predict(part),
            }
            boxes = seen["YuNet"] if places is None else places[start : start + BATCH]
            seen["PFLD, told the box"] = self.pfld.predict(part, boxes)
            for name, faces in seen.items():
                read.setdefault(name, []).extend(faces)
        return read


def measure(case: Case, stored: str, folder: Path, readings: Readings) -> dict[str, Any]:
    """All numbers of one file but identity. They are kept in the folder."""
    kept = folder / f"{case.folder}-{stored.replace(' ', '')}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    clip = CLIPS[case.clip]
    originals, fps = clip.frames()
    truth_all = _truth(case.clip, originals, folder, readings)
    hidden, protected = protect(case, originals, fps, folder)
    codec, quality = STORED[stored]
    path = folder / f"{case.folder}-{stored.replace(' ', '')}{'.avi' if codec == 'mjpeg' else '.mkv'}"
    store(path, protected, fps, codec, quality)
    frames = load(path)
    seen = readings.of(frames, truth_all["YuNet"])
    result: dict[str, Any] = {"clip": case.clip, "hiding": case.hiding, "authorised": case.authorised, "stored": stored}
    result["bytes per frame"] = path.stat().st_size / len(frames)
    for name, faces in seen.items():
        truth = large(truth_all[name], clip.smallest)
        paper, normalised = DiffScore(min_iou=0.5), NormalisedDiffScore(min_iou=0.5)
        paper.update(truth, faces)
        normalised.update(truth, faces)
        one, two = paper.compute(), normalised.compute()
        result[name] = {
            **{term: float(one[term]) for term in ("score", "box", "landmarks", "gaze", "coverage", "spurious")},
            "normalised": float(two["score"]),
            "nme": float(two["landmarks"]),
            "faces": int(one["faces"]),
        }
    mask = HIDING[case.hiding].mask(truth_all["RetinaFace"], *frames.shape[-2:])
    for name, reference in (("against hidden", hidden), ("against original", originals)):
        result[name] = {
            "psnr_inside": float(psnr(reference, frames, mask).nanmean()),
            "psnr_outside": float(psnr(reference, frames, 1 - mask).nanmean()),
            "flicker_inside": float(flicker(frames - reference, mask).nanmean()),
        }
    path.unlink()
    kept.write_text(json.dumps(result))
    return result


def _truth(clip: str, originals: Tensor, folder: Path, readings: Readings) -> dict[str, list[Faces]]:
    kept = folder / f"{clip}-truth.pt"
    if kept.exists():
        return {name: [Faces(*face) for face in faces] for name, faces in torch.load(kept, weights_only=True).items()}
    truth = readings.of(originals)
    plain = {
        name: [(known.boxes, known.scores, known.landmarks, known.gaze) for known in faces]
        for name, faces in truth.items()
    }
    torch.save(plain, kept)
    return truth
