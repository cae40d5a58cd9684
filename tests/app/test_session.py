from __future__ import annotations

import shlex
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import astronauts, make_video, read_video
from command import deidlib, done
from desk import SETTINGS, menu, red, session, upload
from patches import LEFT, RIGHT, brightness, frame
from toys import White

from deidlib.app.judgement import Judgement, headline, judged
from deidlib.app.menu import Menu
from deidlib.app.progress import Progress, Stopped
from deidlib.app.recipe import command_of, python_of
from deidlib.app.session import Session
from deidlib.app.sessions import Sessions
from deidlib.app.settings import Settings
from deidlib.app.workplace import Workplace
from deidlib.keys.key import Key, KeyFileError
from deidlib.media import MediaReadError, read_image, write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.protect.sidecar import Sidecar

GREY = 128 / 255


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def looked(folder: Path, *faces: tuple[int, int, int, int], **more: Any) -> Session:
    """A picture is taken, and its faces are found."""
    made = session(folder, **more)
    made.take(upload(folder / "up", *faces))
    made.look(SETTINGS)
    return made


def test_a_file_is_taken_and_nothing_of_it_stays_where_it_was_uploaded(tmp_path: Path) -> None:
    made = session(tmp_path)
    clip = made.take(upload(tmp_path / "up", LEFT))
    assert (clip.kind, clip.frames, clip.size) == ("image", 1, (96, 128))
    assert not files(tmp_path / "up")
    assert stat.S_IMODE(clip.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(clip.path.parent.stat().st_mode) == 0o700
    # Another file takes its place, whole.
    made.take(upload(tmp_path / "up", RIGHT, name="other.png"))
    assert files(tmp_path) == ["other.png"]
    assert not made.marking.faces


def test_a_bad_file_is_told_by_its_name_and_not_kept(tmp_path: Path) -> None:
    made = session(tmp_path)
    bad = tmp_path / "notes.png"
    bad.write_text("no picture")
    with pytest.raises(MediaReadError) as error:
        made.take(bad)
    assert made.folder.in_words(error.value).startswith("notes.png is not an image that can be read.")
    assert not files(tmp_path)
    with pytest.raises(ValueError, match="there is no file yet"):
        made.look(SETTINGS)


def test_a_file_that_is_gone_is_to_be_dropped_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Drop it once more"):
        session(tmp_path).take(tmp_path / "never.png")


def test_every_face_that_is_found_is_checked(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT, RIGHT)
    assert made.marking.checked == {0, 1}
    assert [face.said(1) for face in made.marking.faces] == ["found", "found"]
    assert sorted(made.marking.given()[0].boxes.tolist()) == [list(map(float, LEFT)), list(map(float, RIGHT))]


def test_a_face_that_is_seen_in_the_turned_picture_only_is_among_them(tmp_path: Path) -> None:
    # Pictures are wider than high here; the toy sees nothing in them but when they lie on their side.
    sideways = White(lambda image, number: red(image, number) if image.shape[1] > image.shape[2] else [])
    made = looked(tmp_path, LEFT, targets={"red": lambda: sideways})
    assert [face.said(1) for face in made.marking.faces] == ["found in the turned picture only"]
    assert made.marking.checked == {0}
    assert made.marking.given()[0].boxes.tolist() == [list(map(float, LEFT))]


def test_what_is_checked_is_hidden_at_once_and_what_is_not_stays(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT, RIGHT)
    made.marking.check([0])
    original = made.frame(0)
    hidden, tracked = made.hidden(0, SETTINGS)
    assert tracked.treatment == "found"
    assert bool((hidden[:, 20:80, 10:50] == GREY).all())
    assert torch.equal(hidden[:, :, 64:], original[:, :, 64:])


def test_a_face_drawn_by_hand_is_hidden_too(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT)
    number = made.marking.draw(0, (110, 80, 70, 20))
    assert made.marking.faces[number].said(1) == "drawn by hand"
    hidden, _ = made.hidden(0, SETTINGS)
    assert bool((hidden[:, 20:80, 70:110] == GREY).all())
    # To look again finds what is found, and keeps what was drawn.
    made.look(SETTINGS)
    assert made.marking.checked == {0, 1}
    made.marking.undraw()
    assert made.marking.checked == {0}
    assert len(made.marking.faces) == 1


@pytest.mark.parametrize(
    ("frame", "box", "words"),
    [
        (0, (5, 5, 7, 60), "no face is smaller"),
        (1, (5, 5, 60, 60), "there are frames 0 to 0"),
        (0, (200, 5, 300, 60), "no face is smaller"),
    ],
)
def test_a_box_that_hides_no_face_is_refused(tmp_path: Path, frame: int, box: Any, words: str) -> None:
    made = looked(tmp_path, LEFT)
    with pytest.raises(ValueError, match=words):
        made.marking.draw(frame, box)
    assert len(made.marking.faces) == 1


def test_without_a_checked_face_the_whole_picture_is_hidden(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT)
    made.marking.check([])
    hidden, tracked = made.hidden(0, SETTINGS)
    assert tracked.treatment == "whole-frame"
    assert bool((hidden == GREY).all())
    protected = made.protect(SETTINGS)
    assert protected.summary.whole_frame == 1
    assert bool((read_image(protected.path) == GREY).all())


def test_an_unchecked_face_stays_as_it_is_and_it_is_said(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT, RIGHT)
    made.marking.check([1])
    protected, original = made.protect(SETTINGS), made.frame(0)
    written = read_image(protected.path)[0]
    assert torch.equal(written[:, :, :60], original[:, :, :60])
    assert bool(((written[:, 20:80, 70:110] - GREY).abs() * 255 < 8.5).all())
    found = judged(protected, made.evaluate())
    assert Judgement("bad", "1 face left as in the original, since you unchecked it") in found
    assert headline(found).kind == "bad"


def test_a_file_is_made_attacked_and_shown_to_everybody(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT, embedder=lambda: brightness)
    told: list[tuple[float, int]] = []
    protected = made.protect(SETTINGS, lambda progress: told.append((progress.share, progress.step)))
    # Before the first step and after each; what was reached is not lost.
    assert [step for _, step in told[:4]] == [0, 1, 2, 3]
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1][0] == 1
    (losses,) = protected.curves.values()
    # And those of two repairs, of twice and four times the steps, since white is not read.
    assert len(losses) == 4 + 7 + 13
    assert losses[-1] < losses[0]
    change = (read_image(protected.path)[0] - made.attacked_from(0)).abs().mul(255).round()
    assert 0 < float(change.max()) <= 8
    result = made.evaluate()
    assert {name: reader.role for name, reader in result.readers.items()} == {
        "red": "authorised",
        "stranger": "unauthorised",
        "green": "unauthorised",
    }
    assert "<html" in protected.report.read_text()
    words = [one.text for one in judged(protected, result)]
    assert any(text.startswith("by construction, no pixel of a hidden face has gone into the file") for text in words)
    # Whoever wants white does not get red: the toy may read, and does not.
    assert any(text.startswith("red may read, and finds 0 of 1 face") for text in words)
    assert "stranger may not read, and finds no hidden face" in words


