from __future__ import annotations

from typing import Literal

import pytest
import torch
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from torch import nn

from deidlib.nets.mtcnn_stages import Stage


@pytest.mark.parametrize(
    ("name", "net", "side"), [("pnet", PNet(), 41), ("pnet", PNet(), 60), ("rnet", RNet(), 24), ("onet", ONet(), 48)]
)
def test_a_stage_answers_what_the_published_network_does(
    name: Literal["pnet", "rnet", "onet"], net: nn.Module, side: int
) -> None:
    images = torch.rand(3, 3, side, side)
    with torch.no_grad():
        *codes, probability = net((images * 255 - 127.5) * 0.0078125)
        *own, margin = Stage.published(name)(images)
    torch.testing.assert_close(margin.sigmoid(), probability[:, 1], rtol=0, atol=5e-6)
    for code, expected in zip(own, codes, strict=True):
        # A map's channels come last.
        torch.testing.assert_close(code.movedim(-1, 1), expected, rtol=0, atol=1e-5)
