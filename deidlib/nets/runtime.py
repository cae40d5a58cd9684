"""``network``: the library that runs a network's file, chosen by the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deidlib.nets.network import Network
from deidlib.nets.onnx import OnnxNetwork
from deidlib.nets.tflite import TFLiteNetwork


def network(path: str | Path) -> Network:
    """The network in a file, to be run by onnxruntime (``.onnx``) or LiteRT (``.tflite``).

    Raises:
        ModuleNotFoundError: the library that runs it is not installed.
        ValueError: neither kind of file, or it cannot be read.
    """
    kinds: dict[str, Callable[[str | Path], Network]] = {".onnx": OnnxNetwork, ".tflite": TFLiteNetwork}
    make = kinds.get(Path(path).suffix.lower())
    if make is None:
        raise ValueError(f"a network's file must end in {' or '.join(kinds)}, got {str(path)!r}.")
    return make(path)
