from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

_SHARED = Path(__file__).resolve().parents[2] / "shared"
if (_SHARED / "weights").is_dir():
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(_SHARED / "weights"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real media, weights and parity vectors beside the project."""
    if not _SHARED.is_dir():
        pytest.skip(f"needs the shared test data, which is not at {_SHARED}")
    return _SHARED


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
