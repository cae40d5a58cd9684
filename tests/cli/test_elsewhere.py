"""``deidlib protect`` from store to store."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from clips import astronauts, make_video
from command import deidlib, done, refused

from deidlib.cli.remote import resources_of
from deidlib.keys.key import Key
from deidlib.media import write_image
from deidlib.storage.place import Place

QUICK = ("--iterations", 1, "--start", "hidden", "--detectors", "mtcnn", "--no-verify", "--lookout", 30)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    make_video(folder / "a.mkv", astronauts(2, side=128))
    write_image(folder / "b.png", astronauts(1, side=128))
    (folder / "c.mp4").write_text("this is no video")
    (folder / "notes.txt").write_text("")
    return folder


def test_clips_go_from_store_to_store_and_what_fails_is_named(clips: Path, tmp_path: Path) -> None:
    source, target = (f"memory://{uuid.uuid4().hex}" for _ in range(2))
    for path in clips.iterdir():
        (Place(source) / path.name).put(path)
    Key(bytes(32)).save(tmp_path / "our.key")
    command = ("protect", source, target, *QUICK, "--scratch", tmp_path / "scratch", "--key", tmp_path / "our.key")
    result = deidlib(*command)
    assert result.exit_code == 1
    assert f"{target}/a.mkv: 2 frames, 2 with faces hidden and attacked" in result.stdout
    assert f"only key {Key(bytes(32)).id} opens it: deidlib read {target}/b.png --key FILE" in result.stdout
    assert f"error: {source}/c.mp4" in result.stderr
    assert "passed over: 1 file not called as an image or a video: notes.txt" in result.stderr
    assert result.stderr.rstrip().endswith("1 of 3 clips failed")
    (Place(source) / "c.mp4").remove()
    again = done(deidlib(*command))
    assert "2 of 2 clips were finished before, and left as they are" in again.stderr
    # The same as from folder to folder.
    (clips / "c.mp4").unlink()
    done(deidlib("protect", clips, tmp_path / "out", *QUICK, "--key", tmp_path / "our.key"))
    for name in ("a.mkv", "b.png"):
        assert (Place(target) / name).read(1 << 24) == (tmp_path / "out" / name).read_bytes()
        # And with what was typed, so that it serves as --config.
        here = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert here["options"]["targets"] == "mtcnn"
        assert json.loads((Place(target) / f"{name}.json").read(1 << 24) or b"") == here


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "store": (("xyz://a", "out"), "nobody knows the store xyz://"),
    "nothing there": (("memory://nothing-there", "out"), "memory://nothing-there is not there"),
    "faces": (("memory://a", "out", "--faces", "f.json"), "--faces is for files of this machine, not for memory://a"),
    "frames": (("in", "memory://a", "--frames", "3"), "--frames is for files of this machine, not for memory://a"),
    "audit": (("in", "out", "--ray", "--audit", "x"), "--audit is for files of this machine, not for --ray"),
    "resources": (("memory://a", "out", "--resources", "num_gpus=1"), "Add --ray, or leave it out"),
    "no number": (("in", "out", "--ray", "--resources", "num_gpus"), "'num_gpus' is no resource"),
    "folder": (("memory://a", "out", "--codec", "png-folder"), "png-folder writes a folder of files"),
    "memory": (("memory://a", "out", "--ray"), "is in the memory of this process"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_makes_no_sense_is_one_line(
    wrong: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, why = WRONG[wrong]
    if wrong == "memory":
        pytest.importorskip("ray", reason='needs Ray: pip install "deidlib[ray]"')
    monkeypatch.chdir(tmp_path)
    refused(deidlib("protect", *words, *QUICK), why)


def test_resources_below_zero_or_without_a_name() -> None:
    assert resources_of(None) == {}
    for text in ("num_gpus=-1", "=2", "num_cpus=nan", "memory=inf", "num_cpus=many"):
        with pytest.raises(ValueError, match="is no resource"):
            resources_of(text)
