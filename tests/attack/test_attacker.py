from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from toys import Linear, NotANumber, Pixels, PixelTarget, one_face, painted

from deidlib.attack.aggregation import GradientNorm, Losses, Staged, Sum
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import APGDStep, MomentumSignStep, OptimizerStep, SignStep, StepRule, StepState
from deidlib.faces import Faces
from deidlib.images import to_grid


def grid(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape).float() / 255


def levels(images: Tensor) -> Tensor:
    return images.mul(255).round()


RULES: list[StepRule[Any]] = [
    SignStep(),
    MomentumSignStep(),
    MomentumSignStep(nesterov=True),
    APGDStep(),
    OptimizerStep(lambda p: torch.optim.RMSprop(p, lr=0.004)),
]


@pytest.mark.parametrize("rule", [SignStep(), APGDStep(), RULES[-1]], ids=["sign", "auto", "rmsprop"])
def test_reaches_the_exact_optimum_of_a_quadratic(rule: StepRule[Any]) -> None:
    # The optimum inside the ball: each pixel goes to the original's value, or as near as epsilon lets it.
    original, hidden = grid(3, 3, 4, 4), grid(3, 3, 4, 4)
    result = IFGSMAttacker([Pixels()], epsilon=8 / 255, max_iterations=80, step=rule)(hidden, painted(original))
    optimum = levels(hidden) + (levels(original) - levels(hidden)).clamp(-8, 8)
    # RMSprop's steps stay long near the optimum: one grey level.
    slack = 1 if isinstance(rule, OptimizerStep) else 0
    assert (levels(result.images) - optimum).abs().max() <= slack


def test_three_steps_of_i_fgsm_by_hand() -> None:
    hidden, original = torch.full((1, 3, 2, 2), 100 / 255), torch.full((1, 3, 2, 2), 200 / 255)
    result = IFGSMAttacker([Pixels()], epsilon=1.0, max_iterations=3, step=SignStep(2 / 255))(hidden, painted(original))
    assert torch.equal(levels(result.images), torch.full((1, 3, 2, 2), 106.0))
    expected = torch.tensor([12 * d**2 / 2 / 255**2 for d in (100, 98, 96, 94)])[:, None]
    torch.testing.assert_close(result.losses["pixels"], expected)
    assert result.iterations.tolist() == [3]


def test_momentum_in_the_loop_by_hand() -> None:
    # Gradient (1, 0, 0, ...): its momentum goes on pushing; a linear loss ends in the corner of the ball.
    coefficients = torch.zeros(3, 1, 2)
    coefficients[0, 0, 0], coefficients[1, 0, 1] = 1.0, -1.0
    hidden = torch.full((1, 3, 1, 2), 100 / 255)
    attacker = IFGSMAttacker([Linear(coefficients)], epsilon=5 / 255, max_iterations=10, step=MomentumSignStep(1 / 255))
    result = attacker(hidden, painted(hidden))
    expected = torch.full((1, 3, 1, 2), 100.0)
    expected[0, 0, 0, 0], expected[0, 1, 0, 1] = 95.0, 105.0
    assert torch.equal(levels(result.images), expected)


def test_best_iterate_is_returned_rather_than_the_last() -> None:
    # 3 grey levels away with steps of 2: 3, 1, 1, 1 ... and with steps of 5: 3, 2, 3, 2.
    hidden, original = torch.full((1, 3, 2, 2), 100 / 255), torch.full((1, 3, 2, 2), 103 / 255)
    result = IFGSMAttacker([Pixels()], max_iterations=4, step=SignStep(5 / 255))(hidden, painted(original))
    assert torch.equal(levels(result.images), torch.full((1, 3, 2, 2), 105.0))
    assert result.best.tolist() == [1]
    torch.testing.assert_close(result.final_losses()["pixels"], result.losses["pixels"].amin(dim=0))


