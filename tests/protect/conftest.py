from __future__ import annotations

from collections.abc import Iterator

import pytest
from forks import Forks


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """One server for all: its imports take longer than most of what it is told to do."""
    with Forks() as started:
        yield started
