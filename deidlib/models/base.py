"""``TargetModel``: what an authorised model must be able to say, and ``observe``, which asks it."""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from deidlib.faces import FaceBatch, Faces, five_points
from deidlib.nets.precision import full_precision
from deidlib.records.html_table import html_table

Reading = Sequence[Faces] | FaceBatch
"""What a model reads on frames in the pass of its loss: their faces, in any order; or, without a look at any value, a
table of those that it is to read, place by place as the reading lists them that the target is of."""

ORDER = {"boxes": 0, "landmarks": 1, "gaze": 2}


@dataclass(frozen=True, eq=False)
class Target:
    """What a model must still read: one row per thing to reproduce, each with the frame it belongs to.

    Subclasses add fields. A tensor field has one row per entry of ``frame``; a field that is itself a
    ``Target``, or a tuple of them, is selected by its own ``frame``; anything else is kept as it is.

    Args:
        frame: ``(F,)`` long, the frame of each row.

    Raises:
        ValueError: frame is no ``(F,)`` long tensor, or a tensor field has another number of rows.

    Example:
        >>> Target(torch.tensor([0, 0, 2])).select(torch.tensor([2])).frame
        tensor([0])
    """

    frame: Tensor

    def __post_init__(self) -> None:
        if self.frame.ndim != 1 or self.frame.dtype != torch.long:
            raise ValueError(f"Target.frame must be (F,) int64, got {tuple(self.frame.shape)} {self.frame.dtype}.")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor) and (value.ndim < 1 or len(value) != len(self.frame)):
                raise ValueError(
                    f"{type(self).__name__}.{field.name} must have one row for each of the {len(self.frame)} "
                    f"entries of frame, got shape {tuple(value.shape)}."
                )

    def select(self, frames: Tensor) -> Self:
        """Keep the rows of some frames, renumbered 0 .. K-1 in the order given.

        Args:
            frames: ``(K,)`` long, distinct frame numbers.
        """
        match = self.frame[:, None] == frames[None, :]
        rows = match.any(dim=1).nonzero().squeeze(1)
        kept: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                kept[field.name] = value[rows]
            elif isinstance(value, Target):
                kept[field.name] = value.select(frames)
            elif isinstance(value, tuple) and value and all(isinstance(v, Target) for v in value):
                kept[field.name] = tuple(v.select(frames) for v in value)
        kept["frame"] = match[rows].long().argmax(dim=1)
        return replace(self, **kept)


