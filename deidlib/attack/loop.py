"""The loop of the attack: ``Active``, the frames that are still attacked; ``Trace``, what is kept of each iterate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from deidlib.attack.aggregation import Aggregator, Losses
from deidlib.attack.distortion import Distortion
from deidlib.attack.fine_steps import Asked, FineSteps
from deidlib.attack.reading_step import offset_length
from deidlib.attack.steps import StepRule, StepState
from deidlib.images import sum_in_order, to_grid
from deidlib.models.base import Reading, Target, TargetModel

Readings = Mapping[str, Sequence[Reading | None]]
"""Per model, one entry per distortion: what it reads on the frames, None if it has not said so."""


Gradients = Callable[[Asked | None], dict[str, Tensor]]
"""Each model's gradients: of its loss, or of what is asked of frames that are near."""


class Iterate(NamedTuple):
    """The frames that are still attacked, K of them, after some steps.

    Args:
        step: how many steps.
        active: the frames.
        numbers: which frames of the batch they are: as ``active.number``, known without a look at it.
        images: ``(K, 3, H, W)`` as they would be saved.
        losses: per model ``(K,)``.
        objective: ``(K,)`` the combined loss.
        readings: what models read in the forward pass of the losses.
    """

    step: int
    active: Active
    numbers: Sequence[int]
    images: Tensor
    losses: Mapping[str, Tensor]
    objective: Tensor
    readings: Readings


class Goal(ABC):
    """When a frame is done."""

    reads = False
    """Whether it goes by what models read."""

    @abstractmethod
    def reached(self, iterate: Iterate) -> list[bool]:
        """Which of the frames are done. What says so is waited for, once a step if it can be."""

    def offsets(self, iterate: Iterate) -> dict[str, Tensor] | None:
        """Per model ``(K, N, R)``, with a graph: what is read of each face less what is to be read.

        None if not all models say so.
        """
        return None


@dataclass(frozen=True)
class Threshold(Goal):
    """The paper's: a low loss.

    Args:
        below: what the objective must be below, or each named model's own loss.
    """

    below: float | Mapping[str, float]

    def reached(self, iterate: Iterate) -> list[bool]:
        """Which losses are low enough."""
        if isinstance(self.below, Mapping):
            low = torch.stack([iterate.losses[name] < limit for name, limit in self.below.items()]).all(dim=0)
        else:
            low = iterate.objective < self.below
        return [bool(is_low) for is_low in low.tolist()]


