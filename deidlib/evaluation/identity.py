"""``IdentityResult``: whether the people in a protected file are recognised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from deidlib.evaluation.about import about
from deidlib.evaluation.pairs import EvaluationError
from deidlib.faces import Faces
from deidlib.metrics import (
    Embedder,
    Linkage,
    Naive,
    ReIdentification,
    accept_rate,
    accept_threshold,
    align,
    cosine,
)
from deidlib.models.base import FaceModel

_FALSE_ACCEPT_RATE = 1e-3

# Impostor pairs are formed of this many clear faces at most: all with all, and all with the strangers.
_MOST_CLEAR = 512


# Re-identification compares all faces with all.
_MOST_FRAMES = 200


@dataclass(frozen=True, eq=False)
class IdentitySettings:
    """How it is measured whether people are recognised.

    Args:
        embedder: the recogniser.
        strangers: clear pictures ``(1, 3, H, W)`` of people who are not in the files, for its threshold.
        threshold: the cosine above which two faces are one person; found by pairs of different people if not given.
        identities: frame by frame, who each face of the truth is, by a number: for re-identification among several
            people.
    """

    embedder: Embedder
    strangers: Sequence[Tensor] = ()
    threshold: float | None = None
    identities: Sequence[Sequence[int]] | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON: what the recogniser is, and how many strangers there are."""
        return {"embedder": about(self.embedder), "strangers": len(self.strangers)}


@dataclass(frozen=True, eq=False)
class IdentityResult:
    """What an attacker with a recogniser learns, told where the faces of the originals are (his best case).

    Args:
        cosines: per frame, the cosine of every protected face and the clear face of its own frame.
        beside: the same for what only unauthorised detectors take for a face: a face that was overlooked, or none.
        threshold: the cosine above which he takes two faces for one person; None if it could not be found.
        threshold_from: where it comes from, or why there is none.
        impostors: pairs of different people that it comes from.
        accepted: share of faces whose cosine is above the threshold.
        unaligned: faces without points, which could not be compared.
        every: re-identification takes one frame in so many.
        attackers: by name what :class:`~deidlib.metrics.ReIdentification` says; empty if it was not done.
        why_no_attackers: the reason, if it was not.
    """

    cosines: Sequence[tuple[float, ...]]
    beside: Sequence[tuple[float, ...]]
    threshold: float | None
    threshold_from: str
    impostors: int
    accepted: float | None
    unaligned: int
    every: int
    attackers: Mapping[str, Mapping[str, float]]
    why_no_attackers: str | None

    @property
    def faces(self) -> int:
        """How many faces were compared."""
        return sum(map(len, self.cosines))

    @property
    def mean(self) -> float | None:
        """Mean cosine."""
        values = [value for frame in self.cosines for value in frame]
        return sum(values) / len(values) if values else None

    @property
    def greatest(self) -> float | None:
        """The greatest cosine."""
        return max((value for frame in self.cosines for value in frame), default=None)