@runtime_checkable
class FaceModel(Protocol):
    """Whatever reads faces: frames in, faces out. Every :class:`TargetModel` is one; others need no gradient.

    Example:
        >>> class Everywhere:
        ...     task, name = "boxes", "everywhere"
        ...     def predict(self, images, faces=None):
        ...         height, width = images.shape[-2:]
        ...         return [Faces(images.new_tensor([[0, 0, width, height]]), images.new_ones(1)) for _ in images]
        >>> isinstance(Everywhere(), FaceModel)
        True
    """

    @property
    def task(self) -> Literal["boxes", "landmarks", "gaze"]:
        """The field of :class:`~deidlib.Faces` that ``predict`` fills in."""
        ...

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Read the frames.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].
            faces: B entries, what others have read; a detector needs none.

        Returns:
            B entries. A detector returns the faces that it finds; any other reader returns ``faces`` with its own
            field filled in.
        """
        ...


T = TypeVar("T", bound=Target)
# Methods of a target model; they compute in the precision of its weights, whoever wrote them.
_COMPUTE = ("predict", "target", "loss", "loss_and_reading")


class TargetModel(nn.Module, ABC, Generic[T]):
    """An authorised model: it reads faces, and says differentiably how far frames are from reading as they should.

    Subclasses set ``task`` and write three methods: ``predict`` reads a frame, ``target`` turns a *reading*, numbers
    alone, into a goal, ``loss`` says how far frames are from it. A target never sees the face: a reading is all that
    an attack learns about the original, whether this model made it, another one, or a human.

    Networks assigned as attributes are frozen and put in eval mode for ever, so that no attack can change a weight or a
    running statistic. Everything is per frame: a frame's prediction, target and loss must not depend on the frames
    beside it. And everything is in float32, within ``torch.autocast`` too: in half precision a detector reads another
    face, and the signs of a gradient are chance (docs/benchmarks.md).

    Example:
        >>> from deidlib.models.mtcnn import MTCNN
        >>> model = MTCNN()
        >>> model.task, model.name, any(weight.requires_grad for weight in model.train().parameters())
        ('boxes', 'mtcnn', False)

    A whole one of your own, in thirty lines, is in docs/targets.md.
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]]
    """The field of :class:`~deidlib.Faces` that ``predict`` fills in; it decides the order in ``observe``."""

    def __init__(self) -> None:
        super().__init__()
        super().train(False)

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "loss" in vars(cls) and "loss_and_reading" not in vars(cls):
            # Another loss than the parent's: what the parent computes beside its own does not belong to it.
            cls.loss_and_reading = TargetModel.loss_and_reading  # type: ignore[method-assign]
        for name in _COMPUTE:
            if name in vars(cls):
                setattr(cls, name, _in_own_precision(vars(cls)[name], checked=name != "target"))

    @property
    def name(self) -> str:
        """What weights, thresholds and results call this model when the user gives no name."""
        return type(self).__name__.lower()

    @property
    def for_originals(self) -> TargetModel[Any]:
        """The model that reads frames as they came from the camera: this one, unless it reads protected frames only."""
        return self

    def at(self, numbers: Sequence[int]) -> Self:
        """This model, told which frames of the clip it is about to see.

        Most models do not care and return themselves.

        Args:
            numbers: one per frame of the batches that follow, counted from 0 in the clip.
        """
        return self

    @abstractmethod
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Read the frames; no gradient.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].
            faces: B entries: what models before this one have read. A detector needs none.

        Returns:
            B entries. A detector returns the faces that it finds; any other model returns ``faces`` with its
            own field filled in, the faces and their order unchanged.

        Raises:
            ValueError: the model needs boxes and ``faces`` is missing or of the wrong length.
        """

    @abstractmethod
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> T:
        """What is to be read on the protected frames, from a reading alone; without pixels and without gradient.

        Args:
            reading: B entries, the faces to keep readable and what is to be read of them. What is NaN is not known, and
                costs nothing.
            size: height and width of the frames in pixels.

        Returns:
            On the reading's device: what is to be read, and the geometry (crops, anchors, poses) to read it at. A frame
            without faces has no rows.

        Raises:
            ValueError: the reading lacks what this model reads altogether.
        """

    @abstractmethod
    def loss(self, images: Tensor, target: T) -> Tensor:
        """How far the model's reading of ``images`` is from ``target``; differentiable in ``images``.

        Args:
            images: ``(B, 3, H, W)`` the frames as they are now.
            target: from :meth:`target`, with frames numbered as in ``images``.

        Returns:
            ``(B,)``, finite, >= 0; row i from frame i alone, its faces weighted equally; 0 without a face.
        """

    def loss_and_reading(self, images: Tensor, target: T) -> tuple[Tensor, Reading | None]:
        """The loss, and what the model reads on the same images, where the same forward pass says so.

        An attack that ends when a frame reads as it should asks this at every step. A model need not answer: its
        ``predict`` is asked then, every few steps, and once in any case.

        Args:
            images: as for :meth:`loss`.
            target: as for :meth:`loss`.

        Returns:
            :meth:`loss`, and what is read: per frame the faces, those of the target at least; or those of the target
            alone as a :class:`~deidlib.faces.FaceBatch`, for which nothing need be waited for; or None. Where it is
            differentiable in ``images``, an attack ends in the steps that this allows
            (:class:`~deidlib.attack.reading_step.ReadingStep`).
        """
        return self.loss(images, target), None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task}, {self._size()})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        device = next((str(parameter.device) for parameter in self.parameters()), "")
        rows = [(self.name, self.task, self._size(), device)]
        return html_table(rows, head=("name", "reads", "size", "device"), caption=repr(self))

    def _size(self) -> str:
        return f"{sum(parameter.numel() for parameter in self.parameters()):,} weights"

    def train(self, mode: bool = True) -> Self:
        """Does nothing: a target model stays in eval mode."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Does nothing: the weights of a target model stay frozen."""
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module):
            value.eval()
            for parameter in value.parameters():
                parameter.requires_grad_(False)
        elif isinstance(value, nn.Parameter):
            value.requires_grad_(False)
        super().__setattr__(name, value)


