"""What the frames of a clip have in common: faces that do not tremble."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.matching import tracks
from deidlib.media.clip import open_frames
from deidlib.media.kind import kind_of
from deidlib.models.base import FaceModel
from deidlib.models.observe import observe


def steady(faces: Sequence[Faces], *, sigma: float = 2.0) -> list[Faces]:
    """The faces of a clip with boxes and landmarks smoothed over time, so that what is put in their place is still.

    Each value becomes that of the straight line that fits best around its frame, neighbours weighted by a Gaussian:
    a face that moves evenly is not held back. No face is added or removed; where a face is lost, smoothing begins anew.

    Args:
        faces: one entry per frame, in order.
        sigma: of the Gaussian, in frames; the farthest that counts is three times as far away.

    Returns:
        As many entries, with the same faces in the same order; gaze and scores as they are.

    Raises:
        ValueError: sigma is not positive.

    Example:
        >>> clip = [Faces(torch.tensor([[x, 0., x + 10, 10.]]), torch.ones(1)) for x in (0., 1., 2., 3., 4.)]
        >>> torch.cat([known.boxes for known in steady(clip)])[:, 0].round(decimals=4).abs()
        tensor([0., 1., 2., 3., 4.])
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be a positive number of frames, got {sigma}.")
    boxes = [known.boxes.clone() for known in faces]
    points = [None if known.landmarks is None else known.landmarks.clone() for known in faces]
    for track in _alike(faces):
        first = track[0][0]
        rows = torch.stack([_row(faces[frame], face) for frame, face in track])
        smooth = _local_lines(rows.double(), sigma)
        for frame, face in track:
            values = smooth[frame - first]
            boxes[frame][face] = values[:4].to(boxes[frame])
            where = points[frame]
            if where is not None and len(values) > 4:
                where[face] = values[4:].reshape(-1, 2).to(where)
    return [known.replace(boxes=box, landmarks=point) for known, box, point in zip(faces, boxes, points, strict=True)]


@dataclass(frozen=True)
class SteadyFaces:
    """Reads the faces of a video with several models, and smooths them over time by :func:`steady`.

    Args:
        models: at least one detector.
        batch_size: frames at a time.
        device: where the models are.
    """

    models: Sequence[FaceModel]
    batch_size: int = 8
    device: torch.device = torch.device("cpu")

    def __call__(self, path: Path) -> list[Faces] | None:
        """One entry per frame; None for an image, which has nothing to be smoothed over.

        Raises:
            MediaReadError: the file cannot be read.
        """
        if kind_of(path) == "image":
            return None
        faces: list[Faces] = []
        with open_frames(path) as reader:
            for images, _ in reader.batches(self.batch_size):
                faces += [known.to("cpu") for known in observe(images.to(self.device), self.models)]
        return steady(faces)


def _alike(faces: Sequence[Faces]) -> Iterator[list[tuple[int, int]]]:
    """Each face through the clip, as (frame, row), in parts of which the same is known in every frame."""
    for track in tracks(faces):
        for _, part in groupby(track, lambda place: len(_row(faces[place[0]], place[1]))):
            yield list(part)


def _row(faces: Faces, face: int) -> Tensor:
    """Box and landmarks of one face in a row; without landmarks that are not known."""
    if faces.landmarks is None or not bool(torch.isfinite(faces.landmarks[face]).all()):
        return faces.boxes[face].cpu()
    return torch.cat([faces.boxes[face], faces.landmarks[face].flatten().to(faces.boxes)]).cpu()


def _local_lines(values: Tensor, sigma: float) -> Tensor:
    """Weighted straight lines around each of ``(T, D)``, read in their middle."""
    reach = max(1, round(3 * sigma))
    result = torch.empty_like(values)
    for t in range(len(values)):
        around = torch.arange(max(0, t - reach), min(len(values), t + reach + 1))
        offset = (around - t).to(values)
        weight = torch.exp(-0.5 * (offset / sigma) ** 2)
        weight = weight / weight.sum()
        middle, mean = weight @ offset, weight @ values[around]
        spread = weight @ (offset - middle).square()
        slope = (weight * (offset - middle)) @ values[around] / spread.clamp(min=1e-12)
        result[t] = mean - middle * slope
    return result
