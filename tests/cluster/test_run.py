"""Two nodes of Ray on this machine, one of which dies, and actors that are killed: the same files as without."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import astronauts, make_video
from s3 import keys, s3_server
from toys import Slow, White, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.cluster.frames import ProtectFrames
from deidlib.images import to_pixels
from deidlib.keys.key import Key
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import protect_folder
from deidlib.protect.outcome import ClipResult, RunSummary
from deidlib.records.files import sha256_of

# Ray's own.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ray = pytest.importorskip("ray", reason='needs Ray: pip install "deidlib[ray]"')
TESTS = str(Path(__file__).parents[1])


def hider(seconds: float = 0.02) -> Deidentifier:
    model = Slow([8.0, 8.0, 24.0, 24.0], seconds)
    return Deidentifier(
        IFGSMAttacker([model], max_iterations=2), tracker=tracking({}), chain=Chain(iterations=1, length=4)
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    torch.manual_seed(0)
    for number in range(10):
        make_video(folder / f"{number}.mkv", torch.rand(12, 3, 32, 32))
    return folder


@pytest.fixture(scope="module")
def alone(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process makes of them."""
    target = tmp_path_factory.mktemp("alone")
    assert not protect_folder(hider(), clips, target, check=None).failed
    return made(target)


def made(target: Path) -> dict[str, str]:
    paths = [path for path in target.glob("*") if path.is_file() and not path.name.startswith((".", "deidlib-"))]
    return {path.name: sha256_of(path) for path in paths}


def path(*more: str) -> dict[str, str]:
    """What a node's processes import: this library, and the toys."""
    return {"PYTHONPATH": os.pathsep.join([*more, TESTS, *filter(None, os.environ.get("PYTHONPATH", "").split(":"))])}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "env_vars": path()})
    ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield started
    finally:
        ray.shutdown()
        started.shutdown()


@pytest.fixture
def nodes(cluster: Any) -> list[Any]:
    """Two, of one processor each; of those that died, others."""
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1, env_vars=path())
    return list(cluster.worker_nodes)


@contextlib.contextmanager
def another(cluster: Any, **settings: Any) -> Iterator[None]:
    """A third one for a time."""
    node = cluster.add_node(num_cpus=1, **settings)
    try:
        yield
    finally:
        cluster.remove_node(node)


class Watch:
    """Looks all the time at what lies under the names of outputs: whole and protected, or nothing."""

    def __init__(self, target: Path, known: dict[str, str]) -> None:
        self.target, self.known, self.wrong = target, known, list[str]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            for name, sha256 in made(self.target).items():
                if self.known.get(name) != sha256:
                    self.wrong.append(name)


def done_once(target: Path) -> list[str]:
    """The outputs that the manifest says are done, as often as it says so."""
    lines = (target / "deidlib-manifest.jsonl").read_text().splitlines()
    return sorted(line["output"] for line in map(json.loads, lines) if line["status"] == "done")


def run(clips: Path | str, target: Path | str, **settings: Any) -> RunSummary:
    from deidlib.cluster import protect

    if isinstance(target, Path):
        target.mkdir(exist_ok=True)
    return protect(clips, target, settings.pop("deidentifier", None) or hider(), check=None, **settings)


def test_one_of_two_nodes_dies(
    cluster: Any, nodes: list[Any], clips: Path, alone: dict[str, str], tmp_path: Path
) -> None:
    target, results = tmp_path / "out", list[ClipResult]()

    def done(result: ClipResult) -> None:
        results.append(result)
        if len(results) == 3:
            cluster.remove_node(nodes[1], allow_graceful=False)

    with Watch(target, alone) as watch:
        summary = run(clips, target, done=done)
    assert (summary.failures, summary.elsewhere, summary.clips) == (0, 0, 10)
    assert sorted({result.source for result in results}) == sorted(str(path) for path in clips.iterdir())
    assert watch.wrong == []
    assert made(target) == alone
    assert done_once(target) == sorted(f"{number}.mkv" for number in range(10))
    assert not list(target.glob(".*.deidlib-work"))
    # One machine alone knows that all is done.
    assert protect_folder(hider(), clips, target, check=None).finished_before == 10