def _in_own_precision(compute: Callable[..., Any], *, checked: bool) -> Callable[..., Any]:
    """A method of a model that no autocast reaches, and whose images must be of the model's device and precision."""

    @functools.wraps(compute)
    def computed(model: TargetModel[Any], images: Any, *args: Any, **settings: Any) -> Any:
        # What is no image batch at all, the method itself refuses.
        if checked and isinstance(images, Tensor) and images.dtype in (torch.float32, torch.float64):
            check_kind(model.name, next(model.parameters(), None), images)
        with full_precision():
            return compute(model, images, *args, **settings)

    return computed


M = TypeVar("M", bound=nn.Module)


def with_network(model: M, name: str, network: nn.Module) -> M:
    """A copy of a model with one of its networks exchanged; all else is shared, and the model stays as it is."""
    other = copy.copy(model)
    # The copy shares the dict of its networks with the one that it was made from.
    other._modules = {**model._modules, name: network}
    return other


class Around(TargetModel[T]):
    """A target model around another one: reads as that does, and has a loss of its own.

    Args:
        model: the other one.
    """

    def __init__(self, model: TargetModel[Any]) -> None:
        super().__init__()
        self.model = model

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(filter(None, (repr(self.model), self.extra_repr())))})"

    @property
    def task(self) -> Literal["boxes", "landmarks", "gaze"]:  # type: ignore[override]
        """The model's."""
        return self.model.task

    @property
    def name(self) -> str:
        """The model's."""
        return self.model.name

    @property
    def for_originals(self) -> TargetModel[Any]:
        """The model's."""
        return self.model.for_originals

    def at(self, numbers: Sequence[int]) -> Self:
        """This model for the frames of those numbers."""
        told = self.model.at(numbers)
        return self if told is self.model else with_network(self, "model", told)

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """What the model reads on the whole frames."""
        return self.model.predict(images, faces)


N = TypeVar("N", bound=FaceModel)


def one_or_several(models: N | Iterable[N]) -> list[N]:
    """Models as a list, of one model too."""
    return [models] if isinstance(models, FaceModel) else list(models)


def by_name(models: N | Mapping[str, N] | Iterable[N]) -> dict[str, N]:
    """Models by name, in order: the names that a mapping gives, or the models' own; one model alone is a list of it.

    Raises:
        ValueError: two models have the same name.
    """
    if isinstance(models, Mapping):
        return dict(models)
    named: dict[str, N] = {}
    for model in one_or_several(models):
        if model.name in named:
            raise ValueError(
                f"two models are called {model.name!r}: name them, models={{'first': ..., 'second': ...}}."
            )
        named[model.name] = model
    return named


def check_kind(name: str, parameter: Tensor | None, images: Tensor) -> None:
    """Make sure that a model and the images that it is given are on one device, and of one floating type.

    Args:
        name: of the model.
        parameter: any of its parameters; None if it has none.
        images: ``(B, 3, H, W)``.

    Raises:
        ValueError: they are not; the message says how to convert either.
    """
    if parameter is not None and parameter.device != images.device:
        raise ValueError(
            f"model {name!r} is on {parameter.device}, the images on {images.device}. "
            f"Move one: model.to({str(images.device)!r}) or images.to({str(parameter.device)!r})."
        )
    if parameter is not None and parameter.is_floating_point() and parameter.dtype != images.dtype:
        raise ValueError(
            f"model {name!r} computes in {_WORDS.get(parameter.dtype, parameter.dtype)}, and the images are "
            f"{_WORDS.get(images.dtype, images.dtype)}. Models work in float32: model.float(), images.float()."
        )


