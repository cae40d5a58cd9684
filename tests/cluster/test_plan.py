"""What nodes are told, and what makes no sense."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import torch
from clips import make_video
from toys import White, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.cluster.errors import ClusterError, one_line
from deidlib.cluster.plan import ClusterPlan, mismatch, shipped, unpacked
from deidlib.keys.key import Key, KeyFileError
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import protect_folder
from deidlib.protect.keyed import with_key
from deidlib.protect.outcome import RunSummary
from deidlib.protect.sidecar import Sidecar
from deidlib.records.fingerprint import described
from deidlib.records.versions import versions
from deidlib.storage.place import Place

BOX = [8.0, 8.0, 24.0, 24.0]


def hider() -> Deidentifier:
    seen = White(lambda image, number: [BOX])
    return Deidentifier(IFGSMAttacker([seen], max_iterations=1), tracker=tracking({}))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in/a.mkv", torch.rand(2, 3, 32, 32))
    (tmp_path / "in/b.txt").write_text("")
    return tmp_path / "in"


def test_a_plan_does_on_a_node_what_a_folder_run_does(clips: Path, tmp_path: Path) -> None:
    plan: ClusterPlan = pickle.loads(pickle.dumps(ClusterPlan(str(clips), str(tmp_path / "out"), check=None)))
    summary = RunSummary()
    (pair,) = plan.pairs(summary)
    assert (pair.source, pair.target) == ("a.mkv", "a.mkv")
    assert summary.passed_over_in_words() == "1 file neither an image nor a video: b.txt"
    result = plan.open(hider()).one(pair)
    assert result.summary is not None
    assert result.target == str(tmp_path / "out/a.mkv")
    assert protect_folder(hider(), clips, tmp_path / "out", check=None).finished_before == 1


def test_one_file_and_a_store(clips: Path, tmp_path: Path) -> None:
    alone = ClusterPlan(str(clips / "a.mkv"), str(tmp_path / "x.mkv"), check=None)
    (pair,) = alone.pairs(RunSummary())
    assert alone.open(hider()).one(pair).summary is not None
    assert (tmp_path / "x.mkv").exists()
    store = ClusterPlan(str(clips), f"memory:/{tmp_path}", check=None, scratch=str(tmp_path / "scratch"))
    assert store.shared is None
    (pair,) = store.pairs(RunSummary())
    assert store.open(hider()).one(pair).summary is not None


def test_options_are_noted_beside_whatever_a_node_writes(clips: Path, tmp_path: Path) -> None:
    for out in (str(tmp_path / "out"), f"memory:/{tmp_path}/noted"):
        plan = ClusterPlan(str(clips), out, check=None, scratch=str(tmp_path / "scratch"), options={"targets": "mtcnn"})
        (pair,) = plan.pairs(RunSummary())
        work = plan.open(hider())
        assert work.one(pair).summary is not None
        (tmp_path / "told.json").write_bytes((Place(out) / "a.mkv.json").read(1 << 20) or b"")
        assert Sidecar.options(tmp_path / "told.json") == {"targets": "mtcnn"}
        assert work.one(pair).finished_before


def test_a_key_is_where_each_node_has_it(clips: Path, tmp_path: Path) -> None:
    secret = bytes(range(32))
    plan = ClusterPlan(str(clips), str(tmp_path / "out"), check=None, key_file=str(tmp_path / "our.key"))
    with pytest.raises(KeyFileError, match=r"our\.key cannot be read"):
        plan.open(hider())
    Key(secret).save(tmp_path / "our.key")
    assert secret not in pickle.dumps(plan)
    (pair,) = plan.pairs(RunSummary())
    assert plan.open(hider()).one(pair).summary is not None


def test_other_versions_and_folders_that_are_not_seen(clips: Path, tmp_path: Path) -> None:
    assert mismatch(versions(), versions()) is None
    assert mismatch({}, {"deidlib": "1.0"}) == (
        "deidlib is missing here, 1.0 where the run was started: install the same on both"
    )
    other = ClusterPlan(str(clips), str(tmp_path / "out"), versions={"deidlib": "0.0.1"})
    with pytest.raises(ClusterError, match=r"0\.0\.1 where the run was started: install the same on both"):
        other.open(hider())
    with pytest.raises(ClusterError, match="is not there: a folder must lie on a disk that all nodes mount"):
        ClusterPlan(str(tmp_path / "elsewhere"), str(tmp_path / "out")).open(hider())


def test_a_deidentifier_is_shipped_as_it_is_and_never_with_a_key() -> None:
    pytest.importorskip("ray", reason='needs Ray: pip install "deidlib[ray]"')
    assert described(unpacked(shipped(hider()), "cpu")) == described(hider())
    keyed, _ = with_key(hider(), Key(bytes(32)), nonce="00" * 16)
    with pytest.raises(ClusterError, match=r"Give the plain one, and the key by its file: key_file=\."):
        shipped(keyed)


def test_what_makes_no_sense_is_told_before_ray_is_started(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='needs Ray: pip install "deidlib[ray]"')
    from deidlib.cluster import protect

    def refused(paths: str | Path | list[Path], out: str | Path, why: str) -> None:
        with pytest.raises(ValueError, match=re.escape(why)):
            protect(paths, out, hider())

    refused("memory://a", tmp_path, "is in the memory of this process")
    refused(clips, clips / "out", "must not be the input folder or lie inside it")
    refused(tmp_path / "none", tmp_path / "out", "does not exist")
    refused([], tmp_path / "out", "no paths are given")
    refused([clips / "a.mkv"], tmp_path / "out", "is a file, and one of several inputs")
    (tmp_path / "other/in").mkdir(parents=True)
    refused([clips, tmp_path / "other/in"], tmp_path / "out", "would both be written to")
    with pytest.raises(ValueError, match="per_task and workers must be at least 1, got 0 and None"):
        protect(clips, tmp_path / "out", hider(), per_task=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_address_where_nobody_answers(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='needs Ray: pip install "deidlib[ray]"')
    from deidlib.cluster import protect

    with pytest.raises(ClusterError, match=r"^no Ray cluster answers at 127\.0\.0\.1:1 \(.*ray start") as raised:
        protect(clips, tmp_path / "out", hider(), address="127.0.0.1:1")
    assert "\n" not in str(raised.value)


def test_an_error_from_another_machine_is_one_line() -> None:
    class Remote(Exception):
        cause = ValueError("what it\nsaid")

    assert one_line(Remote("a long trace")) == "what it said"
    assert (
        one_line(RuntimeError("Traceback (most recent call last):\n  File x\nValueError: that")) == "ValueError: that"
    )
