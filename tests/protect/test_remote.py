"""Clips from store to store: as from folder to folder, and whatever happens, nothing else has an output's name."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_video
from hypothesis import given
from hypothesis import strategies as st
from s3 import Wire, keys, s3_server
from toys import Sees, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.keys.key import Key
from deidlib.media import MediaError
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import protect_folder
from deidlib.protect.outcome import RunSummary
from deidlib.protect.remote import protect_remote
from deidlib.protect.remote_pairs import RemotePair, remote_pairs
from deidlib.protect.sidecar import Sidecar
from deidlib.storage.errors import StorageError
from deidlib.storage.place import Place


def hider(iterations: int = 0) -> Deidentifier:
    seen = Sees(lambda image, number: [[8.0, 8.0, 24.0, 24.0]])
    return Deidentifier(IFGSMAttacker([seen], max_iterations=iterations), tracker=tracking({}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips and a picture, with things beside them."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("in")
    (root / "day").mkdir()
    for name in ("a.mkv", "b.mkv", "day/c.mkv"):
        make_video(root / name, torch.rand(3, 3, 32, 32))
    from deidlib.media import write_image

    write_image(root / "day/p.png", torch.rand(1, 3, 32, 32))
    (root / "notes.txt").write_text("not a clip")
    (root / ".hidden.mkv").write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run from folder to folder makes of them."""
    target = tmp_path_factory.mktemp("alone")
    protect_folder(hider(), folder, target, check=None)
    paths = [path for path in target.rglob("*") if path.is_file() and not path.name.startswith((".", "deidlib-"))]
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Any, Wire]]:
    with s3_server() as known:
        yield known


@pytest.fixture
def buckets(server: tuple[Any, Wire], folder: Path, request: pytest.FixtureRequest) -> tuple[Any, Wire, str, str]:
    """The clips in a bucket, and one for the outputs."""
    client, wire = server
    name = f"{abs(hash(request.node.name)):x}"
    for bucket in (f"in-{name}", f"out-{name}"):
        client.create_bucket(Bucket=bucket)
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), f"in-{name}", f"clips/{path.relative_to(folder).as_posix()}")
    return client, wire, f"in-{name}", f"out-{name}"


def run(source: str | Path, target: str | Path, tmp_path: Path, **settings: Any) -> RunSummary:
    return protect_remote(
        settings.pop("deidentifier", None) or hider(),
        source,
        target,
        check=None,
        scratch=tmp_path / "scratch",
        **settings,
    )


def outputs(held: dict[str, bytes], below: str = "") -> dict[str, bytes]:
    """All but records, which must be records."""
    for name, content in held.items():
        if ".deidlib/" in name:
            assert json.loads(content)["status"] == "done"
    return {name.removeprefix(below): content for name, content in held.items() if ".deidlib/" not in name}


def test_from_store_to_store_as_from_folder_to_folder(folder: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    target = f"memory:/{tmp_path}/out"
    told: list[str] = []
    summary = run(folder, target, tmp_path, begin=told.append)
    assert (summary.finished, summary.failures, summary.finished_before) == (4, 0, 0)
    assert len(told) == 4
    assert summary.passed_over_in_words() == (
        "1 file hidden: .hidden.mkv; 1 file not called as an image or a video: notes.txt"
    )
    assert (
        outputs({listed.name: (Place(target) / listed.name).read(1 << 20) or b"" for listed in Place(target).files()})
        == alone
    )
    again = run(folder, target, tmp_path)
    assert (again.finished, again.finished_before) == (0, 4)
    other = run(folder, target, tmp_path, deidentifier=hider(1))
    assert (other.finished, other.finished_before) == (4, 0)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.slow
def test_from_bucket_to_bucket(buckets: tuple[Any, Wire, str, str], alone: dict[str, bytes], tmp_path: Path) -> None:
    client, wire, source, target = buckets
    summary = run(f"s3://{source}/clips", f"s3://{target}/safe", tmp_path)
    assert (summary.finished, summary.failures) == (4, 0)
    assert outputs(keys(client, target), "safe/") == alone
    # What is finished is known without being read.
    wire.cut_after(40_000)
    again = run(f"s3://{source}/clips", f"s3://{target}/safe", tmp_path)
    assert (again.finished, again.finished_before) == (0, 4)
    assert wire.whole()
    # One of them alone, and under a name of its own.
    assert run(f"s3://{source}/clips/a.mkv", f"s3://{target}/one/x.mkv", tmp_path).finished == 1
    assert keys(client, target)["one/x.mkv"] == alone["a.mkv"]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.2, 0.45, 0.7, 0.95])
