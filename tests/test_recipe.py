from __future__ import annotations

import hashlib

import numpy as np
import pytest
import recipe
import torch
from face_alignment.models import FAN


def test_known_numbers() -> None:
    np.testing.assert_allclose(recipe.uniform(4, 0), [0.88331081, 0.56656158, 0.59118973, 0.11345034], atol=5e-9)
    np.testing.assert_allclose(recipe.uniform(2, 7), [0.84283613, 0.35712681], atol=5e-9)
    assert recipe.image((1, 2), 7, 2.0, 4.0).tolist() == [[pytest.approx(3.68567226), pytest.approx(2.71425362)]]


def test_weights_bit_for_bit() -> None:
    with torch.device("meta"):
        net = FAN(1)
    state = recipe.filled(net)
    hashed = hashlib.sha256()
    for key in sorted(state):
        hashed.update(key.encode())
        hashed.update(state[key].numpy().tobytes())
    assert hashed.hexdigest() == "9c8bd3d516fb8652f4cecf98dfb8cb84fdfe15758a824e7a39074de4b0d20ceb"
