"""``IFGSMAttacker``: perturb hidden faces until the authorised models read what they are to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from deidlib.attack.aggregation import Aggregator, Sum
from deidlib.attack.cropped import CroppedDistortion, local
from deidlib.attack.distortions import Distortion
from deidlib.attack.steps import SignStep, StepRule
from deidlib.faces import Faces
from deidlib.images import check_images, sum_in_order, to_grid
from deidlib.models.base import Target, TargetModel, by_name


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack produced and how it went.

    Args:
        images: ``(B, 3, H, W)`` the best iterate of each frame, exactly representable in uint8.
        losses: per model ``(T + 1, B)``, not weighted; row n after n steps, NaN once a frame has finished.
        objective: ``(T + 1, B)`` the combined loss, by which the best iterate is chosen.
        iterations: ``(B,)`` long, steps taken.
        best: ``(B,)`` long, the step whose iterate was returned: ``losses[m][best[i], i]`` are the losses of
            ``images[i]`` as it would be saved.
        converged: ``(B,)`` bool, whether the threshold was reached.
        readings: per model what it was to read, one entry per frame.

    Example:
        >>> from deidlib.models.mtcnn import MTCNN
        >>> attack = IFGSMAttacker([MTCNN()], max_iterations=2)
        >>> result = attack(torch.rand(1, 3, 32, 32), [Faces.empty()])
        >>> result.losses["mtcnn"].shape, result.final_losses()["mtcnn"]  # without a face there is nothing to reach
        (torch.Size([3, 1]), tensor([0.]))
    """

    images: Tensor
    losses: dict[str, Tensor]
    objective: Tensor
    iterations: Tensor
    best: Tensor
    converged: Tensor
    readings: dict[str, list[Faces]]

    def final_losses(self) -> dict[str, Tensor]:
        """Per model ``(B,)``: the losses of the returned images."""
        return {name: rows.gather(0, self.best[None])[0] for name, rows in self.losses.items()}

    @classmethod
    def joined(cls, results: Sequence[AttackResult]) -> AttackResult:
        """Attacks on some frames and on those after them, as one.

        Args:
            results: at least one, by the same models on frames of one size.
        """
        length = max(len(result.objective) for result in results)

        def rows(values: Sequence[Tensor]) -> Tensor:
            return torch.cat([pad(value, (0, 0, 0, length - len(value)), value=torch.nan) for value in values], dim=1)

        return cls(
            images=torch.cat([result.images for result in results]),
            losses={name: rows([result.losses[name] for result in results]) for name in results[0].losses},
            objective=rows([result.objective for result in results]),
            iterations=torch.cat([result.iterations for result in results]),
            best=torch.cat([result.best for result in results]),
            converged=torch.cat([result.converged for result in results]),
            readings={
                name: [faces for result in results for faces in result.readings[name]] for name in results[0].readings
            },
        )


