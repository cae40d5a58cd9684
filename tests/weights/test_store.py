from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import threading
import warnings
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from deidlib import weights
from deidlib.weights import CorruptWeights, WeightsNotFound, store, table
from deidlib.weights.table import CHECKPOINTS, Checkpoint

CONTENT = b"hello\n"
SHA256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
GIT_BLOB = "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object of a file that holds "hello" and a line end


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.delenv("DEIDLIB_WEIGHTS", raising=False)
    monkeypatch.setenv("DEIDLIB_CACHE", str(folder))
    return folder


@pytest.fixture
def mine(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(folder))
    return folder


def register(monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint) -> Checkpoint:
    for module in (weights, store, table):
        monkeypatch.setattr(module, "CHECKPOINTS", {checkpoint.name: checkpoint})
    return checkpoint


def toy(
    *, sha256: str | None = None, sha256_prefix: str | None = None, git_blob: str | None = None, url: str | None = "x"
) -> Checkpoint:
    return Checkpoint("toy", "toy.pth", url, sha256, sha256_prefix, git_blob, origin="https://example.org/toy")


class Server:
    """Stands in for the network: what is downloaded, and how often."""

    def __init__(self, content: bytes | Exception) -> None:
        self.content = content
        self.calls = 0

    def __call__(self, url: str, path: Path) -> None:
        self.calls += 1
        if isinstance(self.content, Exception):
            raise self.content
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes | Exception) -> Server:
    server = Server(content)
    monkeypatch.setattr(store, "_download", server)
    return server


# --- the table --------------------------------------------------------------------------------------------


def test_every_checkpoint_says_where_it_comes_from() -> None:
    assert len({checkpoint.file for checkpoint in CHECKPOINTS.values()}) == len(CHECKPOINTS)
    for name, checkpoint in CHECKPOINTS.items():
        assert checkpoint.name == name == name.lower()
        assert checkpoint.licence
        assert checkpoint.paper
        assert checkpoint.origin.startswith("https://")
        assert checkpoint.conventions["channels"] in ("RGB", "BGR", "grey")
        assert checkpoint.conventions["scale"] in (1, 255)
        if checkpoint.url is not None:
            assert checkpoint.url.startswith("https://")
            assert checkpoint.pinned
        assert checkpoint.sha256 is None or len(checkpoint.sha256) == 64
        assert checkpoint.git_blob is None or len(checkpoint.git_blob) == 40


def test_the_two_mobilenets_need_different_nets() -> None:
    one, other = CHECKPOINTS["retinaface_mobilenet0.25"], CHECKPOINTS["retinaface_mobilenet0.25_1mb"]
    assert one.conventions["anchors"] == ((16, 32), (64, 128), (256, 512))
    assert other.conventions["anchors"] == ((10, 20), (32, 64), (128, 256))
    assert (one.conventions["negative_slope"], other.conventions["negative_slope"]) == (0.1, 0.0)
    for checkpoint in (one, other):
        assert checkpoint.conventions["channels"] == "BGR"
        assert checkpoint.conventions["mean"] == (104.0, 117.0, 123.0)


def test_the_two_resnets_need_different_inputs() -> None:
    ternaus, biubug6 = CHECKPOINTS["retinaface_resnet50"], CHECKPOINTS["retinaface_resnet50_biubug6"]
    assert ternaus.conventions["channels"] == "RGB"
    assert ternaus.conventions["mean"] == pytest.approx([255 * m for m in (0.485, 0.456, 0.406)])
    assert ternaus.conventions["std"] == pytest.approx([255 * s for s in (0.229, 0.224, 0.225)])
    assert biubug6.conventions["channels"] == "BGR"
    assert biubug6.conventions["mean"] == (104.0, 117.0, 123.0)
    assert ternaus.conventions["scale"] == biubug6.conventions["scale"] == 255
    assert ternaus.conventions["anchors"] == biubug6.conventions["anchors"]


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CHECKPOINTS["yunet"].conventions["scale"] = 1  # type: ignore[index]


@pytest.mark.parametrize("name", ["ETH-XGaze", "eth_xgaze", "eth-xgaze"])
def test_names_in_any_spelling(name: str) -> None:
    assert weights.checkpoint(name).name == "eth_xgaze"


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'mpigaze'.*mean 'mpiigaze'.*retinaface_mobilenet0\.25"):
        weights.find("mpigaze")
    with pytest.raises(ValueError, match="no weights are called"):
        weights.status("resnet9000")


