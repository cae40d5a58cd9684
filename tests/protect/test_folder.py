"""A folder that several processes work on, whose results somebody spoils, or that was left in the middle."""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_video
from toys import Sees, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.keys.key import Key
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import protect_folder
from deidlib.protect.outcome import FolderSummary
from deidlib.protect.output import Output
from deidlib.protect.work_folder import WorkFolder
from deidlib.records.files import sha256_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        make_video(folder / f"{name}.mkv", torch.rand(3, 3, 32, 32))
    return folder


def run(source: Path, target: Path, codec: str = "ffv1", **settings: Any) -> FolderSummary:
    deidentifier = Deidentifier(
        IFGSMAttacker([Sees(lambda image, number: [[8.0, 8.0, 24.0, 24.0]])], max_iterations=0), tracker=tracking({})
    )
    return protect_folder(deidentifier, source, target, output=Output(codec), check=None, **settings)


def hashes(target: Path) -> dict[str, str]:
    ours = ("deidlib-manifest.jsonl", ".deidlib-inputs.key")
    return {path.name: sha256_of(path) for path in target.iterdir() if path.name not in ours}


def pad(path: Path) -> None:
    """Another file of the same length."""
    path.write_bytes(bytes(path.stat().st_size))


SPOILED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "as long": ("ffv1", lambda target: pad(target / "b.mkv")),
    "of another": ("ffv1", lambda target: shutil.copy(target / "a.mkv", target / "b.mkv")),
    "description gone": ("ffv1", lambda target: (target / "b.mkv.json").unlink()),
    "description of another": ("ffv1", lambda target: shutil.copy(target / "a.mkv.json", target / "b.mkv.json")),
    "picture gone": ("png-folder", lambda target: (target / "b" / "000001.png").unlink()),
    "picture changed": ("png-folder", lambda target: pad(target / "b" / "000001.png")),
    "picture more": ("png-folder", lambda target: shutil.copy(target / "a/000000.png", target / "b/000003.png")),
    "times gone": ("png-folder", lambda target: (target / "b" / "frames.json").unlink()),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_result_that_is_not_as_it_was_is_made_again(source: Path, tmp_path: Path, spoiled: str) -> None:
    codec, spoil = SPOILED[spoiled]
    target = tmp_path / "out"
    run(source, target, codec)
    whole = hashes(target)
    spoil(target)
    assert hashes(target) != whole
    summary = run(source, target, codec)
    assert (summary.failed, summary.finished_before) == ([], 2)
    assert hashes(target) == whole
    assert run(source, target, codec).finished_before == 3


@pytest.mark.parametrize("what", ["notes.txt", "link.png", "sub"])
def test_what_is_not_ours_is_not_taken_away(source: Path, tmp_path: Path, what: str) -> None:
    target = tmp_path / "out"
    run(source, target, "png-folder")
    (target / "b" / "000001.png").unlink()
    strange = target / "b" / what
    if what == "sub":
        strange.mkdir()
    elif what == "link.png":
        strange.symlink_to(target / "a" / "000000.png")
    else:
        strange.write_text("mine")
    before = sorted((target / "b").iterdir())
    (failed,) = run(source, target, "png-folder").failed
    assert f"{what} in it is none of its frames" in str(failed.error)
    assert sorted((target / "b").iterdir()) == before


def test_a_folder_of_pictures_of_other_settings_is_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    run(source, target, "png-folder")
    before = hashes(target)
    make_video(source / "b.mkv", torch.rand(3, 3, 32, 32))
    (failed,) = run(source, target, "png-folder").failed
    assert "is there from another run" in str(failed.error)
    assert hashes(target) == before


@pytest.mark.parametrize("codec", ["ffv1", "png-folder"])
def test_killed_before_the_manifest_says_that_it_is_done(source: Path, tmp_path: Path, codec: str) -> None:
    target = tmp_path / "out"
    run(source, target, codec)
    whole, manifest = hashes(target), target / "deidlib-manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    assert json.loads(lines[-1])["status"] == "done"
    manifest.write_text("".join(lines[:-1]))
    # And before its work folder was removed.
    name = {"ffv1": "c.mkv", "png-folder": "c"}[codec]
    (target / f".{name}.deidlib-work").mkdir(0o700)
    (target / f".{name}.deidlib-work" / "000000.0.mkv").write_bytes(b"left")
    summary = run(source, target, codec)
    assert (summary.failed, summary.finished_before) == ([], 3 if codec == "png-folder" else 2)
    assert hashes(target) == whole
    assert run(source, target, codec).finished_before == 3


