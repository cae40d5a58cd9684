"""What the README says of the project in its badges is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]


def test_badges_tell_the_truth() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    badges = dict(re.findall(r"img\.shields\.io/badge/([\w]+)-([^-)]+)-", readme))
    said = {name: unquote(value) for name, value in badges.items()}
    (status,) = (line for line in project["classifiers"] if line.startswith("Development Status"))
    assert said == {
        "python": project["requires-python"].removeprefix(">=") + "+",
        "licence": project["license"],
        "status": status.split(" - ")[-1].lower(),
    }
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith(f"{project['license']} License")
