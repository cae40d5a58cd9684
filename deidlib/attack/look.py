"""``Look``: what models say of some frames, and what a backward pass says of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from deidlib.attack.distortion import Distortion
from deidlib.attack.fine_steps import Asked
from deidlib.attack.part import Part
from deidlib.attack.reading_step import offset_length
from deidlib.images import sum_in_order
from deidlib.models.base import Reading, Target, TargetModel

Readings = Mapping[str, Sequence[Reading | None]]
"""Per model, one entry per distortion: what it reads on the frames, None if it has not said so."""


@dataclass(frozen=True, eq=False)
class Sight:
    """What lies between the frames, K of them, and the models.

    Args:
        part: of the frames, which is all that changes.
        free: ``(K, 1 or 3, h, w)`` bool, or ``(K, 1, 1, 1)``, what in it may change.
        distortions: through which the models see the frames.
    """

    part: Part
    free: Tensor
    distortions: Sequence[Distortion]


@dataclass(eq=False)
class _Seen:
    """What a model says of frames, K of them, after a distortion.

    Args:
        name: of the model.
        leaf: ``(K, 3, h, w)`` the frames' part, which slopes are taken by.
        free: ``(K, 1 or 3, h, w)`` bool, where these count; or ``(K, 1, 1, 1)``, everywhere.
        loss: ``(K,)`` with a graph.
        read: what it reads.
        known: its gradient, where that was taken at once.
    """

    name: str
    leaf: Tensor
    free: Tensor
    loss: Tensor
    read: Reading | None
    known: Tensor | None = None

    @classmethod
    def of(
        cls,
        name: str,
        model: TargetModel[Any],
        target: Target,
        images: Tensor,
        sight: Sight,
        distortion: Distortion | None,
        *,
        with_gradient: bool,
        reading: bool,
    ) -> Self:
        """Let the model look."""
        leaf, read = images.detach().requires_grad_(with_gradient), None
        with torch.set_grad_enabled(with_gradient):
            seen = sight.part.whole(leaf)
            if distortion is not None:
                seen = distortion(seen)
            if reading:
                loss, read = model.loss_and_reading(seen, target)
            else:
                loss = model.loss(seen, target)
        if loss.shape != (len(images),):
            raise ValueError(
                f"{name}.loss must return one value per frame, shape ({len(images)},), got {tuple(loss.shape)}."
            )
        return cls(name, leaf, sight.free, loss, read)

    def gradient(self, asked: Asked | None) -> Tensor:
        """The loss's ``(K, 3, h, w)``; of a frame that is near, that of the lengths of the offsets asked for, or 0."""
        if self.known is not None:
            return self.known
        wanted, more = self.loss, False
        if asked is not None and any(asked.near):
            faces, more = asked.faces[self.name], any(map(any, asked.whole[self.name]))
            if all(asked.near) and not any(map(any, faces)):
                return torch.zeros_like(self.leaf)
            # Sent at once.
            flags = [[is_near, *whose] for is_near, whose in zip(asked.near, faces, strict=True)]
            near, whose = torch.split(torch.tensor(flags, device=wanted.device), [1, len(faces[0])], dim=1)
            wanted = torch.where(near[:, 0], (offset_length(asked.offsets[self.name]) * whose).sum(dim=1), self.loss)
        return self._slope(wanted, more=more)

    def rows(self, asked: Asked) -> Iterator[Tensor]:
        """One after the other ``(K, 3, h, w)`` of each of the numbers read, of the faces of which all are asked for."""
        whole = asked.whole[self.name]
        if not any(map(any, whole)):
            return
        offsets = asked.offsets[self.name].nan_to_num(nan=0.0)
        columns = (offsets * torch.tensor(whole, device=offsets.device)[..., None]).sum(dim=1).unbind(dim=1)
        for number, column in enumerate(columns, 1):
            yield self._slope(column, more=number < len(columns))

    def _slope(self, wanted: Tensor, *, more: bool) -> Tensor:
        """The gradient of values ``(K,)``, each by its own frame; the graph is kept if more are to be taken."""
        gradient = None
        # Without a face in the whole batch, nothing depends on the images.
        if wanted.requires_grad:
            (gradient,) = torch.autograd.grad(wanted.sum(), self.leaf, retain_graph=more, allow_unused=True)
        if gradient is None:
            return torch.zeros_like(self.leaf)
        # Where nothing may change there is no slope, whatever else of the frame lies in the part.
        return gradient.nan_to_num_(0.0, 0.0, 0.0).mul_(self.free)


@dataclass(frozen=True, eq=False)
class Look:
    """What models say of frames: means over the distortions.

    Args:
        losses: per model ``(K,)``.
        readings: what models read in the forward pass of the losses.
    """

    losses: Mapping[str, Tensor]
    readings: Readings
    _seen: Mapping[str, Sequence[_Seen]]

    @classmethod
    def of(
        cls,
        models: Mapping[str, TargetModel[Any]],
        targets: Mapping[str, Target],
        sight: Sight,
        images: Tensor,
        *,
        with_gradient: bool,
        reading: bool,
    ) -> Self:
        """Let models look at frames.

        Args:
            models: by name.
            targets: per model what it is to read.
            sight: through what they see them.
            images: ``(K, 3, h, w)`` the frames' part.
            with_gradient: whether gradients will be asked for.
            reading: whether the models are to say what they read.
        """
        losses: dict[str, Tensor] = {}
        seen: dict[str, list[_Seen]] = {}
        for name, model in models.items():
            seen[name] = [
                _Seen.of(name, model, targets[name], images, sight, one, with_gradient=with_gradient, reading=reading)
                for one in sight.distortions or (None,)
            ]
            # A loss that is not a number must never be the best.
            losses[name] = _mean([one.loss.detach().nan_to_num(nan=torch.inf) for one in seen[name]])
            if with_gradient and not reading:
                # At once, so that only one graph lives at a time; a frame that may be done needs none.
                for one in seen[name]:
                    one.known, one.loss = one.gradient(None), one.loss.detach()
        return cls(losses, {name: [one.read for one in looks] for name, looks in seen.items()}, seen)

    def gradients(self, asked: Asked | None) -> dict[str, Tensor]:
        """Per model ``(K, 3, h, w)``: of its loss, or of what is asked of frames that are near."""
        return {name: _mean([one.gradient(asked) for one in looks]) for name, looks in self._seen.items()}

    def rows(self, asked: Asked) -> dict[str, Iterator[Tensor]]:
        """Per model the slopes of every number that it reads, see :attr:`Asked.whole`; after the gradients, once."""
        return {name: looks[0].rows(asked) for name, looks in self._seen.items()}


def _mean(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else sum_in_order(torch.stack(terms)) / len(terms)