def test_reported_losses_are_those_of_the_returned_images() -> None:
    original, hidden = grid(3, 3, 5, 5), grid(3, 3, 5, 5)
    attacker = IFGSMAttacker([Pixels()], max_iterations=7, step=APGDStep(size=3 / 255, minimum=0.1 / 255))
    result = attacker(hidden, painted(original))
    model = Pixels()
    target = model.target(painted(original), (5, 5))
    torch.testing.assert_close(model.loss(result.images, target), result.final_losses()["pixels"], rtol=0, atol=0)


def test_result_is_on_the_uint8_grid_within_ball_range_and_mask() -> None:
    original, hidden = torch.rand(4, 3, 6, 6), torch.rand(4, 3, 6, 6)
    mask = (torch.rand(4, 1, 6, 6) > 0.5).float()
    result = IFGSMAttacker([Pixels()], epsilon=5 / 255, max_iterations=20, step=APGDStep())(
        hidden, painted(original), mask=mask
    )
    change = levels(result.images) - levels(hidden)
    assert torch.equal(to_grid(result.images), result.images)
    assert change.abs().max() == 5
    assert torch.equal(change * (1 - mask), torch.zeros_like(change))
    assert torch.equal(result.images.mul(255).round().byte().float() / 255, result.images)


@pytest.mark.parametrize("levels", [8.0, -1.0, float("nan")])
def test_an_epsilon_in_grey_levels_is_refused(levels: float) -> None:
    for epsilon in (levels, torch.full((1, 1, 4, 4), levels)):
        with pytest.raises(ValueError, match=r"in \[0, 1\], in image units \(8/255, not 8\)"):
            IFGSMAttacker([Pixels()], epsilon=epsilon)


def test_epsilon_map_and_soft_mask_scale_the_ball() -> None:
    original, hidden = torch.ones(1, 3, 1, 4), torch.full((1, 3, 1, 4), 100 / 255)
    epsilon = torch.tensor([0.0, 2.0, 4.0, 8.0]).view(1, 1, 1, 4) / 255
    mask = torch.tensor([1.0, 1.0, 0.5, 0.5]).view(1, 1, 1, 4)
    result = IFGSMAttacker([Pixels()], epsilon=epsilon, max_iterations=20)(hidden, painted(original), mask=mask)
    assert levels(result.images)[0, 0, 0].tolist() == [100.0, 102.0, 102.0, 104.0]


def test_frames_stop_on_their_own_and_leave_the_batch() -> None:
    seen: list[int] = []

    class Counting(Pixels):
        def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
            seen.append(len(images))
            return super().loss(images, target)

    hidden = torch.full((3, 3, 1, 1), 100 / 255)
    original = torch.tensor([100.0, 102.0, 104.0]).view(3, 1, 1, 1).expand(3, 3, 1, 1) / 255
    result = IFGSMAttacker([Counting()], max_iterations=10, threshold=1e-9)(hidden, painted(original))
    assert result.iterations.tolist() == [0, 2, 4]
    assert result.converged.all()
    assert seen == [3, 2, 2, 1, 1]
    assert torch.equal(levels(result.images), levels(original))
    assert result.losses["counting"].shape == (5, 3)
    assert result.losses["counting"][1:, 0].isnan().all()


@pytest.mark.parametrize("rule", RULES, ids=["sign", "momentum", "nesterov", "auto", "rmsprop"])
def test_a_frame_does_not_depend_on_the_frames_beside_it(rule: StepRule[Any]) -> None:
    original, hidden = grid(4, 3, 4, 4), grid(4, 3, 4, 4)
    attacker = IFGSMAttacker([Pixels()], epsilon=6 / 255, max_iterations=9, threshold=0.4, step=rule)
    together = attacker(hidden, painted(original))
    for i in range(4):
        alone = attacker(hidden[i : i + 1], painted(original[i : i + 1]))
        assert torch.equal(together.images[i : i + 1], alone.images)
        assert together.iterations[i] == alone.iterations[0]


