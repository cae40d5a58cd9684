"""``Manifest``: what happened to the files of a folder, whoever worked on them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deidlib.bounded import BoundsError, fields, json_of, maybe, text
from deidlib.media import MediaWriteError

# Bytes of a line; what is longer was not written here.
_MOST_BYTES = 1 << 16
_TEXT = text(_MOST_BYTES)
_LINE = fields(
    {"status": _TEXT},
    {"output": _TEXT, "input": _TEXT, "fingerprint": _TEXT, "output_sha256": maybe(_TEXT), "reason": _TEXT},
)


class Manifest:
    """What happened to the files of a folder, one JSON object a line; the last line about an output counts.

    Lines are only ever added, each at once and synchronised with the disk, so that several processes may write into
    one. A line cut short by a crash, or that is no such object, is passed over.

    Args:
        path: the file; it need not exist.

    Raises:
        MediaWriteError: it is a link, or no regular file.

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
        self._read_to = 0
        self._last: dict[str, dict[str, Any]] = {}
        self._passed_over: dict[str, str] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what has been added since, perhaps by another process.

        Raises:
            MediaWriteError: it is a link, or no regular file, or cannot be read.
        """
        if not os.path.lexists(self.path):
            return
        with os.fdopen(self._opened(os.O_RDONLY), "rb") as file:
            file.seek(self._read_to)
            # A line that is too long comes in parts, none of which is one.
            while content := file.readline(_MOST_BYTES):
                if not content.endswith(b"\n") and len(content) < _MOST_BYTES:
                    # It is just being written, or never will be.
                    break
                self._read_to += len(content)
                self._note(content)

    def last(self, output: str) -> dict[str, Any] | None:
        """The last line about an output."""
        return self._last.get(output)

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line, which must have an ``"output"``.

        Raises:
            OSError: it cannot be written.
        """
        self._append(line)
        self._last[str(line["output"])] = dict(line)

    def pass_over(self, name: str, reason: str) -> None:
        """Append a line about what is no input, unless the last one about it says the same.

        Raises:
            OSError: it cannot be written.
        """
        if self._passed_over.get(name) != reason:
            self._append({"input": name, "status": "passed-over", "reason": reason})
            self._passed_over[name] = reason

    def _note(self, content: bytes) -> None:
        try:
            line = json_of(content.decode())
            _LINE(line, "it")
        except (BoundsError, UnicodeDecodeError):
            return
        if "output" in line:
            self._last[line["output"]] = line
        elif "input" in line and "reason" in line:
            self._passed_over[line["input"]] = line["reason"]

    def _append(self, line: Mapping[str, Any]) -> None:
        handle = self._opened(os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            # After a line cut short, the next one begins on its own.
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, ("\n" * torn + json.dumps(line) + "\n").encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def _opened(self, flags: int) -> int:
        """The file itself, never what a link leads to, nor a pipe that nobody writes into."""
        try:
            handle = os.open(self.path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
        except OSError as error:
            raise MediaWriteError(
                f"{self.path} cannot be used ({error.strerror}). It must be a file of this folder; remove it if it is "
                "something else."
            ) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise MediaWriteError(f"{self.path} is no regular file. Remove it.")
        return handle
