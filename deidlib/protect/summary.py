"""``Summary``: what happened to a file, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deidlib.protect.readback import Readback


@dataclass(frozen=True)
class Summary:
    """What happened to a file.

    Args:
        frames: frames written.
        found: frames with faces, hidden and attacked.
        filled: frames without a face found, where the places of those found before and after were hidden.
        held: frames without a face found, where the places of those found before or after were hidden.
        partly_held: frames with faces found, where the place of another one, lost, was hidden too.
        whole_frame: frames hidden altogether.
        kept: frames left as they came.
        losses: mean final loss per model over the attacked frames.
        readback: how the authorised models read the written file; None where that was not asked for.
    """

    frames: int
    found: int
    filled: int
    held: int
    partly_held: int
    whole_frame: int
    kept: int
    losses: dict[str, float]
    readback: Readback | None = None


class Tally:
    """Counts frame by frame."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.frames = self._partly_held = 0
        self._losses: dict[str, tuple[float, int]] = {}

    def add(self, treatment: str, beside: int, losses: Mapping[str, float]) -> None:
        """Add a frame: what happened to it, how many places were hidden besides, and its final losses."""
        self.frames += 1
        self._counts[treatment] = self._counts.get(treatment, 0) + 1
        self._partly_held += beside > 0
        for name, loss in losses.items():
            total, count = self._losses.get(name, (0.0, 0))
            self._losses[name] = (total + loss, count + 1)

    def summary(self, readback: Readback | None = None) -> Summary:
        """The numbers."""
        return Summary(
            frames=self.frames,
            found=self._counts.get("found", 0),
            filled=self._counts.get("filled", 0),
            held=self._counts.get("held", 0),
            partly_held=self._partly_held,
            whole_frame=self._counts.get("whole-frame", 0),
            kept=self._counts.get("kept", 0),
            losses={name: total / count for name, (total, count) in self._losses.items()},
            readback=readback,
        )
