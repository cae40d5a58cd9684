"""``Around``: a target model around another one, which to whoever reads is that other one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, TypeVar

from torch import Tensor

from deidlib.faces import Faces
from deidlib.models.base import Target, TargetModel, with_network

T = TypeVar("T", bound=Target)


class Around(TargetModel[T]):
    """Reads as another model does, and has a loss of its own.

    Args:
        model: the other one.
    """

    def __init__(self, model: TargetModel[Any]) -> None:
        super().__init__()
        self.model = model

    @property
    def task(self) -> Literal["boxes", "landmarks", "gaze"]:  # type: ignore[override]
        """The model's."""
        return self.model.task

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name

    @property
    def for_originals(self) -> TargetModel[Any]:
        """The model's."""
        return self.model.for_originals

    def at(self, numbers: Sequence[int]) -> Self:
        """This model for the frames of those numbers."""
        told = self.model.at(numbers)
        return self if told is self.model else with_network(self, "model", told)

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """What the model reads on the whole frames."""
        return self.model.predict(images, faces)