def test_threshold_by_name_waits_for_every_named_model() -> None:
    hidden, original = torch.full((1, 3, 1, 1), 100 / 255), torch.full((1, 3, 1, 1), 103 / 255)
    models = {"a": Pixels(), "b": Pixels()}
    one = 3 / 255**2 / 2
    loose = IFGSMAttacker(models, max_iterations=9, threshold={"a": one * 4.1})(hidden, painted(original))
    strict = IFGSMAttacker(models, max_iterations=9, threshold={"a": one * 4.1, "b": one / 2})(
        hidden, painted(original)
    )
    assert loose.iterations.tolist() == [1]
    assert strict.iterations.tolist() == [3]


def test_sum_weights_and_repulsion() -> None:
    hidden, original = torch.full((1, 3, 2, 2), 100 / 255), torch.full((1, 3, 2, 2), 150 / 255)
    away = IFGSMAttacker([Pixels()], weights={"pixels": -1.0}, epsilon=4 / 255, max_iterations=6)(
        hidden, painted(original)
    )
    assert torch.equal(levels(away.images), torch.full((1, 3, 2, 2), 96.0))
    up, down = torch.full((3, 2, 2), -1.0), torch.full((3, 2, 2), 1.0)
    models = {"up": Linear(up), "down": Linear(down)}
    result = IFGSMAttacker(models, weights={"up": 2.0}, epsilon=4 / 255, max_iterations=6)(hidden, painted(original))
    assert torch.equal(levels(result.images), torch.full((1, 3, 2, 2), 104.0))
    torch.testing.assert_close(result.objective, 2 * result.losses["up"] + result.losses["down"], rtol=1e-6, atol=1e-6)


def test_gradient_norm_lets_a_small_loss_decide_its_pixels() -> None:
    # "large" pulls every pixel up, a thousand times harder; "small" pulls half of them down, all its pull on those.
    large, small = torch.full((3, 2, 2), -1000.0), torch.zeros(3, 2, 2)
    small[:, 0] = 1.0
    hidden = torch.full((1, 3, 2, 2), 100 / 255)
    models = {"large": Linear(large), "small": Linear(small)}
    plain = IFGSMAttacker(models, max_iterations=1, aggregate=Sum())(hidden, painted(hidden))
    assert torch.equal(levels(plain.images), torch.full((1, 3, 2, 2), 101.0))
    losses = {name: torch.ones(1) for name in models}
    gradients = {"large": large[None], "small": small[None]}
    _, gradient = GradientNorm()(Losses(losses, losses, dict.fromkeys(models, 1.0)), gradients)
    torch.testing.assert_close(gradient[0, :, 0], torch.full((3, 2), 1 / 6 - 1 / 12))
    torch.testing.assert_close(gradient[0, :, 1], torch.full((3, 2), -1 / 12))


def test_gradient_norm_counts_losses_relative_to_the_first_or_to_1() -> None:
    losses = {"large": torch.tensor([10.0, 10.0]), "small": torch.tensor([0.5, 2.0])}
    first = {"large": torch.tensor([40.0, 40.0]), "small": torch.tensor([0.01, 4.0])}
    objective, _ = GradientNorm()(Losses(losses, first, dict.fromkeys(losses, 1.0)), {})
    assert objective.tolist() == [0.25 + 0.5, 0.25 + 0.5]


def test_staged_opens_a_stage_frame_by_frame() -> None:
    losses = {"a": torch.tensor([2.0, 0.5]), "b": torch.tensor([9.0, 9.0]), "c": torch.tensor([9.0, 9.0])}
    gradients = {name: torch.full((2, 3, 1, 1), value) for name, value in (("a", 1.0), ("b", 10.0), ("c", 100.0))}
    combine = Staged({"a": 1.0, "b": 1.0, "c": 1.0})
    objective, gradient = combine(Losses(losses, losses, dict.fromkeys(losses, 1.0)), gradients)
    torch.testing.assert_close(objective, torch.tensor([20.0, 18.5]))
    assert gradient[:, 0, 0, 0].tolist() == [1.0, 11.0]
    with pytest.raises(ValueError, match=r"not attacked: \['d'\]"):
        Staged({"d": 1.0})(Losses(losses, losses, dict.fromkeys(losses, 1.0)), gradients)


