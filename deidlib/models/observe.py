"""Read frames with several models in turn: what the detectors see, then landmarks, then gaze."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from deidlib.faces import Faces
from deidlib.geometry.matching import union
from deidlib.models.base import ORDER, FaceModel, TargetModel, by_name, check_kind, one_or_several


def observe(
    images: Tensor, models: FaceModel | Iterable[FaceModel], faces: Sequence[Faces] | None = None
) -> list[Faces]:
    """Read frames with several models: detectors first, then landmarks, then gaze, whatever their order.

    This is also how an authorised party reads a protected file. With several detectors, faces that a later
    one finds and an earlier one does not are added.

    Args:
        images: ``(B, 3, H, W)`` RGB in [0, 1].
        models: one or several, at least one of them a detector, unless ``faces`` are given.
        faces: B entries, what is known already; detectors add to it.

    Returns:
        B entries with every field that the models can fill in.

    Raises:
        ValueError: no detector among the models, or one that is not on the images' device or of their floating type.

    Example:
        >>> import torch
        >>> from deidlib.models.mtcnn import MTCNN
        >>> observe(torch.rand(1, 3, 64, 64), [MTCNN()])
        [Faces(n=0)]
    """
    ordered = sorted(one_or_several(models), key=lambda model: ORDER[model.task])
    if faces is None and (not ordered or ordered[0].task != "boxes"):
        names = [model.name for model in ordered]
        raise ValueError(f"observe needs a detector among the models, got {names}. Add RetinaFace() or MTCNN().")
    known = None if faces is None else list(faces)
    for model in ordered:
        if isinstance(model, nn.Module):
            check_kind(model.name, next(model.parameters(), None), images)
        seen = model.predict(images, known)
        if len(seen) != len(images):
            raise ValueError(
                f"{model.name}.predict must return one Faces per frame: expected {len(images)}, got {len(seen)}."
            )
        if model.task == "boxes" and known is not None:
            seen = [union(first, second) for first, second in zip(known, seen, strict=True)]
        known = seen
    assert known is not None
    return known


def observe_each(
    images: Tensor,
    models: FaceModel | Mapping[str, FaceModel] | Iterable[FaceModel],
    faces: Sequence[Faces] | None = None,
    *,
    read: Mapping[str, Sequence[Faces]] | None = None,
) -> dict[str, list[Faces]]:
    """What each model reads, by name: :func:`observe`, with every step kept.

    Args:
        images: ``(B, 3, H, W)`` RGB in [0, 1].
        models: at least one of them a detector, unless ``faces`` are given.
        faces: B entries, where the faces are, if there is no detector among the models.
        read: what detectors have read already, by name; those are not asked again.

    Returns:
        Per model B entries: a detector's own faces; any other model's are the faces of all detectors, with what it and
        the models before it have filled in.

    Raises:
        ValueError: neither a detector nor faces; two models of one name.

    Example:
        >>> import torch
        >>> from deidlib.models.mtcnn import MTCNN
        >>> observe_each(torch.rand(1, 3, 64, 64), [MTCNN()])
        {'mtcnn': [Faces(n=0)]}
    """
    models = by_name(models)
    found = {} if read is None else {name: list(known) for name, known in read.items() if name in models}
    for name, model in models.items():
        if model.task == "boxes" and name not in found:
            found[name] = observe(images, [model])
    known = united(list(found.values())) if found else faces
    if known is None:
        raise ValueError(f"observe_each needs a detector among the models, or faces; got {list(models)}.")
    result = {name: found[name] for name in models if name in found}
    for name, model in sorted(models.items(), key=lambda item: ORDER[item[1].task]):
        if name not in result:
            result[name] = known = observe(images, [model], known)
    return result


def read_originals(
    originals: Tensor,
    models: TargetModel[Any] | Mapping[str, TargetModel[Any]] | Iterable[TargetModel[Any]],
    faces: Sequence[Faces] | None = None,
    *,
    read: Mapping[str, Sequence[Faces]] | None = None,
) -> dict[str, list[Faces]]:
    """What each model reads on frames as they came from the camera: the readings that an attack is to bring back.

    As :func:`observe_each`, but that models which read protected frames only (with a key, say) are represented by the
    models that they stand for, under their own names.

    Args:
        originals: ``(B, 3, H, W)`` RGB in [0, 1].
        models: the models of the attack.
        faces: as for :func:`observe_each`.
        read: as for :func:`observe_each`.

    Example:
        >>> import torch
        >>> from deidlib.keys.key import Key
        >>> from deidlib.models.keyed import Keyed
        >>> from deidlib.models.mtcnn import MTCNN
        >>> read_originals(torch.rand(1, 3, 64, 64), [Keyed(MTCNN(), Key.generate())])
        {'keyed-mtcnn': [Faces(n=0)]}
    """
    clear = {name: model.for_originals for name, model in by_name(models).items()}
    return observe_each(originals, clear, faces, read=read)


def united(readings: Sequence[Sequence[Faces]]) -> list[Faces]:
    """Per frame the first reading's faces, and those that a later one has beside them."""
    total = list(readings[0])
    for other in readings[1:]:
        total = [union(first, second) for first, second in zip(total, other, strict=True)]
    return total
