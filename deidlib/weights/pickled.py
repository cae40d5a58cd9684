"""The pickle in a checkpoint, walked through before PyTorch reads it: short, shallow, and nothing that grows."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from dataclasses import dataclass
from typing import IO, Any

# Bytes and instructions: 20,000 tensors have four million of these, and half a million of those.
_MOST_BYTES, _MOST_STEPS = 1 << 24, 1_000_000
# Characters of a function's name. Where PyTorch refuses one, it searches its own message in a time that grows with the
# square of them.
_MOST_NAME = 256
# Things in things, however often: what is shared is counted each time, as whoever hashes or prints it meets it.
_MOST_THINGS = 20_000_000
# Tuples in tuples: they are hashed by calls in calls, which end the process when they are too many.
_MOST_DEPTH = 100
# What bytes are pickled by, as a text and how it is encoded. Of a number the second makes so many bytes; and in some
# encodings a thousand characters take seconds.
_ENCODE = "_codecs.encode"
_GROWING = (_ENCODE, "__builtin__.bytearray", "builtins.bytearray")
_ENCODINGS = ("latin1", "latin-1", "ascii", "utf-8", "utf8")


class UnboundedError(ValueError):
    """A pickle takes more to be read than any weights do; the message says what of it."""


def check_checkpoint(content: IO[bytes]) -> None:
    """Walk through what :func:`torch.load` would unpickle, by the same rules, and make nothing of it.

    PyTorch's reader calls only functions that it knows, but does whatever they are told to: a file of a hundred bytes
    may take all memory, or hours.

    Args:
        content: of the checkpoint, as PyTorch writes it now (a zip archive) or wrote it before 1.6; it is left at its
            beginning.

    Raises:
        UnboundedError: to read it takes too much.
        pickle.UnpicklingError: PyTorch would refuse it.
        Exception: it is cut short or shuffled: what readers of archives and pickles raise over wrong bytes.
    """
    # What PyTorch itself goes by. A file may be a zip archive by its end and a pickle by its beginning.
    content.seek(0)
    archived = content.read(4) == b"PK\x03\x04"
    content.seek(0)
    if archived:
        with zipfile.ZipFile(content) as archive:
            for member in archive.infolist():
                # Whatever of its name another reader makes the one that it looks for.
                if ".pkl" in member.orig_filename.lower():
                    _check_size(member.file_size)
                    _Walk(io.BytesIO(archive.read(member))).once()
    else:
        walk = _Walk(io.BytesIO(content.read(_MOST_BYTES + 1)))
        # A magic number, a version, a machine, the content, and the names of the numbers that follow.
        for _ in range(5):
            try:
                if not walk.once():
                    break
            finally:
                _check_size(walk.place())
    content.seek(0)


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise UnboundedError(f"has a pickle of more than {_MOST_BYTES} bytes")


@dataclass
class _Thing:
    """What the reader would have in hand.

    Args:
        kind: ``"global"``, ``"made"`` by one, ``"text"``, ``"tuple"``, or ``"other"``.
        said: the text; the name of a global, or of the one that made it.
        parts: of a tuple.
        size: things in it, itself counted.
        depth: of tuples in it.
    """

    kind: str = "other"
    said: str = ""
    parts: tuple[_Thing, ...] = ()
    size: int = 1
    depth: int = 1


class _Walk:
    """One pickle after another, each with a stack and a memory of its own, as its reader has.

    Args:
        content: where they are.
    """

    def __init__(self, content: io.BytesIO) -> None:
        self._content = content
        self._met = self._steps = 0
        self._stack: list[_Thing] = []
        self._below: list[list[_Thing]] = []
        self._memory: dict[int, _Thing] = {}

    def place(self) -> int:
        """How many bytes have been read."""
        return self._content.tell()

    def once(self) -> bool:
        """Walk through one; False if there is none any more."""
        if not self._content.read(1):
            return False
        self._content.seek(-1, io.SEEK_CUR)
        self._stack, self._below, self._memory = [], [], {}
        for code, told, _ in pickletools.genops(self._content):
            self._step(code.name, told)
        return True

    def _step(self, code: str, told: Any) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise UnboundedError(f"has a pickle of more than {_MOST_STEPS} instructions")
        match code:
            case "PROTO" | "STOP":
                pass
            case "GLOBAL":
                if len(told) > _MOST_NAME:
                    raise UnboundedError(f"names a function by {len(told)} characters")
                # Module and name stand on lines of their own.
                self._stack.append(_Thing("global", told.replace(" ", ".")))
            case "BINUNICODE" | "SHORT_BINSTRING":
                self._stack.append(_Thing("text", told))
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                self._stack.append(_Thing())
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_SET":
                self._stack.append(_Thing())
            case "MARK":
                self._below.append(self._stack)
                self._stack = []
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._tuple(self._last(("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3").index(code)))
            case "TUPLE":
                self._tuple(self._since_mark())
            case "APPEND" | "BUILD":
                self._fill(self._last(1))
            case "SETITEM":
                self._fill(self._last(2))
            case "APPENDS" | "SETITEMS":
                self._fill(self._since_mark())
            case "BINPERSID":
                (told,) = self._last(1)
                self._stack.append(_Thing("made", size=1 + self._meet([told]), depth=told.depth))
            case "REDUCE" | "NEWOBJ":
                self._call(*self._last(2))
            case "BINPUT" | "LONG_BINPUT":
                self._memory[told] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                self._stack.append(self._memory[told])
            case _:
                raise pickle.UnpicklingError(f"{code} is nothing that PyTorch reads")

    def _last(self, count: int) -> list[_Thing]:
        first = len(self._stack) - count
        if first < 0:
            raise IndexError("it takes more than there is")
        parts = self._stack[first:]
        del self._stack[first:]
        return parts

    def _since_mark(self) -> list[_Thing]:
        parts, self._stack = self._stack, self._below.pop()
        return parts

    def _tuple(self, parts: list[_Thing]) -> None:
        depth = 1 + max((part.depth for part in parts), default=0)
        if depth > _MOST_DEPTH:
            raise UnboundedError(f"holds tuples in tuples, more than {_MOST_DEPTH} deep")
        self._stack.append(_Thing("tuple", parts=tuple(parts), size=1 + self._meet(parts), depth=depth))

    def _fill(self, parts: list[_Thing]) -> None:
        """Something is put into what lies on top."""
        self._stack[-1].size += self._meet(parts)

    def _call(self, function: _Thing, told: _Thing) -> None:
        if function.kind != "global" or told.kind != "tuple":
            raise pickle.UnpicklingError("it calls what is no function")
        if function.said in _GROWING and not _bytes(told.parts):
            raise UnboundedError("makes bytes of what are none")
        self._stack.append(_Thing("made", function.said, size=1 + self._meet([told]), depth=told.depth))

    def _meet(self, parts: list[_Thing]) -> int:
        """How many things those are."""
        if any(part.kind == "global" and part.said in _GROWING for part in parts):
            raise UnboundedError("has a function of bytes called by another")
        size = sum(part.size for part in parts)
        self._met += size
        if self._met > _MOST_THINGS:
            raise UnboundedError(f"holds what has to be looked at more than {_MOST_THINGS} times")
        return size


def _bytes(told: tuple[_Thing, ...]) -> bool:
    """Whether bytes are made as they are pickled: of nothing, of bytes, or of a text and its encoding."""
    match told:
        case ():
            return True
        case (one,):
            return (one.kind, one.said) == ("made", _ENCODE)
        case _:
            return [part.kind for part in told] == ["text", "text"] and told[1].said.lower() in _ENCODINGS