def test_server_gone_in_the_middle_names_what_failed_and_the_next_run_completes(
    buckets: tuple[Any, Wire, str, str], alone: dict[str, bytes], tmp_path: Path, share: float
) -> None:
    client, wire, source, target = buckets
    # What goes to the server: requests, descriptions, outputs, records.
    before = wire.sent
    run(f"s3://{source}/clips", f"s3://{target}/whole", tmp_path)
    wire.cut_after(int(share * (wire.sent - before)))
    errors, finished = [], 0
    try:
        summary = run(f"s3://{source}/clips", f"s3://{target}/safe", tmp_path, patience=0.0)
        errors, finished = [str(result.error) for result in summary.failed], summary.finished
    except StorageError as error:
        errors = [str(error)]
    assert errors
    assert all(error.startswith(f"s3://{source}/clips") or f"s3://{target}/safe" in error for error in errors)
    assert all("does not answer" in error and "\n" not in error for error in errors)
    wire.mend()
    held = outputs(keys(client, target, "safe/"), "safe/")
    assert all(held[name] == alone[name] for name in held)
    # Whoever finds a file finds its description.
    assert all(f"{name}.json" in held for name in held if not name.endswith(".json"))
    summary = run(f"s3://{source}/clips", f"s3://{target}/safe", tmp_path)
    assert (summary.failures, summary.clips) == (0, 4)
    assert summary.finished_before >= finished
    assert outputs(keys(client, target, "safe/"), "safe/") == alone


@pytest.mark.slow
def test_server_away_for_a_moment_and_the_run_completes(
    buckets: tuple[Any, Wire, str, str], alone: dict[str, bytes], tmp_path: Path
) -> None:
    client, wire, source, target = buckets
    cuts = []

    def begin(clip: str) -> None:
        cuts.append(clip)
        wire.cut_after(3_000)
        threading.Timer(0.7, lambda: None if wire.whole() else wire.mend()).start()

    summary = run(f"s3://{source}/clips", f"s3://{target}/safe", tmp_path, begin=begin, patience=20.0)
    assert (summary.finished, summary.failures, len(cuts)) == (4, 0, 4)
    assert outputs(keys(client, target), "safe/") == alone


