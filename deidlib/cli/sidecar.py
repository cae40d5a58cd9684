"""The description that lies beside a protected file, and whether a key opens what it describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord


@dataclass(frozen=True)
class Description:
    """What is said about a protected file.

    Args:
        path: where it is said.
        record: of the key; None if there is none.
        sha256: of the file, as it was written.
        frames: that it had.
    """

    path: Path
    record: KeyRecord | None
    sha256: str | None
    frames: int | None


def description_of(protected: Path, sidecar: Path | None, *, wanted: bool) -> Description | None:
    """The description of a file, None if it has none.

    Args:
        protected: the file.
        sidecar: where its description lies; by default beside it.
        wanted: refuse a file without one.

    Raises:
        ValueError: it is missing though it is wanted, or is no description.
    """
    from deidlib.protect.video import FORMAT, sidecar_of
    from deidlib.records.files import read_json

    path, wanted = sidecar or sidecar_of(protected), wanted or sidecar is not None
    if not path.exists():
        if wanted:
            raise ValueError(
                f"{path} does not exist. It was written beside the protected file, and says how the key is used: "
                "get it, or name it with --sidecar."
            )
        return None
    data = read_json(path)
    if data is None or data.get("format") != FORMAT:
        if wanted:
            raise ValueError(f"{path} does not describe a protected file: its format is not {FORMAT!r}.")
        # Others call files so too.
        return None
    said = data.get("key")
    try:
        record = None if said is None else KeyRecord.from_dict(said)
    except ValueError as error:
        raise ValueError(f"{path}: {error} Get the file that was written.") from error
    return Description(path, record, _text(data.get("output")), _count(data.get("frames")))


def opened(described: Description | None, key: Key | None, protected: Path) -> KeyRecord | None:
    """The record of the key, once it is known that this key opens it; None if none is needed.

    Raises:
        ValueError: the key is missing, is another one, or is not needed; or the record has been changed.
    """
    record = None if described is None else described.record
    if record is None:
        if key is not None:
            raise ValueError(f"{protected} was not protected with a key. Read it without --key.")
        return None
    assert described is not None
    if key is None:
        raise ValueError(
            f"nothing is readable without a key: {protected} was protected with key {record.key_id}. Add --key FILE."
        )
    if record.opened_by(key):
        return record
    if record.key_id != key.id:
        raise ValueError(
            f"nothing is readable with this key (id {key.id}): {protected} was protected with key {record.key_id}."
        )
    raise ValueError(
        f"{described.path}: what it says of the key has been changed since it was written; nothing is readable with "
        f"this key (id {key.id}). Get the file that was written."
    )


def _text(output: object) -> str | None:
    value: Any = output.get("sha256") if isinstance(output, Mapping) else None
    return value if isinstance(value, str) else None


def _count(frames: object) -> int | None:
    value: Any = frames.get("frames") if isinstance(frames, Mapping) else None
    return value if isinstance(value, int) else None