def workers() -> list[int]:
    """The processes of Ray's actors on this machine."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ClipWorker" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def test_actors_killed_at_ten_random_moments(
    nodes: list[Any], clips: Path, alone: dict[str, str], tmp_path: Path
) -> None:
    target, kills, ended = tmp_path / "out", list[float](), threading.Event()
    dice = random.Random(0)

    def kill() -> None:
        while len(kills) < 10 and not ended.wait(dice.uniform(0.1, 1.5)):
            for process in dice.sample(known := workers(), min(1, len(known))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                    kills.append(time.monotonic())

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with Watch(target, alone) as watch:
        summary = run(clips, target, deidentifier=hider())
    ended.set()
    killer.join()
    assert (summary.failures, summary.elsewhere, summary.clips) == (0, 0, 10)
    assert len(kills) >= 5
    assert watch.wrong == []
    assert made(target) == alone
    assert done_once(target) == sorted(f"{number}.mkv" for number in range(10))


def test_a_key_is_read_where_it_is_needed_and_is_nowhere_else(nodes: list[Any], clips: Path, tmp_path: Path) -> None:
    import base64

    secret = os.urandom(32)
    Key(secret).save(tmp_path / "our.key")
    source = tmp_path / "in"
    source.mkdir()
    (source / "0.mkv").write_bytes((clips / "0.mkv").read_bytes())
    assert run(source, tmp_path / "out", key_file=tmp_path / "our.key").finished == 1
    protect_folder(hider(), source, tmp_path / "alone", check=None, key=Key(secret))
    assert made(tmp_path / "out") == made(tmp_path / "alone")
    shapes = [secret, secret.hex().encode(), base64.b64encode(secret)]
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    files = [file for file in session.rglob("*") if file.is_file()]
    assert len(files) > 10
    for file in files:
        content = file.read_bytes()
        assert not any(shape in content for shape in shapes), file


def test_what_is_wrong_with_a_clip_or_a_node_is_one_line(
    cluster: Any, nodes: list[Any], clips: Path, tmp_path: Path
) -> None:
    """A node with another version does nothing, and the others do all; a clip that is none fails alone."""
    fake = tmp_path / "other"
    (fake / "deidlib-9.9.9.dist-info").mkdir(parents=True)
    (fake / "deidlib-9.9.9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: deidlib\nVersion: 9.9.9\n")
    source = tmp_path / "in"
    source.mkdir()
    for name in ("0.mkv", "1.mkv"):
        (source / name).write_bytes((clips / name).read_bytes())
    (source / "x.mkv").write_text("this is no video")
    said: list[str] = []
    with another(cluster, env_vars=path(str(fake))):
        summary = run(source, tmp_path / "out", told=said.append)
    (line,) = said
    assert "deidlib 9.9.9 here, " in line
    assert line.endswith("install the same on both; it does nothing.")
    assert (summary.finished, summary.failures) == (2, 1)
    assert str(summary.failed[0].error).startswith(f"{source}/x.mkv")
    assert "\n" not in str(summary.failed[0].error)


def test_a_clip_that_kills_its_worker_is_named(
    nodes: list[Any], clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deidlib.cluster.run._LIVES", 0)
    monkeypatch.setattr("deidlib.cluster.run._ROUNDS", 1)
    source = tmp_path / "in"
    source.mkdir()
    (source / "0.mkv").write_bytes((clips / "0.mkv").read_bytes())
    make_video(source / "black.mkv", torch.zeros(2, 3, 32, 32))
    seen = White(lambda image, number: [[8.0, 8.0, 24.0, 24.0]] if image.any() else os._exit(9))
    summary = run(source, tmp_path / "out", deidentifier=Deidentifier(IFGSMAttacker([seen], max_iterations=0)))
    assert (summary.finished, summary.failures) == (1, 1)
    error = str(summary.failed[0].error)
    assert error.startswith(f"{source}/black.mkv: its worker died each time")
    assert sorted(made(tmp_path / "out")) == ["0.mkv", "0.mkv.json"]


def test_from_bucket_to_bucket(cluster: Any, clips: Path, alone: dict[str, str]) -> None:
    """Two actors on half a processor each, of a node that has what is asked for."""
    with s3_server() as (client, _):
        for bucket in ("clips", "safe"):
            client.create_bucket(Bucket=bucket)
        for name in ("0.mkv", "1.mkv", "2.mkv"):
            client.upload_file(str(clips / name), "clips", f"day/{name}")
        known = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        with another(cluster, resources={"wire": 1}, env_vars=path() | known):
            resources = {"num_cpus": 0.5, "resources": {"wire": 0.5}}
            summary = run("s3://clips/day", "s3://safe/day", resources=resources)
        assert (summary.finished, summary.failures) == (3, 0)
        held = {name: hashlib.sha256(content).hexdigest() for name, content in keys(client, "safe", "day/").items()}
        outputs = {name.removeprefix("day/"): sha256 for name, sha256 in held.items() if "/.deidlib/" not in name}
        assert outputs == {name: sha256 for name, sha256 in alone.items() if name[0] in "012"}


def test_frames_of_a_data_set(nodes: list[Any]) -> None:
    frames = to_pixels(astronauts(4, side=64))

    def make() -> Deidentifier:
        seen = White(lambda image, number: [[16.0, 16.0, 48.0, 48.0]])
        return Deidentifier(IFGSMAttacker([seen], max_iterations=1), tracker=tracking({}))

    data_of = pytest.importorskip("ray.data")
    data = data_of.from_items([{"number": k, "image": frame} for k, frame in enumerate(frames)])
    hidden = data.map_batches(ProtectFrames, fn_constructor_args=(make,), batch_size=2, concurrency=1)
    rows = sorted(hidden.take_all(), key=lambda row: row["number"])
    assert (np.stack([row["image"] for row in rows]) == ProtectFrames(make)({"image": frames})["image"]).all()
