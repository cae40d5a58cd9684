"""``AttackStep``: what an attack is told to say of itself, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class AttackStep:
    """An attack after some of its steps: what ``on_step`` of :class:`~deidlib.IFGSMAttacker` is called with.

    Args:
        number: how many steps were taken: 0 before the first.
        most: how many there are at most.
        frames: which frames were looked at, K of them: their numbers in the clip if those were given, else their places
            in the batch.
        working: those of them that are still at work after this look; the others are done.
        losses: per model ``(K,)``, not weighted, as the models see the frames that would be saved. They lie where the
            models are: whoever looks at the numbers waits for them, and nobody else does. To be read, not changed.

    Example:
        >>> import torch
        >>> AttackStep(3, 60, frames=[0, 1], working=[1], losses={"mtcnn": torch.tensor([0.0, 2.0])}).mean_losses()
        {'mtcnn': 1.0}
    """

    number: int
    most: int
    frames: Sequence[int]
    working: Sequence[int]
    losses: Mapping[str, Tensor]

    def mean_losses(self) -> dict[str, float]:
        """Each model's loss, the mean over the frames looked at; it is waited for."""
        return {name: float(loss.mean()) for name, loss in self.losses.items()}
