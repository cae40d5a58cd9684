from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from footage import SHARED

if TYPE_CHECKING:
    from device_cases import Scene
    from forks import Forks
    from pretended import Pretend

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as cores: more threads would only wait for each other, here and in what the tests start.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
if (SHARED / "weights").is_dir():
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real media, weights and parity vectors beside the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared test data, which is not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """One server for all: its imports take longer than most of what it is told to do."""
    # On Windows there is none.
    from forks import Forks

    with Forks() as started:
        yield started


@pytest.fixture(scope="module")
def there() -> Iterator[Pretend]:
    """A device that is pretended: what is mixed up there is an error, and what is waited for is counted."""
    from pretended import Pretend

    with Pretend("cuda:0") as device:
        yield device


@pytest.fixture(scope="module")
def scene(there: Pretend) -> Scene:
    """What the cases of devices work on, there."""
    from device_cases import Scene

    return Scene(there.device)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def _signals_are_heard() -> Iterator[None]:
    """What a test starts ends by Ctrl-C and by a closed terminal, also where tests run in the background or by nohup.

    What is ignored here is ignored by whoever is started from here; what is handled here starts with the default.
    """
    numbers = [signal.SIGINT, signal.SIGHUP]
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
