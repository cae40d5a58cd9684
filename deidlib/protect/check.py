"""``Check``: what a written file must show its authorised readers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Read a written file back through the authorised models, and mend what reads badly.

    Args:
        min_iou: overlap (IoU) with the reading of the original that authorised detectors' boxes should have; frames in
            which one has less are attacked again, with more steps, unless a :class:`~deidlib.Chain` with a tolerance
            has tried that already.
        repairs: rounds of that at most.

    Raises:
        ValueError: an overlap outside [0, 1], or a negative number of rounds.

    Example:
        >>> Check(min_iou=0.95)
        Check(min_iou=0.95, repairs=2)
    """

    min_iou: float = 0.9
    repairs: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.min_iou <= 1:
            raise ValueError(f"min_iou is an overlap (IoU) in [0, 1], got {self.min_iou}.")
        if self.repairs < 0:
            raise ValueError(f"repairs must be >= 0 rounds, got {self.repairs}.")
