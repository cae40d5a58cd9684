"""What FFmpeg would write into a Matroska file, and PyAV has no way to ask for: how wide its pictures are shown."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

_SEGMENT, _TRACKS, _TRACK, _VIDEO, _CRC32, _VOID = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0xBF, 0xEC
_DISPLAY_WIDTH, _DISPLAY_UNIT = 0x54B0, 0x54B2
# Says that frames are not laced, which no reader needs to know.
_FLAG_LACING = 0x9C
# Tracks lie at the beginning, within what is read of it.
_HEAD = 1 << 16


def set_display_width(path: Path, width: int) -> None:
    """Say how wide the pictures of a file with one track are to be shown, at the height that they have.

    Not a byte moves but those of the track's description: what grows takes the place of an element that means nothing.

    Args:
        path: a Matroska file as FFmpeg writes it.
        width: in pixels.

    Raises:
        ValueError: the file is laid out otherwise, so that there is no room.
    """
    with path.open("rb+") as file:
        head = file.read(_HEAD)
        _, body, _ = _find(head, 0, len(head), _SEGMENT)
        _, body, end = _find(head, body, len(head), _TRACKS)
        tracks = _with_width(head[body:end], width)
        file.seek(body)
        file.write(tracks)


def _with_width(tracks: bytes, width: int) -> bytes:
    """The body of Tracks, as long as it was, and its checksum."""
    _, body, end = _find(tracks, 0, len(tracks), _TRACK)
    track = b""
    for kind, whole, inner in _elements(tracks[body:end]):
        if kind == _VIDEO:
            kept = b"".join(whole for kind, whole, _ in _elements(inner) if kind not in (_DISPLAY_UNIT, _DISPLAY_WIDTH))
            track += _element(_VIDEO, kept + _element(_DISPLAY_WIDTH, width.to_bytes(4, "big")))
        elif kind not in (_VOID, _FLAG_LACING):
            track += whole
    room = end - body - len(track)
    if room == 1 or room < 0:
        raise ValueError("no room for the width at which pictures are shown")
    track += _element(_VOID, bytes(room - 2)) if room else b""
    tracks = tracks[:body] + track + tracks[end:]
    _, crc, after = _find(tracks, 0, len(tracks), _CRC32)
    return tracks[:crc] + zlib.crc32(tracks[after:]).to_bytes(4, "little") + tracks[after:]


def _find(data: bytes, start: int, end: int, wanted: int) -> tuple[int, int, int]:
    """Where an element, its body, and what follows it begin."""
    while start < end:
        kind, at = _number(data, start, keep=True)
        size, body = _number(data, at, keep=False)
        if kind == wanted:
            return start, body, body + size
        start = body + size
    raise ValueError(f"no element {wanted:X}")


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """All elements one after the other: what they are, the whole of each, and its body."""
    start = 0
    while start < len(data):
        kind, at = _number(data, start, keep=True)
        size, body = _number(data, at, keep=False)
        yield kind, data[start : body + size], data[body : body + size]
        start = body + size


def _number(data: bytes, start: int, *, keep: bool) -> tuple[int, int]:
    """A number of variable length, with the bits that tell its length or without them, and where it ends."""
    if start >= len(data) or not data[start]:
        raise ValueError("no Matroska file")
    length = 9 - data[start].bit_length()
    value = int.from_bytes(data[start : start + length], "big")
    return (value if keep else value & ((1 << (7 * length)) - 1)), start + length


def _element(kind: int, body: bytes) -> bytes:
    if len(body) > 126:
        raise ValueError("no room for the width at which pictures are shown")
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + bytes([0x80 | len(body)]) + body
