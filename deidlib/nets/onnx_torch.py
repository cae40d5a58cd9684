"""``torch_from_onnx``: a network in an ONNX file as one of PyTorch, with gradients (extra ``[onnx2torch]``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn


def torch_from_onnx(path: str | Path) -> nn.Module:
    """The network of an ONNX file, so that a :class:`~deidlib.TargetModel` of yours can be attacked through it.

    (:class:`~deidlib.nets.onnx.OnnxNet` runs such a file faster, and without gradients.)

    Args:
        path: the file, with its weights in it. Of operators that onnx2torch does not know in their newest version,
            export an older one: ``opset_version=17`` or less.

    Returns:
        A module in eval mode. It takes the file's inputs in their order and returns its output, or a list of them.

    Raises:
        ModuleNotFoundError: onnx2torch is not installed.
        OSError: the file cannot be read.
        ValueError: it is no ONNX network, keeps its weights in other files, or has an operator that is not known.
    """
    try:
        import onnx
        import onnx2torch
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{Path(path).name} is made a network of PyTorch by onnx2torch, which is not installed. Run "
            "`pip install deidlib[onnx2torch]`."
        ) from error
    content = Path(path).read_bytes()
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:  # of protocol buffers, and of onnx: no common base but this
        raise ValueError(f"{path} cannot be read as an ONNX network: {str(error)[:300]}") from error
    if any(weights.data_location == onnx.TensorProto.EXTERNAL for weights in model.graph.initializer):
        raise ValueError(f"{path} keeps its weights in other files, which are not opened. Save it as one file.")
    _name_weights(model.graph)
    try:
        network: nn.Module = onnx2torch.convert(model)
    except Exception as error:  # whatever its parts raise
        raise ValueError(
            f"{path} cannot be made a network of PyTorch: {str(error)[:300]}. onnx2torch may not know an operator in "
            "this version: export the network with opset_version=17 or less, or without that operator."
        ) from error
    return network.eval()


def _name_weights(graph: Any) -> None:
    """Weights that exporters found twice are stored once, and handed on by nodes that do nothing: undo that.

    onnx2torch looks for weights among those that are stored.
    """
    stored = {weights.name: weights for weights in graph.initializer}
    # In order: what is handed on may be handed on again.
    for node in [node for node in graph.node if node.op_type == "Identity"]:
        weights = stored.get(node.input[0])
        if weights is not None and node.output[0] not in {value.name for value in graph.output}:
            copied = graph.initializer.add()
            copied.CopyFrom(weights)
            copied.name = node.output[0]
            stored[copied.name] = copied
            graph.node.remove(node)
