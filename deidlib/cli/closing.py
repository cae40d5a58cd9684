"""How a run over several files or clips is closed: what was left alone, what failed, and the exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import typer

from deidlib.cli.signals import exit_code
from deidlib.cli.voice import note, warn


class Run(Protocol):
    """What became of a run."""

    @property
    def finished_before(self) -> int:
        """How many were finished before."""
        ...

    @property
    def elsewhere(self) -> int:
        """How many other processes work on."""
        ...


def tell_left(run: Run, count: int, what: str, passed_over: str) -> None:
    """Say what was not done, and why.

    Args:
        run: what became of it.
        count: how many there were.
        what: they are: ``"files"``.
        passed_over: in words what was passed over; empty if nothing was.
    """
    if run.finished_before:
        note(f"{run.finished_before} of {count} {what} were finished before, and left as they are")
    if run.elsewhere:
        note(f"{run.elsewhere} of {count} {what} are being done by another process")
    if passed_over:
        note(f"passed over: {passed_over}")


def close(failed: int, count: int, what: str) -> None:
    """End the program if some have failed.

    Raises:
        typer.Exit: they have.
    """
    if failed:
        warn(f"{failed} of {count} {what} failed")
        raise typer.Exit(1)


@contextlib.contextmanager
def to_be_continued() -> Iterator[None]:
    """Within it an interrupt ends the program, which says how to go on.

    Raises:
        typer.Exit: the user, or the system, interrupted.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        warn(
            "interrupted; nothing was left under an unfinished output's name. The same command goes on where it "
            "stopped."
        )
        raise typer.Exit(exit_code(interrupt)) from None