# --- hashes -----------------------------------------------------------------------------------------------


def test_digests_against_known_values(tmp_path: Path) -> None:
    file = tmp_path / "hello"
    file.write_bytes(CONTENT)
    digests = store._digests(file)
    assert (digests.sha256, digests.git_blob) == (SHA256, GIT_BLOB)


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "hello"
    file.write_bytes(CONTENT)
    before = store._digests_once.cache_info()
    first = store._digests(file)
    assert store._digests(file) is first
    file.write_bytes(CONTENT + b"!")
    assert store._digests(file).sha256 == hashlib.sha256(CONTENT + b"!").hexdigest()
    assert store._digests_once.cache_info().misses == before.misses + 2


@pytest.mark.parametrize(
    "checkpoint", [toy(sha256=SHA256), toy(sha256_prefix=SHA256[:9]), toy(git_blob=GIT_BLOB)], ids=str
)
def test_the_right_file_is_verified_and_another_refused(
    checkpoint: Checkpoint, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, checkpoint)
    server = serve(monkeypatch, CONTENT)
    assert weights.status("toy").state == "missing"
    file = mine / "toy.pth"
    file.write_bytes(CONTENT)
    assert weights.find("toy") == file
    assert weights.status("toy").state == "verified"
    assert weights.checkpoint_of(file) is checkpoint
    assert server.calls == 0

    file.write_bytes(CONTENT[:-1])
    assert weights.status("toy").state == "mismatch"
    assert weights.checkpoint_of(file) is None
    with pytest.raises(CorruptWeights, match=r"toy\.pth is not toy: expected .* got .*Replace the file"):
        weights.find("toy")
    assert file.read_bytes() == CONTENT[:-1], "a user's own file is never removed"


def test_a_corrupt_file_in_the_cache_is_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, toy(sha256=SHA256))
    server = serve(monkeypatch, CONTENT)
    (cache / "toy.pth").write_bytes(b"cut sho")
    with pytest.raises(CorruptWeights, match="it was removed"):
        weights.find("toy")
    assert not (cache / "toy.pth").exists()
    assert weights.find("toy").read_bytes() == CONTENT
    assert server.calls == 1


def test_a_wrong_download_does_not_stay(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, toy(git_blob=GIT_BLOB))
    serve(monkeypatch, b"<html>not found</html>")
    with pytest.raises(CorruptWeights, match=f"git blob {GIT_BLOB}"):
        weights.find("toy")
    assert list(cache.iterdir()) == []


def test_without_a_published_hash_the_first_download_counts(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = register(monkeypatch, toy())
    server = serve(monkeypatch, CONTENT)
    file = weights.find("toy")
    assert (cache / "toy.pth.sha256").read_text().split() == [SHA256, "toy.pth"]
    assert weights.find("toy") == file
    assert weights.status("toy").state == "recorded"
    assert weights.checkpoint_of(file) is checkpoint
    assert server.calls == 1

    file.write_bytes(b"replaced")
    assert weights.status("toy").state == "mismatch"
    with pytest.raises(CorruptWeights, match="as first downloaded"):
        weights.find("toy")
    # The record outlives the file: another download must give what the first one gave.
    server.content = b"replaced"
    with pytest.raises(CorruptWeights, match=SHA256):
        weights.find("toy")
    server.content = CONTENT
    assert weights.find("toy").read_bytes() == CONTENT


def test_nothing_is_written_into_the_users_folder(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, toy())
    (mine / "toy.pth").write_bytes(CONTENT)
    assert weights.find("toy") == mine / "toy.pth"
    assert weights.status("toy").state == "unknown"
    assert [file.name for file in mine.iterdir()] == ["toy.pth"]


# --- where files are looked for ---------------------------------------------------------------------------


def test_lookup_order(cache: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, toy(sha256=SHA256))
    server = serve(monkeypatch, CONTENT)
    assert weights.locate("toy") is None
    assert weights.find("toy") == cache / "toy.pth"
    assert server.calls == 1
    (mine / "strangers").mkdir()
    (mine / "strangers" / "toy.pth").write_bytes(CONTENT)
    assert weights.find("toy") == weights.locate("toy") == mine / "strangers" / "toy.pth"
    (mine / "toy.pth").write_bytes(CONTENT)
    assert weights.find("toy") == weights.locate("toy") == mine / "toy.pth"
    own = tmp_path / "anything.pth"
    own.write_bytes(b"my own weights")
    assert weights.find(own) == weights.find(str(own)) == own
    assert server.calls == 1


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match="no weights file at"):
        weights.find(tmp_path / "nothing.pth")
    with pytest.raises(WeightsNotFound, match="no weights file at"):
        weights.find("nothing.pth")
    with pytest.raises(WeightsNotFound, match="no weights file at"):
        weights.checkpoint_of(tmp_path / "nothing.pth")


