from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from deidlib.attack.steps import Annealed, APGDStep, MomentumSignStep, OptimizerStep, SignStep, StepRule, StepState

X = torch.full((1, 3, 1, 1), 0.5)
LOSS = torch.ones(1)


def pixels(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)


def test_sign_step_is_i_fgsm_by_hand() -> None:
    rule = SignStep(0.1)
    stepped, _ = rule(X, pixels(3.0, -0.001, 0.0), LOSS, rule.init(X))
    torch.testing.assert_close(stepped, pixels(0.4, 0.6, 0.5))


def test_momentum_accumulates_as_in_mi_fgsm_by_hand() -> None:
    # g1 = (2, -1, 1) / 4; g2 = g1 + (-1, -1, 0) / 2 = (0, -.75, .25); g3 = g2 + (0, 3, -1) / 4 = (0, 0, 0).
    rule = MomentumSignStep(0.1, decay=1.0)
    state = rule.init(X)
    x, state = rule(X, pixels(2, -1, 1), LOSS, state)
    torch.testing.assert_close(x, pixels(0.4, 0.6, 0.4))
    torch.testing.assert_close(state.momentum, pixels(0.5, -0.25, 0.25))
    x, state = rule(x, pixels(-1, -1, 0), LOSS, state)
    torch.testing.assert_close(state.momentum, pixels(0.0, -0.75, 0.25))
    torch.testing.assert_close(x, pixels(0.4, 0.7, 0.3))
    x, state = rule(x, pixels(0, 3, -1), LOSS, state)
    torch.testing.assert_close(state.momentum, torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(x, pixels(0.4, 0.7, 0.3))


def test_momentum_decays_and_differs_from_plain_sign() -> None:
    # The reference's accumulator is lost between steps; a real one outweighs a small opposite gradient.
    rule = MomentumSignStep(0.1, decay=0.5)
    x, state = rule(X, pixels(1, 0, 0), LOSS, rule.init(X))
    x, state = rule(x, pixels(-0.2, 0.8, 0), LOSS, state)
    torch.testing.assert_close(state.momentum, pixels(0.3, 0.8, 0))
    torch.testing.assert_close(x, pixels(0.3, 0.4, 0.5))


def test_momentum_norm_is_per_frame_and_zero_safe() -> None:
    rule = MomentumSignStep(0.1)
    x = X.repeat(2, 1, 1, 1)
    gradient = torch.cat([torch.zeros(1, 3, 1, 1), pixels(1000.0, 0, 0)])
    stepped, state = rule(x, gradient, torch.ones(2), rule.init(x))
    assert torch.isfinite(state.momentum).all()
    torch.testing.assert_close(stepped[0], x[0])
    torch.testing.assert_close(state.momentum[1], pixels(1, 0, 0)[0])


def test_nesterov_looks_ahead_by_hand() -> None:
    # g1 = (1, 0, 0); step by g1 + unit = (2, 0, 0). g2 = (1 - .6, .4, 0); direction g2 + unit = (-.2, .8, 0).
    rule = MomentumSignStep(0.1, nesterov=True)
    x, state = rule(X, pixels(1, 0, 0), LOSS, rule.init(X))
    x, state = rule(x, pixels(-0.6, 0.4, 0), LOSS, state)
    torch.testing.assert_close(x, pixels(0.5, 0.4, 0.5))


@pytest.mark.parametrize("name", ["RMSprop", "Adam", "SGD"])
def test_optimizer_step_equals_torch_optim(name: str) -> None:
    make = getattr(torch.optim, name)
    rule = OptimizerStep(lambda parameters: make(parameters, lr=0.004))
    reference = torch.nn.Parameter(X.clone())
    optimizer = make([reference], lr=0.004)
    x, state = X, rule.init(X)
    for gradient in (pixels(1, -2, 0.5), pixels(0.1, 3, 0), pixels(-1, -1, 1)):
        x, state = rule(x, gradient, LOSS, state)
        reference.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(x, reference.detach())


def test_optimizer_state_follows_the_frames_that_stay() -> None:
    rule = OptimizerStep(lambda parameters: torch.optim.Adam(parameters, lr=0.01))
    x = torch.rand(3, 3, 2, 2)
    gradients = torch.randn(2, 3, 3, 2, 2)
    both, state = rule(x, gradients[0], torch.ones(3), rule.init(x))
    stayed, _ = rule(both[[2]], gradients[1][[2]], torch.ones(1), state.select(torch.tensor([2])))
    alone, state = rule(x[[2]], gradients[0][[2]], torch.ones(1), rule.init(x[[2]]))
    alone, _ = rule(alone, gradients[1][[2]], torch.ones(1), state)
    torch.testing.assert_close(stayed, alone)


def test_annealed_steps_are_the_rules_own_and_shrink_at_an_even_pace_by_hand() -> None:
    # Momentum g1 = (1, 0, 0), g2 = (.5 - .2, .8, 0); lengths 0.1, 0.075, 0.05 and then always 0.05.
    rule = Annealed(MomentumSignStep(0.1, decay=0.5), steps=3, last=0.5)
    x, state = rule(X, pixels(1, 0, 0), LOSS, rule.init(X))
    torch.testing.assert_close(x, pixels(0.4, 0.5, 0.5))
    x, state = rule(x, pixels(-0.2, 0.8, 0), LOSS, state)
    torch.testing.assert_close(state.inner.momentum, pixels(0.3, 0.8, 0))  # type: ignore[attr-defined]
    torch.testing.assert_close(x, pixels(0.325, 0.425, 0.5))
    for expected in (pixels(0.275, 0.375, 0.5), pixels(0.225, 0.325, 0.5)):
        x, state = rule(x, pixels(0, 0, 0), LOSS, state)
        torch.testing.assert_close(x, expected)


def test_one_annealed_step_is_the_rules_own() -> None:
    rule = Annealed(SignStep(0.1), steps=1)
    x, _ = rule(X, pixels(1, -1, 0), LOSS, rule.init(X))
    torch.testing.assert_close(x, pixels(0.4, 0.6, 0.5))


def test_short_steps_settle_where_long_ones_cannot() -> None:
    """Of |x - c|: steps of one length end within one of it, annealed ones within the last."""
    goal, x = torch.linspace(0.31, 0.69, 3).view(1, 3, 1, 1), X
    rule = Annealed(SignStep(0.1), steps=20, last=1 / 16)
    state = rule.init(x)
    for _ in range(20):
        x, state = rule(x, (x - goal).sign(), (x - goal).abs().sum()[None], state)
    # The step before the last is 0.0112 long, the last 0.00625.
    assert float((x - goal).abs().max()) <= 0.0112


def test_annealed_frames_go_by_their_own_count() -> None:
    rule = Annealed(MomentumSignStep(0.1), steps=4, last=0.25)
    both = X.repeat(2, 1, 1, 1)
    gradients = [torch.cat([pixels(1, 2, 3), pixels(-1, 0.5, 1)]), torch.cat([pixels(-5, 1, 0), pixels(3, -2, 0)])]
    state, alone, mine = rule.init(both), X, rule.init(X)
    for gradient in gradients:
        both, state = rule(both, gradient, torch.ones(2), state)
        alone, mine = rule(alone, gradient[1:], LOSS, mine)
    assert torch.equal(both[1:], alone)
    # The first leaves the batch.
    stayed, _ = rule(both[1:], gradients[0][1:], LOSS, state.select(torch.tensor([1])))
    alone, _ = rule(alone, gradients[0][1:], LOSS, mine)
    assert torch.equal(stayed, alone)


def test_auto_step_halves_and_restarts_from_the_best_point_when_stalled() -> None:
    rule = APGDStep(size=0.1, minimum=0.01, window=4, inertia=1.0)
    state = rule.init(X)
    x = X
    gradient = pixels(1, 1, 1)
    points = []
    # The first point is the best; nothing improves afterwards.
    for loss in (1.0, 2.0, 3.0, 4.0):
        points.append(x)
        x, state = rule(x, gradient, torch.tensor([loss]), state)
    torch.testing.assert_close(state.size, torch.tensor([0.05]))
    torch.testing.assert_close(x, points[0] - 0.05)
    # While the loss falls, the step length stays.
    state, x = rule.init(X), X
    for loss in (4.0, 3.0, 2.0, 1.0):
        x, state = rule(x, gradient, torch.tensor([loss]), state)
    torch.testing.assert_close(state.size, torch.tensor([0.1]))
    torch.testing.assert_close(x, X - 0.4)


def test_auto_step_frames_are_independent() -> None:
    rule = APGDStep(window=4)
    x = torch.rand(2, 3, 2, 2)
    losses = torch.rand(12, 2)
    gradients = torch.randn(12, 2, 3, 2, 2)
    both, state = x, rule.init(x)
    alone, own = x[1:], rule.init(x[1:])
    for loss, gradient in zip(losses, gradients, strict=True):
        both, state = rule(both, gradient, loss, state)
        alone, own = rule(alone, gradient[1:], loss[1:], own)
    assert torch.equal(both[1:], alone)
    picked = state.select(torch.tensor([1]))
    assert torch.equal(picked.size, own.size)
    assert torch.equal(picked.best_images, own.best_images)


@pytest.mark.parametrize(
    "rule",
    [
        SignStep(),
        MomentumSignStep(),
        MomentumSignStep(nesterov=True),
        APGDStep(),
        Annealed(MomentumSignStep(8 / 255), steps=3),
    ],
)
def test_inputs_are_not_modified(rule: StepRule[Any]) -> None:
    x, gradient = torch.rand(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    copies = x.clone(), gradient.clone()
    state = rule.init(x)
    for _ in range(3):
        rule(x, gradient, torch.ones(2), state)
    assert torch.equal(x, copies[0])
    assert torch.equal(gradient, copies[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SignStep(0.0), "size must be positive"),
        (lambda: MomentumSignStep(decay=-1.0), "decay must be >= 0"),
        (lambda: APGDStep(rho=0.0), "rho must lie in"),
        (lambda: Annealed(SignStep(), steps=0), "steps must be >= 1"),
        (lambda: Annealed(SignStep(), steps=2, last=0.0), "last is a share"),
        (lambda: APGDStep(minimum=-1.0), "minimum must be positive"),
    ],
)
def test_bad_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "rule",
    [
        SignStep(),
        MomentumSignStep(decay=0.5),
        OptimizerStep(torch.optim.Adam),
        Annealed(MomentumSignStep(decay=0.5), steps=4),
        APGDStep(window=2),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_a_frame_that_takes_no_step_forgets_nothing_and_counts_none(rule: StepRule[Any]) -> None:
    """Frames that take steps at other times than their neighbours end where they end alone."""
    generator = torch.Generator().manual_seed(2)
    start = torch.rand(3, 3, 4, 4, generator=generator)
    gradients = torch.randn(5, 3, 3, 4, 4, generator=generator)
    losses = torch.rand(5, 3, generator=generator)
    takes = [[0, 1, 2], [0, 2], [1], [0, 2], [0, 1, 2]]
    images, state = start.clone(), rule.init(start)
    for slope, loss, mine in zip(gradients, losses, takes, strict=True):
        rows = torch.tensor(mine)
        stepped, moved = rule(images[rows], slope[rows], loss[rows], state.select(rows))
        images[rows], state = stepped, state.put(rows, moved)
    for i in range(3):
        alone, state = start[i : i + 1], rule.init(start[i : i + 1])
        for slope, loss, mine in zip(gradients, losses, takes, strict=True):
            if i in mine:
                alone, state = rule(alone, slope[i : i + 1], loss[i : i + 1], state)
        assert torch.equal(alone[0], images[i])


def test_a_state_that_selects_in_a_way_of_its_own_must_say_how_frames_are_put_back() -> None:
    class Listed(StepState):
        def select(self, rows: torch.Tensor) -> Listed:
            return self

    rows = torch.tensor([0])
    with pytest.raises(TypeError, match="Listed overrides select and not put"):
        Listed().put(rows, Listed())
    assert StepState().put(rows, StepState()) is not None
