"""Words of a shell, and the objects that they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

from deidlib.cli.voice import note, warn

if TYPE_CHECKING:
    from deidlib.attack.aggregation import Aggregator
    from deidlib.attack.distortion import Distortion
    from deidlib.attack.presets import Until
    from deidlib.attack.steps import StepRule
    from deidlib.attack.tolerance import Tolerance
    from deidlib.keys.record import KeyRecord
    from deidlib.models.base import FaceModel, TargetModel

R = TypeVar("R", bound="FaceModel", covariant=True)

Steps = Literal["auto", "i-fgsm", "mi-fgsm", "ni-fgsm"]
Combine = Literal["auto", "gradient-norm", "sum"]


class Names(tuple[str, ...]):
    """Words separated by commas: in small letters, each once, in the order that they were said in.

    It is the parser of every option that takes several: ``typer.Option(parser=Names)``.

    Example:
        >>> Names(" RetinaFace,fan,,fan")
        ('retinaface', 'fan')
        >>> str(Names("retinaface, fan"))
        'retinaface,fan'
    """

    def __new__(cls, said: str | Iterable[str] = ()) -> Self:
        """From what was typed, or from single words."""
        words = said.split(",") if isinstance(said, str) else said
        return super().__new__(cls, dict.fromkeys(word for part in words if (word := part.strip().lower())))

    def __str__(self) -> str:
        return ",".join(self)


@dataclass(frozen=True)
class Entry(Generic[R]):
    """What a name stands for.

    Args:
        make: makes the model.
        checkpoint: its weights' name in :mod:`deidlib.weights`, if they are in that table.
    """

    make: Callable[[], R]
    checkpoint: str | None = None


def targets() -> dict[str, Entry[TargetModel[Any]]]:
    """Whom a file can be made readable for."""
    from deidlib.models.fan import FAN
    from deidlib.models.gaze import GazeResNet
    from deidlib.models.mtcnn import MTCNN
    from deidlib.models.retinaface import RetinaFace

    return {
        "mtcnn": Entry(MTCNN),
        "retinaface": Entry(RetinaFace, "retinaface_mobilenet0.25"),
        "retinaface-resnet50": Entry(lambda: RetinaFace(backbone="resnet50"), "retinaface_resnet50"),
        "fan": Entry(FAN, "2dfan4"),
        "mpiigaze": Entry(GazeResNet.mpiigaze, "mpiigaze"),
        "mpiifacegaze": Entry(GazeResNet.mpiifacegaze, "mpiifacegaze"),
        "eth-xgaze": Entry(GazeResNet.eth_xgaze, "eth_xgaze"),
    }


def readers() -> dict[str, Entry[FaceModel]]:
    """Whom a file can be shown to: every target, and readers that nobody can attack through."""
    from deidlib.models import strangers
    from deidlib.models.retinaface import RetinaFace

    twin = "retinaface_mobilenet0.25_1mb"
    return {
        **targets(),
        "yunet": Entry(strangers.YuNet, "yunet"),
        "centerface": Entry(strangers.CenterFace, "centerface"),
        "blazeface-short": Entry(lambda: strangers.BlazeFace("short"), "blazeface_short"),
        "blazeface-full": Entry(lambda: strangers.BlazeFace("full"), "blazeface_full"),
        "blazeface-back": Entry(lambda: strangers.BlazeFace("back"), "blazeface_back"),
        "dlib-hog": Entry(strangers.DlibHOG),
        "dlib-cnn": Entry(strangers.DlibCNN),
        "haar": Entry(strangers.Cascade),
        "lbp": Entry(strangers.LBPCascade),
        "pfld": Entry(strangers.PFLD, "pfld"),
        "facemesh": Entry(strangers.FaceMesh, "facemesh"),
        "dlib-points": Entry(strangers.DlibPoints),
        "retinaface-twin": Entry(lambda: RetinaFace(twin), twin),
    }


def models_of(names: Sequence[str], device: str, option: str = "--targets") -> dict[str, TargetModel[Any]]:
    """The authorised models of a list, at least one of them a detector."""
    models = named(names, device, option, targets())
    if not any(model.task == "boxes" for model in models.values()):
        said = ",".join(names)
        raise ValueError(
            f"{option} must name a detector, which says where faces are; got {said}, which need one. "
            f"Try {option} mtcnn,{said}."
        )
    return models


def readers_of(names: Sequence[str], device: str, option: str) -> dict[str, FaceModel]:
    """The readers of a list, which may be empty."""
    return named(names, device, option, readers()) if names else {}


def silenced_of(names: Sequence[str], models: Mapping[str, TargetModel[Any]], device: str) -> list[TargetModel[Any]]:
    """The detectors that are to find nothing; ``auto``: those that the library recommends, if they can be had."""
    from deidlib.attack.presets import recommended_silence
    from deidlib.models.mtcnn import MTCNN
    from deidlib.models.retinaface import RetinaFace

    twin, own = "retinaface_mobilenet0.25_1mb", "retinaface_mobilenet0.25"
    table: dict[str, Entry[TargetModel[Any]]] = {
        "retinaface-twin": Entry(lambda: RetinaFace(twin), twin),
        "retinaface": Entry(RetinaFace, own),
        "mtcnn": Entry(MTCNN),
    }
    if tuple(names) == ("auto",):
        try:
            return recommended_silence(models.values(), device=device)
        except FileNotFoundError as error:
            warn(f"warning: strangers like RetinaFace may find the faces, as its twin is not here: {error}")
            return []
    if tuple(names) in ((), ("none",)):
        return []
    return list(named(names, device, "--silence", table).values())


def detectors_of(names: Sequence[str], models: Mapping[str, TargetModel[Any]], device: str) -> list[TargetModel[Any]]:
    """The detectors that faces are hidden by; those that the library recommends if none is named."""
    from deidlib.attack.presets import recommended_detectors

    if not names:
        recommended = recommended_detectors(models.values(), device=device)
        said = ", ".join(model.name for model in recommended)
        note(f"faces are looked for by {said}, and in turned frames (--lookout)")
        return recommended
    detectors = {name: model for name, model in models.items() if model.task == "boxes"}
    if missing := [name for name in names if name not in detectors]:
        detectors |= named(missing, device, "--detectors", targets())
    for name in names:
        if detectors[name].task != "boxes":
            raise ValueError(
                f"--detectors must name detectors, got {name}, which reads {detectors[name].task}. Try mtcnn."
            )
    return [detectors[name] for name in names]


def step_of(name: Steps) -> StepRule[Any] | None:
    """The step rule; None for ``auto``: the library chooses."""
    from deidlib.attack.steps import MomentumSignStep, SignStep

    rules: dict[str, StepRule[Any]] = {
        "i-fgsm": SignStep(),
        "mi-fgsm": MomentumSignStep(),
        "ni-fgsm": MomentumSignStep(nesterov=True),
    }
    return rules.get(name)


def aggregator_of(name: Combine) -> Aggregator | None:
    """How losses are summed; None for ``auto``: the library chooses."""
    from deidlib.attack.aggregation import GradientNorm, Sum

    rules: dict[str, Aggregator] = {"gradient-norm": GradientNorm(), "sum": Sum()}
    return rules.get(name)


def distortion_of(text: str) -> Distortion:
    """The distortion that one word of ``--survive`` means.

    Args:
        text: ``"jpeg:75"`` (quality), ``"h264:23"`` (constant rate factor), ``"blur:1.0"`` (sigma in pixels) or
            ``"chroma"``.

    Raises:
        ValueError: an unknown name, or a number that is missing, superfluous or out of range.

    Example:
        >>> distortion_of("h264:23")
        H264(crf=23.0)
    """
    from deidlib.attack.distortions import H264, JPEG, Blur, ChromaSubsampling

    kind, _, level = text.partition(":")
    known = "Known: jpeg:QUALITY (1 to 100), h264:CRF (0 to 51), blur:SIGMA (pixels), chroma."
    try:
        if kind == "chroma" and not level:
            return ChromaSubsampling()
        if kind == "jpeg":
            return JPEG(int(level))
        if kind == "h264":
            return H264(float(level))
        if kind == "blur":
            return Blur(float(level))
    except ValueError as error:
        raise ValueError(f"--survive {text!r}: {error} {known}") from None
    raise ValueError(f"unknown distortion {text!r} in --survive. {known}")


def until_of(
    text: str, models: Mapping[str, TargetModel[Any]], *, codec: str, keyed: bool, distortions: Sequence[Distortion]
) -> Until:
    """What ``--until`` means: when a frame is done.

    Args:
        text: ``"auto"``, ``"never"``, a name in ``TOLERANCES``, or limits as for :func:`tolerance_of`.
        models: the authorised ones.
        codec: how the file is stored.
        keyed: whether there is a key.
        distortions: what the file must survive.

    Raises:
        ValueError: an unknown word, or a number that is missing or out of range.
    """
    from deidlib.attack.presets import TOLERANCES, recommended_until

    if text == "never":
        return None
    if text == "auto":
        return recommended_until(models, codec=codec, keyed=keyed, distortions=distortions)
    if text in TOLERANCES:
        return recommended_until(models, text, always=True)
    return tolerance_of(text)


def tolerance_of(text: str) -> Tolerance:
    """The limits that a word of the command line names.

    Args:
        text: a name in ``TOLERANCES``, or limits such as ``"iou:0.97,nme:1%,gaze:2"``.

    Raises:
        ValueError: an unknown word, or a number that is missing or out of range.

    Example:
        >>> tolerance_of("iou:0.97,nme:1%,gaze:2")
        Tolerance(iou=0.97, nme=0.01, gaze=2.0, score=None)
    """
    from deidlib.attack.presets import TOLERANCES
    from deidlib.attack.tolerance import Tolerance

    if text in TOLERANCES:
        return TOLERANCES[text]
    known = (
        f"Known: auto, never, {', '.join(TOLERANCES)}, or limits such as iou:0.97,nme:1%,gaze:2 (degrees),score:0.1."
    )
    limits: dict[str, float] = {}
    for word in text.split(","):
        name, _, number = word.strip().partition(":")
        try:
            if name not in ("iou", "nme", "gaze", "score") or name in limits:
                raise ValueError(f"{word!r} is no limit, or the second of its kind.")
            limits[name] = float(number[:-1]) / 100 if number.endswith("%") else float(number)
        except ValueError as error:
            raise ValueError(f"--until {text!r}: {error} {known}") from None
    try:
        return Tolerance(**limits)
    except ValueError as error:
        raise ValueError(f"--until {text!r}: {error} {known}") from None


def readers_for(models: Sequence[str], record: KeyRecord | None) -> Names:
    """The models that shall read, once it is known that they can; all that the key opens by default.

    Raises:
        ValueError: the file was not protected for one of them.
    """
    if record is None:
        return Names(models or ["mtcnn"])
    names = Names(models or record.models)
    if others := [name for name in names if name not in record.models]:
        raise ValueError(
            f"{', '.join(others)} cannot read this file: it was protected for {', '.join(record.models)}. "
            f"Try --models {','.join(record.models)}."
        )
    return names


def named(names: Sequence[str], device: str, option: str, table: Mapping[str, Entry[R]]) -> dict[str, R]:
    """The models of a list, on the device, with their licences shown."""
    from torch import nn

    from deidlib import weights

    models: dict[str, R] = {}
    for name in names:
        if name not in table:
            raise ValueError(f"unknown model {name!r} in {option}; choose from {', '.join(table)}.")
        model, checkpoint = table[name].make(), table[name].checkpoint
        network: object = model
        # What is no network runs where it runs.
        if isinstance(network, nn.Module):
            network.to(device)
        models[name] = model
        if checkpoint is not None:
            known = weights.checkpoint(checkpoint)
            note(f"{name}: weights from {known.origin}, licence {known.licence}")
    if not models:
        raise ValueError(f"{option} must name at least one model. Try {option} mtcnn.")
    return models


def workers_named(wanted: str | None) -> int | Literal["auto"] | None:
    """How many workers; None: none beside this process."""
    if wanted is None:
        return None
    if wanted == "auto":
        return "auto"
    if not wanted.isascii() or not wanted.isdigit() or int(wanted) < 1:
        raise ValueError(f"--workers must be auto, or a number from 1 on, got {wanted!r}.")
    return int(wanted)


def device_of(wanted: str) -> str:
    """The device, once it is known to be there."""
    import torch

    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if wanted == "auto":
        wanted = there[0].removesuffix(":0") if there else "cpu"
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda", "mps") or not (index.isdigit() or wanted == kind):
        raise ValueError(f"--device must be auto, cpu, cuda, cuda:N or mps, got {wanted!r}. Try --device auto.")
    if {"cpu": f"cpu:{index or 0}", "cuda": f"cuda:{index or 0}", "mps": "mps"}[kind] not in ["cpu:0", *there]:
        why = "" if kind != "cuda" or torch.version.cuda or torch.version.hip else " This torch was built without CUDA."
        raise ValueError(
            f"--device {wanted}: this machine has {', '.join(['cpu', *there])} that torch can use.{why} "
            f"Use --device {there[0] if there else 'cpu'}, or auto."
        )
    note(f"device: {wanted}")
    return wanted
