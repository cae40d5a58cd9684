from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from deidlib.app import words
from deidlib.app.errand import Errand
from deidlib.app.guard import POLICY, Guard, refused
from deidlib.app.judgement import Judgement, headline
from deidlib.app.marked_face import DrawnFace, found_faces
from deidlib.app.own_folder import OwnFolder
from deidlib.app.picture import Mark, Picture
from deidlib.app.progress import Progress
from deidlib.app.workplace import Workplace
from deidlib.attack.attack_step import AttackStep
from deidlib.faces import Faces

# The workplace


def test_nobody_else_may_enter_and_nothing_is_left(tmp_path: Path) -> None:
    with Workplace(tmp_path) as place:
        room = place.room()
        (room / "face.png").write_bytes(b"a face")
        assert stat.S_IMODE(place.path.stat().st_mode) == 0o700
        assert place.room() != room
    assert not list(tmp_path.iterdir())
    place.close()


def test_what_a_killed_program_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    left = tmp_path / "deidlib-app-left"
    left.mkdir()
    (left / "lock").touch()
    (left / "face.png").write_bytes(b"a face")
    begun = tmp_path / "deidlib-app-begun"
    begun.mkdir()
    (tmp_path / "others").mkdir()
    with Workplace(tmp_path) as first, Workplace(tmp_path) as second:
        assert not left.exists()
        assert first.path.exists()
        assert second.path.exists()
        # It holds no lock yet.
        assert begun.exists()
        with pytest.raises(TimeoutError), FileLock(first.path / "lock", timeout=0):
            raise AssertionError


def test_files_have_places_of_their_own(tmp_path: Path) -> None:
    folder = OwnFolder(tmp_path)
    assert folder.place("a.png") != folder.place("a.png")
    up = tmp_path / "up.png"
    up.touch()
    with pytest.raises(RuntimeError), folder.moved(up) as path:
        raise RuntimeError
    assert not up.exists()
    assert not path.parent.exists()


# What is let in