def test_nan_loss_and_gradient_are_never_the_best() -> None:
    hidden = torch.stack([torch.full((3, 2, 2), 0.8), torch.full((3, 2, 2), 0.2)])
    original = torch.full((2, 3, 2, 2), 0.4)
    result = IFGSMAttacker([NotANumber()], max_iterations=5)(hidden, painted(original))
    assert torch.isfinite(result.images).all()
    assert torch.equal(result.images[0], to_grid(hidden)[0])
    assert torch.equal(levels(result.images[1]), levels(hidden[1]) + 5)


def test_frames_without_faces_come_back_as_they_were() -> None:
    hidden, original = grid(3, 3, 4, 4), grid(3, 3, 4, 4)
    result = IFGSMAttacker([Pixels()], max_iterations=5)(hidden, painted(original, frames=[1]))
    assert torch.equal(result.images[[0, 2]], hidden[[0, 2]])
    assert not torch.equal(result.images[1], hidden[1])
    assert result.final_losses()["pixels"][[0, 2]].tolist() == [0.0, 0.0]
    none = IFGSMAttacker([Pixels()], max_iterations=5)(hidden, painted(original, frames=[]))
    assert torch.equal(none.images, hidden)


def test_init_starts_elsewhere_but_the_ball_is_around_the_hidden_frame() -> None:
    hidden, original = torch.full((1, 3, 2, 2), 100 / 255), torch.full((1, 3, 2, 2), 200 / 255)
    init = torch.full((1, 3, 2, 2), 150 / 255)
    result = IFGSMAttacker([Pixels()], epsilon=8 / 255, max_iterations=0)(hidden, painted(original), init=init)
    assert torch.equal(levels(result.images), torch.full((1, 3, 2, 2), 108.0))


def test_inputs_and_models_are_left_alone() -> None:
    original, hidden = grid(2, 3, 4, 4), grid(2, 3, 4, 4)
    copies = original.clone(), hidden.clone()
    model = Linear(torch.randn(3, 4, 4))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    IFGSMAttacker([model], max_iterations=3)(hidden, painted(original))
    assert torch.equal(original, copies[0])
    assert torch.equal(hidden, copies[1])
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())


def test_a_rule_that_leaps_cannot_leave_the_ball() -> None:
    class Leap(StepRule[StepState]):
        def init(self, images: Tensor) -> StepState:
            return StepState()

        def __call__(
            self, images: Tensor, gradient: Tensor, loss: Tensor, state: StepState
        ) -> tuple[Tensor, StepState]:
            return images - 10 * gradient.sign(), state

    original, hidden = grid(2, 3, 4, 4), grid(2, 3, 4, 4)
    result = IFGSMAttacker([Pixels()], epsilon=3 / 255, max_iterations=3, step=Leap())(hidden, painted(original))
    assert (levels(result.images) - levels(hidden)).abs().max() <= 3


class Brighten(StepRule[StepState]):
    """Five grey levels up, whatever the gradient and the mask say."""

    def init(self, images: Tensor) -> StepState:
        return StepState()

    def __call__(self, images: Tensor, gradient: Tensor, loss: Tensor, state: StepState) -> tuple[Tensor, StepState]:
        return images + 5 / 255, state


