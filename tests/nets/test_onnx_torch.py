from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, linear

from deidlib.nets.onnx_torch import torch_from_onnx

onnx = pytest.importorskip("onnx", reason="needs the extra [onnx2torch]")
pytest.importorskip("onnx2torch", reason="needs the extra [onnx2torch]")

KERNEL = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
WEIGHT = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)


def saved(path: Path, *nodes: Any, shape: tuple[str | int, ...] = ("n", "k"), **weights: np.ndarray[Any, Any]) -> Path:
    """A network of one input ``x`` ``(N, 3, H, W)`` and one output ``y``."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def small(path: Path) -> Path:
    node = onnx.helper.make_node
    return saved(
        path,
        node("Conv", ["x", "kernel"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("GlobalAveragePool", ["b"], ["c"]),
        node("Flatten", ["c"], ["d"]),
        node("Gemm", ["d", "weight"], ["y"], transB=1),
        kernel=KERNEL,
        weight=WEIGHT,
    )


def test_it_computes_what_the_file_says_and_gradients_go_through(tmp_path: Path) -> None:
    network = torch_from_onnx(small(tmp_path / "a.onnx"))
    assert not network.training
    images = torch.rand(3, 3, 8, 8, requires_grad=True)
    by_hand = conv2d(images, torch.from_numpy(KERNEL), padding=1).relu().mean(dim=(2, 3))
    by_hand = linear(by_hand, torch.from_numpy(WEIGHT))
    torch.testing.assert_close(network(images), by_hand)
    (mine,) = torch.autograd.grad(network(images).square().sum(), images)
    (wanted,) = torch.autograd.grad(by_hand.square().sum(), images)
    torch.testing.assert_close(mine, wanted)
    # Each row from its own picture.
    torch.testing.assert_close(network(images[1:2]), network(images)[1:2])


def test_weights_that_are_stored_once_and_used_twice_are_found(tmp_path: Path) -> None:
    node, bias = onnx.helper.make_node, np.ones(3, np.float32)
    kernel = np.ascontiguousarray(KERNEL[:3])
    path = saved(
        tmp_path / "a.onnx",
        node("Identity", ["bias"], ["other"]),
        node("Identity", ["other"], ["another"]),
        node("Conv", ["x", "kernel", "bias"], ["a"], pads=[1, 1, 1, 1]),
        node("Conv", ["a", "kernel", "another"], ["y"], pads=[1, 1, 1, 1]),
        kernel=kernel,
        bias=bias,
        shape=("n", 3, 8, 8),
    )
    images, weights = torch.rand(2, 3, 8, 8), torch.from_numpy(kernel)
    once = conv2d(images, weights, torch.from_numpy(bias), padding=1)
    torch.testing.assert_close(torch_from_onnx(path)(images), conv2d(once, weights, torch.from_numpy(bias), padding=1))


def test_it_computes_what_onnxruntime_computes(shared: Path) -> None:
    pytest.importorskip("onnxruntime")
    from deidlib.nets.onnx import OnnxNet

    path = shared / "weights" / "pfld_68.onnx"
    faces = torch.rand(1, 3, *(OnnxNet(path).input_shape[2:]))  # type: ignore[arg-type]
    torch.testing.assert_close(torch_from_onnx(path)(faces), OnnxNet(path)(faces), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_made_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"no\.onnx cannot be read as an ONNX network"):
        torch_from_onnx(tmp_path / "no.onnx")
    node = onnx.helper.make_node("Det", ["x"], ["y"])
    with pytest.raises(ValueError, match=r"(?s)Det.*opset_version=17"):
        torch_from_onnx(saved(tmp_path / "det.onnx", node))
    with pytest.raises(FileNotFoundError):
        torch_from_onnx(tmp_path / "missing.onnx")


def test_no_other_file_is_opened(tmp_path: Path) -> None:
    model = onnx.load(small(tmp_path / "a.onnx"))
    onnx.save(model, tmp_path / "b.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(ValueError, match=r"other files|cannot be read"):
        torch_from_onnx(tmp_path / "b.onnx")


def test_without_onnx2torch_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install deidlib\[onnx2torch\]"):
        torch_from_onnx("mine.onnx")
