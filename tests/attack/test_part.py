"""The attack works on the part of the frames that may change: its place decides nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from toys import Pixels, painted

from deidlib.attack.aggregation import GradientNorm
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.part import Part, rectangle_of
from deidlib.attack.steps import APGDStep, MomentumSignStep, OptimizerStep, SignStep, StepRule
from deidlib.geometry.boxes import Rectangle


def test_what_lies_in_a_part_is_put_back_and_its_slope_is_the_frames_own() -> None:
    frames, free = torch.rand(2, 3, 12, 10), torch.zeros(2, 1, 12, 10, dtype=torch.bool)
    free[0, :, 2:5, 3], free[1, :, 8, 4:7] = True, True
    part = Part.around(frames, free)
    assert (part.place, part.corner) == (Rectangle(3, 2, 7, 9), (3, 2))
    inside = part.of(frames)
    assert inside.shape == (2, 3, 7, 4)
    assert torch.equal(part.whole(inside), frames)
    changed = torch.rand_like(inside).requires_grad_()
    whole = part.whole(changed)
    assert torch.equal(part.of(whole), changed)
    outside = torch.ones_like(frames, dtype=torch.bool)
    outside[:, :, 2:9, 3:7] = False
    assert torch.equal(whole[outside], frames[outside])
    weights = torch.rand_like(frames)
    (slope,) = torch.autograd.grad((whole * weights).sum(), changed)
    assert torch.equal(slope, weights[:, :, 2:9, 3:7])
    one = part.select(torch.tensor([1]))
    assert torch.equal(one.whole(inside[1:]), frames[1:])


@pytest.mark.parametrize("free", [torch.ones(1, 1, 1, 1), torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)])
def test_where_all_or_nothing_may_change_the_part_is_the_frame(free: torch.Tensor) -> None:
    frames = torch.rand(1, 3, 8, 8)
    part = Part.around(frames, free > 0)
    assert part.place is None
    assert part.of(frames) is frames
    assert part.whole(frames) is frames


def test_rectangles_hold_all_that_is_free() -> None:
    assert rectangle_of(torch.zeros(3, 4, 5, dtype=torch.bool)) == Rectangle(0, 0, 0, 0)
    free = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(0)) > 0.95
    rows, columns = torch.nonzero(free.any(dim=0), as_tuple=True)
    expected = Rectangle(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    assert rectangle_of(free) == expected


@pytest.mark.parametrize("rule", [SignStep(), MomentumSignStep(), APGDStep(), OptimizerStep(torch.optim.Adam)])
def test_an_attack_on_a_part_is_the_attack_on_the_frames(rule: StepRule[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, beside a frame whose place is another, and without parts at all: the same bytes."""
    generator = torch.Generator().manual_seed(1)
    hidden, mask = torch.rand(2, 3, 24, 24, generator=generator), torch.zeros(2, 1, 24, 24)
    mask[0, :, 3:9, 4:10], mask[1, :, 10:19, 2:8] = 1, 1
    faces = painted(torch.rand(2, 3, 24, 24, generator=generator))
    models = {"one": Pixels(), "two": Pixels()}
    attack = IFGSMAttacker(models, max_iterations=6, step=rule, aggregate=GradientNorm())
    together = attack(hidden, faces, mask=mask)
    assert not torch.equal(together.images, attack(hidden, faces, mask=mask * 0).images)
    for i in range(2):
        alone = attack(hidden[i : i + 1], faces[i : i + 1], mask=mask[i : i + 1])
        assert torch.equal(alone.images[0], together.images[i])
    monkeypatch.setattr(Part, "around", classmethod(lambda cls, frames, free: cls(frames, None)))
    assert torch.equal(attack(hidden, faces, mask=mask).images, together.images)