class IdentityComparison:
    """Embeds frame by frame; keeps cosines, and embeddings of a sample.

    Args:
        settings: how.
        strangers: ``(S, 3, 112, 112)`` the faces of the settings' strangers, aligned; see :func:`strangers_faces`.
        frames: how many there will be: re-identification takes a sample.
        clips: how many clips they are of. In a single one, one face per frame is one person.
    """

    def __init__(self, settings: IdentitySettings, strangers: Tensor, *, frames: int, clips: int) -> None:
        self.settings, self.clips = settings, clips
        self.every = max(1, math.ceil(frames / _MOST_FRAMES))
        embedder = settings.embedder
        self._strangers = embedder(strangers) if len(strangers) else None
        self._attackers = {
            "naive": ReIdentification(embedder, Naive(), false_accept_rate=_FALSE_ACCEPT_RATE),
            "linkage": ReIdentification(embedder, Linkage(), false_accept_rate=_FALSE_ACCEPT_RATE),
        }
        self._cosines: list[tuple[float, ...]] = []
        self._beside: list[tuple[float, ...]] = []
        self._clear: list[Tensor] = []
        self._impostors: list[float] = []
        self._unaligned = self._sampled = 0
        self._crowded = False

    @torch.no_grad()
    def update(self, originals: Tensor, protected: Tensor, faces: Sequence[Faces], beside: Sequence[Faces]) -> None:
        """Add frames, in their order.

        Args:
            originals: ``(B, 3, H, W)`` in [0, 1].
            protected: ``(B, 3, H, W)`` likewise.
            faces: B entries, the faces of the originals.
            beside: B entries, what else somebody takes for a face there.
        """
        for k, (sure, other) in enumerate(zip(faces, beside, strict=True)):
            self._update(originals[k : k + 1], protected[k : k + 1], sure, other)

    def _update(self, original: Tensor, protected: Tensor, faces: Faces, beside: Faces) -> None:
        number = len(self._cosines)
        self._crowded |= len(faces) > 1
        self._beside.append(self._compared(original, protected, beside)[1])
        clear, cosines = self._compared(original, protected, faces)
        self._cosines.append(cosines)
        self._unaligned += len(faces) - len(cosines)
        if not cosines or number % self.every:
            return
        # Faces of one frame are different people for certain; those of different frames may not be.
        rows, columns = torch.triu_indices(len(clear), len(clear), offset=1)
        self._impostors += cosine(clear, clear)[rows, columns].tolist()
        if self._strangers is not None and self._sampled < _MOST_CLEAR:
            self._impostors += cosine(clear, self._strangers.cpu()).flatten().tolist()
        self._sampled += len(clear)
        if self.settings.identities is None and self._crowded:
            return
        identities = self.settings.identities
        people = [0] * len(faces) if identities is None else identities[number]
        for attacker in self._attackers.values():
            attacker.update(original, protected, [faces.to(original.device)], [people])

    def compute(self) -> IdentityResult:
        """What the attacker learns from all frames."""
        flat = torch.tensor([value for frame in self._cosines for value in frame])
        threshold, source = self._threshold()
        why = self._why_not()
        attackers = {}
        if why is None:
            attackers = {
                name: {key: value.item() for key, value in attacker.compute().items()}
                for name, attacker in self._attackers.items()
            }
        return IdentityResult(
            cosines=self._cosines,
            beside=self._beside,
            threshold=threshold,
            threshold_from=source,
            impostors=len(self._impostors),
            accepted=None if threshold is None or not len(flat) else accept_rate(flat, threshold).item(),
            unaligned=self._unaligned,
            every=self.every,
            attackers=attackers,
            why_no_attackers=why,
        )

    def _compared(self, original: Tensor, protected: Tensor, faces: Faces) -> tuple[Tensor, tuple[float, ...]]:
        """Embeddings of the clear faces and their cosines to the protected ones; none without points to align by."""
        if not len(faces) or faces.landmarks is None or not bool(faces.landmarks.isfinite().all()):
            return torch.zeros(0, 1), ()
        clear, probes = (self.settings.embedder(align(images, [faces])).cpu() for images in (original, protected))
        return clear, tuple(cosine_similarity(clear, probes, dim=-1).clamp(-1, 1).tolist())

    def _threshold(self) -> tuple[float | None, str]:
        if self.settings.threshold is not None:
            return self.settings.threshold, "given"
        value = accept_threshold(torch.tensor(self._impostors), _FALSE_ACCEPT_RATE).item()
        if math.isnan(value):
            return None, "no two people are known to be different: give strangers or a threshold"
        what = "faces of one frame and strangers" if self._strangers is not None else "faces of one frame"
        return value, f"{len(self._impostors)} pairs of different people ({what}), false accept rate 0.001"

    def _why_not(self) -> str | None:
        if not any(self._cosines):
            return "no face could be compared"
        if self.settings.identities is None and self._crowded:
            return "several people are visible and nobody has said who is who"
        if self.settings.identities is None and self.clips > 1:
            return "nobody has said who is who in these files"
        return None


def strangers_faces(
    strangers: Sequence[Tensor], detectors: Sequence[FaceModel], device: str
) -> list[tuple[Tensor, Faces]]:
    """The strangers' pictures, each with the faces that the first detector that finds some with points finds in it.

    Args:
        strangers: pictures ``(1, 3, H, W)`` in [0, 1].
        detectors: readers of boxes, asked in this order.
        device: where pictures are put.

    Raises:
        EvaluationError: no detector finds a face in one of the pictures.
    """
    found: list[tuple[Tensor, Faces]] = []
    for image in strangers:
        image = image.to(device)
        for detector in detectors:
            (faces,) = detector.predict(image)
            if len(faces) and faces.landmarks is not None:
                found.append((image, faces))
                break
        else:
            raise EvaluationError(
                "one of the strangers' pictures shows no face that a detector here finds. Leave it out."
            )
    return found
