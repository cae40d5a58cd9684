"""``KeyRecord``: what a reader needs beside the key, and nothing that helps anybody without it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
            key_id, seal, nonce = values["key_id"], values["seal"], values["nonce"]
            scramble, models = values["scramble"], values["models"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no record of a key: {error!r} is missing or of another kind.") from None
        sound = (
            _short(key_id)
            and _short(seal)
            and (nonce is None or _short(nonce))
            and isinstance(scramble, Mapping)
            and len(scramble) <= _MOST
            and all(_short(name) and _plain(value) for name, value in scramble.items())
            and isinstance(models, list | tuple)
            and len(models) <= _MOST
            and all(_short(name) for name in models)
        )
        if not sound:
            raise ValueError("this is no record of a key: a field is of another kind, or longer than any.")
        return cls(key_id, seal, nonce, dict(scramble), tuple(models))


# Entries, and characters.
_MOST, _LONGEST = 100, 1000


def _short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


def _plain(value: object) -> bool:
    """A setting of a scramble: a text, a number, or a few of them."""
    if isinstance(value, list | tuple):
        return len(value) <= _MOST and all(_plain(part) for part in value if not isinstance(part, list | tuple))
    return value is None or _short(value) or (isinstance(value, int | float) and abs(value) < 2**53)


def _sealed(key_id: str, nonce: str | None, scramble: Mapping[str, Any], models: Sequence[str]) -> str:
    return json.dumps([key_id, nonce, dict(scramble), list(models)], sort_keys=True)
