from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from footage import SHARED

if (SHARED / "weights").is_dir():
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real media, weights and parity vectors beside the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared test data, which is not at {SHARED}")
    return SHARED


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
