"""``--dry-run`` and ``--preview``: what is said before hours of work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from clips import astronauts, make_video
from command import deidlib, done, refused
from toys import Pixels, painted

from deidlib import IFGSMAttacker
from deidlib.attack import Chain, SignStep
from deidlib.cli.beforehand import _lasting
from deidlib.media import read_image, write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.estimate import Cost, Estimator
from deidlib.protect.preview import preview
from deidlib.tracking import FaceTracker

QUICK = ("--hide-only", "--device", "cpu", "--detectors", "mtcnn", "--lookout", "64")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_video(Path("drive.mp4"), astronauts(4))
    write_image("face.png", astronauts(1))
    write_image("none.png", torch.full((3, 48, 64), 0.5))
    return tmp_path


def masked(text: str) -> str:
    """Without what a clock says."""
    text = re.sub(r"about \d+ s\b", "about T", text)
    return re.sub(r"[\d.e+-]+ s a frame", "S s a frame", text)


@pytest.mark.usefixtures("here")
def test_a_dry_run_says_what_would_be_and_writes_nothing() -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    result = done(deidlib("protect", "drive.mp4", "face.png", "none.png", "out", *QUICK, "--dry-run"))
    assert masked(result.stdout) == (
        "drive.mp4: 4 frames of 128x128\n"
        "  faces: 1 in 4 of 4 frames looked at (0, 1, 2, 3)\n"
        "  time: about T (S s a frame, measured on 2 frames on cpu)\n"
        "  would write: out/drive.mkv, and drive.mkv.json beside it\n"
        "face.png: 1 frame of 128x128\n"
        "  faces: 1 in frame 0\n"
        "  time: about T (S s a frame, measured on 2 frames on cpu)\n"
        "  would write: out/face.png, and face.png.json beside it\n"
        "none.png: 1 frame of 64x48\n"
        "  faces: none in frame 0\n"
        "  time: about T (S s a frame, measured on cpu, without a face; frames with one take longer)\n"
        "  would write: out/none.png, and none.png.json beside it\n"
        "in all: 3 files, 6 frames, about T\n"
        "nothing was written\n"
    )
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.usefixtures("here")
def test_a_dry_run_does_not_count_what_a_header_gives_a_time_of(monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(Path("drive.mkv"), astronauts(4))
    monkeypatch.setattr("deidlib.media.clip.Clip.open", None)
    result = done(deidlib("protect", "drive.mkv", "out.mkv", *QUICK, "--dry-run"))
    assert result.stdout.startswith("drive.mkv: about 4 frames of 128x128\n")


@pytest.mark.usefixtures("here")
def test_a_dry_run_says_what_would_be_replaced() -> None:
    done(deidlib("protect", "face.png", "out.png", *QUICK))
    result = done(deidlib("protect", "face.png", "out.png", *QUICK, "--dry-run"))
    assert "out.png.json beside it; the file that is there would be replaced\n" in result.stdout


@pytest.mark.usefixtures("here")
def test_a_preview_shows_the_frame_as_it_was_and_as_it_will_be() -> None:
    result = done(deidlib("protect", "drive.mp4", "out.mkv", *QUICK, "--preview", "look.png"))
    assert "preview: look.png, frame 0 of drive.mp4; it shows the face as it was: not to be shared" in result.stderr
    # Four panels beside each other, each enlarged to 256.
    page = read_image("look.png")
    assert page.shape[-1] > 4 * 256
    assert Path("out.mkv").is_file()


@pytest.mark.usefixtures("here")
def test_a_preview_alone_writes_nothing_else() -> None:
    done(deidlib("protect", "face.png", "out.png", *QUICK, "--preview", "look.png", "--dry-run"))
    assert sorted(path.name for path in Path().iterdir()) == ["drive.mp4", "face.png", "look.png", "none.png"]


@pytest.mark.usefixtures("here")
def test_without_a_face_there_is_no_preview() -> None:
    result = done(deidlib("protect", "none.png", "out.png", *QUICK, "--preview", "look.png"))
    assert "warning: no face was found for a preview" in result.stderr
    assert not Path("look.png").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["face.png", "out.png", "--preview", "look.jpg"], "--preview must name a .png"),
        (["face.png", "out.png", "--preview", "face.png"], "--preview face.png is what is read or written"),
        (["face.png", "out.png", "--preview", "./out.png"], "is what is read or written"),
        (["-", "out.mkv", "--preview", "look.png"], "can be read once only"),
        (["-", "out.mkv", "--dry-run"], "can be read once only"),
    ],
)
def test_what_cannot_be_looked_at_beforehand_is_refused(options: list[str], message: str) -> None:
    refused(deidlib("protect", *options), message)
    assert not Path("out.png").exists()


def test_times_are_said_in_two_units_at_most() -> None:
    assert [_lasting(s) for s in (0, 59.2, 60, 599, 600, 3599, 3600, 90_000)] == [
        "1 s",
        "1 min 0 s",
        "1 min 0 s",
        "9 min 59 s",
        "10 min",
        "59 min",
        "1 h 0 min",
        "25 h 0 min",
    ]


@pytest.mark.usefixtures("here")
def test_with_a_key_all_of_it_goes_by_the_key() -> None:
    done(deidlib("key", "new", "my.key"))
    options = ("--key", "my.key", "--iterations", 1, "--detectors", "mtcnn", "--device", "cpu")
    result = done(deidlib("protect", "drive.mp4", "out.mkv", *options, "--dry-run", "--preview", "look.png"))
    assert "measured on 2 frames" in result.stdout
    assert Path("look.png").is_file()


# What is measured, and what is made of it


def toy(chain: Chain | None = None, **settings: object) -> Deidentifier:
    attacker = IFGSMAttacker([Pixels()], max_iterations=1, step=SignStep())
    return Deidentifier(attacker, Solid(), chain=chain, tracker=FaceTracker(window=0), lookout=None)


def test_the_time_of_a_clip_is_that_of_its_parts() -> None:
    cost = Cost(every=1.0, first=10.0, next=2.0, attacked=2)
    # Without chains every frame is a first one; half of them show a face.
    assert Estimator(toy())._total(100, 0.5, cost) == 100 * 1 + 0.5 * 100 * 10
    # Chains of 40: three first frames, and 97 that follow one.
    assert Estimator(toy(Chain(length=40)))._total(100, 1.0, cost) == 100 * 1 + 3 * 10 + 97 * 2


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("chain", [None, Chain(length=8)], ids=["together", "chained"])
def test_frames_are_looked_at_all_over_a_clip_and_measured_once_a_size(chain: Chain | None) -> None:
    make_video(Path("long.mkv"), torch.rand(20, 3, 16, 24))
    estimator = Estimator(toy(chain), looks=4)
    found = estimator.of(Path("long.mkv"))
    assert (found.frames, found.size, found.faces) == (20, (16, 24), {0: 1, 5: 1, 10: 1, 15: 1})
    assert found.cost.attacked == 2
    assert min(found.cost) > 0
    assert estimator.of(Path("long.mkv")).cost is found.cost


@pytest.mark.usefixtures("here")
def test_faces_that_are_given_are_counted() -> None:
    frames = torch.rand(4, 3, 16, 16)
    make_video(Path("given.mkv"), frames)
    found = Estimator(toy()).of(Path("given.mkv"), painted(frames, [1, 2]))
    assert found.faces == {0: 0, 1: 1, 2: 1, 3: 0}


@pytest.mark.usefixtures("here")
def test_the_previewed_frame_is_the_one_that_would_be_written() -> None:
    frames = torch.cat([torch.full((2, 3, 128, 128), 0.5), astronauts(1)])
    make_video(Path("late.mkv"), frames)
    deidentifier = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=2), tracker=FaceTracker(window=0))
    seen = preview(deidentifier, Path("late.mkv"))
    assert seen is not None
    assert seen.number == 2
    (batch,) = deidentifier.frames([frames[2:]])
    assert torch.equal(seen.protected, batch.images[0])
    assert preview(deidentifier, Path("none.png")) is None
