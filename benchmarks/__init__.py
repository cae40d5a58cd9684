"""The measurements behind the docs: ``python -m benchmarks.NAME``, from the root of the repository."""

import sys
from pathlib import Path

# What is measured is what the tests assert, by their own code: tests/footage.py and tests/protection.py.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
