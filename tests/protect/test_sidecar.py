"""A file and its description: together or neither, wherever it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_video
from toys import Sees, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.keys.key import Key
from deidlib.media import MediaWriteError, write_image
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.image import protect_image
from deidlib.protect.sidecar import Sidecar, opened, publish
from deidlib.protect.video import protect_video
from deidlib.records.files import sha256_of

OLD, NEW = Key(bytes(32)), Key(bytes(range(32)))


class Killed(BaseException):
    pass


def protect(source: Path, target: Path, key: Key | None, **settings: Any) -> None:
    model = Sees(lambda image, number: [[8.0, 8.0, 24.0, 24.0]])
    deidentifier = Deidentifier(IFGSMAttacker([model], max_iterations=1), tracker=tracking({}))
    protect_video(deidentifier, source, target, key=key, check=Check(repairs=0), **settings)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return make_video(tmp_path / "in" / "in.mkv", torch.rand(3, 3, 32, 32))


@pytest.fixture
def target(source: Path, tmp_path: Path) -> Path:
    """A file protected with the old key."""
    (tmp_path / "out").mkdir()
    protect(source, tmp_path / "out" / "out.mkv", OLD)
    return tmp_path / "out" / "out.mkv"


def failing(nth: int, error: BaseException) -> Callable[..., None]:
    """``os.replace`` of the file or its description that fails the nth time."""
    count, replace = 0, os.replace

    def maybe(old: Path, new: Path) -> None:
        nonlocal count
        if Path(new).parent.name == "out":
            count += 1
            if count == nth:
                raise error
        replace(old, new)

    return maybe


@pytest.mark.parametrize("nth", [1, 2])
def test_a_second_run_that_fails_leaves_the_first(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """What was written under another key is not to be lost because the disk is full."""
    before = {path.name: path.read_bytes() for path in target.parent.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(nth, OSError(28, "No space left on device")))
        with pytest.raises(MediaWriteError, match="No space left on device"):
            protect(source, target, NEW)
    assert {name: (target.parent / name).read_bytes() for name in before} == before
    assert opened(Sidecar.read(target), OLD, target) is not None
    protect(source, target, NEW)
    assert opened(Sidecar.read(target), NEW, target) is not None
    assert sorted(path.name for path in target.parent.iterdir()) == ["out.mkv", "out.mkv.json"]


@pytest.mark.parametrize("nth", [1, 2])
def test_a_second_picture_that_fails_leaves_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    model = Sees(lambda image, number: [[8.0, 8.0, 24.0, 24.0]])
    deidentifier = Deidentifier(IFGSMAttacker([model], max_iterations=1))
    (tmp_path / "out").mkdir()
    picture, target = tmp_path / "in.png", tmp_path / "out" / "out.png"
    write_image(picture, torch.rand(1, 3, 32, 32))
    protect_image(deidentifier, picture, target, key=OLD)
    before = {path.name: path.read_bytes() for path in target.parent.iterdir()}
    monkeypatch.setattr(os, "replace", failing(nth, OSError(28, "No space left on device")))
    with pytest.raises(MediaWriteError, match="No space left on device"):
        protect_image(deidentifier, picture, target, key=NEW)
    assert {name: (target.parent / name).read_bytes() for name in before} == before
    assert opened(Sidecar.read(target), OLD, target) is not None


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit()])
def test_an_interrupt_between_the_two_names(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, interrupt: BaseException
) -> None:
    before = target.read_bytes(), Sidecar.path_of(target).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(2, interrupt))
        with pytest.raises(type(interrupt)):
            protect(source, target, NEW)
    assert (target.read_bytes(), Sidecar.path_of(target).read_bytes()) == before


def test_killed_between_any_two_names_the_file_there_is_described(source: Path, target: Path, tmp_path: Path) -> None:
    """Every state in which a killed process leaves them."""
    old, work = target.read_bytes(), tmp_path / "out" / "work"
    work.mkdir()
    protect(source, tmp_path / "new.mkv", NEW)
    description = json.loads(Sidecar.path_of(tmp_path / "new.mkv").read_text())
    file = work / target.name
    file.write_bytes((tmp_path / "new.mkv").read_bytes())
    states: list[tuple[bytes, Sidecar | None]] = []
    replace = os.replace

    def watched(old: Path, new: Path) -> None:
        states.append((target.read_bytes(), Sidecar.read(target)))
        replace(old, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", watched)
        publish(file, target, description)
    states.append((target.read_bytes(), Sidecar.read(target)))
    assert len({content for content, _ in states}) == 2
    for content, sidecar in states:
        key = OLD if content == old else NEW
        assert sidecar is not None
        assert sidecar.record is not None
        assert sidecar.record.opened_by(key)
    # The last one tells of the old file no more.
    assert json.loads(Sidecar.path_of(target).read_text()) == description


def test_described_twice_and_run_again(source: Path, target: Path) -> None:
    """A process was killed with both descriptions there; whoever comes next sees one file."""
    place = Sidecar.path_of(target)
    said = json.loads(place.read_text())
    other = said | {"output": {"sha256": "0" * 64}, "key": None}
    place.write_text(json.dumps(other | {"previous": said}))
    assert opened(Sidecar.read(target), OLD, target) is not None
    protect(source, target, NEW)
    assert "previous" not in json.loads(place.read_text())
    assert json.loads(place.read_text())["output"]["sha256"] == sha256_of(target)


@pytest.mark.parametrize("previous", [None, 3, [], {}, {"output": 4}, {"output": {"sha256": "no"}}])
def test_a_strange_earlier_description_changes_nothing(target: Path, previous: object) -> None:
    place = Sidecar.path_of(target)
    place.write_text(json.dumps(json.loads(place.read_text()) | {"previous": previous}))
    assert opened(Sidecar.read(target), OLD, target) is not None


@pytest.mark.parametrize("what", ["text", "json", "folder", "link", "dangling"])
def test_what_is_no_description_is_not_written_over(source: Path, tmp_path: Path, what: str) -> None:
    """Others call their files so, too."""
    target, mine = tmp_path / "out.mkv", tmp_path / "mine.json"
    mine.write_text("{}")
    place = Sidecar.path_of(target)
    if what == "folder":
        place.mkdir()
    elif what in ("link", "dangling"):
        place.symlink_to(mine if what == "link" else tmp_path / "nowhere")
    else:
        place.write_text("notes" if what == "text" else '{"format": "of mine"}')
    with pytest.raises(MediaWriteError, match=r"out\.mkv\.json is no description of a protected file"):
        protect(source, target, None)
    assert os.path.lexists(place)
    assert mine.read_text() == "{}"
    assert not target.exists()
