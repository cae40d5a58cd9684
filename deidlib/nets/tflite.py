"""``TFLiteNetwork``: a network in a TensorFlow Lite file, run by LiteRT (extra ``[tflite]``). No gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deidlib.nets.network import in_rows


class TFLiteNetwork:
    """One input, any number of outputs; computed on the CPU, picture by picture.

    The file's pictures have their channels last; here they come first, as everywhere.

    Args:
        path: the file.

    Raises:
        ModuleNotFoundError: LiteRT is not installed.
        ValueError: the file is no network, or takes something else than one picture.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ModuleNotFoundError(
                f"{Path(path).name} needs LiteRT, which is not installed. Run `pip install deidlib[tflite]`."
            ) from error
        self._path = Path(path)
        try:
            self._interpreter: Any = Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except Exception as error:  # its own exceptions have no common base but this
            raise ValueError(f"{path} cannot be read as a TensorFlow Lite network: {error}") from error
        inputs = self._interpreter.get_input_details()
        shapes = [tuple(int(side) for side in known["shape"]) for known in inputs]
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != 1:
            raise ValueError(f"{path} must take one picture (1, H, W, C), got inputs of {shapes}.")
        _, height, width, channels = shapes[0]
        self._input: int = inputs[0]["index"]
        self._outputs: list[int] = [known["index"] for known in self._interpreter.get_output_details()]
        self.input_shape = (channels, height, width)

    def __reduce__(self) -> tuple[type[TFLiteNetwork], tuple[Path]]:
        # An interpreter cannot be copied or sent to another process; the file can be read again.
        return TFLiteNetwork, (self._path,)

    def outputs(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Run it; see :meth:`deidlib.nets.network.Network.outputs`."""
        if batch.ndim != 4 or tuple(batch.shape[1:]) != self.input_shape:
            raise ValueError(
                f"the network takes (N, {', '.join(map(str, self.input_shape))}), got {tuple(batch.shape)}."
            )
        return in_rows(batch, self._run)

    def _run(self, row: Tensor) -> tuple[Tensor, ...]:
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(row.permute(0, 2, 3, 1).numpy()))
        self._interpreter.invoke()
        return tuple(torch.from_numpy(self._interpreter.get_tensor(index)) for index in self._outputs)
