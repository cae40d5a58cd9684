from __future__ import annotations

import torch
from torchvision.ops import nms as theirs

from deidlib.geometry.suppression import nms


def test_it_is_torchvisions_owner_by_owner() -> None:
    generator = torch.Generator().manual_seed(2)
    corner = 50 * torch.rand(300, 2, generator=generator) - 20
    boxes = torch.cat([corner, corner + 5 + 20 * torch.rand(300, 2, generator=generator)], dim=1)
    scores = torch.rand(300, generator=generator)
    assert torch.equal(nms(boxes, scores, 0.4), theirs(boxes, scores, 0.4))
    owner = torch.arange(300) % 7
    kept = nms(boxes, scores, 0.4, owner)
    assert kept.tolist() == sorted(kept.tolist(), key=lambda i: -float(scores[i]))
    alone = [(owner == k).nonzero().squeeze(1) for k in range(7)]
    expected = torch.cat([own[theirs(boxes[own], scores[own], 0.4)] for own in alone])
    assert sorted(kept.tolist()) == sorted(expected.tolist())
    assert nms(boxes[:0], scores[:0], 0.4, owner[:0]).tolist() == []
