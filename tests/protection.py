"""The default protection of a few frames, from the PNGs, and how it is read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deidlib import IFGSMAttacker
from deidlib.attack.aggregation import Aggregator, GradientNorm, Sum
from deidlib.attack.result import AttackResult
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.geometry.boxes import iou
from deidlib.media import read_image, write_image
from deidlib.metrics import OnnxEmbedder, align, gaze_angle
from deidlib.models.base import TargetModel
from deidlib.models.gaze import GazeResNet
from deidlib.models.observe import observe
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Obfuscator, Pixelate
from deidlib.protect.deidentifier import Deidentifier
from deidlib.tracking import FaceTracker


@dataclass(frozen=True, eq=False)
class Protection:
    """Original, hidden and protected frames; the protected ones as read back from PNG."""

    originals: Tensor
    hidden: Tensor
    protected: Tensor
    mask: Tensor
    attacks: list[AttackResult]
    seconds: float


def protect(
    originals: Tensor,
    models: Mapping[str, TargetModel[Any]],
    folder: Path,
    *,
    iterations: int = 60,
    aggregate: Aggregator | None = None,
    obfuscator: Obfuscator | None = None,
) -> Protection:
    """A mosaic of 4 blocks unless told, epsilon 8/255, region only, written and read back."""
    attacker = IFGSMAttacker(
        models,
        epsilon=8 / 255,
        max_iterations=iterations,
        step=APGDStep(),
        aggregate=aggregate or (Sum() if len(models) == 1 else GradientNorm()),
    )
    obfuscator = obfuscator or Pixelate()
    began = time.perf_counter()
    # The frames are apart in time, so that nothing is to be held or smoothed from one to the next.
    deidentifier = Deidentifier(attacker, obfuscator=obfuscator, tracker=FaceTracker(hold=0, window=0))
    batches = list(deidentifier.frames(torch.split(originals, 8)))
    seconds = time.perf_counter() - began
    protected = []
    for number, image in enumerate(torch.cat([batch.images for batch in batches])):
        write_image(folder / f"{number}.png", image)
        protected.append(read_image(folder / f"{number}.png"))
    faces = [known for batch in batches for known in batch.faces]
    return Protection(
        originals,
        torch.cat([batch.hidden for batch in batches]),
        torch.cat(protected),
        obfuscator.mask(faces, *originals.shape[-2:]),
        [batch.attack for batch in batches if batch.attack is not None],
        seconds,
    )


@dataclass(frozen=True)
class Reading:
    """How a detector reads protected faces, compared with itself on the originals; a missed face counts 0 or 1."""

    iou: np.ndarray
    score: np.ndarray
    nme: np.ndarray

    @property
    def found(self) -> float:
        """Share of faces found at IoU 0.5."""
        return float((self.iou >= 0.5).mean())

    def __str__(self) -> str:
        return (
            f"{self.found:.0%} | {self.iou.mean():.3f} / {self.iou.min():.3f} | {self.score.mean():.3f} | "
            f"{100 * self.nme.mean():.2f} %"
        )


def compare(originals: Sequence[Faces], seen: Sequence[Faces], smallest: float = 0.0) -> Reading:
    """Each face of the originals at least ``smallest`` pixels on its shorter side, with the best overlap now."""
    rows = []
    for known, found in zip(originals, seen, strict=True):
        sides = known.boxes[:, 2:] - known.boxes[:, :2]
        for face in (sides.amin(dim=1) >= smallest).nonzero().squeeze(1).tolist():
            if not len(found):
                rows.append((0.0, 0.0, 1.0))
                continue
            overlap, best = iou(known.boxes[face : face + 1], found.boxes)[0].max(dim=0)
            error = 1.0
            if known.landmarks is not None and found.landmarks is not None and overlap >= 0.5:
                distance = (known.landmarks[face] - found.landmarks[best]).norm(dim=-1).mean()
                error = float(distance / sides[face].prod().sqrt())
            rows.append((float(overlap), float(found.scores[best]) if overlap >= 0.5 else 0.0, error))
    table = np.array(rows)
    return Reading(table[:, 0], table[:, 1], table[:, 2])


def facenet_detect(images: Tensor) -> list[Faces]:
    """What facenet-pytorch's own unmodified ``MTCNN.detect`` reads."""
    from facenet_pytorch import MTCNN as Upstream

    detector = Upstream(keep_all=True)
    result = []
    for image in images.mul(255).round().byte().permute(0, 2, 3, 1).numpy():
        boxes, scores, points = detector.detect(image, landmarks=True)
        if boxes is None:
            result.append(Faces.empty())
            continue
        result.append(Faces(*(torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in (boxes, scores, points))))
    return result


def identity(protection: Protection, faces: Sequence[Faces]) -> np.ndarray:
    """MobileFaceNet's cosine between each protected face and the same face of the original frame."""
    embed = OnnxEmbedder()
    known = embed(align(protection.originals, faces))
    hidden = embed(align(protection.protected, faces))
    cosine: np.ndarray = torch.nn.functional.cosine_similarity(known, hidden).numpy()
    return cosine


def gaze_change(originals: Sequence[Faces], seen: Sequence[Faces]) -> np.ndarray:
    """Degrees between the gaze of each original face and of the face that overlaps it now; 180 for a miss."""
    angles = []
    for known, found in zip(originals, seen, strict=True):
        for face in range(len(known)):
            angle = 180.0
            if len(found):
                overlap, best = iou(known.boxes[face : face + 1], found.boxes)[0].max(dim=0)
                if overlap >= 0.5 and known.gaze is not None and found.gaze is not None:
                    angle = float(gaze_angle(known.gaze[face][None], found.gaze[best][None]))
            angles.append(angle)
    return np.array(angles)


def chain(
    originals: Tensor, folder: Path, aggregate: Aggregator, iterations: int, obfuscator: Obfuscator | None = None
) -> tuple[Reading, np.ndarray, np.ndarray]:
    """RetinaFace and MPIIGaze in one attack; detector, points, pose and gaze are read from the file alone.

    Returns:
        The detector's reading, the change of gaze in degrees, and the change of gaze of the hidden frames, given the
        original's boxes and points (without them there is nothing to read).
    """
    models: dict[str, TargetModel[Any]] = {"retinaface": RetinaFace(), "mpiigaze": GazeResNet.mpiigaze()}
    protection = protect(originals, models, folder, iterations=iterations, aggregate=aggregate, obfuscator=obfuscator)
    truth = observe(protection.originals, models.values())
    seen = observe(protection.protected, models.values())
    control = models["mpiigaze"].predict(protection.hidden, truth)
    return compare(truth, seen), gaze_change(truth, seen), gaze_change(truth, control)
