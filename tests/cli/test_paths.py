"""Several inputs, patterns, and where outputs lie if nothing is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clips import astronauts, make_video
from command import deidlib, done, refused

from deidlib.cli.paths import Paths
from deidlib.media import write_image

QUICK = ("--hide-only", "--device", "cpu", "--detectors", "mtcnn", "--lookout", "64")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_video(folder / "c1.mp4", astronauts(2))
    write_image(folder / "p.png", astronauts(1))
    return folder


@pytest.fixture
def here(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two clips, a picture, and a folder with another clip, in which commands run."""
    for name in ("c1.mp4", "c2.mp4", "b/c3.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(made / "c1.mp4", tmp_path / name)
    shutil.copy(made / "p.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pairs(*words: str, codec: str = "ffv1", force: bool = False) -> list[tuple[str, str]]:
    inputs = Paths.of(words, codec, force=force).inputs
    assert inputs is not None
    return [(source.as_posix(), target.as_posix()) for source, target in inputs.pairs]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["c1.mp4"], [("c1.mp4", "c1.protected.mkv")]),
        (["p.png"], [("p.png", "p.protected.png")]),
        (["b"], [("b/c3.mp4", "b.protected/c3.mkv")]),
        (["c?.mp4"], [("c1.mp4", "c1.protected.mkv"), ("c2.mp4", "c2.protected.mkv")]),
        (["**/c3*"], [("b/c3.mp4", "b/c3.protected.mkv")]),
        (["c1.mp4", "out.mkv"], [("c1.mp4", "out.mkv")]),
        (["c1.mp4", "out/"], [("c1.mp4", "out/c1.mkv")]),
        (["c1*", "out"], [("c1.mp4", "out/c1.mkv")]),
        (["c1.mp4", "b"], [("c1.mp4", "b/c1.mkv")]),
        (
            ["c1.mp4", "p.png", "b", "out"],
            [("c1.mp4", "out/c1.mkv"), ("p.png", "out/p.png"), ("b/c3.mp4", "out/b/c3.mkv")],
        ),
        (["b", "out"], [("b/c3.mp4", "out/c3.mkv")]),
    ],
)
def test_what_the_words_mean(words: list[str], expected: list[tuple[str, str]]) -> None:
    assert pairs(*words) == expected


@pytest.mark.usefixtures("here")
def test_the_name_has_the_codecs_suffix() -> None:
    assert pairs("c1.mp4", codec="h264") == [("c1.mp4", "c1.protected.mp4")]
    assert pairs("c1.mp4", codec="png-folder") == [("c1.mp4", "c1.protected")]


@pytest.mark.usefixtures("here")
def test_a_file_whose_name_looks_like_a_pattern_is_that_file() -> None:
    shutil.copy("c1.mp4", "c[12].mp4")
    assert pairs("c[12].mp4") == [("c[12].mp4", "c[12].protected.mkv")]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["c9*.mp4"], "no file matches c9*.mp4"),
        (["nothing.mp4"], "nothing.mp4 does not exist"),
        (["nothing.mp4", "c1.mp4", "out/"], "nothing.mp4 does not exist"),
        # What a shell makes of *.mp4.
        (["b/c3.mp4", "c1.mp4", "c2.mp4"], "c2.mp4 is a file, and several inputs need a folder"),
        (["c1.mp4", "c2.mp4"], "c2.mp4 would be replaced, and no description beside it says that deidlib wrote it"),
        (["c1.mp4", "b/c3.mp4", "p.png", "/tmp/x.png", "out"], "some inputs are given from the root"),
        (["*"], "no file matches"),
        (["0"], "a camera or a pipe is protected alone"),
        (["-", "c1.mp4", "out"], "a camera or a pipe is protected alone"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], message: str) -> None:
    if words == ["*"]:
        for path in list(Path().glob("*.*")):
            path.unlink()
    refused(deidlib("protect", *words, *QUICK), message)


@pytest.mark.usefixtures("here")
def test_two_inputs_of_one_name_are_refused() -> None:
    shutil.copy("c1.mp4", "b/c1.mp4")
    refused(deidlib("protect", "c1.mp4", "b/c1.mp4", "out", *QUICK), "would both be written to out/c1.mp4.mkv")


@pytest.mark.usefixtures("here")
def test_several_are_protected_and_finished_ones_left() -> None:
    done(deidlib("protect", "c1.mp4", "p.png", "out", *QUICK))
    assert sorted(path.name for path in Path("out").iterdir() if path.suffix in (".mkv", ".png")) == ["c1.mkv", "p.png"]
    result = done(deidlib("protect", "c1.mp4", "p.png", "out", *QUICK))
    assert "2 of 2 files were finished before" in result.stderr


@pytest.mark.usefixtures("here")
def test_beside_their_inputs_nothing_is_replaced() -> None:
    done(deidlib("protect", "c1.mp4", *QUICK, "--codec", "h264"))
    first = Path("c1.protected.mp4").read_bytes()
    refused(deidlib("protect", "c1.mp4", *QUICK, "--codec", "h264"), "c1.protected.mp4 is there already", "--force")
    # The pattern matches what was written; that is no input.
    result = done(deidlib("protect", "c*.mp4", *QUICK, "--codec", "h264"))
    assert "1 of 2 outputs are there already" in result.stderr
    assert Path("c1.protected.mp4").read_bytes() == first
    assert Path("c2.protected.mp4").is_file()
    assert not list(Path().glob("*.protected.protected*"))
    done(deidlib("protect", "c1.mp4", *QUICK, "--codec", "h264", "--force"))


@pytest.mark.usefixtures("here")
def test_one_that_fails_stops_no_other() -> None:
    Path("c0.mp4").write_bytes(b"no video")
    result = deidlib("protect", "c*.mp4", *QUICK, "--audit", "sheets")
    assert result.exit_code == 1
    assert "error: c0.mp4" in result.stderr
    assert "1 of 3 files failed" in result.stderr
    assert Path("c2.protected.mkv").is_file()
    # Each has a sheet of its own.
    assert sorted(path.as_posix() for path in Path("sheets").glob("*/index.html")) == [
        "sheets/c1.protected.mkv/index.html", "sheets/c2.protected.mkv/index.html",
    ]  # fmt: skip


@pytest.mark.usefixtures("here")
def test_a_file_of_others_is_replaced_only_by_force() -> None:
    Path("notes.png").write_bytes(b"mine")
    refused(deidlib("protect", "p.png", "notes.png", *QUICK), "notes.png would be replaced")
    assert Path("notes.png").read_bytes() == b"mine"
    done(deidlib("protect", "p.png", "notes.png", *QUICK, "--force"))
    # From here on it is ours.
    done(deidlib("protect", "p.png", "notes.png", *QUICK))
