"""The pages of help and of the doctor as they were last looked at.

A difference is a change that users see. Look at it, and then store it: ``SNAPSHOTS=write python -m pytest
tests/cli/test_snapshots.py``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from command import deidlib

FOLDER = Path(__file__).parent / "snapshots"
PAGES = {
    "deidlib": (),
    "protect": ("protect",),
    "read": ("read",),
    "swap": ("swap",),
    "evaluate": ("evaluate",),
    "demo": ("demo",),
    "doctor": ("doctor",),
    "key": ("key",),
    "weights": ("weights",),
}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def compare(name: str, shown: str) -> None:
    """Hold a page against the one that is stored."""
    place = FOLDER / f"{name}.txt"
    if os.environ.get("SNAPSHOTS") == "write":
        FOLDER.mkdir(exist_ok=True)
        place.write_text(shown, encoding="utf-8")
    assert shown == place.read_text(encoding="utf-8"), f"users will see a change: {__doc__}"


@pytest.mark.parametrize("name", PAGES)
def test_help_is_as_it_was_looked_at(name: str) -> None:
    compare(name, deidlib(*PAGES[name], "--help").stdout)


def test_the_doctor_is_as_it_was_looked_at() -> None:
    lines = deidlib("doctor").stdout.splitlines()
    # What it finds depends on the machine, and what of it is missing.
    topics = [match[1] for line in lines if (match := re.match(r"(?:ok|without|broken) +(\S+)", line))]
    compare("doctor-topics", "\n".join(dict.fromkeys(topics)) + "\n")
    assert lines[-1] == "the main job can run: deidlib demo"
