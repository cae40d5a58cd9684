"""``Spread``: a time measured in turns, on the processor or, by its events, on a GPU; ``Table``: what is printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import quantiles
from typing import Any

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing.

    Args:
        median: of them.
        low: their 10th percentile.
        high: their 90th.
        count: how many there were.
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """At least one value."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0], len(values))
        tenths = quantiles(values, n=10, method="inclusive")
        return cls(tenths[4], tenths[0], tenths[8], len(values))

    def times(self, factor: float) -> Spread:
        """In another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.count)

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f} to {self.high:.1f})"


def interleaved(works: dict[str, Work], *, turns: int = 9, device: torch.device | str = "cpu") -> dict[str, Spread]:
    """What works take in milliseconds, measured in turns, so that what else the machine does hits all of them alike.

    On the processor it is CPU time of all threads, which other work on the machine hardly changes; on a GPU the time
    between two events.

    Args:
        works: by name; each is done once to warm up.
        turns: how often each is measured.
        device: where they are done.
    """
    for work in works.values():
        work()
    timed = _between_events if torch.device(device).type == "cuda" else _on_the_processor
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            found[name].append(timed(work))
    return {name: Spread.of(values) for name, values in found.items()}


def _on_the_processor(work: Work) -> float:
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def _between_events(work: Work) -> float:
    start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


@dataclass
class Table:
    """Rows that go together.

    Args:
        title: what they say.
        head: of the columns.
        rows: numbers and words; a :class:`Spread` is printed as median and 10th to 90th percentile.
        curves: by name, what is to be drawn: x and y.
        axes: what x and y are.
    """

    title: str
    head: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    axes: tuple[str, str] = ("", "")

    def markdown(self) -> str:
        """As a table of Markdown."""
        lines = [f"**{self.title}**", "", _line(self.head), "|---" * len(self.head) + "|"]
        return "\n".join([*lines, *(_line([_cell(value) for value in row]) for row in self.rows)]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Everything, spreads as objects."""
        rows = [[asdict(value) if isinstance(value, Spread) else value for value in row] for row in self.rows]
        return {"title": self.title, "head": list(self.head), "rows": rows, "curves": self.curves, "axes": self.axes}


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
