"""``IFGSMAttacker``: perturb hidden faces until the authorised models read what they are to read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deidlib.attack.aggregation import Aggregator, Sum
from deidlib.attack.arithmetic import differentiable, plain_arithmetic
from deidlib.attack.attack_step import AttackStep
from deidlib.attack.distortion import Distortion
from deidlib.attack.fine_steps import FineSteps
from deidlib.attack.loop import Active, Iterate, Threshold, descend, project
from deidlib.attack.part import Part
from deidlib.attack.reading_step import ReadingStep, Slopes
from deidlib.attack.result import AttackResult
from deidlib.attack.steps import SignStep, StepRule
from deidlib.attack.tolerance import Examiner, Tolerance
from deidlib.faces import Faces
from deidlib.images import check_images, to_grid
from deidlib.models.base import TargetModel, by_name, check_kind
from deidlib.records.html_table import html_table

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IFGSMAttacker:
    r"""Targeted I-FGSM against the summed losses of any number of models.

    .. math::
        X_0 = \text{hidden frame}, \quad
        X_{n+1} = Clip_{X_0, \epsilon}\{X_n - \alpha\, sign(\nabla_X L(X_n))\}, \quad
        L = L_B + L_{LM} + L_G

    until L < threshold or n = N ("HCMUS at MediaEval 2021", CEUR-WS Vol-3181, paper 72; the paper prints
    +alpha, but L is to fall). Where it goes beyond the paper:

    - every frame is attacked on its own: it stops by its own loss, or when the models read it as they should, and then
      leaves the batch;
    - each loss is taken at the iterate rounded to uint8, since that is what a file holds;
    - the best iterate so far is returned rather than the last;
    - epsilon may be a map, a mask confines the perturbation, a negative weight repels;
    - told the distortions that the frames must survive, L is the mean over what is seen after each of them.

    The defaults are the paper's, so that the class does what it is named after and what is printed above, whatever the
    models. What serves best depends on them, and is chosen by :func:`~deidlib.recommended`, as on the command line.

    Args:
        models: the target models: one, or several; a mapping names them, else each goes by its own ``name``.
        weights: factor of each model's loss, by name; 1.0 where not given. Negative: away from its target.
        epsilon: radius of the L-infinity ball around the hidden frame, in image units; a float, or a tensor
            that broadcasts to ``(B, 3, H, W)``.
        max_iterations: N, the number of steps at most.
        threshold: a frame is done when its objective, or each named model's own loss, is below it. ``None``:
            always N steps.
        until: a frame is done when every model, or each that is named here, reads it within its tolerance of the
            reading given, as it would be saved: seen in the forward pass that the loss makes anyway where a model can
            (:meth:`TargetModel.loss_and_reading`), and confirmed by ``predict``. With a threshold as well, a frame that
            reaches either is done.
        step: the step rule.
        fine: the step of frames that are read nearly as they should, if there is a tolerance and all models say
            differentiably what they read; None: the step rule to the end.
        aggregate: how several models are summed: ``Sum()`` (the paper), ``GradientNorm()``, ``Staged(...)``.
        distortions: what may happen to the frames after they leave, such as ``[H264(23)]``. None: they are read as they
            are. Each costs an evaluation of every model; all losses reported are the means over them.

    Raises:
        ValueError: no models, two of one name, an unknown name in ``weights``, ``threshold`` or ``until``, a negative
            epsilon or number of iterations.

    Example:
        >>> from skimage.data import astronaut
        >>> from deidlib.models.mtcnn import MTCNN
        >>> from deidlib.obfuscate import Pixelate
        >>> picture = torch.from_numpy(astronaut()[:256, 96:352]).permute(2, 0, 1)[None] / 255
        >>> model, hide = MTCNN(), Pixelate(blocks=4)
        >>> faces = model.predict(picture)
        >>> hidden, mask = hide(picture, faces), hide.mask(faces, 256, 256)
        >>> result = IFGSMAttacker(model, max_iterations=20)(hidden, faces, mask=mask)
        >>> len(model.predict(hidden)[0]), len(model.predict(result.images)[0])  # faces that are found
        (0, 1)
    """

    models: TargetModel[Any] | Mapping[str, TargetModel[Any]] | Sequence[TargetModel[Any]]
    weights: Mapping[str, float] = field(default_factory=dict)
    epsilon: float | Tensor = 8 / 255
    max_iterations: int = 150
    threshold: float | Mapping[str, float] | None = None
    until: Tolerance | Mapping[str, Tolerance] | None = None
    step: StepRule[Any] = field(default_factory=SignStep)
    fine: ReadingStep | None = None
    aggregate: Aggregator = field(default_factory=Sum)
    distortions: Sequence[Distortion] = ()

    def __post_init__(self) -> None:
        if isinstance(self.models, TargetModel):
            # To fingerprints, one model is a list of it.
            object.__setattr__(self, "models", [self.models])
        names = list(self.named_models())
        if not names:
            raise ValueError("IFGSMAttacker needs at least one target model, got none.")
        for what, given in (("weights", self.weights), ("threshold", self.threshold), ("until", self.until)):
            unknown = [n for n in given if n not in names] if isinstance(given, Mapping) else []
            if unknown:
                raise ValueError(f"{what} names unknown models {unknown}; the models are {names}.")
        if isinstance(self.epsilon, Tensor):
            if not self.epsilon.is_floating_point() or not bool(((self.epsilon >= 0) & (self.epsilon <= 1)).all()):
                raise ValueError("epsilon must be a floating tensor in [0, 1], in image units (8/255, not 8).")
        elif not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must lie in [0, 1], in image units (8/255, not 8), got {self.epsilon}.")
        if self.max_iterations < 0:
            raise ValueError(f"max_iterations must be >= 0, got {self.max_iterations}.")

    def named_models(self) -> dict[str, TargetModel[Any]]:
        """The models by name, in order."""
        return by_name(self.models)

    def __repr__(self) -> str:
        said = "; ".join(f"{name} {value}" for name, value in self._in_words())
        return f"IFGSMAttacker({', '.join(self.named_models())}; {said})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        models = [(f"model {name}", f"{model!r}, weight {self.weights.get(name, 1.0):g}")
                  for name, model in self.named_models().items()]  # fmt: skip
        return html_table([*models, *self._in_words()], caption="IFGSMAttacker")

    def _in_words(self) -> list[tuple[str, str]]:
        """The settings that decide something."""
        radius = "a map" if isinstance(self.epsilon, Tensor) else f"{self.epsilon * 255:.4g}/255"
        said = [("epsilon", radius), ("steps", f"{self.max_iterations} at most"), ("rule", repr(self.step))]
        several = len(self.named_models()) > 1
        optional = {
            "sum": self.aggregate if several else None,
            "weights": dict(self.weights) or None,
            "until": self.until,
            "threshold": self.threshold,
            "fine": self.fine,
            "survives": list(self.distortions) or None,
        }
        return said + [(name, repr(value)) for name, value in optional.items() if value is not None]

    def __call__(
        self,
        hidden: Tensor,
        readings: Sequence[Faces] | Mapping[str, Sequence[Faces]],
        *,
        mask: Tensor | None = None,
        init: Tensor | None = None,
        numbers: Sequence[int] | None = None,
        slopes: Sequence[Sequence[Slopes]] | None = None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> AttackResult:
        """Attack a batch of hidden frames. The originals are not needed: what was read on them is.

        Args:
            hidden: ``(B, 3, H, W)`` the hidden frames, RGB in [0, 1]; rounded to the uint8 grid first.
            readings: B entries: the faces, and what is to be read of them, for all models; or by name each model's own,
                as :func:`~deidlib.models.observe.read_originals` returns them. Where they come from does not matter.
            mask: ``(B, 1, H, W)`` in [0, 1], where the perturbation may be: it scales epsilon and the
                gradient. Everywhere if not given.
            init: ``(B, 3, H, W)`` where to start instead of ``hidden`` (the perturbed frame before this one,
                for instance); projected into the ball around ``hidden``.
            numbers: the frames' numbers in their clip, for models that read each frame in its own way
                (:meth:`TargetModel.at`).
            slopes: per frame what is known from the frame before it, for the fine steps
                (:attr:`AttackResult.slopes`).
            on_step: told how it goes after every step, and before the first; the result does not depend on it. What it
                raises ends the attack.

        Returns:
            The result. Inputs are not modified.

        Raises:
            TypeError: an input is no image batch.
            ValueError: shapes, devices or numbers of frames do not agree; a reading lacks what a model reads.
        """
        check_images(hidden, name="hidden")
        with plain_arithmetic(hidden.device):
            return self._attack(
                differentiable(hidden),
                readings,
                mask=None if mask is None else differentiable(mask),
                init=None if init is None else differentiable(init),
                numbers=numbers,
                slopes=slopes,
                on_step=on_step,
            )

    def _attack(
        self,
        hidden: Tensor,
        readings: Sequence[Faces] | Mapping[str, Sequence[Faces]],
        *,
        mask: Tensor | None,
        init: Tensor | None,
        numbers: Sequence[int] | None,
        slopes: Sequence[Sequence[Slopes]] | None,
        on_step: Callable[[AttackStep], object] | None,
    ) -> AttackResult:
        """The attack, where gradients can be taken."""
        models = self.named_models()
        weights = {name: float(self.weights.get(name, 1.0)) for name in models}
        for name, model in models.items():
            _fits(name, model, hidden)
        if slopes is not None and len(slopes) != len(hidden):
            raise ValueError(f"expected an entry of slopes per frame: {len(hidden)} frames, got {len(slopes)} entries.")
        if numbers is not None:
            if len(numbers) != len(hidden):
                raise ValueError(f"expected one number per frame: {len(hidden)} frames, got {len(numbers)} numbers.")
            models = {name: model.at(numbers) for name, model in models.items()}
        readings = _by_model(readings, models, hidden)

        start = to_grid(hidden.detach())
        mask = _check_mask(mask, start)
        low, high = self._ball(start, mask)
        x = start
        if init is not None:
            check_images(init, name="init")
            _same_shape("init", init, hidden)
            x = project(init.detach(), low, high)

        with torch.no_grad():
            size = (hidden.shape[2], hidden.shape[3])
            targets = {name: model.target(readings[name], size) for name, model in models.items()}

        # Of frames whose faces are small, most is not looked at again and again.
        part = Part.around(start, mask > 0)
        # Pixels outside the mask stay as they are, and so does what becomes of them.
        distortions = [distortion.within(start, mask) for distortion in self.distortions]
        threshold = None if self.threshold is None else Threshold(self.threshold)
        tolerances = self._tolerances()
        examiner = Examiner(self.named_models(), numbers, readings, tolerances, threshold) if tolerances else None
        fine = None
        # Away from a reading there is no offset to bring to zero.
        if self.fine is not None and examiner is not None and all(weight >= 0 for weight in weights.values()):
            fine = FineSteps(self.fine, readings, slopes, part.corner)
        x = part.of(x)
        trace = descend(
            Active(
                number=torch.arange(len(hidden), device=hidden.device),
                part=part,
                images=x,
                low=part.of(low),
                high=part.of(high),
                mask=part.of(mask),
                state=self.step.init(x),
                targets=targets,
                distortions=distortions,
                first={},
            ),
            models,
            steps=self.max_iterations,
            rule=self.step,
            aggregate=self.aggregate,
            weights=weights,
            goal=examiner or threshold,
            fine=fine,
            looked=None if on_step is None else _teller(on_step, self.max_iterations, numbers),
        )
        _log.debug(
            "%d frames attacked in %s steps, %d reached the goal", len(hidden), trace.iterations, sum(trace.converged)
        )
        result = AttackResult.of(trace, part.whole(trace.images), readings)
        if fine is not None:
            result = replace(result, slopes=fine.slopes())
        if examiner is not None:
            examiner.finish(result.images, distortions)
            result = replace(result, within=examiner.within, errors=examiner.errors, excess=examiner.excess())
        # Outside of their part they are the hidden frames themselves.
        self._check_promise(trace.images, part, mask)
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

    def _tolerances(self) -> dict[str, Tolerance]:
        """By model, those that there are."""
        if isinstance(self.until, Tolerance):
            return dict.fromkeys(self.named_models(), self.until)
        return dict(self.until or {})

    def _check_promise(self, images: Tensor, part: Part, mask: Tensor) -> None:
        """Ball, range, mask and grid hold whatever a rule or a model did; anything else is our bug."""
        levels, mask = images * 255, part.of(mask)
        change = (levels - part.of(part.frames) * 255).abs()
        epsilon: float | Tensor = self.epsilon
        if isinstance(epsilon, Tensor):
            epsilon = part.of(epsilon.to(images).expand_as(part.frames))
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


def _teller(
    on_step: Callable[[AttackStep], object], most: int, numbers: Sequence[int] | None
) -> Callable[[Iterate, Sequence[bool]], None]:
    """What tells a listener of iterates, in numbers that the host knows already."""

    def tell(iterate: Iterate, done: Sequence[bool]) -> None:
        frames = [k if numbers is None else numbers[k] for k in iterate.numbers]
        working = [] if iterate.step == most else [k for k, is_done in zip(frames, done, strict=True) if not is_done]
        on_step(AttackStep(iterate.step, most, frames, working, dict(iterate.losses)))

    return tell


def _by_model(readings: Any, models: Mapping[str, TargetModel[Any]], hidden: Tensor) -> dict[str, list[Faces]]:
    """Each model's reading, one entry per frame, on the device of the frames and of their precision."""
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
    return {
        name: [faces.map(lambda values: differentiable(values.to(hidden))) for faces in readings[name]]
        for name in models
    }


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


def _fits(name: str, model: TargetModel[Any], images: Tensor) -> None:
    """A model on the device of the images, of their precision, and through which gradients can be taken."""
    parameter = next(model.parameters(), None)
    check_kind(name, parameter, images)
    if parameter is not None and parameter.is_inference():
        raise ValueError(
            f"model {name!r} was made within torch.inference_mode(), so that no gradient goes through it. Make it "
            "outside; using it there is no problem."
        )
