"""Step rules: where the next iterate lies, given the gradient at this one. Projection is the attacker's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from deidlib.images import scaled_to_one


@dataclass(frozen=True, eq=False)
class StepState:
    """What a rule remembers between steps: tensors with one row per frame. Rules subclass it."""

    def select(self, rows: Tensor) -> Self:
        """The state of some frames: called when finished frames leave the batch.

        Args:
            rows: ``(K,)`` long.
        """
        return replace(
            self,
            **{f.name: value[rows] for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)},
        )

    def put(self, rows: Tensor, state: Self) -> Self:
        """The state with that of some frames replaced: called where only these took a step.

        Args:
            rows: ``(K,)`` long.
            state: of these frames.

        Raises:
            TypeError: the class selects frames in a way of its own, and does not say how they are put back.
        """
        kind = type(self)
        if kind.select is not StepState.select and kind.put is StepState.put:
            raise TypeError(f"{kind.__name__} overrides select and not put. Give it put, which takes rows back.")
        known = {f.name: (getattr(self, f.name), getattr(state, f.name)) for f in fields(self)}
        return replace(
            self,
            **{name: mine.index_copy(0, rows, new) for name, (mine, new) in known.items() if isinstance(mine, Tensor)},
        )


S = TypeVar("S", bound=StepState)


class StepRule(ABC, Generic[S]):
    """One update of an iterative attack that *minimises*: x_{n+1} = step(x_n, grad L(x_n)).

    A rule is immutable and may serve several attacks at once: what it remembers is the state, which the
    attacker hands over. Frames must not influence each other.
    """

    @abstractmethod
    def init(self, images: Tensor) -> S:
        """The state before the first step from ``images`` ``(B, 3, H, W)``."""

    @abstractmethod
    def __call__(self, images: Tensor, gradient: Tensor, loss: Tensor, state: S) -> tuple[Tensor, S]:
        """Take one step.

        Args:
            images: ``(B, 3, H, W)`` the current iterate; not modified.
            gradient: ``(B, 3, H, W)`` of the loss there, 0 where nothing may change, never NaN.
            loss: ``(B,)`` the total loss there.
            state: from ``init`` or from the step before.

        Returns:
            The next iterate, not yet projected, and the next state.
        """


@dataclass(frozen=True)
class SignStep(StepRule[StepState]):
    """I-FGSM (Kurakin et al., arXiv 1607.02533): x_{n+1} = x_n - size * sign(grad L).

    The HCMUS paper prints ``+`` with a loss to be minimised; descent needs ``-``.

    Args:
        size: step length in image units; 1/255 is one grey level.

    Raises:
        ValueError: size is not positive.

    Example:
        >>> rule, images = SignStep(1 / 255), torch.full((1, 3, 1, 1), 0.2)
        >>> slope = torch.tensor([2.0, -0.1, 0.0]).view(1, 3, 1, 1)
        >>> stepped, _ = rule(images, slope, torch.ones(1), rule.init(images))
        >>> (255 * stepped).round().flatten()
        tensor([50., 52., 51.])
    """

    size: float = 1 / 255

    def __post_init__(self) -> None:
        _positive("size", self.size)

    def init(self, images: Tensor) -> StepState:
        """Nothing is remembered."""
        return StepState()

    def __call__(self, images: Tensor, gradient: Tensor, loss: Tensor, state: StepState) -> tuple[Tensor, StepState]:
        """Step against the sign of the gradient."""
        return images - self.size * gradient.sign(), state


@dataclass(frozen=True, eq=False)
class MomentumState(StepState):
    """Accumulated, normalised gradient ``(B, 3, H, W)``."""

    momentum: Tensor


@dataclass(frozen=True)
class MomentumSignStep(StepRule[MomentumState]):
    """MI-FGSM (Dong et al., arXiv 1710.06081): g_{n+1} = decay * g_n + grad / ||grad||_1, x -= size * sign(g).

    The norm is taken per frame, and a zero gradient adds nothing.

    Args:
        size: step length in image units.
        decay: the paper's mu.
        nesterov: step to where the *next* momentum points, from the gradient here: the equivalent form of
            NI-FGSM (Lin et al., arXiv 1908.06281) that needs no second gradient,
            x -= size * sign(decay * g_{n+1} + grad / ||grad||_1).

    Raises:
        ValueError: size is not positive, or decay is negative.

    Example:
        >>> rule, images = MomentumSignStep(1 / 255), torch.full((1, 3, 1, 1), 0.2)
        >>> slope = torch.tensor([3.0, 1.0, 0.0]).view(1, 3, 1, 1)
        >>> stepped, state = rule(images, slope, torch.ones(1), rule.init(images))
        >>> state.momentum.flatten()
        tensor([0.7500, 0.2500, 0.0000])
    """

    size: float = 1 / 255
    decay: float = 1.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        _positive("size", self.size)
        if self.decay < 0:
            raise ValueError(f"decay must be >= 0, got {self.decay}.")

    def init(self, images: Tensor) -> MomentumState:
        """No momentum yet."""
        return MomentumState(torch.zeros_like(images))

    def __call__(
        self, images: Tensor, gradient: Tensor, loss: Tensor, state: MomentumState
    ) -> tuple[Tensor, MomentumState]:
        """Accumulate the normalised gradient and step against its sign."""
        unit = scaled_to_one(gradient)
        momentum = self.decay * state.momentum + unit
        direction = self.decay * momentum + unit if self.nesterov else momentum
        return images - self.size * direction.sign(), MomentumState(momentum)


@dataclass(frozen=True, eq=False)
class OptimizerState(StepState):
    """One optimiser per frame, so that frames stay independent and can leave."""

    optimizers: tuple[torch.optim.Optimizer, ...]

    def select(self, rows: Tensor) -> OptimizerState:
        """The optimisers of the frames that stay."""
        return OptimizerState(tuple(self.optimizers[row] for row in rows.tolist()))

    def put(self, rows: Tensor, state: OptimizerState) -> OptimizerState:
        """The same optimisers: each has gone on by itself."""
        return self


@dataclass(frozen=True)
class OptimizerStep(StepRule[OptimizerState]):
    """Any optimiser of ``torch.optim`` that steps from a gradient alone.

    The reference implementation's default is RMSprop with learning rate 0.004:
    ``OptimizerStep(lambda p: torch.optim.RMSprop(p, lr=0.004))``.

    Args:
        optimizer: makes an optimiser for a list of parameters. Those that need a closure (LBFGS) are refused
            by torch at the first step.
    """

    optimizer: Callable[[Sequence[Tensor]], torch.optim.Optimizer]

    def init(self, images: Tensor) -> OptimizerState:
        """A fresh optimiser for every frame."""
        return OptimizerState(tuple(self.optimizer([frame.detach().clone().requires_grad_()]) for frame in images))

    def __call__(
        self, images: Tensor, gradient: Tensor, loss: Tensor, state: OptimizerState
    ) -> tuple[Tensor, OptimizerState]:
        """Hand each frame and its gradient to its optimiser."""
        stepped = []
        for frame, slope, optimizer in zip(images, gradient, state.optimizers, strict=True):
            (parameter,) = optimizer.param_groups[0]["params"]
            with torch.no_grad():
                parameter.copy_(frame)
            parameter.grad = slope.clone()
            step: Callable[[], Any] = optimizer.step
            step()
            stepped.append(parameter.detach().clone())
        return torch.stack(stepped), state


@dataclass(frozen=True, eq=False)
class AnnealedState(StepState):
    """What the inner rule remembers, and how many steps each frame ``(B,)`` has taken."""

    inner: StepState
    count: Tensor

    def select(self, rows: Tensor) -> AnnealedState:
        """The state of some frames, the inner rule's too."""
        return AnnealedState(self.inner.select(rows), self.count[rows])

    def put(self, rows: Tensor, state: AnnealedState) -> AnnealedState:
        """The state with that of some frames replaced, the inner rule's too."""
        return AnnealedState(self.inner.put(rows, state.inner), self.count.index_copy(0, rows, state.count))


