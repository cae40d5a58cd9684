"""``OpenCVNetwork``: a network in an ONNX file, run by OpenCV, which is less strict about files. No gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deidlib.nets.network import in_rows


class OpenCVNetwork:
    """One input, the outputs that are named; computed on the CPU, picture by picture.

    For files that onnxruntime refuses: OpenCV does not mind an input that declares other sides than it is given.

    Args:
        path: the ONNX file.
        names: of the outputs, in the order in which they are wanted.

    Raises:
        ValueError: OpenCV cannot read the file.
    """

    def __init__(self, path: str | Path, names: Sequence[str]) -> None:
        import cv2

        self._path, self._names = Path(path), tuple(names)
        # OpenCV 5 tells what its new engine cannot do before it takes the old one.
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self._net: Any = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise ValueError(
                f"{path} cannot be read as an ONNX network by OpenCV {cv2.__version__}: {error}"
            ) from error
        finally:
            cv2.utils.logging.setLogLevel(level)

    def __reduce__(self) -> tuple[type[OpenCVNetwork], tuple[Path, tuple[str, ...]]]:
        return OpenCVNetwork, (self._path, self._names)

    def outputs(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Run it; see :meth:`deidlib.nets.network.Network.outputs`."""
        if batch.ndim != 4:
            raise ValueError(f"the network takes (N, C, H, W), got {tuple(batch.shape)}.")
        return in_rows(batch, self._run)

    def _run(self, row: Tensor) -> tuple[Tensor, ...]:
        self._net.setInput(np.ascontiguousarray(row.numpy()))
        return tuple(torch.from_numpy(output.copy()) for output in self._net.forward(self._names))