@dataclass(frozen=True)
class IFGSMAttacker:
    r"""Targeted I-FGSM against the summed losses of any number of models.

    .. math::
        X_0 = \text{hidden frame}, \quad
        X_{n+1} = Clip_{X_0, \epsilon}\{X_n - \alpha\, sign(\nabla_X L(X_n))\}, \quad
        L = L_B + L_{LM} + L_G

    until L < threshold or n = N ("HCMUS at MediaEval 2021", CEUR-WS Vol-3181, paper 72; the paper prints
    +alpha, but L is to fall). Where it goes beyond the paper:

    - every frame is attacked on its own: it stops by its own loss and then leaves the batch;
    - each loss is taken at the iterate rounded to uint8, since that is what a file holds;
    - the best iterate so far is returned rather than the last;
    - epsilon may be a map, a mask confines the perturbation, a negative weight repels;
    - told the distortions that the frames must survive, L is the mean over what is seen after each of them.

    The defaults are the paper's, so that the class does what it is named after and what is printed above, whatever the
    models. What serves best depends on them, and is chosen by :func:`~deidlib.recommended`, as on the command line.

    Args:
        models: the target models; a mapping names them, a sequence uses each model's own ``name``.
        weights: factor of each model's loss, by name; 1.0 where not given. Negative: away from its target.
        epsilon: radius of the L-infinity ball around the hidden frame, in image units; a float, or a tensor
            that broadcasts to ``(B, 3, H, W)``.
        max_iterations: N, the number of steps at most.
        threshold: a frame is done when its objective, or each named model's own loss, is below it. ``None``:
            always N steps.
        step: the step rule.
        aggregate: how several models are summed: ``Sum()`` (the paper), ``GradientNorm()``, ``Staged(...)``.
        distortions: what may happen to the frames after they leave, such as ``[H264(23)]``. None: they are read as they
            are. Each costs an evaluation of every model; all losses reported are the means over them.

    Raises:
        ValueError: no models, two of one name, an unknown name in ``weights`` or ``threshold``, a negative
            epsilon or number of iterations.

    Example:
        >>> from skimage.data import astronaut
        >>> from deidlib.models.mtcnn import MTCNN
        >>> from deidlib.obfuscate import Pixelate
        >>> picture = torch.from_numpy(astronaut()[:256, 96:352]).permute(2, 0, 1)[None] / 255
        >>> model, hide = MTCNN(), Pixelate(blocks=4)
        >>> faces = model.predict(picture)
        >>> hidden, mask = hide(picture, faces), hide.mask(faces, 256, 256)
        >>> result = IFGSMAttacker([model], max_iterations=20)(hidden, faces, mask=mask)
        >>> len(model.predict(hidden)[0]), len(model.predict(result.images)[0])  # faces that are found
        (0, 1)
    """

    models: Mapping[str, TargetModel[Any]] | Sequence[TargetModel[Any]]
    weights: Mapping[str, float] = field(default_factory=dict)
    epsilon: float | Tensor = 8 / 255
    max_iterations: int = 150
    threshold: float | Mapping[str, float] | None = None
    step: StepRule[Any] = field(default_factory=SignStep)
    aggregate: Aggregator = field(default_factory=Sum)
    distortions: Sequence[Distortion] = ()

    def __post_init__(self) -> None:
        names = list(self.named_models())
        if not names:
            raise ValueError("IFGSMAttacker needs at least one target model, got none.")
        for what, given in (("weights", self.weights), ("threshold", self.threshold)):
            unknown = [n for n in given if n not in names] if isinstance(given, Mapping) else []
            if unknown:
                raise ValueError(f"{what} names unknown models {unknown}; the models are {names}.")
        if isinstance(self.epsilon, Tensor):
            if not self.epsilon.is_floating_point() or bool((self.epsilon < 0).any()):
                raise ValueError("epsilon must be a floating tensor >= 0, in image units (8/255, not 8).")
        elif not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must lie in [0, 1], in image units (8/255, not 8), got {self.epsilon}.")
        if self.max_iterations < 0:
            raise ValueError(f"max_iterations must be >= 0, got {self.max_iterations}.")

    def named_models(self) -> dict[str, TargetModel[Any]]:
        """The models by name, in order."""
        return by_name(self.models)

    def __call__(
        self,
        hidden: Tensor,
        readings: Sequence[Faces] | Mapping[str, Sequence[Faces]],
        *,
        mask: Tensor | None = None,
        init: Tensor | None = None,
        numbers: Sequence[int] | None = None,
    ) -> AttackResult:
        """Attack a batch of hidden frames. The originals are not needed: what was read on them is.

        Args:
            hidden: ``(B, 3, H, W)`` the hidden frames, RGB in [0, 1]; rounded to the uint8 grid first.
            readings: B entries: the faces, and what is to be read of them, for all models; or by name each model's own,
                as :func:`~deidlib.models.base.read_originals` returns them. Where they come from does not matter.
            mask: ``(B, 1, H, W)`` in [0, 1], where the perturbation may be: it scales epsilon and the
                gradient. Everywhere if not given.
            init: ``(B, 3, H, W)`` where to start instead of ``hidden`` (the perturbed frame before this one,
                for instance); projected into the ball around ``hidden``.
            numbers: the frames' numbers in their clip, for models that read each frame in its own way
                (:meth:`TargetModel.at`).

        Returns:
            The result. Inputs are not modified.

        Raises:
            TypeError: an input is no image batch.
            ValueError: shapes, devices or numbers of frames do not agree; a reading lacks what a model reads.
        """
        models = self.named_models()
        weights = {name: float(self.weights.get(name, 1.0)) for name in models}
        check_images(hidden, name="hidden")
        for name, model in models.items():
            _same_device(name, model, hidden)
        if numbers is not None:
            if len(numbers) != len(hidden):
                raise ValueError(f"expected one number per frame: {len(hidden)} frames, got {len(numbers)} numbers.")
            models = {name: model.at(numbers) for name, model in models.items()}
        readings = _by_model(readings, models, hidden)

        start = to_grid(hidden.detach())
        allowed = mask = _check_mask(mask, start)
        low, high = self._ball(start, mask)
        x = start
        if init is not None:
            check_images(init, name="init")
            _same_shape("init", init, hidden)
            x = _project(init.detach(), low, high)

        with torch.no_grad():
            size = (hidden.shape[2], hidden.shape[3])
            targets = {name: model.target(readings[name], size) for name, model in models.items()}

        frames, steps = len(hidden), self.max_iterations
        history = {name: hidden.new_full((steps + 1, frames), torch.nan) for name in models}
        objectives = hidden.new_full((steps + 1, frames), torch.nan)
        iterations = torch.zeros(frames, dtype=torch.long, device=hidden.device)
        best = torch.zeros_like(iterations)
        converged = torch.zeros_like(iterations, dtype=torch.bool)
        best_images = to_grid(x)
        best_objective = hidden.new_full((frames,), torch.inf)
        first: dict[str, Tensor] = {}

        # Pixels outside the mask stay as they are, and so does what becomes of them.
        distortions = [local(part, start, mask) or part for part in self.distortions]
        active = torch.arange(frames, device=hidden.device)
        state = self.step.init(x)
        for n in range(steps + 1):
            shipped = to_grid(x)
            losses, gradients = _evaluate(models, targets, shipped, distortions, with_gradient=n < steps)
            if n == 0:
                first = losses
            objective, gradient = self.aggregate(losses, gradients, first, weights)
            for name, loss in losses.items():
                history[name][n, active] = loss
            objectives[n, active] = objective
            iterations[active] = n

            done = self._done(losses, objective)
            # An iterate that meets every threshold is the answer even if an earlier sum was lower.
            better = (objective < best_objective[active]) | done
            best_images[active[better]] = shipped[better]
            best_objective[active[better]] = objective[better]
            best[active[better]] = n
            converged[active[done]] = True

            if n == steps:
                break
            if self.threshold is not None and bool(done.any()):
                stay = (~done).nonzero().squeeze(1)
                if not len(stay):
                    break
                targets = {name: target.select(stay) for name, target in targets.items()}
                distortions = [
                    part.select(stay) if isinstance(part, CroppedDistortion) else part for part in distortions
                ]
                first = {name: loss[stay] for name, loss in first.items()}
                active, state = active[stay], state.select(stay)
                x, gradient, objective = x[stay], gradient[stay], objective[stay]
                low, high, mask = low[stay], high[stay], mask[stay]
            x, state = self.step(x, gradient * mask, objective, state)
            x = _project(x, low, high)

        result = AttackResult(
            images=best_images,
            losses={name: rows[: int(iterations.max()) + 1] for name, rows in history.items()},
            objective=objectives[: int(iterations.max()) + 1],
            iterations=iterations,
            best=best,
            converged=converged,
            readings=readings,
        )
        self._check_promise(result.images, start, allowed)
        return result

    def _ball(self, start: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The lowest and highest value of every pixel, both on the uint8 grid."""
        epsilon = self.epsilon
        if isinstance(epsilon, Tensor):
            try:
                epsilon = epsilon.to(start).expand_as(start)
            except RuntimeError:
                raise ValueError(
                    f"epsilon of shape {tuple(epsilon.shape)} does not broadcast to images {tuple(start.shape)}."
                ) from None
        # Whole grey levels: 8 / 255 * 255 must not become 7.9999 and floor to 7.
        radius = (epsilon * mask * 255 + 1e-4).floor() / 255
        return (start - radius).clamp(min=0), (start + radius).clamp(max=1)

    def _done(self, losses: Mapping[str, Tensor], objective: Tensor) -> Tensor:
        if self.threshold is None:
            return torch.zeros_like(objective, dtype=torch.bool)
        if isinstance(self.threshold, Mapping):
            return torch.stack([losses[name] < limit for name, limit in self.threshold.items()]).all(dim=0)
        return objective < self.threshold

    def _check_promise(self, images: Tensor, start: Tensor, mask: Tensor) -> None:
        """Ball, range, mask and grid hold whatever a rule or a model did; anything else is our bug."""
        levels = images * 255
        change = (levels - start * 255).abs()
        epsilon = self.epsilon.to(start) if isinstance(self.epsilon, Tensor) else self.epsilon
        broken = []
        if not bool((change <= epsilon * 255 + 1e-2).all()):
            broken.append(f"the L-infinity ball (largest change {change.max().item():.3f}/255)")
        if not bool(((images >= 0) & (images <= 1)).all()):
            broken.append("the range [0, 1]")
        if not bool((change <= 1e-2).logical_or(mask > 0).all()):
            broken.append("the mask")
        if not bool(((levels - levels.round()).abs() < 1e-2).all()):
            broken.append("the uint8 grid")
        if broken:
            raise RuntimeError(f"the attack left {' and '.join(broken)}. This is a bug in deidlib: please report it.")


def _evaluate(
    models: Mapping[str, TargetModel[Any]],
    targets: Mapping[str, Target],
    images: Tensor,
    distortions: Sequence[Distortion],
    *,
    with_gradient: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Each model's losses and gradients, means over the distortions."""
    losses: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    for name, model in models.items():
        # One after the other: only one graph lives at a time.
        readings = [
            _read(name, model, targets[name], images, distortion, with_gradient=with_gradient)
            for distortion in distortions or (None,)
        ]
        losses[name] = _mean([loss for loss, _ in readings])
        if with_gradient:
            gradients[name] = _mean([gradient for _, gradient in readings if gradient is not None])
    return losses, gradients


def _read(
    name: str,
    model: TargetModel[Any],
    target: Target,
    images: Tensor,
    distortion: Distortion | None,
    *,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """A model's loss ``(B,)`` on what comes out of a distortion, and its gradient if wanted."""
    leaf = images.detach().requires_grad_(with_gradient)
    with torch.set_grad_enabled(with_gradient):
        loss = model.loss(leaf if distortion is None else distortion(leaf), target)
    if loss.shape != (len(images),):
        raise ValueError(
            f"{name}.loss must return one value per frame, shape ({len(images)},), got {tuple(loss.shape)}."
        )
    gradient = None
    if with_gradient:
        # Without a face in the whole batch, nothing depends on the images.
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss.sum(), leaf, allow_unused=True)
        gradient = torch.zeros_like(images) if gradient is None else gradient.nan_to_num_(0.0, 0.0, 0.0)
    # A loss that is not a number must never be the best.
    return loss.detach().nan_to_num(nan=torch.inf), gradient


def _mean(terms: list[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else sum_in_order(torch.stack(terms)) / len(terms)


def _project(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(x, low), high)


def _by_model(readings: Any, models: Mapping[str, TargetModel[Any]], hidden: Tensor) -> dict[str, list[Faces]]:
    """Each model's reading, one entry per frame, on the device of the frames."""
    if isinstance(readings, Tensor):
        raise TypeError(
            "readings are Faces, one per frame, not images: the attack does not see the originals. "
            "Read them first, attack(hidden, read_originals(originals, models))."
        )
    if not isinstance(readings, Mapping):
        readings = dict.fromkeys(models, readings)
    if missing := [name for name in models if name not in readings]:
        raise ValueError(f"readings by model must name every model: {missing} missing, got {list(readings)}.")
    for name in models:
        if len(readings[name]) != len(hidden):
            raise ValueError(
                f"expected one Faces per frame: {len(hidden)} frames, got {len(readings[name])} entries for {name}."
            )
    return {name: [faces.to(hidden.device) for faces in readings[name]] for name in models}


def _check_mask(mask: Tensor | None, images: Tensor) -> Tensor:
    frames, _, height, width = images.shape
    if mask is None:
        return images.new_ones(frames, 1, 1, 1)
    if mask.shape not in ((frames, 1, height, width), (frames, 3, height, width)):
        raise ValueError(f"mask must have shape ({frames}, 1, {height}, {width}), got {tuple(mask.shape)}.")
    mask = mask.to(images)
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ValueError("mask must lie in [0, 1]: 1 where the perturbation may be, 0 where nothing changes.")
    return mask


def _same_shape(name: str, tensor: Tensor, images: Tensor) -> None:
    if tensor.shape != images.shape or tensor.device != images.device:
        raise ValueError(
            f"{name} must match the hidden frames: {tuple(images.shape)} on {images.device}, "
            f"got {tuple(tensor.shape)} on {tensor.device}."
        )


def _same_device(name: str, model: TargetModel[Any], images: Tensor) -> None:
    parameter = next(model.parameters(), None)
    if parameter is not None and parameter.device != images.device:
        raise ValueError(
            f"model {name!r} is on {parameter.device}, the images on {images.device}. "
            f"Move one: model.to({str(images.device)!r}) or images.to({str(parameter.device)!r})."
        )