@dataclass(frozen=True)
class Annealed(StepRule[AnnealedState]):
    """Another rule's steps, which become shorter at an even pace: long ones find, short ones settle.

    Step n of N = ``steps`` is the rule's own times 1 - (1 - ``last``) n / (N - 1), for n = 0 .. N - 1, and times
    ``last`` after those. For a number of steps that is known beforehand: 18 such steps of ``MomentumSignStep(8 / 255,
    decay=0.5)`` read as well as 60 of :class:`APGDStep` through a key and H.264 (docs/benchmarks.md).

    Args:
        step: the rule; of one that remembers iterates, which these are not, nothing is promised.
        steps: N.
        last: the share of the last step.

    Raises:
        ValueError: no steps, or a share outside (0, 1].

    Example:
        >>> rule, images = Annealed(SignStep(4 / 255), steps=3, last=0.5), torch.full((1, 3, 1, 1), 0.2)
        >>> slope, state, levels = torch.ones(1, 3, 1, 1), rule.init(images), list[int]()
        >>> for _ in range(4):
        ...     images, state = rule(images, slope, torch.ones(1), state)
        ...     levels.append(round(float(255 * images[0, 0, 0, 0])))
        >>> levels  # 4, 3, 2 and 2 grey levels at a time
        [47, 44, 42, 40]
    """

    step: StepRule[Any]
    steps: int
    last: float = 1 / 16

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be >= 1, got {self.steps}.")
        if not 0 < self.last <= 1:
            raise ValueError(f"last is a share in (0, 1], got {self.last}.")

    def init(self, images: Tensor) -> AnnealedState:
        """The inner rule's state, no steps yet."""
        return AnnealedState(self.step.init(images), torch.zeros(len(images), dtype=torch.long, device=images.device))

    def __call__(
        self, images: Tensor, gradient: Tensor, loss: Tensor, state: AnnealedState
    ) -> tuple[Tensor, AnnealedState]:
        """Take a share of the inner rule's step."""
        stepped, inner = self.step(images, gradient, loss, state.inner)
        gone = (state.count / max(self.steps - 1, 1)).clamp(max=1).to(images)
        share = (1 - (1 - self.last) * gone)[:, None, None, None]
        return images + share * (stepped - images), AnnealedState(inner, state.count + 1)