def test_a_place_that_strangers_take_for_a_face_and_nobody_marked_is_told(tmp_path: Path) -> None:
    made = session(tmp_path)
    path = tmp_path / "two.png"
    write_image(path, torch.cat([frame(LEFT)[:, :, :64], frame(RIGHT, channel=1)[:, :, 64:]], dim=2))
    made.take(path)
    made.look(SETTINGS)
    assert len(made.marking.faces) == 1
    said = [one.text for one in judged(made.protect(SETTINGS), made.evaluate())]
    assert any("green takes a place for a face that is not marked" in text for text in said)
    # What is drawn there is marked.
    made.marking.draw(0, RIGHT)
    said = [one.text for one in judged(made.protect(SETTINGS), made.evaluate())]
    assert not any("not marked" in text for text in said)


def test_a_clip_is_looked_through_and_protected(tmp_path: Path) -> None:
    made = session(tmp_path)
    # The face on the left is missed in one frame.
    clip = [frame(LEFT, RIGHT), frame(RIGHT), frame(LEFT, RIGHT)]
    made.take(make_video(tmp_path / "clip.mkv", clip))
    made.look(SETTINGS)
    assert sorted(face.said(3) for face in made.marking.faces) == ["found, frames 0 to 2"] * 2
    protected = made.protect(SETTINGS)
    assert protected.path.name == "clip.protected.mkv"
    written = read_video(protected.path)
    assert bool(((written[1, :, 20:80, 10:50] - GREY).abs() * 255 < 0.5).all())
    assert protected.audit is not None
    assert "frame" in protected.audit.read_text()
    assert torch.equal(made.protected(2), written[2])
    assert made.protect(replace(SETTINGS, codec="h264", iterations=0)).path.name == "clip.protected.mp4"


