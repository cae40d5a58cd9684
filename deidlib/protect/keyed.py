"""Protection by a key: wrap the authorised models, and note for readers how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord, new_nonce
from deidlib.keys.scramble import CellPermutation, Scramble
from deidlib.models.keyed import Keyed
from deidlib.protect.deidentifier import Deidentifier
from deidlib.records.fingerprint import fingerprint


def with_key(
    deidentifier: Deidentifier, key: Key, *, nonce: str | None, scramble: Scramble | None = None
) -> tuple[Deidentifier, KeyRecord]:
    """The same protection, whose models read for the holder of a key only.

    Args:
        deidentifier: whose attacker's models are wrapped, each in :class:`~deidlib.Keyed`.
        key: the secret.
        nonce: of the clip: no two clips are to be scrambled alike.
        scramble: what the key decides; of all that were measured, the default serves every codec best (docs/keys.md).

    Returns:
        The deidentifier, and the record that a reader needs beside the key.

    Example:
        >>> from deidlib import MTCNN, IFGSMAttacker
        >>> keyed, record = with_key(Deidentifier(IFGSMAttacker([MTCNN()])), Key.generate(), nonce=new_nonce())
        >>> record.models, keyed.attacker.named_models()["mtcnn"].name
        (('mtcnn',), 'keyed-mtcnn')
    """
    scramble = CellPermutation() if scramble is None else scramble
    attacker = deidentifier.attacker
    models = {
        name: Keyed(model, key, scramble=scramble, nonce=nonce) for name, model in attacker.named_models().items()
    }
    record = KeyRecord.of(key, nonce=nonce, scramble=scramble, models=list(models))
    return replace(deidentifier, attacker=replace(attacker, models=models)), record


def nonce_of(key: Key, sha256: str | None, settings: Mapping[str, Any]) -> str:
    """The nonce of a clip: computed, not drawn, for what can be read twice.

    A job that is continued goes on with the same one, with nothing to be remembered; the same work done again gives
    the same file, and nobody gets two protections of one clip to compare. Another clip, or other settings, have
    another one, and the key keeps it from saying anything about either.

    Args:
        key: the secret.
        sha256: of the clip; None for a live source, which gets a new nonce every time.
        settings: all that the result depends on, as JSON.
    """
    if sha256 is None:
        return new_nonce()
    return key.derive("nonce").mac(json.dumps([sha256, fingerprint(settings)]))