@dataclass(frozen=True, eq=False)
class Active:
    """The frames of a batch that are still attacked, K of them: all that goes on from one step to the next.

    Args:
        number: ``(K,)`` long, which frames of the batch they are.
        images: ``(K, 3, H, W)`` the iterates.
        low: ``(K, 3, H, W)`` the ball's lowest values.
        high: ``(K, 3, H, W)`` and its highest.
        mask: ``(K, 1 or 3, H, W)``, or ``(K, 1, 1, 1)``, where the perturbation may be.
        state: what the step rule remembers.
        targets: per model, what it is to read.
        distortions: what the frames must survive.
        first: per model ``(K,)``, the losses at the first iterate; nothing before it.
    """

    number: Tensor
    images: Tensor
    low: Tensor
    high: Tensor
    mask: Tensor
    state: StepState
    targets: Mapping[str, Target]
    distortions: Sequence[Distortion]
    first: Mapping[str, Tensor]

    def select(self, rows: Tensor) -> Self:
        """Some of the frames.

        Args:
            rows: ``(R,)`` long, their places among these.
        """
        tensors = {f.name: v[rows] for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        return replace(
            self,
            **tensors,
            state=self.state.select(rows),
            targets={name: target.select(rows) for name, target in self.targets.items()},
            distortions=[distortion.select(rows) for distortion in self.distortions],
            first={name: loss[rows] for name, loss in self.first.items()},
        )

    def stepped(self, rule: StepRule[Any], gradient: Tensor, objective: Tensor) -> Self:
        """One step of the rule, and back into the ball."""
        images, state = rule(self.images, gradient * self.mask, objective, self.state)
        return replace(self, images=project(images, self.low, self.high), state=state)


class Trace:
    """The best iterate so far of every frame of a batch, and how it went.

    Args:
        images: ``(B, 3, H, W)`` the first iterates, on the uint8 grid.
        names: of the models.
    """

    def __init__(self, images: Tensor, names: Sequence[str]) -> None:
        self.images = images
        self.iterations = [0] * len(images)
        self.converged = [False] * len(images)
        self.best = torch.zeros(len(images), dtype=torch.long, device=images.device)
        self.gradients = [0] * len(images)
        self._names = names
        self._least = images.new_full((len(images),), torch.inf)
        # Per step the frames, and their losses by model and combined.
        self._seen: list[tuple[Sequence[int], list[Tensor]]] = []

    def record(self, iterate: Iterate, done: Sequence[bool]) -> None:
        """Look at an iterate of some of the frames.

        Args:
            iterate: K frames.
            done: which of them have reached the goal.
        """
        step, number, images, objective = iterate.step, iterate.active.number, iterate.images, iterate.objective
        self._seen.append((iterate.numbers, [*iterate.losses.values(), objective]))
        for i, reached in zip(iterate.numbers, done, strict=True):
            self.iterations[i], self.converged[i] = step, reached
        every = len(iterate.numbers) == len(self.iterations)
        least, kept, best = (known if every else known[number] for known in (self._least, self.images, self.best))
        better = objective < least
        if any(done):
            # An iterate that meets the goal is the answer even if an earlier sum was lower.
            better = better | torch.tensor(done, device=number.device)
        # Chosen by value rather than by place: which frames are better is not waited for.
        kept = torch.where(better[:, None, None, None], images, kept)
        least, best = torch.where(better, objective, least), torch.where(better, step, best)
        if every:
            self._least, self.images, self.best = least, kept, best
        else:
            self._least[number], self.images[number], self.best[number] = least, kept, best

    def count(self, numbers: Sequence[int], done: Sequence[bool], asked: Asked | None) -> None:
        """Note which frames cost a backward pass of some model.

        Args:
            numbers: the frames.
            done: which of them go no further.
            asked: what was asked of those that are near.
        """
        for k, i in enumerate(numbers):
            if not done[k] and (asked is None or asked.gradient(k)):
                self.gradients[i] += 1

    def history(self) -> tuple[dict[str, Tensor], Tensor]:
        """The losses per model, and the combined ones: ``(T + 1, B)`` each, row n after n steps.

        NaN where a frame was not looked at any more.
        """
        shape = (len(self._names) + 1, len(self._seen), len(self.iterations))
        tables, first = self._least.new_full(shape, torch.nan), 0
        for _, same in groupby(self._seen, key=lambda seen: tuple(seen[0])):
            # Steps in a row that looked at the same frames.
            steps = list(same)
            at = torch.tensor(steps[0][0], device=tables.device)
            values = torch.stack([torch.stack(losses) for _, losses in steps], dim=1)
            tables[:, first : first + len(steps), at] = values.to(tables)
            first += len(steps)
        *losses, objective = tables.unbind()
        return dict(zip(self._names, losses, strict=True)), objective


def descend(
    active: Active,
    models: Mapping[str, TargetModel[Any]],
    *,
    steps: int,
    rule: StepRule[Any],
    aggregate: Aggregator,
    weights: Mapping[str, float],
    goal: Goal | None,
    fine: FineSteps | None = None,
    looked: Callable[[Iterate, Sequence[bool]], object] | None = None,
) -> Trace:
    """Step until every frame has reached the goal, or ``steps`` times.

    Args:
        active: the frames before the first step.
        models: by name.
        steps: at most.
        rule: the step rule.
        aggregate: how several models' losses are summed.
        weights: per model.
        goal: which frames are done; None: none before the last step.
        fine: the steps of frames that are read nearly as they should; None: the rule's.
        looked: told every iterate, and which of its frames are done.
    """
    trace, reads = Trace(to_grid(active.images), list(models)), goal is not None and goal.reads
    # What the host must know of the frames it keeps itself, so that it need not ask.
    numbers = list(range(len(active.images)))
    for n in range(steps + 1):
        shipped = to_grid(active.images)
        losses, readings, gradients = _look(models, active, shipped, with_gradient=n < steps, reading=reads)
        active = active if active.first else replace(active, first=losses)
        combined = Losses(losses, active.first, weights)
        objective, _ = aggregate(combined, {})
        iterate = Iterate(n, active, numbers, shipped, losses, objective, readings)
        done = [False] * len(numbers) if goal is None else goal.reached(iterate)
        trace.record(iterate, done)
        if looked is not None:
            looked(iterate, done)
        if n == steps or all(done):
            break
        ball, asked = (active.low, active.high), None
        if fine is not None and goal is not None and (offsets := goal.offsets(iterate)):
            asked = fine.ask(offsets, numbers, done, ball)
        raw = gradients(asked)
        _, gradient = aggregate(combined, raw)
        stepped = {} if asked is None or fine is None else fine.take(asked, numbers, shipped, ball, raw)
        trace.count(numbers, done, asked)
        if any(done):
            kept = [k for k, reached in enumerate(done) if not reached]
            numbers, rows = [numbers[k] for k in kept], torch.tensor(kept, device=objective.device)
            active, gradient, objective = active.select(rows), gradient[rows], objective[rows]
        active = active.stepped(rule, gradient, objective)
        if stepped:
            images = active.images.clone()
            for k, i in enumerate(numbers):
                if i in stepped:
                    images[k] = stepped[i]
            active = replace(active, images=images)
    return trace


def project(images: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The nearest images of a ball, given its lowest and highest values."""
    return torch.minimum(torch.maximum(images, low), high)


def _look(
    models: Mapping[str, TargetModel[Any]], active: Active, images: Tensor, *, with_gradient: bool, reading: bool
) -> tuple[dict[str, Tensor], Readings, Gradients]:
    """Each model's losses, what it reads if wanted, and its gradients when asked for: means over the distortions."""
    losses: dict[str, Tensor] = {}
    readings: dict[str, list[Reading | None]] = {}
    gradients: dict[str, Callable[[Asked | None], Tensor]] = {}
    for name, model in models.items():
        seen = [
            _see(name, model, active.targets[name], images, distortion, with_gradient=with_gradient, reading=reading)
            for distortion in active.distortions or (None,)
        ]
        losses[name] = _mean([loss for loss, _, _ in seen])
        readings[name] = [read for _, read, _ in seen]
        if with_gradient:
            slopes = [slope for _, _, slope in seen]
            gradients[name] = lambda asked, slopes=slopes: _mean([slope(asked) for slope in slopes])  # type: ignore[misc]
            if not reading:
                # At once, so that only one graph lives at a time; a frame that may be done needs none.
                known = gradients[name](None)
                gradients[name] = lambda asked, known=known: known  # type: ignore[misc]
    return (
        losses,
        readings,
        lambda asked: {name: gradient(asked) for name, gradient in gradients.items()},
    )


def _see(
    name: str,
    model: TargetModel[Any],
    target: Target,
    images: Tensor,
    distortion: Distortion | None,
    *,
    with_gradient: bool,
    reading: bool,
) -> tuple[Tensor, Reading | None, Callable[[Asked | None], Tensor]]:
    """A model's loss ``(B,)`` on what comes out of a distortion, what it reads there, and a gradient.

    It is the loss's; of a frame that is near, that of the lengths of the offsets of the faces asked for, or 0.
    """
    leaf = images.detach().requires_grad_(with_gradient)
    read: Reading | None = None
    with torch.set_grad_enabled(with_gradient):
        seen = leaf if distortion is None else distortion(leaf)
        if reading:
            loss, read = model.loss_and_reading(seen, target)
        else:
            loss = model.loss(seen, target)
    if loss.shape != (len(images),):
        raise ValueError(
            f"{name}.loss must return one value per frame, shape ({len(images)},), got {tuple(loss.shape)}."
        )

    def slope(asked: Asked | None) -> Tensor:
        gradient, wanted = None, loss
        if asked is not None and any(asked.near):
            faces = asked.faces[name]
            if all(asked.near) and not any(map(any, faces)):
                return torch.zeros_like(images)
            # Sent at once.
            flags = [[is_near, *whose] for is_near, whose in zip(asked.near, faces, strict=True)]
            near, whose = torch.split(torch.tensor(flags, device=loss.device), [1, len(faces[0])], dim=1)
            wanted = torch.where(near[:, 0], (offset_length(asked.offsets[name]) * whose).sum(dim=1), loss)
        # Without a face in the whole batch, nothing depends on the images.
        if wanted.requires_grad:
            (gradient,) = torch.autograd.grad(wanted.sum(), leaf, allow_unused=True)
        return torch.zeros_like(images) if gradient is None else gradient.nan_to_num_(0.0, 0.0, 0.0)

    # A loss that is not a number must never be the best.
    return loss.detach().nan_to_num(nan=torch.inf), read, slope


def _mean(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else sum_in_order(torch.stack(terms)) / len(terms)