def test_a_mistyped_folder_is_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(tmp_path / "wieghts"))
    with pytest.raises(WeightsNotFound, match=r"DEIDLIB_WEIGHTS is .*wieghts', which is no folder"):
        weights.find("yunet")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEIDLIB_CACHE", str(tmp_path))
    assert weights.cache_folder() == tmp_path
    monkeypatch.delenv("DEIDLIB_CACHE")
    assert weights.cache_folder().name == "deidlib"
    monkeypatch.delenv("DEIDLIB_WEIGHTS", raising=False)
    assert weights.weights_folder() is None


def test_without_a_network_the_error_says_what_to_do(cache: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, OSError("name or service not known"))
    with pytest.raises(WeightsNotFound) as caught:
        weights.find("eth_xgaze")
    message = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    for part in (
        "eth-xgaze_resnet18.pth",
        "https://github.com/hysts/pytorch_mpiigaze_demo/releases/download/v0.2.2/eth-xgaze_resnet18.pth",
        str(mine),
        "DEIDLIB_WEIGHTS",
        "name or service not known",
    ):
        assert part in message
    monkeypatch.delenv("DEIDLIB_WEIGHTS")
    with pytest.raises(WeightsNotFound, match=str(cache)):
        weights.find("eth_xgaze")


def test_what_only_a_person_can_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(monkeypatch, CONTENT)
    with pytest.raises(
        WeightsNotFound, match=r"cannot be downloaded by a program.*drive\.google\.com.*DEIDLIB_WEIGHTS"
    ):
        weights.find("cosegmentation_vox_first_order")
    assert server.calls == 0


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, its address and its folder."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def test_a_real_download(
    site: tuple[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    address, folder = site
    (folder / "original.pth").write_bytes(CONTENT)
    register(monkeypatch, toy(sha256=SHA256, url=f"{address}/original.pth"))
    assert weights.find("toy") == cache / "toy.pth"
    assert (cache / "toy.pth").read_bytes() == CONTENT
    assert [file.name for file in cache.iterdir()] == ["toy.pth"]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "100%" in captured.err


def test_a_real_download_that_fails(site: tuple[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    register(monkeypatch, toy(sha256=SHA256, url=f"{site[0]}/nothing.pth"))
    with warnings.catch_warnings():
        # requests leaves the connection of a refused download to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(WeightsNotFound, match="404"):
            weights.find("toy")
        gc.collect()
    assert list(cache.iterdir()) == []


# --- what is in the files ---------------------------------------------------------------------------------


def _net_file(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    state = nn.Linear(3, 2).state_dict()
    torch.save(state, tmp_path / "plain.pth")
    return tmp_path / "plain.pth", state


def _same(loaded: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> bool:
    return list(loaded) == list(state) and all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_load_state_unwraps(tmp_path: Path, key: str | None, prefix: str) -> None:
    _, state = _net_file(tmp_path)
    content: object = {prefix + name: value for name, value in state.items()}
    if key is not None:
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "wrapped.pth")
    assert _same(weights.load_state(tmp_path / "wrapped.pth"), state)


def test_load_state_of_a_zipped_file(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, state = _net_file(tmp_path)
    with zipfile.ZipFile(cache / "toy.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file, "folder/inner.pth")
    assert _same(weights.load_state(cache / "toy.pth"), state)
    # The published digits may be those of the archive or of what is in it.
    for hashed in (file, cache / "toy.pth"):
        digits = hashlib.sha256(hashed.read_bytes()).hexdigest()[:9]
        register(monkeypatch, toy(sha256_prefix=digits))
        assert _same(weights.load_state("toy"), state)


def test_load_state_of_pytorch_before_1_6(tmp_path: Path) -> None:
    _, state = _net_file(tmp_path)
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert _same(weights.load_state(tmp_path / "old.pth"), state)


class _Code:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "lr": 0.1}, r"holds no state dict .*keys \['epoch', 'lr'\]"),
        ([1, 2], "found a list"),
        ({}, r"found keys \[\]"),
        (_Code(), "runs no code from weight files.*weights_only=False"),
    ],
)
def test_files_that_are_no_state_dict(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CorruptWeights, match=message):
        weights.load_state(tmp_path / "odd.pth")


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    file, _ = _net_file(tmp_path)
    buffer = io.BytesIO(file.read_bytes())
    for name, content in {
        "cut.pth": buffer.getvalue()[:-100],
        "page.pth": b"<!DOCTYPE html><html>Not found</html>",
        "empty.pth": b"",
        "pointer.pth": b"version https://git-lfs.github.com/spec/v1\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptWeights, match=name):
            weights.load_state(tmp_path / name)


def test_what_is_wrong_with_a_checkpoint_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = _net_file(tmp_path)

    def load(*arguments: object, **settings: object) -> object:
        # As of set_(), whose arguments are wrong where a byte of a pickle is.
        raise TypeError("got (Storage)\nexpected one of:\n * (Tensor)\n" + "(Tensor, int)\n" * 200)

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(CorruptWeights, match=r"another kind of file \(got \(Storage\) expected one of") as caught:
        weights.load_state(file)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


# --- the real files ---------------------------------------------------------------------------------------


def test_real_files_verify(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(shared / "weights"))
    monkeypatch.setenv("DEIDLIB_CACHE", str(tmp_path))
    present = {file.name for file in (shared / "weights").rglob("*") if file.is_file()} - {"README.md"}
    statuses = [weights.status(name) for name in CHECKPOINTS]
    verified = {s.path.name for s in statuses if s.path is not None and s.state == "verified"}
    assert verified == present
    assert {s.state for s in statuses} == {"verified", "missing"}


@pytest.mark.parametrize("name", ["retinaface_mobilenet0.25", "retinaface_mobilenet0.25_1mb", "mpiigaze"])
def test_real_files_are_recognised_and_load(shared: Path, tmp_path: Path, name: str) -> None:
    renamed = tmp_path / "renamed.pth"
    renamed.write_bytes((shared / "weights" / CHECKPOINTS[name].file).read_bytes())
    assert weights.checkpoint_of(renamed) is CHECKPOINTS[name]
    state = weights.load_state(renamed)
    assert not any(key.startswith("module.") for key in state)
    assert {value.device.type for value in state.values()} == {"cpu"}


# Files that are no weights, or more than that


def bomb(path: Path, *, times: int) -> None:
    """A checkpoint of zeros, packed."""
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(times, 1 << 18)}, plain)
    with zipfile.ZipFile(plain) as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))


