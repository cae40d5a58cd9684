"""``FileResult``, ``FolderSummary``, ``ClipResult``, ``RunSummary``: what became of files, and of clips anywhere."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from deidlib.media.tree import PassedOver
from deidlib.protect.summary import Summary

# Of a million clips all may fail for one reason.
_MOST_FAILURES = 10_000
_NAMED = 5

P = TypeVar("P")


@dataclass(frozen=True)
class _Result(Generic[P]):
    source: P
    target: P
    summary: Summary | None = None
    error: str | None = None
    elsewhere: bool = False

    @property
    def finished_before(self) -> bool:
        """Whether nothing was left to be done."""
        return self.summary is None and self.error is None and not self.elsewhere


class FileResult(_Result[Path]):
    """What became of one file of a folder.

    Args:
        source: the input.
        target: the output.
        summary: what happened; None if it failed or was finished before.
        error: why it failed, naming the file; None if it did not.
        elsewhere: whether another process works on it, so that it was passed over.
    """


@dataclass(frozen=True)
class FolderSummary:
    """What became of a folder.

    Args:
        files: one result per file, in order.
        passed_over: what else lies in the folder, and why it was left alone.
    """

    files: Sequence[FileResult] = field(default_factory=tuple)
    passed_over: Sequence[PassedOver] = ()

    def __repr__(self) -> str:
        done = sum(file.summary is not None for file in self.files)
        counts = {"done": done, "failed": len(self.failed), "finished before": self.finished_before,
                  "done elsewhere": self.elsewhere, "passed over": len(self.passed_over)}  # fmt: skip
        said = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
        return f"FolderSummary({len(self.files)} file{'s' * (len(self.files) != 1)}: {said or 'nothing to do'})"

    @property
    def failed(self) -> list[FileResult]:
        """Those that failed."""
        return [file for file in self.files if file.error is not None]

    @property
    def finished_before(self) -> int:
        """How many were finished before, and left as they are."""
        return sum(file.finished_before for file in self.files)

    @property
    def elsewhere(self) -> int:
        """How many were passed over, since other processes work on them."""
        return sum(file.elsewhere for file in self.files)


class ClipResult(_Result[str]):
    """What became of one clip, wherever it lies.

    Args:
        source: the input, a URL or path.
        target: the output.
        summary: what happened; None if it failed or was finished before.
        error: why it failed, in one line that names it; None if it did not.
        elsewhere: whether another process works on it, so that it was passed over.
    """


@dataclass
class RunSummary:
    """What became of a run, in numbers and by the names of what failed.

    Args:
        finished: clips that were protected.
        finished_before: clips that were finished before, and left as they are.
        elsewhere: clips that other processes work on.
        failures: how many failed.
        failed: those, the first ten thousand.
        passed_over: how many files were passed over, by the reason.
        examples: the names of a few of them, by the reason.
    """

    finished: int = 0
    finished_before: int = 0
    elsewhere: int = 0
    failures: int = 0
    failed: list[ClipResult] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def clips(self) -> int:
        """How many clips there were."""
        return self.finished + self.finished_before + self.elsewhere + self.failures

    def add(self, result: ClipResult) -> None:
        """Count what became of a clip."""
        if result.error is not None:
            self.failures += 1
            if len(self.failed) < _MOST_FAILURES:
                self.failed.append(result)
        elif result.elsewhere:
            self.elsewhere += 1
        elif result.summary is None:
            self.finished_before += 1
        else:
            self.finished += 1

    def pass_over(self, name: str, reason: str) -> None:
        """Count a file that is no input."""
        self.passed_over[reason] += 1
        if len(self.examples[reason]) < _NAMED:
            self.examples[reason].append(name)

    def passed_over_in_words(self) -> str:
        """By reasons, with the names of a few of each."""
        return "; ".join(
            f"{count} file{'s' * (count > 1)} {reason}: {_some(self.examples[reason], count)}"
            for reason, count in sorted(self.passed_over.items())
        )


def _some(names: Sequence[str], count: int) -> str:
    more = count - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