@dataclass(frozen=True, eq=False)
class AutoState(StepState):
    """Per-frame step length, best point with its gradient and loss, the point before, and the counters."""

    size: Tensor
    best_images: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    previous_images: Tensor
    previous_loss: Tensor
    improved: Tensor
    count: Tensor
    window: Tensor
    best_at_check: Tensor
    size_at_check: Tensor


@dataclass(frozen=True)
class APGDStep(StepRule[AutoState]):
    """A step length that halves itself when progress stalls, after APGD (Croce & Hein, arXiv 2003.01690).

    x_{n+1} = x_n - a * (size * sign(grad L)) + (1 - a) * (x_n - x_{n-1}) with a = ``inertia``. At checkpoints,
    if fewer than ``rho`` of the steps since the last one lowered the loss, or neither the step length nor
    the best loss has changed, the frame halves its step length and restarts from its best point.

    Where it differs from APGD: the first checkpoint comes after ``window`` steps instead of a share of the
    budget, since the rule does not know the budget, and no step is shorter than ``minimum``.

    Args:
        size: first step length in image units.
        minimum: shortest step length; at 0.125/255 a pixel of the uint8 grid moves every eighth step or so.
        window: steps to the first checkpoint; each following window is 3 steps shorter, 4 at least.
        rho: share of steps that must lower the loss.
        inertia: APGD's alpha; 1 switches the momentum off.

    Raises:
        ValueError: a length or the window is not positive, or a share is not in (0, 1].

    Example:
        >>> rule, images = APGDStep(4 / 255), torch.full((1, 3, 1, 1), 0.2)
        >>> slope = torch.tensor([2.0, -0.1, 0.0]).view(1, 3, 1, 1)
        >>> stepped, _ = rule(images, slope, torch.ones(1), rule.init(images))
        >>> (255 * stepped).round().flatten()
        tensor([48., 54., 51.])
    """

    size: float = 4 / 255
    minimum: float = 0.125 / 255
    window: int = 10
    rho: float = 0.75
    inertia: float = 0.75

    def __post_init__(self) -> None:
        _positive("size", self.size)
        _positive("minimum", self.minimum)
        _positive("window", self.window)
        for name in ("rho", "inertia"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}.")

    def init(self, images: Tensor) -> AutoState:
        """The first step length for every frame, no best point yet."""
        frames = len(images)
        infinite = images.new_full((frames,), torch.inf)
        count = torch.zeros(frames, dtype=torch.long, device=images.device)
        size = images.new_full((frames,), self.size)
        return AutoState(
            size=size,
            best_images=images,
            best_gradient=torch.zeros_like(images),
            best_loss=infinite,
            previous_images=images,
            previous_loss=infinite,
            improved=count,
            count=count,
            window=torch.full_like(count, self.window),
            best_at_check=infinite,
            size_at_check=size,
        )

    def __call__(self, images: Tensor, gradient: Tensor, loss: Tensor, state: AutoState) -> tuple[Tensor, AutoState]:
        """Step; at a frame's checkpoint decide whether it goes on or restarts more carefully."""
        better = loss < state.best_loss
        best_images = _where(better, images, state.best_images)
        best_gradient = _where(better, gradient, state.best_gradient)
        best_loss = torch.where(better, loss, state.best_loss)
        improved = state.improved + (loss < state.previous_loss).long()
        count = state.count + 1

        check = count >= state.window
        stalled = improved < self.rho * state.window
        stuck = (state.size == state.size_at_check) & (best_loss >= state.best_at_check)
        restart = check & (stalled | stuck)
        size = torch.where(restart, (state.size / 2).clamp(min=self.minimum), state.size)

        start = _where(restart, best_images, images)
        slope = _where(restart, best_gradient, gradient)
        # After a restart there is no direction to keep.
        inertial = _where(restart, torch.zeros_like(images), images - state.previous_images)
        stepped = start - self.inertia * size[:, None, None, None] * slope.sign() + (1 - self.inertia) * inertial
        return stepped, AutoState(
            size=size,
            best_images=best_images,
            best_gradient=best_gradient,
            best_loss=best_loss,
            previous_images=start,
            previous_loss=torch.where(restart, best_loss, loss),
            improved=torch.where(check, 0, improved),
            count=torch.where(check, 0, count),
            window=torch.where(check, (state.window - 3).clamp(min=4), state.window),
            best_at_check=torch.where(check, best_loss, state.best_at_check),
            size_at_check=torch.where(check, state.size, state.size_at_check),
        )


def _where(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(rows[:, None, None, None], a, b)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}.")