def test_a_swap_needs_a_face_to_show(tmp_path: Path) -> None:
    made, swap = looked(tmp_path, LEFT), replace(SETTINGS, hide="swap")
    with pytest.raises(ValueError, match="needs a picture of the face to show"):
        made.hidden(0, swap)
    made.take_source(upload(tmp_path / "up", name="nobody.png"))
    with pytest.raises(ValueError, match="face"):
        made.hidden(0, swap)
    assert made.result is None


def test_work_is_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT)
    with pytest.raises(Stopped):
        made.protect(SETTINGS, lambda progress: made.stop())
    assert files(tmp_path) == ["people.png"]
    assert made.result is None
    # It can be begun once more.
    assert made.protect(SETTINGS).path.is_file()


def test_one_thing_is_done_at_a_time(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT)
    refused: list[str] = []

    def again(progress: Progress) -> None:
        with pytest.raises(ValueError, match="work is going on"):
            made.look(SETTINGS)
        refused.append(progress.name)

    made.protect(SETTINGS, again)
    assert refused


def test_a_key_is_the_way_to_read(tmp_path: Path) -> None:
    targets = {"mtcnn": MTCNN}
    own = tmp_path / "own"
    own.mkdir()
    made, settings = Session(own, Menu(targets, silence=lambda models: [])), Settings(("mtcnn",), iterations=60)
    write_image(tmp_path / "a.png", astronauts(1, side=192)[0])
    made.take(tmp_path / "a.png")
    made.look(settings)
    # With a key, not every small face is read: docs/keys.md. With this one it is.
    Key(bytes(32)).save(tmp_path / "fixed.key")
    made.take_key(tmp_path / "fixed.key")
    protected = made.protect(settings)
    described = Sidecar.read(protected.path)
    assert described is not None
    assert described.record is not None
    assert made.key is not None
    assert described.record.opened_by(made.key)
    readers = made.evaluate().readers
    assert readers["mtcnn with the key"].found == 1
    assert readers["mtcnn without the key"].role == "unauthorised"
    Key(bytes(32)).save(tmp_path / "ours.key")
    Key.generate().save(tmp_path / "other.key")

    def copies(*paths: Path) -> list[Path]:
        out = tmp_path / "up"
        out.mkdir(exist_ok=True)
        for path in paths:
            (out / path.name).write_bytes(path.read_bytes())
        return [out / path.name for path in paths]

    _, faces = made.open(copies(tmp_path / "ours.key", protected.path, protected.sidecar)).read(0)
    assert len(faces) == 1
    # Of the keys nothing is kept.
    assert not [name for name in files(own) if name.endswith(".key")]
    with pytest.raises(ValueError, match="nothing is readable with this key"):
        made.open(copies(tmp_path / "other.key", protected.path, protected.sidecar))
    with pytest.raises(ValueError, match="one protected file is read at a time"):
        made.open(copies(tmp_path / "ours.key"))


def test_a_new_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    made = session(tmp_path)
    path = made.new_key()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Key.load(path) == made.key


