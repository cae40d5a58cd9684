"""``KeyedWork``: files that are protected for the holder of a key."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from deidlib.cli.work import Work, say
from deidlib.keys.key import Key
from deidlib.keys.scramble import CellPermutation, Scramble
from deidlib.records.fingerprint import described, fingerprint


@dataclass(frozen=True)
class KeyedWork(Work):
    """Files that the authorised models read only by a key.

    Every file has its own nonce, so that no two clips are scrambled alike.

    Args:
        key: the secret.
        scramble: what it decides; of all that were measured, the default serves every codec best (docs/keys.md).
    """

    key: Key = field(kw_only=True)
    scramble: Scramble = field(default=CellPermutation(), kw_only=True)

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON."""
        return super().settings() | {"key": {"id": self.key.id, "scramble": self.scramble.settings()}}

    def one(self, source: Path | str | int, target: Path, label: str) -> None:
        """Protect a file, and say what happened.

        Raises:
            ValueError: a file cannot be read or written, or shows no face where there must be one.
        """
        from deidlib.keys.record import KeyRecord
        from deidlib.models.keyed import Keyed

        attacker, nonce = self.deidentifier.attacker, self._nonce(source)
        models = {
            name: Keyed(model, self.key, scramble=self.scramble, nonce=nonce)
            for name, model in attacker.named_models().items()
        }
        record = KeyRecord.of(self.key, nonce=nonce, scramble=self.scramble, models=list(models))
        deidentifier = replace(self.deidentifier, attacker=replace(attacker, models=models))
        Work(deidentifier, self.video | {"key": record}, self.faces).one(source, target, label)
        say(f"  only key {self.key.id} opens it: deidlib read {target} --key FILE")

    def _nonce(self, source: Path | str | int) -> str:
        """Of the clip: computed, not drawn, for what can be read twice.

        A job that is continued goes on with the same one, with nothing to be remembered; the same work done again gives
        the same file, and nobody gets two protections of one clip to compare. Another clip, or other settings, have
        another one, and the key keeps it from saying anything about either.
        """
        from deidlib.keys.record import new_nonce
        from deidlib.media import MediaReadError
        from deidlib.records.files import sha256_of

        if not isinstance(source, Path):
            return new_nonce()
        try:
            content = sha256_of(source)
        except OSError as error:
            raise MediaReadError(f"{source} cannot be read ({error.strerror}). Check the path.") from error
        return self.key.derive("nonce").mac(json.dumps([content, self._settings]))

    @cached_property
    def _settings(self) -> str:
        places = None if self.faces is None else [[known.boxes, known.scores] for known in self.faces]
        return fingerprint([described(self.deidentifier), self.video, described(places), described(self.scramble)])
