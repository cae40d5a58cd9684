"""``Discreet``: an authorised model that is to read while others find nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deidlib.faces import Faces
from deidlib.models.base import Around, Reading, Target, TargetModel


@dataclass(frozen=True, eq=False)
class DiscreetTarget(Target):
    """One row per frame.

    Args:
        frame: ``(B,)``.
        inner: what the authorised model is to read.
        others: where each of the others is to find nothing.
    """

    inner: Target
    others: tuple[Target, ...]


class Discreet(Around[DiscreetTarget]):
    """An authorised model and what others are to leave alone: to whoever reads, it is the authorised model.

    Its loss is the model's plus the others', so that an attack, a tolerance, a check and a report know one model, whose
    reading says where the others are to find nothing. Nothing of the others is read on the originals.

    Args:
        model: the authorised model.
        others: what is added to its loss, such as :class:`~deidlib.models.silent.Silent` detectors; their targets are
            made from the model's own reading.

    Raises:
        ValueError: no others.

    Example:
        >>> from deidlib.models.mtcnn import MTCNN
        >>> from deidlib.models.silent import Silent
        >>> model = Discreet(MTCNN(), [Silent(MTCNN())])  # pointless, but it has all its weights
        >>> model.name, model.predict(torch.rand(1, 3, 64, 64))
        ('mtcnn', [Faces(n=0)])
    """

    def __init__(self, model: TargetModel[Any], others: Sequence[TargetModel[Any]]) -> None:
        super().__init__(model)
        if not others:
            raise ValueError("Discreet needs models whose losses are added, got none: use the model as it is.")
        self.others = nn.ModuleList(others)

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> DiscreetTarget:
        """What the model is to read, and where the others are to find nothing."""
        frame = torch.arange(len(reading), device=reading[0].boxes.device)
        others = tuple(other.target(reading, size) for other in self._others())
        return DiscreetTarget(frame, self.model.target(reading, size), others)

    def loss(self, images: Tensor, target: DiscreetTarget) -> Tensor:
        """The model's loss and the others', ``(B,)``."""
        return self.model.loss(images, target.inner) + self._beside(images, target)

    def loss_and_reading(self, images: Tensor, target: DiscreetTarget) -> tuple[Tensor, Reading | None]:
        """The same, and what the model reads."""
        loss, reading = self.model.loss_and_reading(images, target.inner)
        return loss + self._beside(images, target), reading

    def _others(self) -> list[TargetModel[Any]]:
        return [other for other in self.others if isinstance(other, TargetModel)]

    def _beside(self, images: Tensor, target: DiscreetTarget) -> Tensor:
        losses = [other.loss(images, where) for other, where in zip(self._others(), target.others, strict=True)]
        return torch.stack(losses).sum(dim=0)