def test_a_key_that_is_waited_for_is_not_done_without(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT)
    made.wants_key = True
    with pytest.raises(ValueError, match="the key file is missing"):
        made.protect(SETTINGS)
    (tmp_path / "no.key").write_text("no key")
    with pytest.raises(KeyFileError):
        made.take_key(tmp_path / "no.key")
    assert files(tmp_path) == ["people.png"]
    Key.generate().save(tmp_path / "our.key")
    made.take_key(tmp_path / "our.key")
    assert made.protect(SETTINGS).key == made.key
    assert "our.key" not in files(tmp_path)


@pytest.mark.parametrize("change", [{}, {"epsilon": 6, "until": "never", "hide": "pixelate"}])
def test_the_command_and_the_python_give_the_same_file(
    tmp_path: Path, change: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    made = Session(own, Menu({"mtcnn": MTCNN}, calls={"mtcnn": "MTCNN()"}))
    settings = Settings(("mtcnn",), iterations=2, **change)
    write_image(tmp_path / "a.png", astronauts(1)[0])
    made.take(tmp_path / "a.png")
    made.look(settings)
    made.marking.draw(0, (90, 90, 120, 120))
    protected = made.protect(settings)
    expected = protected.path.read_bytes()

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    write_image(here / "a.png", astronauts(1)[0])
    (here / "faces.json").write_bytes(protected.faces.read_bytes())
    done(deidlib(*shlex.split(command_of(protected, "a.png"))[1:]))
    assert (here / "a.protected.png").read_bytes() == expected
    for path in (here / "a.protected.png", here / "a.protected.png.json"):
        path.unlink()
    exec(python_of(protected, "a.png", made.menu.calls), {})
    assert (here / "a.protected.png").read_bytes() == expected


def test_the_python_of_every_setting_is_python(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT)
    protected = made.protect(SETTINGS)
    settings = Settings(("red",), "swap", 0, 0, "fine", "keep", "h264")
    video = replace(protected, path=Path("a b.protected.mp4"), settings=settings, key=Key.generate())
    code = python_of(video, "a b.mp4", {}, source="nobody.png", silenced=True)
    compile(code, "page", "exec")
    for part in ("protect_video(", 'WarpSwapper("nobody.png"', "FaceTracker(", 'Output("h264")', "Key.load(", "red()"):
        assert part in code
    assert command_of(video, "a b.mp4", "nobody.png") == (
        "deidlib protect 'a b.mp4' 'a b.protected.mp4' --faces faces.json --targets red --epsilon 0 --iterations 0 "
        "--until fine --on-missing keep --codec h264 --hide swap:nobody.png --key deidlib.key"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epsilon": 300}, "grey levels"),
        ({"epsilon": 0.5}, "grey levels"),
        ({"iterations": -1}, "steps"),
        ({"until": "soon"}, "auto, never"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SETTINGS, **change)


def test_who_may_read_must_be_here_and_find_faces() -> None:
    with pytest.raises(ValueError, match="nobody is not to be had here"):
        menu().models(["nobody"])
    with pytest.raises(ValueError, match="a detector must be among"):
        menu().models([])
    with pytest.raises(ValueError, match="at least one model"):
        Menu({})


def test_users_see_only_their_own_and_leave_nothing() -> None:
    with Workplace() as place:
        sessions = Sessions(place, menu())
        one, two = sessions.of("one"), sessions.of("two")
        assert sessions.of("one") is one
        one.take(upload(place.path / "up", LEFT))
        assert two.clip is None
        assert one.folder.path.parent == two.folder.path.parent == place.path
        assert len(one.folder.path.name) >= 32
        assert not files(two.folder.path)
        sessions.end("one")
        assert not one.folder.path.exists()
        assert len(sessions) == 1
        sessions.end("one")
    assert not place.path.exists()


def test_a_session_that_ends_during_its_work_leaves_nothing(tmp_path: Path) -> None:
    made = looked(tmp_path, LEFT)
    with pytest.raises((Stopped, OSError)):
        made.protect(SETTINGS, lambda progress: made.close())
    assert not files(tmp_path)
