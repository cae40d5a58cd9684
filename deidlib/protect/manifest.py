"""``Manifest``: what happened to the files of a folder, one line per event."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Manifest:
    """What happened to the files of a folder, one JSON object a line; the last line about an output counts.

    Lines are only ever added, each one synchronised with the disk. A line cut short by a crash is passed over.

    Args:
        path: the file; it need not exist.

    Example:
        >>> import tempfile
        >>> manifest = Manifest(Path(tempfile.mkdtemp(), "manifest.jsonl"))
        >>> manifest.add({"output": "a.mkv", "status": "failed"})
        >>> manifest.add({"output": "a.mkv", "status": "done"})
        >>> manifest.last("a.mkv")
        {'output': 'a.mkv', 'status': 'done'}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = {line["output"]: line for line in self._lines()}

    def last(self, output: str) -> dict[str, Any] | None:
        """The last line about an output."""
        return self._last.get(output)

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line, which must have an ``"output"``.

        Raises:
            OSError: it cannot be written.
        """
        output = str(line["output"])
        with self.path.open("a+b") as file:
            # After a line cut short, the next one begins on its own.
            torn = file.tell() > 0 and _last_byte(self.path) != b"\n"
            file.write(("\n" * torn + json.dumps(line) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        self._last[output] = dict(line)

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and isinstance(line.get("output"), str):
                    yield line


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