@pytest.mark.parametrize(
    ("epsilon", "mask", "message"), [(3, 1.0, "the L-infinity ball"), (8, 0.0, "the mask")], ids=["ball", "mask"]
)
def test_a_broken_promise_is_noticed_also_when_frames_have_left(
    monkeypatch: pytest.MonkeyPatch, epsilon: float, mask: float, message: str
) -> None:
    monkeypatch.setattr("deidlib.attack.loop.project", lambda x, low, high: x)
    hidden = torch.full((2, 3, 2, 2), 100 / 255)
    # The first frame is done at once and leaves; the second gets nearer by what it must not do.
    original = torch.stack([hidden[0], hidden[1] + 10 / 255])
    attacker = IFGSMAttacker([Pixels()], epsilon=epsilon / 255, max_iterations=1, threshold=1e-6, step=Brighten())
    with pytest.raises(RuntimeError, match=f"the attack left {message}.*bug in deidlib"):
        attacker(hidden, painted(original), mask=torch.full((2, 1, 2, 2), mask))


IMAGES = torch.rand(2, 3, 8, 8)
READ = painted(IMAGES)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: IFGSMAttacker([]), ValueError, "at least one target model"),
        (lambda: IFGSMAttacker([Pixels(), Pixels()]), ValueError, "two models are called 'pixels'"),
        (lambda: IFGSMAttacker([Pixels()], weights={"fan": 1.0}), ValueError, r"unknown models \['fan'\]"),
        (lambda: IFGSMAttacker([Pixels()], threshold={"x": 1.0}), ValueError, "threshold names unknown"),
        (lambda: IFGSMAttacker([Pixels()], epsilon=8), ValueError, "8/255, not 8"),
        (lambda: IFGSMAttacker([Pixels()], max_iterations=-1), ValueError, "max_iterations"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES.mul(255).byte(), READ), TypeError, r"images.float\(\) / 255"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES * 255, READ), ValueError, r"must lie in \[0, 1\]"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES[0], READ), ValueError, r"images\[None\]"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES[:0], READ), ValueError, "at least one frame"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES, READ, init=IMAGES[:1]), ValueError, "init must match the hidden"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES, cast(Any, IMAGES)), TypeError, "does not see the originals"),
        (lambda: IFGSMAttacker({"a": Pixels(), "b": Pixels()})(IMAGES, {"a": READ}), ValueError, r"\['b'\] missing"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES, one_face(IMAGES)), ValueError, "the reading lacks gaze"),
        (lambda: IFGSMAttacker([Pixels()])(cast(Any, IMAGES.tolist()), READ), TypeError, "got list"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES / 0, READ), ValueError, "must lie in"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES, READ, mask=torch.ones(2, 8, 8)), ValueError, "mask must have"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES, READ, mask=torch.ones(2, 1, 8, 8) * 2), ValueError, "lie in"),
        (lambda: IFGSMAttacker([Pixels()])(IMAGES, [Faces.empty()]), ValueError, "one Faces per frame"),
        (
            lambda: IFGSMAttacker([Pixels()], epsilon=torch.ones(5, 5) / 255)(IMAGES, READ),
            ValueError,
            "does not broadcast",
        ),
    ],
)
def test_bad_input_says_what_was_expected(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_each_model_is_told_its_own_reading() -> None:
    hidden = torch.full((1, 3, 1, 1), 100 / 255)
    up, down = (painted(torch.full((1, 3, 1, 1), value / 255)) for value in (104, 98))
    models = {"up": Pixels(), "down": Pixels()}
    result = IFGSMAttacker(models, max_iterations=1)(hidden, {"up": up, "down": down, "not asked": down})
    assert list(result.readings) == ["up", "down"]
    expected = {name: 3 * d**2 / 2 / 255**2 for name, d in (("up", 4), ("down", 2))}
    assert {name: float(loss[0, 0]) for name, loss in result.losses.items()} == pytest.approx(expected, rel=1e-4)
    # One reading for all is each model's.
    both = IFGSMAttacker(models, max_iterations=1)(hidden, up)
    assert torch.equal(both.losses["up"], both.losses["down"])


def test_a_loss_of_the_wrong_shape_is_named() -> None:
    class Scalar(Pixels):
        def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
            return super().loss(images, target).sum()

    with pytest.raises(ValueError, match=r"scalar.loss must return one value per frame, shape \(2,\)"):
        IFGSMAttacker([Scalar()])(IMAGES, READ)
