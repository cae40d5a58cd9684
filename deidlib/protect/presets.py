"""``recommended_deidentifier``: what ``deidlib protect`` does for some models where it is told nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from deidlib.attack.distortion import Distortion
from deidlib.attack.presets import (
    Until,
    recommended,
    recommended_chain,
    recommended_detectors,
    recommended_silence,
    recommended_until,
)
from deidlib.models.base import TargetModel, by_name
from deidlib.models.keyed import Keyed
from deidlib.protect.deidentifier import Deidentifier


def recommended_deidentifier(
    models: TargetModel[Any] | Mapping[str, TargetModel[Any]] | Sequence[TargetModel[Any]],
    *,
    codec: str = "ffv1",
    epsilon: float | Tensor = 8 / 255,
    max_iterations: int | None = None,
    distortions: Sequence[Distortion] = (),
    until: Until | Literal["auto"] = "auto",
    key: bool = False,
) -> Deidentifier:
    """The deidentifier that serves these models best: the one of ``deidlib protect``, from the same presets.

    Faces are hidden under grey wherever one of several detectors finds them (:func:`recommended_detectors`), the attack
    is :func:`~deidlib.recommended`'s, strangers alike are silenced (:func:`recommended_silence`), and frames start from
    the one before where that serves (:func:`recommended_chain`). What has no argument here is set by
    ``dataclasses.replace(recommended_deidentifier(model), obfuscator=...)``.

    Args:
        models: the authorised models: one, or several; a mapping names them.
        codec: how a video will be stored.
        epsilon: as for :func:`~deidlib.recommended`.
        max_iterations: likewise.
        distortions: likewise.
        until: likewise; ``"auto"``: as :func:`~deidlib.attack.presets.recommended_until` says.
        key: whether the files will be protected with a key, which keeps strangers out by itself.

    Raises:
        ValueError: as for :func:`~deidlib.recommended`; no detector among the models.

    Example:
        >>> from deidlib.attack.chain import Chain
        >>> from deidlib.models.mtcnn import MTCNN
        >>> deidentifier = recommended_deidentifier(MTCNN(), codec="h264")
        >>> deidentifier.attacker.max_iterations, deidentifier.attacker.until, deidentifier.chain == Chain()
        (60, None, True)
    """
    named = by_name(models)
    keyed = key or any(isinstance(model, Keyed) for model in named.values())
    weights = [parameter for model in named.values() for parameter in model.parameters()]
    device = weights[0].device if weights else "cpu"
    silence: list[TargetModel[Any]] = []
    if not keyed:
        try:
            silence = recommended_silence(named.values(), device=device)
        except FileNotFoundError as error:
            warnings.warn(
                f"strangers like RetinaFace may find the faces, as its twin is not here: {error}", stacklevel=2
            )
    if until == "auto":
        until = recommended_until(named, codec=codec, keyed=keyed, distortions=distortions)
    attacker = recommended(
        named,
        epsilon=epsilon,
        max_iterations=max_iterations,
        distortions=distortions,
        until=until,
        silence=silence,
        keyed=keyed,
    )
    return Deidentifier(
        attacker,
        detectors=recommended_detectors(named.values(), device=device),
        chain=recommended_chain(codec, keyed=keyed, until=until),
    )
