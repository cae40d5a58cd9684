from __future__ import annotations

import json
from pathlib import Path

import pytest
import recipe
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from deidlib.nets.mpiifacegaze import MPIIFaceGazeNet
from deidlib.nets.mpiigaze import MPIIGazeNet
from deidlib.weights import load_state


def parity(shared: Path, file: str) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(shared / "parity" / "gaze" / file, weights_only=True)
    return loaded


def published_shapes(shared: Path, file: str) -> dict[str, list[int]]:
    return dict(json.loads((shared / "parity" / "gaze" / file).read_text())["keys"])


@torch.no_grad()
def test_mpiigaze_reads_what_upstream_reads(shared: Path) -> None:
    vectors = parity(shared, "mpiigaze_resnet_preact_io.pt")
    net = MPIIGazeNet()
    net.load_state_dict(load_state(shared / "weights" / "mpiigaze_resnet_preact.pth"))
    angles = net.eval()(vectors["input_u8"].float() / 255, vectors["head_pose2d"])
    assert (angles - vectors["output_pitch_yaw"]).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("key", "file", "net"),
    [
        ("mpiifacegaze", "mpiifacegaze_resnet_simple_keys.json", MPIIFaceGazeNet()),
        ("ethxgaze", "ethxgaze_resnet18_keys.json", resnet18(num_classes=2)),
    ],
    ids=["mpiifacegaze", "eth-xgaze"],
)
@torch.no_grad()
def test_face_nets_read_what_upstream_reads(shared: Path, key: str, file: str, net: nn.Module) -> None:
    # Keys and shapes of the published checkpoints, loaded strictly.
    net.load_state_dict(recipe.fill(published_shapes(shared, file), gain=0.8, first=400))
    angles = net.eval()(recipe.image((2, 3, 224, 224), 21, -2.0, 2.0))
    expected = torch.load(shared / "parity" / "gaze" / "face_models_io.pt", weights_only=True)[key]
    assert (angles - expected["output_pitch_yaw"]).abs().max() <= 1e-5


@torch.no_grad()
def test_mpiifacegaze_features_and_attention(shared: Path) -> None:
    net = MPIIFaceGazeNet()
    shapes = published_shapes(shared, "mpiifacegaze_resnet_simple_keys.json")
    net.load_state_dict(recipe.fill(shapes, gain=0.8, first=400))
    maps = net.eval().feature_extractor(recipe.image((2, 3, 224, 224), 21, -2.0, 2.0))
    expected = torch.load(shared / "parity" / "gaze" / "face_models_io.pt", weights_only=True)["mpiifacegaze"]
    assert list(maps.shape) == expected["feature_stats"]["shape"]
    assert float(maps.double().sum()) == pytest.approx(expected["feature_stats"]["sum"], rel=1e-5)
    assert (net.conv(maps).relu() - expected["attention"]).abs().max() <= 1e-4


def test_a_missing_or_foreign_key_is_refused() -> None:
    state = MPIIGazeNet().state_dict()
    with pytest.raises(RuntimeError, match=r"fc\.bias"):
        MPIIGazeNet().load_state_dict({key: value for key, value in state.items() if key != "fc.bias"})
    with pytest.raises(RuntimeError, match="Unexpected"):
        MPIIFaceGazeNet().load_state_dict(resnet18(num_classes=2).state_dict())
