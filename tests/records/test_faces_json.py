from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deidlib.faces import Faces
from deidlib.records.faces_json import faces_from_json, faces_to_json

FIELDS = ("boxes", "scores", "landmarks", "gaze")


def through_text(faces: Faces) -> Faces:
    # Strictly JSON: a NaN or Infinity in the text would raise here.
    return faces_from_json(json.loads(json.dumps(faces_to_json(faces), allow_nan=False)))


def bits(values: Tensor) -> Any:
    """Float32 as integers, so that -0 is not 0 and every digit counts; all NaN alike."""
    return values.nan_to_num(nan=12345.678).numpy().view(np.int32).tolist()


def from_bits(count: int, numbers: list[int]) -> Tensor:
    """Any float32 there is, but for infinities."""
    values = torch.from_numpy(np.array(numbers[:count], dtype=np.uint32).view(np.float32).copy())
    return values.where(~values.isinf(), torch.tensor(torch.nan))


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 2**32 - 1), min_size=300, max_size=300),
    n=st.integers(0, 2),
    points=st.sampled_from([None, 5, 68]),
    gaze=st.booleans(),
)
def test_every_float_comes_back_bit_for_bit(numbers: list[int], n: int, points: int | None, gaze: bool) -> None:
    corners = from_bits(4 * n, numbers).nan_to_num().reshape(n, 2, 2).sort(dim=1).values
    faces = Faces(
        corners.reshape(n, 4),
        from_bits(n, numbers),
        None if points is None else from_bits(2 * n * points, numbers).reshape(n, points, 2),
        from_bits(3 * n, numbers).reshape(n, 3) if gaze else None,
    )
    back = through_text(faces)
    for name in FIELDS:
        before, after = getattr(faces, name), getattr(back, name)
        if before is None:
            assert after is None, name
        else:
            assert after.dtype == torch.float32
            assert after.shape == before.shape, name
            assert bits(after) == bits(before), name


@pytest.mark.parametrize("points", [None, 5, 68])
@pytest.mark.parametrize("gaze", [False, True])
def test_nobody_keeps_what_was_looked_for(points: int | None, gaze: bool) -> None:
    nobody = Faces(
        torch.zeros(0, 4),
        torch.zeros(0),
        None if points is None else torch.zeros(0, points, 2),
        torch.zeros(0, 3) if gaze else None,
    )
    back = through_text(nobody)
    assert (None if back.landmarks is None else back.landmarks.shape[1]) == points
    assert (back.gaze is not None) == gaze


def test_the_object_is_as_documented() -> None:
    points = torch.full((1, 5, 2), torch.nan)
    faces = Faces(torch.tensor([[0.5, 1.0, 2.0, 3.0]]), torch.tensor([torch.nan]), points)
    assert faces_to_json(faces) == {
        "boxes": [[0.5, 1.0, 2.0, 3.0]],
        "scores": [None],
        "landmarks": [[[None, None]] * 5],
        "gaze": None,
    }
    assert faces_to_json(Faces.empty()) == {"boxes": [], "scores": [], "landmarks": None, "gaze": None}


def test_an_infinity_is_refused() -> None:
    with pytest.raises(ValueError, match="the gaze hold an infinity"):
        faces_to_json(Faces(torch.zeros(1, 4), torch.ones(1), gaze=torch.tensor([[torch.inf, 0, 0]])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": None}, "boxes must be a list, got NoneType"),
        ({"scores": ["0.5"]}, "scores must be numbers"),
        ({"landmarks": [[1.0, 2.0]]}, r"landmarks must have shape \(5, 2\)"),
        ({"landmarks": {"0": 1}}, "landmarks must be a list, got dict"),
        ({"gaze": [[0.0, 0.0]]}, r"gaze must have shape \(3,\)"),
        ({"boxes": [[1e39, 0, 0, 0]]}, "numbers that float32 can hold"),
    ],
)
def test_what_is_no_record_of_faces_is_refused(change: dict[str, Any], message: str) -> None:
    data = faces_to_json(Faces(torch.zeros(1, 4), torch.ones(1)))
    with pytest.raises(ValueError, match=message):
        faces_from_json(data | change)
    for name in FIELDS:
        with pytest.raises(ValueError, match=f"'{name}' is missing"):
            faces_from_json({key: value for key, value in data.items() if key != name})
