"""From bucket to bucket while the store is killed and comes back: a run completes, or names what failed."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_video
from lasting_s3 import LastingServer, When
from s3 import keys, led_to
from toys import Sees, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import protect_folder
from deidlib.protect.outcome import RunSummary
from deidlib.protect.remote import protect_remote
from deidlib.storage.errors import StorageError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the server's lives are forked"),
]
# A clip's description, file and record, of two clips: each of these requests kills the server once.
CHANGES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("in")
    for name in ("a.mkv", "b.mkv"):
        make_video(root / name, torch.rand(3, 3, 32, 32))
    return root


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run from folder to folder makes of them."""
    target = tmp_path_factory.mktemp("alone")
    protect_folder(hider(), folder, target, check=None)
    return {path.name: path.read_bytes() for path in target.iterdir() if path.name[0] in "ab"}


class Store:
    """A server with the clips, and how it is to come back."""

    def __init__(self, folder: Path, tmp_path: Path) -> None:
        self.dies: list[tuple[int, When]] = []
        self.server = LastingServer(tmp_path, self._again)
        self.folder, self.scratch = folder, tmp_path / "scratch"

    def _again(self, life: int) -> tuple[int, When] | None:
        """Of what it is still to die of, the next; without any it lives on."""
        if self.away:
            return None
        return self.dies.pop(0) if self.dies else (0, "before")

    away = False

    def until(self, up: bool) -> None:
        """Wait until it answers, or does so no more."""
        for _ in range(3000):
            try:
                socket.create_connection(("127.0.0.1", self.server.port), timeout=1).close()
                found = True
            except OSError:
                found = False
            if found == up:
                return
            time.sleep(0.02)
        raise AssertionError("it does not")

    def run(self, patience: float, **told: Any) -> RunSummary:
        return protect_remote(
            hider(), "s3://clips/day", "s3://safe/day", check=None, scratch=self.scratch, patience=patience, **told
        )

    def held(self) -> dict[str, bytes]:
        """All that has a final name, but records."""
        found = keys(self.client, "safe", "day/")
        return {name.removeprefix("day/"): content for name, content in found.items() if ".deidlib/" not in name}

    def __enter__(self) -> Store:
        import boto3

        self.server.__enter__()
        self.client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.server.port}")
        for bucket in ("clips", "safe"):
            self.client.create_bucket(Bucket=bucket)
        for path in self.folder.iterdir():
            self.client.upload_file(str(path), "clips", f"day/{path.name}")
        return self

    def __exit__(self, *raised: Any) -> None:
        self.away = True
        self.server.__exit__(*raised)


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> Iterator[Store]:
    pytest.importorskip("s3fs", reason='needs s3fs: pip install "deidlib[s3]"')
    pytest.importorskip("moto.server", reason='needs moto: pip install "moto[s3,server]"')
    store = Store(folder, tmp_path)
    with led_to(store.server.port), store:
        yield store


def hider() -> Deidentifier:
    seen = Sees(lambda image, number: [[8.0, 8.0, 24.0, 24.0]])
    return Deidentifier(IFGSMAttacker([seen], max_iterations=0), tracker=tracking({}))


def test_killed_at_every_request_and_back_it_completes(store: Store, alone: dict[str, bytes]) -> None:
    """Each request that changes something is killed before it counts, and asked again when it does, unanswered."""
    # What was killed is the first of the next life, and again of the one after that, which goes on to the next request.
    again: list[tuple[int, When]] = [(2, "before"), (1, "after")]
    store.dies = [(1, "before"), (1, "after"), *again * (CHANGES - 1)]
    store.server.kill()
    summary = store.run(60.0)
    assert (summary.finished, summary.failures) == (2, 0)
    # It was killed once by us, and then by whatever came first in each of its lives.
    assert store.server.lives == 2 * CHANGES + 1
    assert store.held() == alone
    assert store.run(0.0).finished_before == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_and_away_what_failed_is_named_and_the_next_run_completes(
    store: Store, alone: dict[str, bytes], when: When
) -> None:
    for change in range(1, CHANGES - 1):
        store.away = False
        store.dies = [(change, when)]
        for row in store.client.list_objects_v2(Bucket="safe").get("Contents", ()):
            store.client.delete_object(Bucket="safe", Key=row["Key"])
        lives = store.server.lives
        store.server.kill()
        while store.server.lives == lives:
            time.sleep(0.02)
        store.until(up=True)
        store.away = True
        summary = store.run(0.0)
        done = (change - 1) // 3
        assert (summary.finished, summary.failures) == (done, 2 - done)
        for failed in summary.failed:
            assert re.match(r"s3://clips/day/[ab]\.mkv", str(failed.error)), failed.error
            assert "the store does not answer" in str(failed.error)
            assert "\n" not in str(failed.error)
        store.server.live()
        held = store.held()
        # Whole, and whoever finds a file finds its description.
        assert all(held[name] == alone[name] for name in held)
        assert all(f"{name}.json" in held for name in held if not name.endswith(".json"))
        assert len(held) == (2 * done + (change - 1) % 3 + (when == "after") if change % 3 else 2 * done + 2)
        summary = store.run(0.0)
        assert (summary.failures, summary.finished_before) == (0, done + (change % 3 == 0 and when == "after"))
        assert store.held() == alone


def test_killed_while_a_clip_is_read(store: Store, alone: dict[str, bytes]) -> None:
    """At any of its stages, by the signal that nobody hears."""
    killed: list[str] = []

    def stage(name: str) -> None:
        if name not in killed:
            killed.append(name)
            store.until(up=True)
            store.server.kill()

    assert store.run(60.0, stage=stage).finished == 2
    assert killed == ["fetching", "protecting", "writing", "checking", "publishing"]
    store.until(up=True)
    assert store.server.lives == len(killed)
    assert store.held() == alone


def test_away_from_the_beginning_it_says_so(store: Store) -> None:
    store.away = True
    store.server.kill()
    store.until(up=False)
    with pytest.raises(StorageError, match=r"s3://clips/day cannot be .* the store does not answer"):
        store.run(0.0)
