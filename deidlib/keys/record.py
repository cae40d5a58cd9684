"""``KeyRecord``: what a reader needs beside the key, and nothing that helps anybody without it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deidlib.bounded import BoundsError, fields, listed, mapped, maybe, number, text
from deidlib.keys.key import Key
from deidlib.keys.scramble import Scramble


def new_nonce() -> str:
    """Public text that has never been used before: 32 hexadecimal digits."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class KeyRecord:
    """What a reader needs beside the key, and nothing that helps anybody without it; it lies beside the protected file.

    Args:
        key_id: the public name of the key.
        seal: shows whether a key is the right one, before anything is read.
        nonce: of the clip.
        scramble: :meth:`Scramble.settings`.
        models: the names of the models that read with it.

    Example:
        >>> from deidlib.keys.scramble import CellPermutation
        >>> key = Key.generate()
        >>> record = KeyRecord.of(key, nonce=new_nonce(), scramble=CellPermutation(), models=["retinaface"])
        >>> record.opened_by(key), record.opened_by(Key.generate())
        (True, False)
        >>> KeyRecord.from_dict(record.to_dict()) == record
        True
    """

    key_id: str
    seal: str
    nonce: str | None
    scramble: Mapping[str, Any]
    models: tuple[str, ...]

    @classmethod
    def of(cls, key: Key, *, nonce: str | None, scramble: Scramble, models: Sequence[str]) -> KeyRecord:
        """The record of a protection."""
        settings = scramble.settings()
        return cls(key.id, key.mac(_sealed(key.id, nonce, settings, models)), nonce, settings, tuple(models))

    def opened_by(self, key: Key) -> bool:
        """Whether this is the key, and the record has not been changed."""
        return key.verify(_sealed(self.key_id, self.nonce, self.scramble, self.models), self.seal)

    def sealed_by(self, key: Key) -> bool:
        """Whether this is the key, if perhaps the record bears the name of another one by now."""
        return key.verify(_sealed(key.id, self.nonce, self.scramble, self.models), self.seal)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "key_id": self.key_id,
            "seal": self.seal,
            "nonce": self.nonce,
            "scramble": dict(self.scramble),
            "models": list(self.models),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KeyRecord:
        """Back from JSON.

        Raises:
            ValueError: fields are missing, of another kind, or longer than any that was written.
        """
        try:
            _RECORD(values, "it")
        except BoundsError as error:
            raise ValueError(f"this is no record of a key: {error}.") from None
        scramble, models = dict(values["scramble"]), tuple(values["models"])
        return cls(values["key_id"], values["seal"], values["nonce"], scramble, models)


def _setting(value: object, name: str) -> None:
    """Of a scramble: a text, a number, a truth, nothing, or a few of them."""
    if isinstance(value, list | tuple):
        listed(_setting, _MOST)(list(value), name)
    elif isinstance(value, str):
        _SHORT(value, name)
    elif value is not None and not isinstance(value, bool):
        number(value, name)


# Entries; no field that was written is longer.
_MOST, _SHORT = 100, text(1000)
_RECORD = fields(
    {
        "key_id": _SHORT,
        "seal": _SHORT,
        "nonce": maybe(_SHORT),
        "scramble": mapped(_setting, _MOST),
        "models": listed(_SHORT, _MOST),
    }
)


def _sealed(key_id: str, nonce: str | None, scramble: Mapping[str, Any], models: Sequence[str]) -> str:
    return json.dumps([key_id, nonce, dict(scramble), list(models)], sort_keys=True)
