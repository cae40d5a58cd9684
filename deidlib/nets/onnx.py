"""``OnnxNetwork`` and ``OnnxNet``: a network in an ONNX file, run by onnxruntime (extra ``[onnx]``). No gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from deidlib.nets.network import in_rows


class OnnxNetwork:
    """One input, any number of outputs, the batch first; computed on the CPU.

    Args:
        path: the ONNX file.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: the file is no network of one input.
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
        inputs = self._session.get_inputs()
        self._check([value.name for value in inputs], [value.name for value in self._session.get_outputs()])
        self._name: str = inputs[0].name
        # A dimension that is not fixed has a name, or None, instead of a number.
        self.input_shape: tuple[int | None, ...] = tuple(d if isinstance(d, int) else None for d in inputs[0].shape)

    def _check(self, inputs: list[str], outputs: list[str]) -> None:
        if len(inputs) != 1:
            raise ValueError(f"{self._path} must have one input, got inputs {inputs}.")

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        # A session cannot be copied or sent to another process; the file can be read again.
        return type(self), (self._path,)

    def outputs(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Run it, row by row if the file's batch size is fixed to 1; see :meth:`deidlib.nets.network.Network.outputs`.

        Raises:
            ValueError: the batch does not fit the network's input.
        """
        expected = self.input_shape[1:]
        if batch.ndim != len(self.input_shape) or any(
            e is not None and e != s for e, s in zip(expected, batch.shape[1:], strict=True)
        ):
            raise ValueError(
                f"the network takes (N, {', '.join('any' if e is None else str(e) for e in expected)}), "
                f"got {tuple(batch.shape)}."
            )
        if self.input_shape[0] == 1 or not len(batch):
            return in_rows(batch, self._run)
        return tuple(output.to(batch) for output in self._run(batch.detach().to("cpu", torch.float32)))

    def _run(self, values: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, self._session.run(None, {self._name: values.numpy()})))


class OnnxNet(OnnxNetwork):
    """One input, one output.

    Args:
        path: the ONNX file.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: the file is no network of one input and one output.
    """

    def _check(self, inputs: list[str], outputs: list[str]) -> None:
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f"{self._path} must have one input and one output, got inputs {inputs} and outputs {outputs}."
            )

    def __call__(self, batch: Tensor) -> Tensor:
        """The network's output for a batch ``(N, ...)``, N may be 0: ``(N, ...)`` on its device and in its dtype."""
        return self.outputs(batch)[0]
