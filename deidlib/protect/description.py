"""What the file beside an output says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.frame_record import FrameRecord
from deidlib.protect.promise import why_not_proved
from deidlib.protect.summary import Summary
from deidlib.records.fingerprint import fingerprint
from deidlib.records.versions import versions

# Rectangles that it may hold: four megabytes.
_MOST_REGIONS = 50_000


def described_output(
    deidentifier: Deidentifier,
    settings: Mapping[str, Any],
    *,
    sha256: str,
    summary: Summary,
    segments: Iterable[Sequence[FrameRecord]],
    known_input: Mapping[str, str] | None,
    key: KeyRecord | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The description of an output.

    Args:
        deidentifier: what happened to the frames.
        settings: what the bytes depend on.
        sha256: of the output.
        summary: what became of the frames.
        segments: what is known of each.
        known_input: see :func:`known_input`.
        key: what a reader must be told of the key, if there is one.
        options: of a command line, if there was one.
    """
    numbers, why = asdict(summary), why_not_proved(deidentifier)
    return {
        "versions": versions(),
        "fingerprint": fingerprint(settings),
        "settings": settings,
        "input": known_input,
        "output": {"sha256": sha256},
        "face": {"nothing_of_its_pixels": why is None, "why_not": why},
        "frames": {name: value for name, value in numbers.items() if isinstance(value, int)},
        "losses": numbers["losses"],
        "swaps": numbers["swaps"],
        "hidden": _hidden(segments),
        "readback": numbers["readback"],
        "key": None if key is None else key.to_dict(),
        **({"options": dict(options)} if options else {}),
    }


def known_input(secret: Key | None, sha256: str | None) -> dict[str, str] | None:
    """What the holder of the key can tell the input by, and nobody else: a plain hash confirms whoever guesses.

    Args:
        secret: the key, if there is one.
        sha256: of the input, if it is a file.
    """
    return None if secret is None or sha256 is None else {"mac": secret.derive("input").mac(sha256)}


def _hidden(segments: Iterable[Sequence[FrameRecord]]) -> list[Sequence[Sequence[int]] | None] | None:
    """Per frame the rectangles outside of which nothing was changed; None for a clip of which that is too much."""
    regions: list[Sequence[Sequence[int]] | None] = []
    count = 0
    for records in segments:
        mine = [record.regions for record in records]
        count += sum(len(rectangles or ()) for rectangles in mine)
        if count > _MOST_REGIONS or len(regions) > _MOST_REGIONS:
            return None
        regions += mine
    return regions
