"""The pages of help and of the doctor as they were last looked at: ``python tests/cli/test_snapshots.py`` writes them anew.

A difference is a change that users see: look at it before it is stored.
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


def page(*command: str) -> str:
    """A page of help, 80 columns wide."""
    return deidlib(*command, "--help").stdout


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", PAGES)
def test_help_is_as_it_was_looked_at(name: str) -> None:
    known = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert page(*PAGES[name]) == known, "a change that users see: python tests/cli/test_snapshots.py stores it"


def test_the_doctor_is_as_it_was_looked_at() -> None:
    # What it says depends on the machine; how, does not.
    lines = deidlib("doctor").stdout.splitlines()
    topics = [match[2] for line in lines if (match := re.match(r"(ok|without|broken) +(\S+)", line))]
    known = (FOLDER / "doctor-topics.txt").read_text(encoding="utf-8").split()
    assert topics == known
    assert max(map(len, lines)) <= 160
    assert lines[-1] == "the main job can run: deidlib demo"


def main() -> None:
    """Store the pages as they are."""
    os.environ["COLUMNS"] = "80"
    FOLDER.mkdir(exist_ok=True)
    for name, command in PAGES.items():
        (FOLDER / f"{name}.txt").write_text(page(*command), encoding="utf-8")
    topics = re.findall(r"^(?:ok|without|broken) +(\S+)", deidlib("doctor").stdout, flags=re.MULTILINE)
    (FOLDER / "doctor-topics.txt").write_text("\n".join(topics) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