@pytest.mark.parametrize(
    ("path", "headers", "words"),
    [
        ("/", {"host": "127.0.0.1:7860"}, None),
        ("/", {"host": "localhost:7860", "origin": "http://localhost:7860"}, None),
        ("/", {"host": "rebound.example:7860"}, "this machine alone"),
        ("/", {}, "this machine alone"),
        ("/", {"host": "127.0.0.1.example"}, "this machine alone"),
        ("/upload", {"host": "127.0.0.1:7860", "origin": "https://evil.example"}, "a page from elsewhere"),
        ("/upload", {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:8000"}, "a page from elsewhere"),
        ("/upload", {"host": "127.0.0.1:7860", "origin": "null"}, "a page from elsewhere"),
        ("/gradio_api/file=https://evil.example/a", {"host": "127.0.0.1"}, "nothing is fetched"),
        ("/gradio_api/proxy=https://a.hf.space/b", {"host": "127.0.0.1"}, "nothing is fetched"),
    ],
)
def test_only_this_machine_is_answered(path: str, headers: dict[str, str], words: str | None) -> None:
    said = refused(path, headers)
    assert (said is None) if words is None else (said is not None and words in said)


def _asked(path: str, host: str) -> list[Any]:
    """What a server behind the guard answers."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"max-age=9")]})
        await send({"type": "http.response.body", "body": b"page"})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    scope = {"type": "http", "path": path, "headers": [(b"Host", host.encode())]}
    asyncio.run(Guard(app)(scope, receive, send))
    return sent


def test_answers_let_the_browser_load_nothing_from_elsewhere_and_keep_nothing() -> None:
    start, body = _asked("/gradio_api/file=/tmp/face.png", "127.0.0.1:1")
    headers = dict(start["headers"])
    assert headers[b"content-security-policy"].decode() == POLICY
    assert headers[b"cache-control"] == b"no-store"
    assert b"Cache-Control" not in headers
    assert body["body"] == b"page"
    assert "http" not in POLICY
    # Scripts are no secret.
    start, _ = _asked("/assets/index.js", "127.0.0.1:1")
    assert dict(start["headers"])[b"Cache-Control"] == b"max-age=9"
    start, body = _asked("/", "rebound.example")
    assert start["status"] == 403
    assert b"this machine alone" in body["body"]


# Faces


def test_one_that_is_missed_for_long_is_another_one() -> None:
    face = Faces(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.ones(1))
    clip = [face, *[Faces.empty()] * 16, face]
    assert [one.said(18) for one in found_faces(clip, [0] * 18)] == ["found, frame 0", "found, frame 17"]
    assert [one.said(17) for one in found_faces(clip[1:] and [face, *clip[2:]], [0] * 17)] == ["found, frames 0 to 16"]


def test_two_faces_are_never_joined_in_one_frame() -> None:
    here, there = (Faces(torch.tensor([[x, 0.0, x + 9, 9.0]]), torch.ones(1)) for x in (0.0, 1.0))
    both = Faces.cat([here, there])
    found = found_faces([here, both], [0, 0])
    assert sorted(len(one.at(1)) for one in found) == [1, 1]


def test_what_is_drawn_in_two_frames_is_followed() -> None:
    face = DrawnFace({0: (0, 0, 10, 10)}).moved(10, (100, 0, 110, 10))
    assert [float(face.at(frame).boxes[0, 0]) for frame in (0, 5, 10, 99)] == [0, 50, 100, 100]
    assert face.said(100) == "drawn by hand in frames 0, 10, for all frames"


# How far it is


def _step(number: int, frames: list[int], working: list[int], loss: float) -> AttackStep:
    return AttackStep(number, 4, frames, working, {"red": torch.full((len(frames),), loss)})


def test_progress_is_by_frame_and_step() -> None:
    now = [0.0]
    known = Progress(4, lambda progress: None, clock=lambda: now[0])
    known.stage("protecting")
    assert known.left() is None
    known.on_step(_step(0, [0, 1], [0, 1], 8.0))
    assert known.share == 0
    now[0] = 6.0
    # Two frames of four, half of their steps done.
    known.on_step(_step(2, [0, 1], [0, 1], 4.0))
    assert known.share == 0.25
    assert known.left() == 18.0
    # One of them is done before its last step.
    known.on_step(_step(3, [0, 1], [1], 2.0))
    assert known.share == pytest.approx((2 - 0.25) / 4)
    assert known.curves == {"red": [8.0, 4.0, 2.0]}
    known.progress(2)
    assert known.share == 0.5
    known.on_step(_step(0, [2, 3], [2, 3], 9.0))
    assert known.share == 0.5
    assert known.curves == {"red": [9.0]}
    # Once more, as it was not good enough.
    known.on_step(_step(0, [2, 3], [2, 3], 6.0))
    assert known.curves == {"red": [9.0, 6.0]}


def test_an_errand_tells_the_latest_and_hands_on_what_went_wrong() -> None:
    begun, go = threading.Event(), threading.Event()

    def work(tell: Any) -> str:
        for number in range(5):
            tell(number)
        begun.set()
        go.wait(10)
        return "done"

    errand: Errand[int, str] = Errand(work, every=0.01)
    assert begun.wait(10)
    told = iter(errand)
    assert next(told) == 4
    go.set()
    assert not list(told)
    assert errand.result() == "done"

    def fails(tell: Any) -> None:
        raise ValueError("a bad file")

    failed: Errand[int, None] = Errand(fails)
    assert not list(failed)
    with pytest.raises(ValueError, match="a bad file"):
        failed.result()


# What is seen


def test_what_comes_from_files_is_text() -> None:
    assert "<b>" not in words.said("bad", "<b>", "<b>")
    found = [Judgement("bad", "<b>")]
    assert headline(found).text == "1 thing speaks against sharing this file"


def test_curves_are_shares_of_the_first_loss() -> None:
    drawn = words.curves({"red": [8.0, 4.0, 2.0], "never": [1.0]})
    assert "step" in drawn
    assert "red" in drawn
    assert "never" not in drawn
    assert not words.curves({})
    # Where it begins at nothing, or at no number, there is no share.
    assert "polyline" not in words.curves({"red": [0.0, 0.0]})


def test_a_picture_is_of_the_size_of_a_screen_and_its_points_are_the_frames() -> None:
    small, large = Picture(torch.zeros(3, 100, 200)), Picture(torch.zeros(3, 2000, 4000))
    assert small.image.size == (600, 300)
    assert small.in_frame(300, 150) == (100, 50)
    assert large.image.size == (1280, 640)
    assert large.in_frame(640, 320) == (2000, 1000)


def test_faces_are_marked_for_those_who_see_no_colours(tmp_path: Path) -> None:
    plain = Picture(torch.full((3, 300, 400), 0.5)).pixels.copy()
    marks = [Mark(1, (50, 60, 150, 200), True), Mark(2, (200, 60, 300, 200), False)]
    marked = Picture(torch.full((3, 300, 400), 0.5)).marked(marks, corner=(350, 250))
    changed = (marked.pixels != plain).any(axis=2)
    # Within the one that is hidden nothing is drawn; the one that stays is crossed out.
    assert not changed[100:180, 70:130].any()
    assert changed[100:180, 230:270].any()
    assert changed[250, 350]
    path = marked.save(tmp_path / "a.png")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
