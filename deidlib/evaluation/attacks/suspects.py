"""``Suspects``: clear pictures of people, and whom a picture is most like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deidlib.evaluation.attacks.superresolution import on_canvas
from deidlib.faces import Faces
from deidlib.metrics import Embedder, align, cosine


@dataclass(frozen=True, eq=False)
class Suspects:
    """Clear pictures of people, as an attacker has them.

    Args:
        crops: ``(N, 3, 112, 112)`` in [0, 1], aligned.
        canvases: ``(N, 3, 64, 64)`` the same with what lies around, see
            :func:`~deidlib.evaluation.attacks.superresolution.on_canvas`.
        people: ``(N,)`` long, who each shows.

    Raises:
        ValueError: not as many of each.
    """

    crops: Tensor
    canvases: Tensor
    people: Tensor

    def __post_init__(self) -> None:
        if not len(self.crops) == len(self.canvases) == len(self.people):
            raise ValueError(
                f"suspects need a crop, a canvas and a name each, got {len(self.crops)}, {len(self.canvases)} and "
                f"{len(self.people)}."
            )

    def __len__(self) -> int:
        return len(self.people)

    @classmethod
    def none(cls) -> Suspects:
        """Nobody."""
        crops = torch.zeros(0, 3, 112, 112)
        return cls(crops, crops[:, :, :64, :64], torch.zeros(0, dtype=torch.long))

    @classmethod
    def of(cls, images: Tensor, faces: Sequence[Faces], people: Sequence[int]) -> Suspects:
        """From pictures.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1].
            faces: B entries with landmarks.
            people: who each face is, frame by frame, by a number.
        """
        names = torch.tensor(list(people), dtype=torch.long)
        return cls(align(images, faces).cpu(), on_canvas(images, faces).cpu(), names)

    def __add__(self, other: Suspects) -> Suspects:
        """The pictures of both."""
        return Suspects(
            torch.cat([self.crops, other.crops]),
            torch.cat([self.canvases, other.canvases]),
            torch.cat([self.people, other.people]),
        )


@dataclass(frozen=True)
class Ranking:
    """Where the right person stands among all suspects, by their most similar picture each.

    Args:
        place: 1 is the most alike; equals count against him.
        blank: his place if the attacker holds a grey picture in its stead: a place that is no better was not found in
            the file. Some people's pictures are more like nothing than others'.
        of: how many people there are.
        cosine: of the right person's most similar picture.
        other: of the most similar picture of anybody else; None if there is nobody else.
    """

    place: int
    blank: int
    of: int
    cosine: float
    other: float | None


def ranked(embedder: Embedder, picture: Tensor, pictures: Tensor, people: Tensor, person: int) -> Ranking:
    """Compare a picture with those of all suspects.

    Args:
        embedder: the recogniser.
        picture: ``(1, 3, 112, 112)``.
        pictures: ``(N, 3, 112, 112)``.
        people: ``(N,)`` long, who they show.
        person: whom the picture shows.

    Raises:
        ValueError: there is no picture of that person.
    """
    names = people.tolist()
    if person not in names:
        raise ValueError(f"there is no picture of person {person} to compare with.")
    gallery = embedder(pictures)
    own, others = _best(cosine(embedder(picture), gallery)[0].tolist(), names, person)
    blank = _best(cosine(embedder(torch.full_like(picture, 0.5)), gallery)[0].tolist(), names, person)
    return Ranking(_place(own, others), _place(*blank), 1 + len(others), own, max(others, default=None))


def _best(alike: Sequence[float], people: Sequence[int], person: int) -> tuple[float, list[float]]:
    """The most similar picture of the person, and of each of the others."""
    best: dict[int, float] = {}
    for value, name in zip(alike, people, strict=True):
        best[name] = max(value, best.get(name, -2.0))
    return best.pop(person), list(best.values())


def _place(own: float, others: Sequence[float]) -> int:
    # Whoever is not less alike stands before him: a picture that is like everybody's proves nothing.
    return 1 + sum(not value < own for value in others)
