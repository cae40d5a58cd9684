"""``Faces`` as JSON, for every file that holds some: float32 that comes back bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deidlib.faces import Faces


def faces_to_json(faces: Faces) -> dict[str, Any]:
    """The faces of a frame as a JSON object.

    - ``"boxes"``: ``[[x1, y1, x2, y2], ...]``;
    - ``"scores"``: ``[s, ...]``, one per box;
    - ``"landmarks"``: ``[[[x, y], ...], ...]``, 68 or five points per box; null if nobody has looked for them;
    - ``"gaze"``: ``[[x, y, z], ...]``, one vector per box; or null;
    - ``"points"``: 68 or 5, only where landmarks were looked for and there is no face to show how many they are.

    Numbers are float32, written so that they come back exactly. A score, point or gaze that is NaN (looked for and
    not found) is null.

    Args:
        faces: on any device; float64 is rounded to float32.

    Raises:
        ValueError: a number is infinite, which JSON cannot say.

    Example:
        >>> faces_to_json(Faces(torch.tensor([[1., 2., 3., 4.]]), torch.tensor([0.5])))
        {'boxes': [[1.0, 2.0, 3.0, 4.0]], 'scores': [0.5], 'landmarks': None, 'gaze': None}
    """
    data = {
        "boxes": _numbers("boxes", faces.boxes),
        "scores": _numbers("scores", faces.scores),
        "landmarks": None if faces.landmarks is None else _numbers("landmarks", faces.landmarks),
        "gaze": None if faces.gaze is None else _numbers("gaze", faces.gaze),
    }
    if faces.landmarks is not None and not len(faces):
        data["points"] = faces.landmarks.shape[1]
    return data


def faces_from_json(data: Mapping[str, Any]) -> Faces:
    """The faces that :func:`faces_to_json` wrote down; other keys are passed over.

    Returns:
        float32 on the CPU.

    Raises:
        ValueError: a key is missing, or what it holds is no such numbers.

    Example:
        >>> nobody = Faces(torch.zeros(0, 4), torch.zeros(0), landmarks=torch.zeros(0, 68, 2))
        >>> faces_from_json(faces_to_json(nobody)).landmarks.shape
        torch.Size([0, 68, 2])
    """
    for name in ("boxes", "scores", "landmarks", "gaze"):
        if name not in data:
            raise ValueError(f"{name!r} is missing.")
    landmarks, gaze = data["landmarks"], data["gaze"]
    first = landmarks[0] if isinstance(landmarks, list) and landmarks else None
    points = len(first) if isinstance(first, list) else data.get("points", 5)
    return Faces(
        _tensor("boxes", data["boxes"], (4,)),
        _tensor("scores", data["scores"], ()),
        None if landmarks is None else _tensor("landmarks", landmarks, (68 if points == 68 else 5, 2)),
        None if gaze is None else _tensor("gaze", gaze, (3,)),
    )


def _numbers(what: str, values: Tensor) -> Any:
    """Nested lists, null for NaN."""
    values = values.detach().to("cpu", torch.float32)
    if bool(values.isinf().any()):
        raise ValueError(f"the {what} hold an infinity, which JSON cannot say. Leave that face out.")
    return _without_nan(values.tolist())


def _without_nan(values: Any) -> Any:
    if isinstance(values, list):
        return [_without_nan(value) for value in values]
    return None if math.isnan(values) else values


def _tensor(what: str, values: Any, row: tuple[int, ...]) -> Tensor:
    """Rows of numbers; null, where there may be one, is NaN."""
    if not isinstance(values, list):
        raise ValueError(f"{what} must be a list, got {type(values).__name__}.")
    try:
        table = torch.tensor(_with_nan(values), dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{what} must be numbers, as many for every face.") from error
    if not values:
        return table.reshape(0, *row)
    if table.shape[1:] != row:
        raise ValueError(f"{what} must have shape {row} for every face, got {tuple(table.shape[1:])}.")
    if bool(table.isinf().any()):
        raise ValueError(f"{what} must be numbers that float32 can hold.")
    return table


def _with_nan(values: Any) -> Any:
    if isinstance(values, list):
        return [_with_nan(value) for value in values]
    if isinstance(values, bool) or not (values is None or isinstance(values, int | float)):
        raise TypeError(f"{values!r} is no number")
    if values is not None and not math.isfinite(values):
        raise ValueError(f"{values!r} is not finite")
    return math.nan if values is None else values
