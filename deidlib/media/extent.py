"""How a file of frames begins, and how long it says it is: a container that is shorter was cut off."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def declared_size(path: Path) -> int | None:
    """Bytes that an MP4 or MOV, an MKV or WebM, or an AVI must have at least, by its own outermost structure.

    Returns:
        None for other formats, for live recordings, whose size was not known when they began, and for what cannot
        be made sense of.
    """
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        if head[:4] == b"RIFF":
            return _riff(head)
        if head[4:8] in _BOXES:
            return _boxes(file, path.stat().st_size)
        if int.from_bytes(head[:4], "big") == _EBML:
            return _ebml(file)
    return None


def head_of(path: Path, size: int) -> bytes:
    """The first bytes of a file, so many at most; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def is_container(path: Path) -> bool:
    """Whether a file begins as an MP4 or MOV, an MKV or WebM, or an AVI does."""
    head = head_of(path, 12)
    return head[4:8] in _BOXES or int.from_bytes(head[:4], "big") == _EBML or (head[:4], head[8:]) == (b"RIFF", b"AVI ")


def _riff(head: bytes) -> int | None:
    """The first RIFF chunk; 0 means that nobody came back to fill it in."""
    size = int(struct.unpack("<I", head[4:8])[0])
    return 8 + size if 0 < size < 0xFFFFFFFF else None


def _boxes(file: BinaryIO, length: int) -> int | None:
    """The end of the last ``mdat`` (frames) or ``moov`` (index) of an ISO base media file."""
    end, position = None, 0
    while position + 8 <= length:
        file.seek(position)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            wide = file.read(8)
            if len(wide) < 8:
                break
            (size,) = struct.unpack(">Q", wide)
        if size < 8:
            # 0: to the end of the file, whatever that is.
            break
        position += size
        if kind in (b"mdat", b"moov"):
            end = position
    return end


def _ebml(file: BinaryIO) -> int | None:
    """The end of the segment of a Matroska file."""
    for wanted in (_EBML, _SEGMENT):
        if int.from_bytes(file.read(4), "big") != wanted:
            return None
        first = file.read(1)
        if not first or not first[0]:
            return None
        more = 8 - first[0].bit_length()
        size = int.from_bytes(bytes([first[0] - (1 << (7 - more))]) + file.read(more), "big")
        if size == (1 << (7 * (more + 1))) - 1:
            return None
        if wanted == _SEGMENT:
            return file.tell() + size
        file.seek(size, 1)
    return None
