"""``Sidecar``: the file beside a protected one that says how it was made, and by which key it is read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deidlib.bounded import (
    MOST_FRAMES,
    SHA256,
    BoundsError,
    fields,
    listed,
    maybe,
    read_bounded,
    read_json,
    text,
    truth,
    whole,
)
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.media import MediaWriteError
from deidlib.models.base import TargetModel
from deidlib.models.keyed import Keyed
from deidlib.protect.frame_record import REGIONS
from deidlib.records.files import atomic_write, name_beside, sha256_of, sync_folder, write_json

FORMAT = "deidlib-protection/1"


@dataclass(frozen=True)
class Sidecar:
    """What is said about a protected file.

    Args:
        path: where it is said.
        record: of the key; None if there is none.
        sha256: of the file, as it was written.
        frames: that it had.
        proved: whether it holds nothing of the pixels of a face that was found, by construction; None: not said.
        why_not: if it may hold some.
        hidden: per frame where something may have been changed, as faces without a margin; None if that is not known.

    Example:
        >>> Sidecar.path_of(Path("clips/out.mkv")).name
        'out.mkv.json'
    """

    path: Path
    record: KeyRecord | None
    sha256: str
    frames: int
    proved: bool | None = None
    why_not: str | None = None
    hidden: Sequence[Faces] | None = None

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
        write_json(Sidecar.path_of(protected), _described(description), indent=2)

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
        data = read_json(place, most=MOST_BYTES)
        if data is None or not is_ours(data):
            if wanted:
                raise ValueError(f"{place} does not describe a protected file: its format is not {FORMAT!r}.")
            # Others call files so too.
            return None
        try:
            _SHAPE(data, "it")
            said = said_of(Path(protected), data)
            record = None if said["key"] is None else KeyRecord.from_dict(said["key"])
        except ValueError as error:
            raise ValueError(f"{place} is damaged: {error} Get the file that was written.") from error
        face = said.get("face") or {}
        return cls(
            place,
            record,
            said["output"]["sha256"],
            said["frames"]["frames"],
            face.get("nothing_of_its_pixels"),
            face.get("why_not"),
            _places_of(said.get("hidden"), said["frames"]["frames"]),
        )

    @classmethod
    def of_whole(cls, protected: Path) -> Sidecar | None:
        """The description of a file that lies there as it was written; None if it does not, or is not described."""
        try:
            known = cls.read(protected)
        except ValueError:
            return None
        return known if known is not None and protected.exists() and known.sha256 == sha256_of(protected) else None

    @classmethod
    def describes(cls, protected: Path) -> bool:
        """Whether a file lies there as it was written, with its description."""
        return cls.of_whole(protected) is not None

    @staticmethod
    def options(path: Path) -> dict[str, Any]:
        """The options noted in a description.

        Raises:
            ValueError: it is no description, or none are noted there.
        """
        data = read_json(path, most=MOST_BYTES)
        if data is None or not is_ours(data):
            raise ValueError(f"{path} does not describe a protected file: its format is not {FORMAT!r}.")
        if not isinstance(options := data.get("options"), dict):
            raise ValueError(f"{path} notes no options: the file was not written by the command line.")
        return options

    def reader(self, model: TargetModel[Any], key: Key) -> Keyed:
        """A model that reads the protected file, for the holder of the key.

        Raises:
            ValueError: the file was protected without a key, or this is another one.
        """
        if self.record is None:
            raise ValueError(f"{self.path} tells of no key: read the file with {model.name} as it is.")
        return Keyed.from_record(self.record, model, key)


def check_place(protected: Path) -> None:
    """Make sure that nothing is lost where a file's description is to lie.

    Raises:
        MediaWriteError: something else lies there.
    """
    place = Sidecar.path_of(protected)
    if os.path.lexists(place) and (place.is_symlink() or not is_ours(read_json(place, most=MOST_BYTES))):
        raise MediaWriteError(
            f"{place} is no description of a protected file, and that of {protected.name} would replace it. Move it, "
            "or choose another name."
        )


def publish(file: Path, protected: Path, description: Mapping[str, Any]) -> None:
    """Give a complete file and its description their names: together or neither.

    No two names change at once. So what a killed process leaves describes the old file as well as the new one: until
    the new file lies there, the new description carries the old one, and a reader takes that which the file's hash is
    in.

    Args:
        file: the file, or folder, in a folder of its own on the same disk.
        protected: the name that it gets.
        description: of it.

    Raises:
        OSError: it cannot be done; what lay there lies there as before.
        MediaWriteError: as :func:`check_place`.
    """
    check_place(protected)
    place, last = Sidecar.path_of(protected), Sidecar.path_of(file)
    known = read_json(place, most=MOST_BYTES)
    before = None if known is None else read_bounded(place, MOST_BYTES)
    Sidecar.write(file, description)
    first, bridge = last, known is not None and protected.exists()
    if known is not None and bridge:
        first = last.with_name("both.json")
        write_json(first, _described(description) | {PREVIOUS: said_of(protected, known)}, indent=2)
    try:
        os.replace(first, place)
        os.replace(file, protected)
    except BaseException:
        if before is None:
            place.unlink(missing_ok=True)
        else:
            with atomic_write(last) as temporary:
                temporary.write_bytes(before)
            os.replace(last, place)
        raise
    if bridge:
        # Both files are described by now, whatever becomes of this.
        with contextlib.suppress(OSError):
            os.replace(last, place)
    sync_folder(protected.absolute().parent)


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
    if record.key_id != key.id and not record.sealed_by(key):
        raise ValueError(
            f"nothing is readable with this key (id {key.id}): {protected} was protected with key {record.key_id}."
        )
    raise ValueError(
        f"{sidecar.path}: what it says of the key has been changed since it was written; nothing is readable with "
        f"this key (id {key.id}). Get the file that was written."
    )


PREVIOUS = "previous"
"""In the description of a file, while it gets its name: that of the file which lies there until then."""


def _described(description: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT} | dict(description)


def is_ours(data: Mapping[str, Any] | None) -> bool:
    """Whether this is the description of a protected file."""
    return data is not None and data.get("format") == FORMAT


def said_of(protected: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the file that lies there, where two are described.

    Args:
        protected: the file, or a copy of it.
        data: its description.
    """
    alone = {name: value for name, value in data.items() if name != PREVIOUS}
    previous: Any = data.get(PREVIOUS)
    try:
        _SHAPE(previous, PREVIOUS)
    except BoundsError:
        return alone
    same = protected.exists() and previous["output"]["sha256"] == sha256_of(protected)
    return dict(previous) if same else alone


def _places_of(regions: Sequence[Sequence[Sequence[int]] | None] | None, frames: int) -> list[Faces] | None:
    """Rectangles as faces, if they are known of every frame."""
    if regions is None or len(regions) != frames:
        return None
    known = [rectangles for rectangles in regions if rectangles is not None]
    if len(known) != frames:
        return None
    boxes = [torch.tensor(rectangles, dtype=torch.float32).reshape(-1, 4) for rectangles in known]
    return [Faces(table, torch.ones(len(table))) for table in boxes]


MOST_BYTES = 1 << 24
"""Of a description; settings and readings of a clip fill a few thousand."""
_SHAPE = fields(
    {
        "format": text(100),
        "output": fields({"sha256": SHA256}),
        "frames": fields({"frames": whole(0, MOST_FRAMES)}),
        "key": maybe(fields({})),
    },
    {
        "face": fields({"nothing_of_its_pixels": truth, "why_not": maybe(text(300))}),
        "hidden": maybe(listed(maybe(REGIONS))),
    },
)