def test_a_file_that_unpacks_to_much_more_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.pth"
    bomb(path, times=8)
    assert path.stat().st_size < 100_000

    def loaded(*arguments: object, **settings: object) -> None:
        raise AssertionError("it was loaded")

    monkeypatch.setattr(torch, "load", loaded)
    with pytest.raises(CorruptWeights, match="would unpack to 8"):
        weights.load(path)


def test_a_bomb_within_a_file_that_is_none(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb.pth", times=8)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(tmp_path / "bomb.pth", "bomb.pth")
    with pytest.raises(CorruptWeights, match="would unpack to 8"):
        weights.load(tmp_path / "outer.zip")


def test_a_tensor_that_claims_more_than_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(1).expand(1 << 20, 1 << 10)}, path)
    with pytest.raises(CorruptWeights, match="claims tensors of 4294967296"):
        weights.load_state(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(3), "b.c": torch.tensor([1.0, value])}, path)
    with pytest.raises(CorruptWeights, match=r"b\.c holds numbers that are not finite"):
        weights.load_state(path)


@pytest.mark.parametrize("cut", range(0, 1200, 37))
def test_changed_bytes_are_our_error_or_weights(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(3)}, path)
    content = bytearray(path.read_bytes())
    content[cut % len(content)] ^= 0xFF
    path.write_bytes(content)
    with contextlib.suppress(CorruptWeights):
        state = weights.load_state(path)
        assert all(isinstance(value, torch.Tensor) for value in state.values())


@pytest.mark.parametrize(
    "state", [{"weight": torch.ones(2, 3)}, {"bias": torch.ones(2)}, {}, {"weight": torch.ones(9)}]
)
def test_weights_of_another_net_name_what_is_wrong(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(CorruptWeights, match=r"mine\.pth is not of this net \(Linear\): (Missing|Unexpected|size)"):
        weights.fill(nn.Linear(3, 2), state, "mine.pth")
