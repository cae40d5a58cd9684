"""Networks that other libraries run: ONNX by onnxruntime and by OpenCV, TFLite by LiteRT."""

from __future__ import annotations

import builtins
import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from deidlib.nets.network import in_rows
from deidlib.nets.onnx import OnnxNet, OnnxNetwork
from deidlib.nets.opencv import OpenCVNetwork
from deidlib.nets.runtime import network
from deidlib.nets.tflite import TFLiteNetwork


def test_rows_are_run_one_by_one_and_put_together() -> None:
    seen = []

    def run(row: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(tuple(row.shape))
        return row.sum(dim=(1, 2, 3)), row[:, :, 0]

    batch = torch.arange(24, dtype=torch.float64).reshape(2, 3, 2, 2)
    total, top = in_rows(batch, run)
    assert torch.equal(total, batch.sum(dim=(1, 2, 3)))
    assert torch.equal(top, batch[:, :, 0])
    assert seen == [(1, 3, 2, 2)] * 2
    assert [tuple(output.shape) for output in in_rows(batch[:0], run)] == [(0,), (0, 3, 2)]


def test_yunet_by_onnxruntime_is_yunet_by_opencv(shared: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = shared / "weights" / "yunet_n_320_320.onnx"
    picture = torch.rand(2, 3, 320, 320) * 255
    one = network(path)
    assert isinstance(one, OnnxNetwork)
    outputs = one.outputs(picture)
    names = [f"{what}_{stride}" for what in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    for mine, other in zip(outputs, OpenCVNetwork(path, names).outputs(picture), strict=True):
        assert mine.shape == other.shape
        assert torch.allclose(mine, other, atol=1e-3)


def test_a_network_is_chosen_by_its_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.onnx or \.tflite, got 'net\.pth'"):
        network("net.pth")
    (tmp_path / "no.tflite").write_bytes(b"no network")
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(ValueError, match="cannot be read as a TensorFlow Lite network"):
        network(tmp_path / "no.tflite")


def test_opencv_refuses_what_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match="cannot be read as an ONNX network by OpenCV"):
        OpenCVNetwork(tmp_path / "no.onnx", ("out",))


def test_tflite_takes_channels_first_and_travels(shared: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    path = shared / "weights" / "strangers" / "blazeface_short_range.tflite"
    net = network(path)
    assert isinstance(net, TFLiteNetwork)
    assert net.input_shape == (3, 128, 128)
    picture = torch.rand(2, 3, 128, 128) * 2 - 1
    codes, logits = net.outputs(picture)
    assert (codes.shape, logits.shape) == ((2, 896, 16), (2, 896, 1))
    # The runtime itself, channels last.
    oracle = interpreter.Interpreter(model_path=str(path))
    oracle.allocate_tensors()
    oracle.set_tensor(oracle.get_input_details()[0]["index"], picture[1:].permute(0, 2, 3, 1).contiguous().numpy())
    oracle.invoke()
    known = torch.from_numpy(oracle.get_tensor(oracle.get_output_details()[0]["index"]))
    assert torch.allclose(codes[1:], known, atol=1e-3)
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert torch.equal(other.outputs(picture)[0], codes)
    assert net.outputs(picture[:0])[0].shape == (0, 896, 16)
    with pytest.raises(ValueError, match=r"takes \(N, 3, 128, 128\), got \(1, 3, 8, 8\)"):
        net.outputs(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("package", "make", "message"),
    [
        ("onnxruntime", OnnxNet, r"net\.file needs onnxruntime.*pip install deidlib\[onnx\]"),
        ("ai_edge_litert.interpreter", TFLiteNetwork, r"net\.file needs LiteRT.*pip install deidlib\[tflite\]"),
    ],
)
def test_a_missing_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, package: str, make: Any, message: str
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=message):
        make("net.file")
