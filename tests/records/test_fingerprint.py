from __future__ import annotations

import json
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from toys import Linear, Pixels

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.distortions import JPEG
from deidlib.attack.steps import APGDStep, OptimizerStep, SignStep
from deidlib.keys.key import Key
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.obfuscate import Pixelate, Solid
from deidlib.records.fingerprint import described, fingerprint


def mark(thing: Any) -> str:
    return fingerprint(described(thing))


def attacker(**settings: Any) -> IFGSMAttacker:
    return IFGSMAttacker([Linear(torch.ones(3, 4, 4))], **settings)


def trained(change: float) -> MTCNN:
    model = MTCNN()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += change
    return model


def test_what_works_the_same_has_the_same_mark() -> None:
    for make in (
        attacker,
        lambda: IFGSMAttacker({"a": MTCNN()}, step=APGDStep(), distortions=[JPEG(75)]),
        lambda: Pixelate(blocks=3),
        lambda: [1, 2.5, "x", None, True, Fraction(1, 3), torch.arange(3), np.arange(3), b"x", {"a": {1, 2}}],
        lambda: OptimizerStep(lambda p: torch.optim.SGD(p, lr=0.1)),
    ):
        assert mark(make()) == mark(make())
        json.dumps(described(make()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: attacker(), lambda: attacker(epsilon=7 / 255)),
        (lambda: attacker(), lambda: attacker(max_iterations=3)),
        (lambda: attacker(), lambda: attacker(step=SignStep(2 / 255))),
        (lambda: attacker(), lambda: attacker(distortions=[JPEG(75)])),
        (lambda: attacker(), lambda: IFGSMAttacker([Linear(2 * torch.ones(3, 4, 4))])),
        (lambda: attacker(), lambda: IFGSMAttacker([Pixels()])),
        (lambda: trained(0.0), lambda: trained(1e-6)),
        (lambda: MTCNN(), lambda: MTCNN(min_face=30)),
        (lambda: Pixelate(), lambda: Pixelate(blocks=5)),
        (lambda: Pixelate(), lambda: Solid()),
        (lambda: attacker(epsilon=torch.full((4, 4), 0.1)), lambda: attacker(epsilon=torch.full((4, 4), 0.2))),
        (
            lambda: OptimizerStep(lambda p: torch.optim.SGD(p, lr=0.1)),
            lambda: OptimizerStep(lambda p: torch.optim.SGD(p, lr=0.2)),
        ),
        (lambda: Keyed(MTCNN(), Key(bytes(32))), lambda: Keyed(MTCNN(), Key(bytes(31) + b"x"))),
        (lambda: Keyed(MTCNN(), Key(bytes(32))), lambda: Keyed(MTCNN(), Key(bytes(32)), nonce="a")),
        (lambda: Keyed(MTCNN(), Key(bytes(32))), lambda: MTCNN()),
        (lambda: object(), lambda: object()),
    ],
)
def test_what_works_differently_has_another_mark(one: Any, other: Any) -> None:
    assert mark(one()) != mark(other())


def test_nothing_secret_comes_out() -> None:
    @dataclass
    class Setting:
        name: str = "public"
        _secret: str = field(default="hunter2-hunter2")

    secret = b"0123456789abcdef0123456789abcdef"
    text = json.dumps(described([Setting(), Keyed(MTCNN(), Key(secret)), secret]))
    assert "public" in text
    assert "hunter2" not in text
    assert secret.decode() not in text
    assert secret.hex() not in text


def test_what_a_model_has_seen_is_no_setting() -> None:
    model = MTCNN()
    before = mark(model)
    model._seen = [1, 2, 3]
    assert mark(model) == before
    model._mode = "fast"
    assert mark(model) != before
