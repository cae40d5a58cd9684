"""Whether people are still recognised: MobileFaceNet under three attackers, over both clips and strangers' pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.metrics import Linkage, Naive, OnnxEmbedder, Parrot, ReIdentification, align, cosine
from deidlib.models.retinaface import RetinaFace

from .cases import CLIPS, HIDING, Case, large, strangers
from .work import protect, run

# Faces behind a hand, or cut off by the frame, say little about who they are, in the original either.
_CLEAR, _SMALLEST = 0.99, 60.0
# Clear faces of the clips at least this alike are one person (different people: 0.29 at most, 0.05 on average).
_ONE_PERSON = 0.4


def measure_identity(hiding: str, authorised: str, folder: Path) -> dict[str, Any]:
    """What each attacker achieves against one way of protecting. Kept in the folder."""
    kept = folder / f"identity-{Case('all', hiding, authorised).folder}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    embedder = OnnxEmbedder()
    sources = list(_sources(hiding, authorised, folder, embedder))
    result: dict[str, Any] = {"hiding": hiding, "authorised": authorised}
    result["people"] = len({name for *_, identities in sources for names in identities for name in names})
    for name, attacker in (("naive", Naive()), ("parrot", Parrot(HIDING[hiding])), ("linkage", Linkage())):
        metric = ReIdentification(embedder, attacker, false_accept_rate=0.01)
        for originals, protected, faces, identities in sources:
            metric.update(originals, protected, faces, identities)
        result[name] = {key: float(value) for key, value in metric.compute().items()}
        result[name]["cosine_same_max"] = float(metric.per_face()["cosine_same"].max())
    kept.write_text(json.dumps(result))
    return result


Source = tuple[Tensor, Tensor, list[Faces], list[list[int]]]


def _sources(hiding: str, authorised: str, folder: Path, embedder: Callable[[Tensor], Tensor]) -> list[Source]:
    """Frames, protected frames, faces, and who they are."""
    retinaface = RetinaFace()
    sources: list[Source] = []
    people = 0
    for clip in CLIPS:
        originals, fps = CLIPS[clip].frames()
        _, protected = protect(Case(clip, hiding, authorised), originals, fps, folder)
        faces = _clear(retinaface, originals)
        identities = _identities(originals, faces, embedder, people)
        people = 1 + max(name for names in identities for name in names)
        sources.append((originals, protected, faces, identities))
    for image in strangers():
        _, protected = run(Case("", hiding, authorised), image)
        faces = _clear(retinaface, image)
        identities = [list(range(people, people + len(faces[0])))]
        people += len(faces[0])
        sources.append((image, protected, faces, identities))
    return sources


def _clear(retinaface: RetinaFace, images: Tensor) -> list[Faces]:
    faces = [known for part in torch.split(images, 8) for known in retinaface.predict(part)]
    faces = [known[known.scores > _CLEAR] for known in large(faces, _SMALLEST)]
    end = images.new_tensor([images.shape[3], images.shape[2]])
    clear = []
    for known in faces:
        assert known.landmarks is not None
        clear.append(known[((known.landmarks >= 0) & (known.landmarks <= end)).all(dim=2).all(dim=1)])
    return clear


def _identities(
    images: Tensor, faces: Sequence[Faces], embedder: Callable[[Tensor], Tensor], first: int
) -> list[list[int]]:
    """Who is who in a clip, by the clear faces: each joins the person it is most like, or is a new one."""
    people: list[Tensor] = []
    identities: list[list[int]] = []
    for image, known in zip(images, faces, strict=True):
        names: list[int] = []
        for vector in torch.nn.functional.normalize(embedder(align(image[None], [known])), dim=-1):
            alike = [
                -1.0 if first + number in names else float(cosine(vector[None], person.mean(dim=0)[None]))
                for number, person in enumerate(people)
            ]
            best = max(range(len(alike)), key=alike.__getitem__, default=-1)
            if best >= 0 and alike[best] > _ONE_PERSON:
                people[best] = torch.cat([people[best], vector[None]])
            else:
                best = len(people)
                people.append(vector[None])
            names.append(first + best)
        identities.append(names)
    return identities
