"""Files that anybody may have written, read within bounds: regular, so long, so deep, and of the shape expected."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

MOST_FRAMES = 10_000_000
"""Frames in a clip: four days at 25 a second."""

# Bytes of a JSON file, unless its reader says otherwise.
_MOST_BYTES = 1 << 28
# Nothing that is written here is half as deep.
_MOST_DEPTH = 24

Shape = Callable[[Any, str], None]
"""Raises a :class:`BoundsError` if a value is not of it; told what the value is called."""


class BoundsError(ValueError):
    """A file, or a value in it, is not within bounds; the message says which."""


def read_bounded(path: Path, most: int = _MOST_BYTES) -> bytes:
    """What a regular file holds.

    A pipe, a device or a folder is not opened to be waited for, and no more is read than is allowed.

    Args:
        path: the file; links are followed.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read.
        BoundsError: it is no regular file, or larger.
    """
    return read_regular(path, most)[0]


def read_regular(path: Path, most: int) -> tuple[bytes, os.stat_result]:
    """What a regular file holds, as :func:`read_bounded` reads it, and what the system says of the file that was read.

    Raises:
        OSError: it cannot be read.
        BoundsError: it is no regular file, or larger.
    """
    # Without waiting: a pipe would be opened when somebody writes into it, if ever.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        known = os.fstat(handle)
        if not stat.S_ISREG(known.st_mode):
            raise BoundsError(f"{path} is no regular file")
        if known.st_size > most:
            raise BoundsError(f"{path} has {known.st_size} bytes, more than the {most} that such a file may have")
        content = file.read(most + 1)
    if len(content) > most:
        raise BoundsError(f"{path} grows while it is read, beyond the {most} bytes that such a file may have")
    return content, known


def json_of(text: str) -> Any:
    """The value that a JSON text is; NaN and infinity, which JSON does not know, are errors.

    Raises:
        BoundsError: it is no JSON, or lists lie in lists more than 24 deep.

    Example:
        >>> json_of('[1, {"a": null}]')
        [1, {'a': None}]
    """

    def refuse(constant: str) -> NoReturn:
        raise BoundsError(f"it holds {constant}, which is no JSON; a value that is not known must be null")

    depth = 0
    # A text that does not end is one, too: looked for again from each quote in it, a million of them would take hours.
    for found in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', text, re.DOTALL):
        mark = found[0]
        depth += (mark in "[{") - (mark in "]}") if len(mark) == 1 else 0
        if depth > _MOST_DEPTH:
            raise BoundsError(f"it is no JSON that is known here: lists lie in lists more than {_MOST_DEPTH} deep")
    try:
        return json.loads(text, parse_constant=refuse)
    except BoundsError:
        raise
    except (ValueError, RecursionError) as error:
        raise BoundsError(f"it is not JSON ({error})") from error


def read_json(path: Path, shape: Shape | None = None, *, most: int = _MOST_BYTES) -> dict[str, Any] | None:
    """The object that a file holds.

    Args:
        path: the file.
        shape: what it must be.
        most: bytes that it may have.

    Returns:
        None if there is no such file, or what it holds is no JSON object of that shape.
    """
    try:
        data = json_of(read_bounded(path, most).decode())
        if shape is not None:
            shape(data, path.name)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


# Shapes


def text(most: int = 4096, pattern: str | None = None) -> Shape:
    """A text of so many characters at most, all of it matched by the pattern."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str):
            _refuse(name, "a text", value)
        if len(value) > most:
            raise BoundsError(f"{name} has {len(value)} characters, more than {most}")
        if pattern is not None and not re.fullmatch(pattern, value):
            raise BoundsError(f"{name} is {value[:40]!r}, which is not of the form {pattern}")

    return check


def whole(low: int, high: int) -> Shape:
    """A whole number from low to high."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            _refuse(name, "a whole number", value)
        if not low <= value <= high:
            raise BoundsError(f"{name} must lie in {low} to {high}, got {str(value)[:20]}")

    return check


def number(value: Any, name: str) -> None:
    """A finite number."""
    # Whole numbers of hundreds of digits are none, either: whoever makes a float of them fails.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        _refuse(name, "a finite number", value)


def truth(value: Any, name: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        _refuse(name, "true or false", value)


def maybe(shape: Shape) -> Shape:
    """Of a shape, or null."""
    return lambda value, name: None if value is None else shape(value, name)


def listed(shape: Shape, most: int = MOST_FRAMES, least: int = 0) -> Shape:
    """A list of so many at most and at least, each of a shape."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, list):
            _refuse(name, "a list", value)
        if len(value) > most:
            raise BoundsError(f"{name} holds {len(value)} entries, more than {most}")
        if len(value) < least:
            raise BoundsError(f"{name} holds {len(value)} entries, fewer than {least}")
        for place, entry in enumerate(value):
            shape(entry, f"{name}[{place}]")

    return check


def mapped(shape: Shape, most: int = 1000) -> Shape:
    """An object of so many names at most, which nobody knows before, with values of a shape."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            _refuse(name, "an object", value)
        if len(value) > most:
            raise BoundsError(f"{name} holds {len(value)} entries, more than {most}")
        for key, entry in value.items():
            text()(key, f"a name in {name}")
            shape(entry, f"{name}.{key[:40]}")

    return check


def fields(needed: Mapping[str, Shape], besides: Mapping[str, Shape] | None = None) -> Shape:
    """An object with these fields, perhaps with those, and with others that nobody looks at.

    Example:
        >>> shape = fields({"frames": whole(1, 9)}, {"name": text(5)})
        >>> shape({"frames": 3, "more": []}, "note")
        >>> shape({"frames": 10}, "note")
        Traceback (most recent call last):
        ...
        deidlib.bounded.BoundsError: note.frames must lie in 1 to 9, got 10
    """
    besides = besides or {}

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            _refuse(name, "an object", value)
        for key, shape in needed.items():
            if key not in value:
                raise BoundsError(f"{name} lacks {key!r}")
            shape(value[key], f"{name}.{key}")
        for key, shape in besides.items():
            if key in value:
                shape(value[key], f"{name}.{key}")

    return check


SHA256 = text(64, r"[0-9a-f]{64}")
"""64 hexadecimal digits in lower case."""


def _refuse(name: str, expected: str, value: Any) -> NoReturn:
    kind = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    got = kind.get(type(value)) or f"{str(value)[:20]}"
    raise BoundsError(f"{name} must be {expected}, got {got}")
