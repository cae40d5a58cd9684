"""How the losses of several models become one direction to walk in and one number to compare iterates by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from deidlib.images import scaled_to_one, sum_in_order


class Losses(NamedTuple):
    """The losses of all models at one iterate.

    Attributes:
        now: per model ``(B,)``, at the current iterate, not yet weighted.
        first: per model ``(B,)``, at the first iterate.
        weights: per model.
    """

    now: Mapping[str, Tensor]
    first: Mapping[str, Tensor]
    weights: Mapping[str, float]


class Aggregator(ABC):
    """Combines weighted per-model losses and gradients. Frames must not influence each other."""

    @abstractmethod
    def __call__(self, losses: Losses, gradients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Combine.

        Args:
            losses: what there is to combine.
            gradients: per model ``(B, 3, H, W)``; empty after the last step, when nobody needs a direction.

        Returns:
            The objective ``(B,)``, lower is better and comparable between iterates of a frame, and the
            gradient ``(B, 3, H, W)``; ``torch.empty(0)`` if ``gradients`` is empty.
        """


@dataclass(frozen=True)
class Sum(Aggregator):
    """The paper's L = L_B + L_LM + L_G, each term times its weight."""

    def __call__(self, losses: Losses, gradients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weighted sums of losses and of gradients."""
        return _weighted(losses.now, losses.weights), _weighted(gradients, losses.weights)


@dataclass(frozen=True)
class GradientNorm(Aggregator):
    """Every model pulls equally hard: its gradient is divided by its own L1 norm, frame by frame.

    Losses of different kinds differ by orders of magnitude; in a plain sum the largest decides every sign.
    The objective is the weighted sum of each loss relative to its value at the first iterate, or to 1 where that is
    less: a model that happens to read the hidden frame well must not forbid every step that helps the others.

    Example:
        >>> losses = {"boxes": torch.tensor([9.0]), "gaze": torch.tensor([0.5])}
        >>> first = {"boxes": torch.tensor([18.0]), "gaze": torch.tensor([0.5])}
        >>> slopes = {name: loss.view(1, 1, 1, 1).expand(1, 3, 2, 2) for name, loss in losses.items()}
        >>> weights = {"boxes": 1.0, "gaze": 1.0}
        >>> objective, gradient = GradientNorm()(Losses(losses, first, weights), slopes)
        >>> objective, gradient[0, 0, 0, 0].div(1 / 12)  # 12 values: each gradient's share is a twelfth
        (tensor([1.]), tensor(2.))
    """

    def __call__(self, losses: Losses, gradients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weighted sums of relative losses and of unit gradients."""
        relative = {name: loss / losses.first[name].clamp(min=1) for name, loss in losses.now.items()}
        unit = {name: scaled_to_one(gradient) for name, gradient in gradients.items()}
        return _weighted(relative, losses.weights), _weighted(unit, losses.weights)


@dataclass(frozen=True)
class Staged(Aggregator):
    """The reference implementation's schedule: a model joins once all models before it are below threshold.

    The reference compares a batch mean divided once more by the batch size; here every frame is judged by its
    own loss.

    Args:
        thresholds: per model, in the order of the stages (detector, landmarks, gaze). Models not named
            take part from the start.
    """

    thresholds: Mapping[str, float]

    def __call__(self, losses: Losses, gradients: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The sum of the losses as objective; the gradients of the models whose turn it is."""
        unknown = [name for name in self.thresholds if name not in losses.now]
        if unknown:
            raise ValueError(f"Staged names models that are not attacked: {unknown}; attacked are {list(losses.now)}.")
        open_ = {name: torch.ones_like(loss, dtype=torch.bool) for name, loss in losses.now.items()}
        reached = None
        for name, threshold in self.thresholds.items():
            if reached is not None:
                open_[name] = reached
            below = losses.now[name] < threshold
            reached = below if reached is None else reached & below
        gated = {name: gradient * open_[name][:, None, None, None] for name, gradient in gradients.items()}
        return _weighted(losses.now, losses.weights), _weighted(gated, losses.weights)


def _weighted(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    if not terms:
        return torch.empty(0)
    weighted = [term if weights[name] == 1 else weights[name] * term for name, term in terms.items()]
    return weighted[0] if len(weighted) == 1 else sum_in_order(torch.stack(weighted))
