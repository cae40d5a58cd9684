"""``FrameMetric``: a torchmetrics metric that keeps one row of numbers per frame."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class FrameMetric(Metric):
    """One row per frame, NaN where a frame has no such value. Subclasses add rows and sum them up.

    Rows of several processes are joined when the metric is computed. Memory grows by a few numbers per frame.
    """

    is_differentiable = False
    full_state_update = False
    columns: ClassVar[tuple[str, ...]]
    """What the numbers of a row are."""

    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """The values over all frames."""

    def per_frame(self) -> dict[str, Tensor]:
        """The values of each frame, in the order of the updates; this process's frames only.

        Returns:
            ``(F,)`` by name; NaN where a frame has no such value.
        """
        table = self._table()
        return {name: table[:, i] for i, name in enumerate(self.columns)}

    def _table(self) -> Tensor:
        """All rows, ``(F, len(columns))``."""
        # Joined rows are a tensor after synchronisation, and there may be none.
        if isinstance(self.rows, list) and not self.rows:
            return torch.zeros(0, len(self.columns), device=self.device)
        table: Tensor = dim_zero_cat(self.rows)
        return table
