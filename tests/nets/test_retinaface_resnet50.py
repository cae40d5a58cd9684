from __future__ import annotations

import hashlib
import warnings

import pytest
import recipe
import torch
from torch import Tensor, nn

from deidlib.geometry.boxes import anchors
from deidlib.nets.retinaface_resnet50 import RetinaFaceResNet50
from deidlib.weights.table import CHECKPOINTS


@pytest.fixture(scope="module")
def net() -> RetinaFaceResNet50:
    net = RetinaFaceResNet50().eval()
    net.load_state_dict(recipe.filled(net, gain=0.6))
    return net


@torch.no_grad()
def outputs(net: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    box, logits, points = net(recipe.image((1, 3, 64, 96), 3, -2.0, 2.0))
    return box, logits, points


def test_layout_is_that_of_the_published_checkpoints(net: RetinaFaceResNet50) -> None:
    # Keys and shapes, in order, of both retinaface-pytorch 0.0.6 and biubug6's net (456 of them).
    layout = "".join(f"{key} {tuple(value.shape)}\n" for key, value in net.state_dict().items())
    digest = hashlib.sha256(layout.encode()).hexdigest()
    assert digest == "ec2dbe637fb6f3dac84812722a2297db1ac2f9420705d186c8e11c3cc97b56ef"


def test_outputs_against_upstream_numbers(net: RetinaFaceResNet50) -> None:
    # From retinaface-pytorch 0.0.6 and from facexlib 0.3.0 (both give these, bit for bit) with the same weights.
    box, logits, points = outputs(net)
    torch.testing.assert_close(
        box[0, ::100],
        torch.tensor(
            [
                [0.11232011, 0.05080371, 0.05070967, -0.07913679],
                [0.09746062, 0.02863766, 0.08610266, -0.03785523],
                [-0.04479059, 0.02025764, -0.05623084, -0.08186746],
            ]
        ),
        atol=1e-5,
        rtol=0,
    )
    torch.testing.assert_close(
        logits[0, ::100],
        torch.tensor([[0.07664777, -0.16342074], [0.05525009, -0.19774202], [0.06404676, -0.04277333]]),
        atol=1e-5,
        rtol=0,
    )
    assert points.shape == (1, 252, 10)
    assert points.double().sum().item() == pytest.approx(-38.0918, abs=1e-2)


def test_one_row_per_anchor(net: RetinaFaceResNet50) -> None:
    # A size that no stride divides.
    with torch.no_grad():
        box, _, _ = net(torch.zeros(1, 3, 65, 90))
    conventions = CHECKPOINTS["retinaface_resnet50"].conventions
    assert box.shape[1] == len(anchors(65, 90, conventions["anchors"], conventions["strides"]))


def test_parity_with_retinaface_pytorch(net: RetinaFaceResNet50) -> None:
    network = pytest.importorskip("retinaface.network", reason="needs the extra [test]: retinaface-pytorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pretrained=False is spelt weights=None today
        other = network.RetinaFace(
            name="Resnet50",
            pretrained=False,
            return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
            in_channels=256,
            out_channels=256,
        ).eval()
    other.load_state_dict(net.state_dict())
    for ours, theirs in zip(outputs(net), outputs(other), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