def test_what_another_process_holds_is_passed_over_and_no_failure(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    held = WorkFolder(target / "b.mkv", {})
    summary = run(source, target)
    assert (summary.failed, summary.elsewhere, summary.finished_before) == ([], 1, 0)
    assert "failed" not in (target / "deidlib-manifest.jsonl").read_text()
    held.close(keep=False)
    summary = run(source, target)
    assert (summary.failed, summary.elsewhere, summary.finished_before) == ([], 0, 2)


@pytest.mark.parametrize("codec", ["ffv1", "png-folder"])
def test_two_at_once_do_every_file_once(source: Path, tmp_path: Path, codec: str) -> None:
    for name in "defgh":
        make_video(source / f"{name}.mkv", torch.rand(3, 3, 32, 32))
    target, results = tmp_path / "out", list[FolderSummary]()
    start = threading.Barrier(2)

    def work() -> None:
        start.wait()
        results.append(run(source, target, codec))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [file.source.name for summary in results for file in summary.files if file.summary is not None]
    assert sorted(done) == [f"{name}.mkv" for name in "abcdefgh"]
    assert [summary.failed for summary in results] == [[], []]
    run(source, tmp_path / "alone", codec)
    assert hashes(target) == hashes(tmp_path / "alone")


def test_finished_by_another_while_it_was_waited_for(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the manifest and the lock."""
    target = tmp_path / "out"
    init, first = WorkFolder.__init__, list[bool]()

    def late(self: WorkFolder, out: Path, *arguments: Any) -> None:
        if not first:
            first.append(True)
            run(source, target)
        init(self, out, *arguments)

    monkeypatch.setattr(WorkFolder, "__init__", late)
    summary = run(source, target)
    assert (summary.failed, summary.finished_before) == ([], 3)
    assert not [name for name in os.listdir(target) if name.endswith("work")]


@pytest.mark.parametrize("key", [None, Key(bytes(32))])
def test_nothing_beside_the_outputs_tells_of_the_inputs(tmp_path: Path, key: Key | None) -> None:
    """Canaries: hashes of the inputs, where they lie, what the key is, and where faces were."""
    box = [8.125, 9.375, 24.625, 23.875]
    source, target = tmp_path / "canary-place", tmp_path / "out"
    source.mkdir()
    make_video(source / "a.mkv", torch.rand(3, 3, 32, 32))
    deidentifier = Deidentifier(
        IFGSMAttacker([Sees(lambda image, number: [box])], max_iterations=0), tracker=tracking({})
    )
    protect_folder(deidentifier, source, target, check=None, key=key)
    secrets = [
        sha256_of(source / "a.mkv"),
        "canary-place",
        "24.625",
        bytes(32).hex(),
        base64.b64encode(bytes(32)).decode(),
    ]
    files = [path for path in target.rglob("*") if path.is_file() and path.name != ".deidlib-inputs.key"]
    assert len(files) == 3
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path
    own = target / ".deidlib-inputs.key"
    if key is None:
        assert own.stat().st_mode & 0o777 == 0o600
    else:
        assert not own.exists()


@pytest.mark.skipif(os.name != "posix", reason="links, pipes and owners of Unix")
@pytest.mark.parametrize("what", ["link", "link to nothing", "pipe", "folder", "another's", "readable", "no key"])
def test_a_secret_that_somebody_has_put_there_is_not_used(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Who knows what inputs are marked by can confirm which they are."""
    target, mine = tmp_path / "out", tmp_path / "mine.key"
    target.mkdir()
    place = target / ".deidlib-inputs.key"
    Key(bytes(32)).save(mine)
    if what in ("link", "link to nothing"):
        place.symlink_to(mine if what == "link" else tmp_path / "nothing")
    elif what == "pipe":
        os.mkfifo(place, 0o600)
    elif what == "folder":
        place.mkdir()
    elif what == "no key":
        place.write_text("of mine")
        place.chmod(0o600)
    else:
        shutil.copy(mine, place)
        place.chmod(0o644 if what == "readable" else 0o600)
    if what == "another's":
        monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(
        ValueError, match=r"\.deidlib-inputs\.key (is no file of yours|is no key|may be read by others)"
    ):
        run(source, target)
    assert not (tmp_path / "nothing").exists()
    assert Key.load(mine) == Key(bytes(32))
    assert not list(target.glob("*.mkv"))
