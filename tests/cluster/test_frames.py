"""Frames in a data set of the user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from toys import Sees, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.cluster.frames import ProtectFrames
from deidlib.images import from_pixels, to_pixels
from deidlib.protect.deidentifier import Deidentifier


def hider() -> Deidentifier:
    seen = Sees(lambda image, number: [[8.0, 8.0, 24.0, 24.0]])
    return Deidentifier(IFGSMAttacker([seen], max_iterations=0), tracker=tracking({}))


def pictures(count: int, side: int = 32) -> np.ndarray[Any, Any]:
    return to_pixels(torch.rand(count, 3, side, side))


def test_each_picture_is_a_clip_of_its_own_and_other_columns_stay() -> None:
    batch = {"frame": pictures(3), "label": np.array([1, 2, 3])}
    hidden = ProtectFrames(hider(), "frame")(batch)
    assert hidden["label"] is batch["label"]
    for before, after in zip(batch["frame"], hidden["frame"], strict=True):
        (alone,) = hider().frames([from_pixels(before)[None]])
        assert (after == to_pixels(alone.images[0])).all()
        assert (after[8:24, 8:24] == after[8, 8]).all()
        assert (after[:4] == before[:4]).all()
    assert (batch["frame"] != hidden["frame"]).any()


def test_pictures_of_different_sizes_and_clips() -> None:
    mixed = np.empty(2, dtype=object)
    mixed[0], mixed[1] = pictures(1, 32)[0], pictures(2, 40)
    hidden = ProtectFrames(hider)({"image": mixed})["image"]
    assert [one.shape for one in hidden] == [(32, 32, 3), (2, 40, 40, 3)]
    assert hidden.dtype == object
    assert ProtectFrames(hider())({"image": pictures(2)[:0]})["image"].shape == (0, 32, 32, 3)


def test_what_is_no_picture_is_refused() -> None:
    hide = ProtectFrames(hider())
    with pytest.raises(KeyError, match="no column 'image' among frame"):
        hide({"frame": pictures(1)})
    with pytest.raises(TypeError, match="must hold uint8, got float32"):
        hide({"image": np.zeros((1, 8, 8, 3), np.float32)})
    with pytest.raises(ValueError, match=r"must hold pictures .* got \(8, 8, 1\)"):
        hide({"image": np.zeros((1, 8, 8, 1), np.uint8)})
