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
from deidlib.attack.look import Look, Readings, Sight
from deidlib.attack.part import Part
from deidlib.attack.steps import StepRule, StepState
from deidlib.images import to_grid
from deidlib.models.base import Target, TargetModel


class Iterate(NamedTuple):
    """The frames that are still attacked, K of them, after some steps.

    Args:
        step: how many steps.
        active: the frames.
        numbers: which frames of the batch they are: as ``active.number``, known without a look at it.
        images: ``(K, 3, h, w)`` the frames' part as it would be saved.
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

    def frames(self, rows: Tensor) -> Tensor:
        """Some of the frames, ``(R, 3, H, W)``, as they would be saved.

        Args:
            rows: ``(R,)`` long, their places among these.
        """
        return self.active.part.select(rows).whole(self.images[rows])


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
        part: of the frames, ``h`` by ``w`` pixels, outside of which nothing changes.
        images: ``(K, 3, h, w)`` the iterates there.
        low: ``(K, 3, h, w)`` the ball's lowest values.
        high: ``(K, 3, h, w)`` and its highest.
        mask: ``(K, 1 or 3, h, w)``, or ``(K, 1, 1, 1)``, where the perturbation may be.
        state: what the step rule remembers.
        targets: per model, what it is to read.
        distortions: what the frames must survive.
        first: per model ``(K,)``, the losses at the first iterate; nothing before it.
    """

    number: Tensor
    part: Part
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
            part=self.part.select(rows),
            state=self.state.select(rows),
            targets={name: target.select(rows) for name, target in self.targets.items()},
            distortions=[distortion.select(rows) for distortion in self.distortions],
            first={name: loss[rows] for name, loss in self.first.items()},
        )

    def stepped(self, rule: StepRule[Any], gradient: Tensor, objective: Tensor, fine: Mapping[int, Tensor]) -> Self:
        """One step, and back into the ball.

        Args:
            rule: what steps.
            gradient: ``(K, 3, h, w)``.
            objective: ``(K,)``.
            fine: by their places the next iterates of frames that have taken a step already: to the rule they stand
                still.
        """
        if not fine:
            images, state = rule(self.images, gradient * self.mask, objective, self.state)
            return replace(self, images=project(images, self.low, self.high), state=state)
        images, state = self.images.clone(), self.state
        for k, image in fine.items():
            images[k] = image
        if coarse := [k for k in range(len(images)) if k not in fine]:
            rows = torch.tensor(coarse, device=images.device)
            slope = gradient[rows] * self.mask[rows]
            stepped, moved = rule(self.images[rows], slope, objective[rows], state.select(rows))
            images[rows] = project(stepped, self.low[rows], self.high[rows])
            state = state.put(rows, moved)
        return replace(self, images=images, state=state)


class Trace:
    """The best iterate so far of every frame of a batch, and how it went.

    Args:
        images: ``(B, 3, h, w)`` the first iterates, on the uint8 grid.
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
        """Note how many backward passes frames cost: those of the model of which most are asked.

        Args:
            numbers: the frames.
            done: which of them go no further.
            asked: what was asked of those that are near.
        """
        for k, i in enumerate(numbers):
            if not done[k]:
                self.gradients[i] += 1 if asked is None else asked.passes(k)

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
        sight = Sight(active.part, active.mask > 0, active.distortions)
        look = Look.of(models, active.targets, sight, shipped, with_gradient=n < steps, reading=reads)
        losses = look.losses
        active = active if active.first else replace(active, first=losses)
        combined = Losses(losses, active.first, weights)
        objective, _ = aggregate(combined, {})
        iterate = Iterate(n, active, numbers, shipped, losses, objective, look.readings)
        done = [False] * len(numbers) if goal is None else goal.reached(iterate)
        trace.record(iterate, done)
        if looked is not None:
            looked(iterate, done)
        if n == steps or all(done):
            break
        ball, asked = (active.low, active.high), None
        if fine is not None and goal is not None and (offsets := goal.offsets(iterate)):
            asked = fine.ask(offsets, numbers, done, ball)
        raw = look.gradients(asked)
        _, gradient = aggregate(combined, raw)
        stepped = {}
        if asked is not None and fine is not None:
            stepped = fine.take(asked, numbers, shipped, ball, raw, look.rows(asked))
        trace.count(numbers, done, asked)
        if any(done):
            kept = [k for k, reached in enumerate(done) if not reached]
            numbers, rows = [numbers[k] for k in kept], torch.tensor(kept, device=objective.device)
            active, gradient, objective = active.select(rows), gradient[rows], objective[rows]
        fine_ones = {k: stepped[i] for k, i in enumerate(numbers) if i in stepped}
        active = active.stepped(rule, gradient, objective, fine_ones)
    return trace


def project(images: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The nearest images of a ball, given its lowest and highest values."""
    return torch.minimum(torch.maximum(images, low), high)
