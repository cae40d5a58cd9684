from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import recipe
import torch
from torch import Tensor, nn

from deidlib.nets.bisenet import FACE_CLASSES, BiSeNet, FaceParser


@pytest.fixture(scope="module")
def net() -> BiSeNet:
    net = BiSeNet().eval()
    net.load_state_dict(recipe.filled(net))
    return net


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(shared / "parity" / "bisenet" / "bisenet_io.pt", weights_only=True)
    return loaded


def difference(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).abs().max())


def test_layout_is_that_of_the_published_checkpoint(shared: Path, net: BiSeNet) -> None:
    published = json.loads((shared / "parity" / "bisenet" / "bisenet_keys.json").read_text())["keys"]
    assert len(published) == 191
    assert [[key, list(value.shape), str(value.dtype)] for key, value in net.state_dict().items()] == published


@torch.no_grad()
def test_logits_of_all_heads_against_upstream(net: BiSeNet, vectors: dict[str, Any]) -> None:
    expected = vectors["case_recipe_128x160"]
    images = recipe.image((2, 3, 128, 160), 5, -2.0, 2.0)
    levels = net.levels(images)
    for name, logits in zip(("out", "out16", "out32"), levels, strict=True):
        assert difference(logits[..., ::4, ::4], expected[f"{name}_strided"]) <= 5e-5
        assert float(logits.double().sum()) == pytest.approx(expected[f"{name}_stats"]["sum"], rel=1e-5)
    assert torch.equal(net(images), levels[0])
    assert torch.equal(levels[0].argmax(dim=1)[:, ::4, ::4].byte(), expected["argmax_strided"])


@torch.no_grad()
def test_parser_against_upstream_on_a_real_face(net: BiSeNet, vectors: dict[str, Any]) -> None:
    # Resizing by nearest neighbour, normalisation and softmax are the parser's.
    expected = vectors["case_frame060_512"]
    face = expected["input_rgb_uint8_256"].permute(2, 0, 1)[None].float() / 255
    probabilities = FaceParser(net)(face)
    assert probabilities.shape == (1, len(FACE_CLASSES), 512, 512)
    assert difference(probabilities[..., ::16, ::16], expected["softmax_strided"]) <= 1e-5
    assert torch.equal(probabilities[..., ::16, ::16].argmax(dim=1).byte(), expected["argmax_strided"])


def test_classes_are_the_data_sets() -> None:
    # CelebAMask-HQ in the order of zllrunning/face-parsing.PyTorch.
    assert len(FACE_CLASSES) == len(set(FACE_CLASSES)) == 19
    assert {name: FACE_CLASSES.index(name) for name in ("background", "skin", "nose", "neck", "hair", "hat")} == {
        "background": 0,
        "skin": 1,
        "nose": 10,
        "neck": 14,
        "hair": 17,
        "hat": 18,
    }


@torch.no_grad()
def test_parser_shows_its_net_what_imagenet_nets_expect() -> None:
    parser = FaceParser(nn.Identity(), side=4)
    white, black = parser(torch.ones(1, 3, 2, 2)), parser(torch.zeros(1, 3, 2, 2))
    ratio = (torch.tensor([0.515, 0.544, 0.594]) / torch.tensor([0.229, 0.224, 0.225])).softmax(dim=0)
    torch.testing.assert_close(white, ratio.view(1, 3, 1, 1).expand(1, 3, 4, 4))
    ratio = (torch.tensor([-0.485, -0.456, -0.406]) / torch.tensor([0.229, 0.224, 0.225])).softmax(dim=0)
    torch.testing.assert_close(black, ratio.view(1, 3, 1, 1).expand(1, 3, 4, 4))
