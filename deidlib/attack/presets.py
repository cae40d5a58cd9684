"""The settings that were measured to serve best: what ``deidlib protect`` does where it is told nothing else.

They are functions of the authorised models, and what they return are ordinary objects: look at them, or change them by
``dataclasses.replace``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deidlib import weights
from deidlib.attack.aggregation import Aggregator, GradientNorm, Sum
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.attack.distortion import Distortion
from deidlib.attack.reading_step import ReadingStep
from deidlib.attack.steps import Annealed, APGDStep, MomentumSignStep, StepRule
from deidlib.attack.tolerance import Tolerance
from deidlib.media.codecs import is_lossless
from deidlib.models.base import Around, TargetModel
from deidlib.models.cropped import CroppedDetector
from deidlib.models.discreet import Discreet
from deidlib.models.gaze import GazeResNet
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.models.silent import Silent

# The checkpoints of the RetinaFace that looks for faces besides, and of its twin.
_SECOND, _TWIN = "retinaface_mobilenet0.25", "retinaface_mobilenet0.25_1mb"

# Steps, where their number is fixed.
_SHORT, _LONG = 18, 60

Until = Tolerance | Mapping[str, Tolerance] | None

TOLERANCES: Mapping[str, Tolerance] = {
    "quick": Tolerance(iou=0.95, nme=0.015, gaze=3.0),
    "standard": Tolerance(iou=0.996, nme=0.002, gaze=0.75),
    "fine": Tolerance(iou=0.998, nme=0.001, gaze=0.4),
}
"""As ``--until`` names them: a face is where it was; it moves as it moved; for whoever measures how it moves."""

# How near a box alone is to be for fine steps: 2.9 gradients a frame in place of 5.5 (docs/benchmarks.md).
_NEAR_BOXES = 4.0
# What models are held to that do not say, differentiably and by parts of a pixel, what they read.
_COARSE = TOLERANCES["quick"]


def recommended(
    models: TargetModel[Any] | Mapping[str, TargetModel[Any]] | Sequence[TargetModel[Any]],
    *,
    epsilon: float | Tensor = 8 / 255,
    max_iterations: int | None = None,
    step: StepRule[Any] | None = None,
    aggregate: Aggregator | None = None,
    distortions: Sequence[Distortion] = (),
    until: Until = None,
    silence: Sequence[TargetModel[Any]] = (),
    keyed: bool = False,
) -> IFGSMAttacker:
    """The attacker that serves these models best; its choices depend on them.

    :class:`~deidlib.IFGSMAttacker` alone is the paper's algorithm, whatever it attacks. This differs from it in:

    - **The step rule**: :class:`~deidlib.APGDStep`, which needs the fewest steps. IoU of MTCNN's box with the
      original's on the astronaut after 20, 60 and 150 steps: 0.951, 0.961, 0.963; of the paper's ``SignStep`` 0.847,
      0.952, 0.943; of ``MomentumSignStep`` 0.935, 0.941, 0.959 (``examples/compare_step_rules.py``).
    - **The number of steps**: 60; 150 bring 0.002 more there. Most tables of docs/results.md were made with 60.
    - **Several models**: :class:`~deidlib.GradientNorm`, lest the model of the largest loss drown the others.
      RetinaFace and MTCNN together are read at an IoU of 0.981 and 0.967 on T002_talk, alone at 0.990 and 0.966.
    - **Distortions, through a key**: 18 steps of ``MomentumSignStep(epsilon / 2, decay=0.5)``, shorter and shorter
      (:class:`~deidlib.attack.steps.Annealed`). With a key every frame starts afresh. In a file of H.264 at crf 23
      RetinaFace and MTCNN read as much after these as after 60 of ``APGDStep`` (docs/benchmarks.md).
    - **Gaze among several models**: ``MomentumSignStep`` and the plain ``Sum``. Beside RetinaFace, read from the file
      along the whole chain, gaze is 0.9 degrees off on T002_talk then; 1.2 by ``APGDStep`` and ``GradientNorm``, 1.6 by
      ``APGDStep`` and ``Sum``, after 80 steps each (docs/attack.md, docs/results.md).
    - **With a tolerance**: ``MomentumSignStep``, which reaches it in half the steps of ``APGDStep``, whose steps are
      long at first (13 against 25 for the first frame of T002_radio, docs/benchmarks.md).
    - **With a tolerance**, once a frame is read nearly as it should: :class:`~deidlib.attack.reading_step.ReadingStep`,
      which took 3.4 gradients a frame to IoU 0.99 and NME 0.5 % where sign steps took 44.9, on T002_radio
      (docs/benchmarks.md).
    - **RetinaFace on MobileNet** is attacked through windows around the faces
      (:class:`~deidlib.models.cropped.CroppedDetector`): the same gradient but for the last digits, for two fifths of
      the time at 1280 x 720. On ResNet-50 it is not: nobody has seen yet how far that one looks.

    Args:
        models: the authorised models: one, or several; a mapping names them.
        epsilon: largest change of a pixel, in image units, as for ``IFGSMAttacker``.
        max_iterations: steps at most, >= 0; chosen if not given: 60, or 18 where those of above serve.
        step: the step rule; chosen by the models if not given.
        aggregate: how losses are summed; chosen by the models if not given.
        distortions: what the frames must survive, such as ``[H264(23)]``.
        until: when a frame is done; None: after ``max_iterations`` steps.
        silence: detectors that nobody authorised, to find nothing where faces are hidden
            (:class:`~deidlib.models.silent.Silent`); strangers like them find less then.
        keyed: whether the models will read by a key, as those that are ``Keyed`` already do.

    Returns:
        The attacker. What has no argument here is set by ``dataclasses.replace(recommended(models), threshold=0.1)``.

    Raises:
        TypeError: a detector to be silenced does not tell its proposals.
        ValueError: no models, two of one name, a setting out of its range, no detector beside which others could be
            silenced, or a model that reads by a key, with ``silence``.

    Example:
        >>> from deidlib.models.mtcnn import MTCNN
        >>> attacker = recommended(MTCNN())
        >>> attacker.max_iterations, attacker.step == APGDStep(), attacker.aggregate
        (60, True, Sum())
    """
    named = IFGSMAttacker(models).named_models()
    several = len(named) > 1
    gaze_beside = several and any(model.task == "gaze" for model in named.values())
    keyed = keyed or any(isinstance(model, Keyed) for model in named.values())
    short = bool(distortions) and keyed and until is None and step is None and not gaze_beside
    if max_iterations is None:
        max_iterations = _SHORT if short else _LONG
    if step is None:
        step = MomentumSignStep() if gaze_beside or until is not None else APGDStep()
    if short and max_iterations:
        radius = float(epsilon.max()) if isinstance(epsilon, Tensor) else epsilon
        step = Annealed(MomentumSignStep(max(radius / 2, 1 / 255), decay=0.5), steps=max_iterations)
    if aggregate is None:
        aggregate = GradientNorm() if several and not gaze_beside else Sum()
    return IFGSMAttacker(
        _discreet({name: _cropped(model) for name, model in named.items()}, silence),
        epsilon=epsilon,
        max_iterations=max_iterations,
        step=step,
        fine=_fine(until),
        aggregate=aggregate,
        distortions=distortions,
        until=until,
    )


def recommended_until(
    models: TargetModel[Any] | Mapping[str, TargetModel[Any]] | Sequence[TargetModel[Any]],
    how: str = "standard",
    *,
    always: bool = False,
    codec: str = "ffv1",
    keyed: bool = False,
    distortions: Sequence[Distortion] = (),
) -> Mapping[str, Tolerance] | None:
    """When a frame is done: each model's own tolerance.

    ``standard``, the default of ``deidlib protect``, was chosen by how faces move: of a head that turns, box, head and
    gaze change from frame to frame as those of the original do (correlation of first differences at least 0.8, where
    60 fixed steps come to 0.2 to 0.5: docs/benchmarks.md). That takes 7 gradients a frame, and 21 with gaze beside it;
    ``fine``, by which they correlate by 0.95 and more, 17 and 55.

    RetinaFace and the gaze networks are held to it, since they say by parts of a pixel what they read, and fine steps
    follow. MTCNN reads crops of whole pixels, and 2D-FAN cells of a heat map: they are held to ``quick``, whatever is
    asked.

    Args:
        models: the authorised models.
        how: a name in :data:`TOLERANCES`.
        always: also where all steps serve better, as the other arguments say.
        codec: how the file will be stored: what reads well enough before it is stored with loss need not after it.
        keyed: whether the models read by a key, every frame in its own way.
        distortions: what the frames must survive.

    Returns:
        For ``recommended(until=...)``. None, all steps, with loss, a key, or distortions.

    Example:
        >>> recommended_until(MTCNN())
        {'mtcnn': Tolerance(iou=0.95, nme=0.015, gaze=3.0, score=None)}
        >>> recommended_until(MTCNN(), codec="h264") is None
        True
    """
    if not always and (not is_lossless(codec) or keyed or distortions):
        return None
    return {
        name: TOLERANCES[how] if isinstance(_innermost(model), RetinaFace | GazeResNet) else _COARSE
        for name, model in IFGSMAttacker(models).named_models().items()
    }


def recommended_detectors(
    models: Iterable[TargetModel[Any]], *, device: str | torch.device = "cpu"
) -> list[TargetModel[Any]]:
    """The detectors that say where faces are to be hidden: those among the authorised models, MTCNN, and RetinaFace.

    A face is hidden if one of them finds it, and a second detector finds some that the first one misses
    (docs/fail-closed.md). MTCNN is there because its weights always are; RetinaFace if its weights are on this machine,
    since nothing is downloaded that nobody has asked for.

    Args:
        models: the authorised ones.
        device: where the others run.

    Returns:
        For ``Deidentifier(detectors=...)``: each as it reads originals, without key or windows.

    Example:
        >>> recommended_detectors([MTCNN()])[0].name
        'mtcnn'
    """
    detectors = [model.for_originals for model in models if model.task == "boxes"]
    if not any(isinstance(model, MTCNN) for model in detectors):
        detectors.append(MTCNN().to(device))
    if weights.locate(_SECOND) is not None and not any(isinstance(model, RetinaFace) for model in detectors):
        detectors.append(RetinaFace(_SECOND).to(device))
    return detectors


def recommended_silence(
    models: Iterable[TargetModel[Any]], *, device: str | torch.device = "cpu"
) -> list[TargetModel[Any]]:
    """The detectors that are to find nothing: RetinaFace's twin, where RetinaFace on MobileNet is authorised.

    The perturbation that RetinaFace reads is read by its twin, and along a clip, where a frame starts from the one
    before it, by others too: of 24 frames of T002_talk for RetinaFace and MPIIGaze, each stopped when it read
    (``TOLERANCES["quick"]``), CenterFace found 19, BlazeFace's full range 9. With the twin silenced none of five
    strangers that took no part found one, at the same number of steps and the same overlap
    (docs/results.md, docs/targets.md).

    Args:
        models: the authorised ones, without a key: a key needs no silence.
        device: where the twin runs.

    Returns:
        For ``recommended(silence=...)``.

    Raises:
        FileNotFoundError: the twin's weights cannot be had.

    Example:
        >>> recommended_silence([MTCNN()])
        []
    """
    known = weights.checkpoint(_SECOND).conventions
    if any(
        isinstance(model, RetinaFace) and model.anchor_sizes == known["anchors"] and _small(model) for model in models
    ):
        return [RetinaFace(_TWIN).to(device)]
    return []


def recommended_chain(codec: str, *, keyed: bool = False, until: Until = None) -> Chain | None:
    """Whether a frame starts from the one before it, by how the video will be stored.

    H.264 predicts frames from each other, and keeps a perturbation that stands still: at crf 23 the mean IoU of
    RetinaFace's boxes rises from 0.919 to 0.959, at crf 28 from no face to every face at 0.951 (docs/compression.md).
    What loses nothing needs no such care, and there frames that start from their hidden selves read a little better,
    0.991 against 0.985. With a tolerance, what counts is that the frame before is nearly right already.

    Args:
        codec: one of ``deidlib.media.CODECS``.
        keyed: whether the models read by a key, every frame in its own way: what was right for the frame before is
            noise then.
        until: the tolerance of the attack, if it has one.

    Returns:
        For ``Deidentifier(chain=...)``.

    Example:
        >>> recommended_chain("h264").iterations, recommended_chain("ffv1")
        (20, None)
    """
    return Chain() if (codec == "h264" or until is not None) and not keyed else None


def _fine(until: Until) -> ReadingStep | None:
    """Fine steps: from farther off where boxes alone are asked for, since four numbers are brought to their place."""
    if until is None:
        return None
    asked = [until] if isinstance(until, Tolerance) else until.values()
    boxes_alone = all(one.nme is None and one.gaze is None for one in asked)
    return ReadingStep(near=_NEAR_BOXES) if boxes_alone else ReadingStep()


def _discreet(models: dict[str, TargetModel[Any]], silence: Sequence[TargetModel[Any]]) -> dict[str, TargetModel[Any]]:
    """The models, the first detector among them beside those that are to find nothing."""
    if not silence:
        return models
    if keyed := [name for name, model in models.items() if isinstance(model, Keyed)]:
        raise ValueError(f"{', '.join(keyed)} reads by a key, which keeps everybody out. Leave silence out.")
    first = next((name for name, model in models.items() if model.task == "boxes"), None)
    if first is None:
        raise ValueError(f"silence needs a detector among the models, whose faces are hidden; got {list(models)}.")
    others = [CroppedDetector(Silent(model)) if isinstance(model, RetinaFace) else Silent(model) for model in silence]
    return {**models, first: Discreet(models[first], others)}


def _innermost(model: TargetModel[Any]) -> TargetModel[Any]:
    while isinstance(model, Around):
        model = model.model
    return model


def _cropped(model: TargetModel[Any]) -> TargetModel[Any]:
    return CroppedDetector(model) if isinstance(model, RetinaFace) and _small(model) else model


def _small(model: RetinaFace) -> bool:
    return model.backbone == "mobilenet0.25"
