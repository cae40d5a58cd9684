"""Options of ``deidlib protect`` that make no sense, alone or together, found before models are loaded."""

from __future__ import annotations

from pathlib import Path

from deidlib.cli.names import Names
from deidlib.cli.paths import Paths


def check_audit(audit: Path | None, paths: Paths) -> None:
    """Before the work: the contact sheet replaces nothing that is read or written, and there is one for each file."""
    if audit is None:
        return
    places = [place.resolve() for place in (paths.source, paths.target) if place is not None]
    if audit.resolve() in places:
        raise ValueError(f"--audit {audit} is what is read or written. Name another folder, or a file of .html.")
    if paths.source.is_dir() and audit.suffix.lower() == ".html":
        raise ValueError(
            f"--audit {audit} is one file, and {paths.source} holds several. Name a folder for their sheets."
        )


def check_epsilon(levels: float) -> None:
    """Grey levels, of which there are whole ones only; what was meant as a share would leave the frame as it is."""
    if 0 < levels < 1:
        raise ValueError(
            f"--epsilon counts grey levels of 255, and {levels:g} is less than one: no pixel could change. The Python "
            f"library counts from 0 to 1: epsilon={levels:g} there is --epsilon {levels * 255:.3g} here. The default "
            "is --epsilon 8; 0 hides and attacks nothing."
        )


def said(silence: Names) -> Names:
    """Whom somebody wants to be silenced."""
    return Names(name for name in silence if name not in ("auto", "none"))


def check_silence(silence: Names, targets: Names, *, key: bool, paper: bool) -> None:
    """Where nobody is to be silenced, or nobody can be."""
    if silence and key:
        raise ValueError("--key keeps everybody out, also those that --silence knows nothing of. Leave --silence out.")
    if silence and paper:
        raise ValueError("--paper does what the paper did, which silenced nobody. Leave --silence or --paper out.")
    if both := [name for name in silence if name in targets]:
        raise ValueError(
            f"{', '.join(both)} cannot be authorised and silenced. Leave it out of --silence or --targets."
        )


def check_hide_only(**attack: object) -> None:
    """What tells an attack what to do has no sense without one."""
    if said := [f"--{name}" for name, value in attack.items() if value]:
        raise ValueError(f"--hide-only attacks nothing, so that {', '.join(said)} would do nothing. Leave one out.")
