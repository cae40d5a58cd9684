"""``Ledger``: what became of every file of a run, as JSON for programs."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from deidlib.protect.summary import Summary

FORMAT = "deidlib-run/1"
"""What the JSON says that it is; ``docs/video.md`` describes it."""

Status = Literal["done", "failed", "finished before", "elsewhere"]


class Ledger:
    """What became of every file of a run.

    Example:
        >>> ledger = Ledger()
        >>> ledger.add("a.mp4", Path("b.mkv"), "failed", error="a.mp4 does not exist.")
        >>> ledger.to_json()["files"]
        [{'source': 'a.mp4', 'target': 'b.mkv', 'status': 'failed', 'error': 'a.mp4 does not exist.', 'summary': None}]
    """

    def __init__(self) -> None:
        self._files: list[dict[str, Any]] = []

    def add(
        self,
        source: Path | str | int,
        target: Path,
        status: Status = "done",
        *,
        summary: Summary | None = None,
        error: str | None = None,
    ) -> None:
        """A file is done, in one way or another."""
        self._files.append(
            {
                "source": str(source),
                "target": str(target),
                "status": status,
                "error": error,
                "summary": None if summary is None else asdict(summary),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON: ``format``, and ``files``: source, target, status, error and summary of each."""
        return {"format": FORMAT, "files": self._files}

    @contextlib.contextmanager
    def written(self, place: Path | None) -> Iterator[None]:
        """Within it a run goes on; it is written however that ends, or, without a place, not at all."""
        try:
            yield
        finally:
            if place is not None:
                write_json(place, self.to_json())


def write_json(place: Path, data: Mapping[str, Any]) -> None:
    """Write JSON to a file, which appears complete or not at all; or with ``-`` to standard output."""
    from deidlib.records import files

    if is_stdout(place):
        typer.echo(json.dumps(_finite(data), allow_nan=False))
    else:
        files.write_json(place, _finite(data), indent=2)


def is_stdout(place: Path | None) -> bool:
    """Whether standard output is meant."""
    return str(place) == "-"


def check_json(place: Path | None, option: str = "--json") -> None:
    """Before the work: the file has a fitting name and can be written; standard output is left to the JSON.

    Raises:
        ValueError: it cannot.
    """
    from deidlib.cli.voice import mute
    from deidlib.media.files import check_writable, make_folder

    if place is None:
        return
    if is_stdout(place):
        mute()
        return
    if place.suffix.lower() != ".json":
        raise ValueError(f"{option} must name a .json file, or - for standard output, got {place}.")
    if place.is_dir():
        raise ValueError(f"{option} {place} is a folder. Name the file to be written.")
    make_folder(place.parent)
    check_writable(place)


def _finite(value: Any) -> Any:
    """The same without numbers that JSON does not have: null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