_WORDS = {torch.float64: "float64", torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


def needs_boxes(model: TargetModel[Any], images: Tensor, faces: Sequence[Faces] | None) -> Sequence[Faces]:
    """Return ``faces`` if there is one entry per frame, else raise what a user should do about it.

    Raises:
        ValueError: ``faces`` is missing, or its length is not the number of frames.
    """
    if faces is None:
        raise ValueError(
            f"{type(model).__name__} needs the boxes of the faces, got none. "
            f"Run observe(images, [RetinaFace(), {type(model).__name__}(...)])."
        )
    if len(faces) != len(images):
        raise ValueError(f"expected one Faces per frame: {len(images)} frames, got {len(faces)} entries.")
    return faces


def frame_of(reading: Sequence[Faces]) -> Tensor:
    """The frame of each face, ``(F,)`` long, over all frames of a reading.

    Example:
        >>> one = Faces(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.ones(1))
        >>> frame_of([one, Faces.empty(), one])
        tensor([0, 2])
    """
    counts = torch.tensor([len(faces) for faces in reading], device=reading[0].boxes.device)
    return torch.arange(len(reading), device=counts.device).repeat_interleave(counts)


def rows_of(reading: Sequence[Faces], field: Literal["boxes", "scores", "landmarks", "gaze"] = "boxes") -> Tensor:
    """A field of all frames' faces, one row per face: ``(F, 4)`` boxes, ``(F, 3)`` gaze ...

    Args:
        reading: at least one frame.
        field: of :class:`~deidlib.Faces`.

    Raises:
        ValueError: a frame has faces and not the field, or some have 68 landmarks and some five.

    Example:
        >>> one = Faces(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.ones(1), gaze=torch.tensor([[0.0, 0.0, -1.0]]))
        >>> rows_of([one, Faces.empty(), one], "gaze").shape
        torch.Size([2, 3])
    """
    rows = []
    for number, faces in enumerate(reading):
        value = getattr(faces, field)
        if len(faces) and value is None:
            raise ValueError(
                f"the reading lacks {field}: the faces of frame {number} have none. Add a model that reads {field} to "
                "observe(images, [...]), or give them as they are known; NaN stands for a single face's."
            )
        if len(faces):
            rows.append(value)
    if len({row.shape[1:] for row in rows}) > 1:
        raise ValueError("some frames have 68 landmarks and some 5; read all of them with the same models.")
    if rows:
        return torch.cat(rows)
    return reading[0].boxes.new_zeros({"boxes": (0, 4), "scores": (0,), "landmarks": (0, 5, 2), "gaze": (0, 3)}[field])


def five_points_of(reading: Sequence[Faces]) -> Tensor:
    """Five points ``(F, 5, 2)`` of all frames' faces, taken from 68 where those are known; NaN where nothing is."""
    return torch.cat(
        [
            faces.boxes.new_full((len(faces), 5, 2), torch.nan)
            if faces.landmarks is None
            else five_points(faces.landmarks).to(faces.boxes)
            for faces in reading
        ]
    )


def frame_mean(values: Tensor, frame: Tensor, frames: int) -> Tensor:
    """Mean of row values within each frame: what every loss ends in, so that the faces of a frame count equally.

    Args:
        values: ``(F,)`` of rows, one per face, say.
        frame: ``(F,)`` long, the frame of each.
        frames: how many there are.

    Returns:
        ``(frames,)``; 0 for a frame without rows.

    Example:
        >>> frame_mean(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 3)
        tensor([2., 0., 5.])
    """
    # Not torch.bincount, which a device has to wait for.
    count = values.new_zeros(frames).index_add_(0, frame, torch.ones_like(values))
    return values.new_zeros(frames).index_add(0, frame, values) / count.clamp_(min=1)


def huber(errors: Tensor) -> Tensor:
    """Huber loss of each error: squared (and halved) below 1, absolute above.

    Args:
        errors: any float tensor, in units of a tolerance.

    Example:
        >>> huber(torch.tensor([[1.0, 0.0], [2.5, -2.5]]))
        tensor([[0.5000, 0.0000],
                [2.0000, 2.0000]])
    """
    return smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none")
