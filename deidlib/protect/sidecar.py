"""``Sidecar``: the file beside a protected one that says how it was made, and by which key it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.models.base import TargetModel
from deidlib.models.keyed import Keyed
from deidlib.records.files import name_beside, read_json, write_json

FORMAT = "deidlib-protection/1"


@dataclass(frozen=True)
class Sidecar:
    """What is said about a protected file.

    Args:
        path: where it is said.
        record: of the key; None if there is none.
        sha256: of the file, as it was written.
        frames: that it had.

    Example:
        >>> Sidecar.path_of(Path("clips/out.mkv")).name
        'out.mkv.json'
    """

    path: Path
    record: KeyRecord | None
    sha256: str | None
    frames: int | None

    @staticmethod
    def path_of(protected: Path) -> Path:
        """Where a protected file's sidecar lies: ``out.mkv.json``; see :func:`~deidlib.records.files.name_beside`."""
        return protected.with_name(name_beside(protected, "", ".json").name)

    @staticmethod
    def write(protected: Path, description: Mapping[str, Any]) -> None:
        """Describe a protected file.

        Raises:
            OSError: it cannot be written.
        """
        write_json(Sidecar.path_of(protected), {"format": FORMAT} | dict(description), indent=2)

    @classmethod
    def read(cls, protected: str | Path, path: str | Path | None = None, *, wanted: bool = False) -> Sidecar | None:
        """The description of a file, None if it has none.

        Args:
            protected: the file.
            path: where its description lies; by default beside it.
            wanted: refuse a file without one; so is one whose description is named.

        Raises:
            ValueError: it is missing though it is wanted, or is no description.
        """
        place, wanted = Path(path or cls.path_of(Path(protected))), wanted or path is not None
        if not place.exists():
            if wanted:
                raise ValueError(
                    f"{place} does not exist. It was written beside the protected file, and says how the key is used: "
                    "get it, or name it with --sidecar."
                )
            return None
        data = read_json(place)
        if data is None or data.get("format") != FORMAT:
            if wanted:
                raise ValueError(f"{place} does not describe a protected file: its format is not {FORMAT!r}.")
            # Others call files so too.
            return None
        said = data.get("key")
        try:
            record = None if said is None else KeyRecord.from_dict(said)
        except ValueError as error:
            raise ValueError(f"{place}: {error} Get the file that was written.") from error
        return cls(place, record, _text(data.get("output")), _count(data.get("frames")))

    def reader(self, model: TargetModel[Any], key: Key) -> Keyed:
        """A model that reads the protected file, for the holder of the key.

        Raises:
            ValueError: the file was protected without a key, or this is another one.
        """
        if self.record is None:
            raise ValueError(f"{self.path} tells of no key: read the file with {model.name} as it is.")
        return Keyed.from_record(self.record, model, key)


def opened(sidecar: Sidecar | None, key: Key | None, protected: Path) -> KeyRecord | None:
    """The record of the key, once it is known that this key opens it; None if none is needed.

    Raises:
        ValueError: the key is missing, is another one, or is not needed; or the record has been changed.
    """
    if sidecar is None or sidecar.record is None:
        if key is not None:
            raise ValueError(f"{protected} was not protected with a key. Read it without --key.")
        return None
    record = sidecar.record
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
        f"{sidecar.path}: what it says of the key has been changed since it was written; nothing is readable with "
        f"this key (id {key.id}). Get the file that was written."
    )


def _text(output: object) -> str | None:
    value: Any = output.get("sha256") if isinstance(output, Mapping) else None
    return value if isinstance(value, str) else None


def _count(frames: object) -> int | None:
    value: Any = frames.get("frames") if isinstance(frames, Mapping) else None
    return value if isinstance(value, int) else None