def test_what_is_wrong_with_one_clip_stops_no_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b", "c", "d", "e", "f"):
        (source / f"{name}.mkv").write_bytes((folder / "a.mkv").read_bytes())
    (source / "b.mkv").write_text("this is no video")
    fetch = Place.fetch

    def fetched(self: Place, target: Path) -> None:
        if self.name == "d.mkv":
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        if self.name == "e.mkv":
            raise PermissionError(errno.EACCES, "Access Denied")
        fetch(self, target)

    def asked(self: Place, target: Path) -> None:
        self._asked("read", lambda *_: fetched(self, target))

    monkeypatch.setattr(Place, "fetch", asked)

    def begin(clip: str) -> None:
        if clip.endswith("a.mkv"):
            (source / "c.mkv").unlink()

    summary = run(source, tmp_path / "out", tmp_path, begin=begin)
    said = {Path(result.source).name: str(result.error) for result in summary.failed}
    assert set(said) == {"b.mkv", "c.mkv", "d.mkv", "e.mkv"}
    assert said["b.mkv"].startswith(f"{source}/b.mkv")
    assert "scratch" not in said["b.mkv"]
    assert said["c.mkv"] == f"{source}/c.mkv is gone since it was listed."
    assert "is full. Make space" in said["d.mkv"]
    assert "may not be read (" in said["e.mkv"]
    assert not [line for line in said.values() if "\n" in line]
    assert summary.finished == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".deidlib", "a.mkv", "a.mkv.json", "f.mkv", "f.mkv.json",
    ]  # fmt: skip
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_original_that_is_replaced_meanwhile_is_not_published(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    source.write_bytes((folder / "a.mkv").read_bytes())

    def stage(name: str) -> None:
        if name == "writing":
            source.write_bytes((folder / "b.mkv").read_bytes())

    summary = run(source, tmp_path / "out/a.mkv", tmp_path, stage=stage)
    assert "was changed or removed while it was worked on" in str(summary.failed[0].error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("put", [0, 1, 2])
def test_killed_while_an_output_is_replaced_both_are_described(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: int
) -> None:
    out = tmp_path / "out/a.mkv"
    run(folder / "a.mkv", out, tmp_path)
    old, known, count = out.read_bytes(), Place.put, 0

    def killed(self: Place, path: Path) -> None:
        nonlocal count
        if count == put:
            # Nothing more is done by this process.
            monkeypatch.setattr(Place, "write", lambda *_: None)
            monkeypatch.setattr(Place, "remove", lambda *_: None)
            raise KeyboardInterrupt
        count += 1
        known(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(Place, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            run(folder / "a.mkv", out, tmp_path, deidentifier=hider(1))
    monkeypatch.undo()
    assert (out.read_bytes() == old) == (put < 2)
    described = Sidecar.of_whole(out)
    assert described is not None
    # Whatever was left, the next one describes what it writes.
    assert run(folder / "a.mkv", out, tmp_path, deidentifier=hider(1)).finished == 1
    assert Sidecar.of_whole(out) is not None
    assert "previous" not in json.loads(Sidecar.path_of(out).read_text())


def test_a_store_that_fails_in_the_middle_keeps_the_old_file_and_its_description(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out/a.mkv"
    run(folder / "a.mkv", out, tmp_path)
    before = {path.name: path.read_bytes() for path in out.parent.iterdir() if path.is_file()}
    known = Place.put

    def full(self: Place, path: Path) -> None:
        if self.name == "a.mkv":
            raise StorageError("the store is full.")
        known(self, path)

    monkeypatch.setattr(Place, "put", full)
    assert run(folder / "a.mkv", out, tmp_path, deidentifier=hider(1)).failures == 1
    assert {path.name: path.read_bytes() for path in out.parent.iterdir() if path.is_file()} == before


def test_what_is_no_description_of_ours_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.mkv.json").write_text('{"mine": true}')
    summary = run(folder / "a.mkv", tmp_path / "out/a.mkv", tmp_path)
    assert "is no description of a protected file" in str(summary.failed[0].error)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mkv.json"]


SPOILED: dict[str, Callable[[Path], object]] = {
    "output gone": lambda out: out.unlink(),
    "output changed": lambda out: out.write_bytes(b"other"),
    "description gone": lambda out: Sidecar.path_of(out).unlink(),
    "record gone": lambda out: (out.parent / ".deidlib/a.mkv.json").unlink(),
    "record no record": lambda out: (out.parent / ".deidlib/a.mkv.json").write_text("{"),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_what_is_not_as_it_was_is_made_again(folder: Path, tmp_path: Path, spoiled: str) -> None:
    out = tmp_path / "out/a.mkv"
    run(folder / "a.mkv", out, tmp_path)
    before = out.read_bytes()
    SPOILED[spoiled](out)
    assert run(folder / "a.mkv", out, tmp_path).finished == 1
    assert out.read_bytes() == before
    assert run(folder / "a.mkv", out, tmp_path).finished_before == 1


def test_an_original_that_is_another_one_is_done_again(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    source.write_bytes((folder / "a.mkv").read_bytes())
    assert run(source, tmp_path / "out/a.mkv", tmp_path).finished == 1
    source.write_bytes((folder / "b.mkv").read_bytes())
    assert run(source, tmp_path / "out/a.mkv", tmp_path).finished == 1


@pytest.mark.parametrize("key", [None, Key(bytes(32))])
def test_nothing_beside_the_outputs_tells_of_the_inputs(folder: Path, tmp_path: Path, key: Key | None) -> None:
    """Sizes and hashes of originals, and where they lie."""
    from deidlib.records.files import sha256_of

    run(folder, tmp_path / "out", tmp_path, key=key)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 12
    for path in files:
        content = path.read_bytes()
        for original in ("a.mkv", "b.mkv"):
            assert sha256_of(folder / original).encode() not in content
            if path.suffix == ".json":
                assert str((folder / original).stat().st_size).encode() not in content
        assert str(folder).encode() not in content
        assert str(tmp_path / "scratch").encode() not in content
        assert bytes(32).hex().encode() not in content


def test_interrupted_it_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine, or on the one that shares the scratch folder."""
    monkeypatch.setattr("deidlib.protect.deidentifier._PART", 4)
    source = make_video(tmp_path / "long.mkv", torch.rand(12, 3, 32, 32))
    count = 0

    def progress(frames: int) -> None:
        nonlocal count
        count += frames
        if count >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out/long.mkv", tmp_path, batch_size=4, progress=progress)
    assert not list((tmp_path / "scratch").rglob("original"))
    seen = hider()
    (model,) = seen.attacker.named_models().values()
    assert isinstance(model, Sees)
    assert run(source, tmp_path / "out/long.mkv", tmp_path, batch_size=4, deidentifier=seen).finished == 1
    alone = hider()
    run(source, tmp_path / "alone/long.mkv", tmp_path, batch_size=4, deidentifier=alone)
    assert (tmp_path / "out/long.mkv").read_bytes() == (tmp_path / "alone/long.mkv").read_bytes()
    (other,) = alone.attacker.named_models().values()
    assert isinstance(other, Sees)
    assert model.frames_read < other.frames_read


def test_two_inputs_of_one_output(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.mkv", "a.mp4", "a-b.mkv", "a.mp4.mkv"):
        (source / name).write_bytes((folder / "a.mkv").read_bytes())
    summary = run(source, tmp_path / "out", tmp_path)
    assert summary.finished == 3
    assert {path.name for path in (tmp_path / "out").glob("*.mkv")} == {"a.mkv.mkv", "a.mp4.mkv", "a-b.mkv"}
    assert f"{source}/a.mp4.mkv: a.mp4 would be written to" in str(summary.failed[0].error)


@given(st.sets(st.text("ab.-/", min_size=1, max_size=6), max_size=12))
def test_what_is_taken_is_found_whatever_the_names(names: set[str]) -> None:
    """Against a table of all of them."""
    from deidlib.protect.remote_pairs import _Names

    clips = sorted(f"{name}{suffix}" for name in names for suffix in (".mkv", ".mp4", ".png"))
    taken, known = _Names(), dict[str, str]()
    for clip in clips:
        stem, suffix = clip[:-4], clip[-4:]
        out = stem + (".png" if suffix == ".png" else ".mkv")
        assert taken.taken(clip, stem, out) == known.get(out)
        known.setdefault(out, clip)
        assert len(taken._open) <= 2 * len(clip)


@given(st.sets(st.text("ab.-/", min_size=1, max_size=6), max_size=12))
def test_of_one_stem_each_keeps_its_suffix_whatever_the_names(names: set[str]) -> None:
    """As in a folder, whose files are all known."""
    from deidlib.protect.remote_pairs import _each_its_own

    # What is hidden has been passed over.
    visible = [name for name in names if not name.rpartition("/")[2].startswith(".") and name[-1] != "/"]
    clips = sorted(f"{name}{suffix}" for name in visible for suffix in (".mkv", ".mp4", ".png"))
    plain = {clip: clip[:-4] + (".png" if clip.endswith(".png") else ".mkv") for clip in clips}
    known = list(_each_its_own((clip, plain[clip][-4:]) for clip in clips))
    assert [name for name, _, _ in known] == clips
    for name, stem, out in known:
        assert stem == name[:-4]
        assert out == (plain[name] if name.endswith(".png") else f"{name}.mkv")


def test_what_makes_no_sense_is_told_before_any_work(folder: Path, tmp_path: Path) -> None:
    def pairs(source: str | Path, target: str | Path, codec: str = "ffv1") -> list[RemotePair]:
        return list(remote_pairs(Place(str(source)), Place(str(target)), codec, RunSummary()))

    for target in (folder, folder / "out", f"file://{folder}/out"):
        with pytest.raises(MediaError, match="must not be the input folder or lie inside it"):
            pairs(folder, target)
    with pytest.raises(MediaError, match="png-folder writes a folder of files"):
        pairs(folder, tmp_path, "png-folder")
    with pytest.raises(StorageError, match=r"memory://nowhere is not there"):
        pairs("memory://nowhere", tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("")
    with pytest.raises(MediaError, match=r"Passed over: 1 file not called as an image or a video: a\.txt"):
        pairs(tmp_path / "texts", tmp_path / "out")
    assert pairs(folder / "a.mkv", tmp_path / "x.mkv") == [RemotePair("", "")]
