"""``OnnxNet``: a network in an ONNX file, run by onnxruntime (extra ``[onnx]``). No gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class OnnxNet:
    """One input, one output, the batch first; computed on the CPU.

    Args:
        path: the ONNX file.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: the file is no network of one input and one output.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ModuleNotFoundError(
                f"{Path(path).name} needs onnxruntime, which is not installed. Run `pip install deidlib[onnx]`."
            ) from error
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common base but this
            raise ValueError(f"{path} cannot be read as an ONNX network: {error}") from error
        self._path = Path(path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f"{path} must have one input and one output, "
                f"got inputs {[i.name for i in inputs]} and outputs {[o.name for o in outputs]}."
            )
        self._name: str = inputs[0].name
        # A dimension that is not fixed has a name, or None, instead of a number.
        self.input_shape: tuple[int | None, ...] = tuple(d if isinstance(d, int) else None for d in inputs[0].shape)
        self.output_shape: tuple[int | None, ...] = tuple(d if isinstance(d, int) else None for d in outputs[0].shape)

    def __reduce__(self) -> tuple[type[OnnxNet], tuple[Path]]:
        # A session cannot be copied or sent to another process; the file can be read again.
        return OnnxNet, (self._path,)

    def __call__(self, batch: Tensor) -> Tensor:
        """The network's output for a batch; a file of fixed batch size 1 is run row by row.

        Args:
            batch: ``(N, ...)``, N may be 0; on any device, float.

        Returns:
            ``(N, ...)`` on the batch's device and in its dtype.

        Raises:
            ValueError: the batch does not fit the network's input.
        """
        expected = self.input_shape[1:]
        if batch.ndim != len(self.input_shape) or any(
            e is not None and e != s for e, s in zip(expected, batch.shape[1:], strict=True)
        ):
            raise ValueError(f"the network takes (N, {', '.join(map(str, expected))}), got {tuple(batch.shape)}.")
        if not len(batch):
            return batch.new_zeros(0, *(d or 0 for d in self.output_shape[1:]))
        values = batch.detach().to("cpu", torch.float32)
        parts = values[:, None].unbind() if self.input_shape[0] == 1 else (values,)
        rows = [torch.from_numpy(self._session.run(None, {self._name: part.numpy()})[0]) for part in parts]
        return torch.cat(rows).to(batch)
