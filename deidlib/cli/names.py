"""Names that a shell can say, and the objects that they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from deidlib.attack.distortions import Distortion


def targets() -> dict[str, tuple[Callable[[], Any], str | None]]:
    """What the shell can name: how to make the model, and its checkpoint in the table of weights if it has one."""
    from deidlib.models.cropped import CroppedDetector
    from deidlib.models.fan import FAN
    from deidlib.models.gaze import GazeResNet
    from deidlib.models.mtcnn import MTCNN
    from deidlib.models.retinaface import RetinaFace

    return {
        "mtcnn": (MTCNN, None),
        "retinaface": (lambda: CroppedDetector(RetinaFace()), "retinaface_mobilenet0.25"),
        "retinaface-resnet50": (lambda: RetinaFace(backbone="resnet50"), "retinaface_resnet50"),
        "fan": (FAN, "2dfan4"),
        "mpiigaze": (GazeResNet.mpiigaze, "mpiigaze"),
        "mpiifacegaze": (GazeResNet.mpiifacegaze, "mpiifacegaze"),
        "eth-xgaze": (GazeResNet.eth_xgaze, "eth_xgaze"),
    }


def readers() -> dict[str, tuple[Callable[[], Any], str | None]]:
    """Whom a file can be shown to: every target, and readers that nobody can attack through."""
    from deidlib.models.retinaface import RetinaFace
    from deidlib.models.strangers import PFLD, YuNet

    twin = "retinaface_mobilenet0.25_1mb"
    return targets() | {
        "retinaface": (RetinaFace, "retinaface_mobilenet0.25"),
        "yunet": (YuNet, "yunet"),
        "pfld": (PFLD, "pfld"),
        "retinaface-twin": (lambda: RetinaFace(twin), twin),
    }


def readers_of(names: str, device: str, option: str) -> dict[str, Any]:
    """The readers of a comma list, which may be empty."""
    return named(names, device, option, readers()) if names.strip(" ,") else {}


def models_of(names: str, device: str, option: str = "--targets") -> dict[str, Any]:
    """The authorised models of a comma list, at least one of them a detector."""
    models = named(names, device, option)
    if not any(model.task == "boxes" for model in models.values()):
        raise ValueError(
            f"{option} must name a detector, which says where faces are; got {names}, which need one. "
            f"Try {option} mtcnn,{names}."
        )
    return models


def hiders_of(names: str, models: dict[str, Any], device: str) -> list[Any]:
    """The detectors that faces are hidden by; MTCNN's weights are always at hand, so by default it helps."""
    detectors = {name: model for name, model in models.items() if model.task == "boxes"}
    if not names.strip():
        names = ",".join([*detectors, "mtcnn"])
    wanted = [part.strip().lower() for part in names.split(",") if part.strip()]
    missing = ",".join(name for name in dict.fromkeys(wanted) if name not in detectors)
    others = named(missing, device, "--detectors") if missing else {}
    for name, model in others.items():
        if model.task != "boxes":
            raise ValueError(f"--detectors must name detectors, got {name}, which reads {model.task}. Try mtcnn.")
    return [(detectors | others)[name] for name in dict.fromkeys(wanted)]


def step_and_combination(steps: str, combine: str, models: dict[str, Any]) -> tuple[Any, Any]:
    """The step rule and the way to sum losses that the shell names; ``auto`` is what was measured to serve best.

    With a gaze model beside others, the plain sum with MI-FGSM leaves the gaze 0.9 degrees off, gradients of one size
    1.7; otherwise gradients of one size keep the largest loss from drowning the others.
    """
    from deidlib.attack.aggregation import GradientNorm, Sum
    from deidlib.attack.steps import APGDStep, MomentumSignStep, SignStep

    several = len(models) > 1
    with_gaze = several and any(model.task == "gaze" for model in models.values())
    rules = {"i-fgsm": SignStep(), "mi-fgsm": MomentumSignStep(), "ni-fgsm": MomentumSignStep(nesterov=True)}
    step = rules.get(steps) or (MomentumSignStep() if with_gaze else APGDStep())
    plain = combine == "sum" or not several or (combine == "auto" and with_gaze)
    return step, Sum() if plain else GradientNorm()


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


def named(
    names: str, device: str, option: str, table: dict[str, tuple[Callable[[], Any], str | None]] | None = None
) -> dict[str, Any]:
    """The models of a comma list, on the device, with their licences shown."""
    from deidlib import weights

    table = targets() if table is None else table
    models = {}
    for name in [part.strip().lower() for part in names.split(",") if part.strip()]:
        if name not in table:
            raise ValueError(f"unknown model {name!r} in {option}; choose from {', '.join(table)}.")
        make, checkpoint = table[name]
        model = make()
        # What is no network runs where it runs.
        models[name] = model.to(device) if hasattr(model, "to") else model
        if checkpoint is not None:
            known = weights.checkpoint(checkpoint)
            typer.echo(f"{name}: weights from {known.origin}, licence {known.licence}", err=True)
    if not models:
        raise ValueError(f"{option} must name at least one model, got {names!r}. Try {option} mtcnn.")
    return models


def device_of(wanted: str) -> str:
    """The device, once it is known to be there."""
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda", "mps") or not (index.isdigit() or wanted == kind):
        raise ValueError(f"--device must be auto, cpu, cuda, cuda:N or mps, got {wanted!r}. Try --device auto.")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= there:
        raise ValueError(f"--device {wanted}, but this machine has {there} usable {kind} devices. Use --device cpu.")
    typer.echo(f"device: {wanted}", err=True)
    return wanted
