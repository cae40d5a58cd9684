"""Somebody who may write beside a job: replaces its input, plants and changes what lies in its work folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_sounding_video, make_video, read_video
from skimage.data import astronaut
from torch import Tensor
from toys import Sees, seen_on, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.media import MediaReadError, MediaWriteError, write_image
from deidlib.protect.check import Check
from deidlib.protect.clip import ClipJob
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.output import Output
from deidlib.protect.source import ClipSource
from deidlib.protect.video import protect_video
from deidlib.records.files import sha256_of
from deidlib.records.fingerprint import described, fingerprint

SIDE, COUNT, SEGMENT = 32, 8, 4
BOX = [8.0, 8.0, 24.0, 24.0]


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deidlib.protect.deidentifier._PART", SEGMENT)


def face(offset: int = 0) -> Tensor:
    """Frames that show a face, of detail everywhere: ``(COUNT, 3, SIDE, SIDE)``."""
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
    at = [60 + offset + k for k in range(COUNT)]
    return torch.stack([picture[:, y : y + SIDE, 200 : 200 + SIDE] for y in at])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return make_video(tmp_path / "in" / "in.mkv", face())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "out.mkv"


def protector(*, reads_badly: bool = False) -> Deidentifier:
    """A face in the middle of every frame; read elsewhere in protected ones, if asked for."""
    shift = 6.0 if reads_badly else 0.0
    known = Sees(lambda image, number: [BOX])
    moved = [BOX[0] + shift, BOX[1], BOX[2] + shift, BOX[3]]
    model = Sees(lambda image, number: [moved], original=known)
    return Deidentifier(IFGSMAttacker([model], max_iterations=1), tracker=tracking({}))


def run(source: Path, target: Path, *, stage: Callable[[str], object] | None = None, **settings: Any) -> None:
    settings.setdefault("check", Check(repairs=1))
    protect_video(protector(reads_badly=True), source, target, stage=stage, batch_size=SEGMENT, **settings)


def at(stage: str, act: Callable[[], object]) -> Callable[[str], None]:
    def called(name: str) -> None:
        if name == stage:
            act()

    return called


def published(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


# The input


def put_another_there(source: Path) -> None:
    other = make_video(source.with_name("other.mkv"), 1 - face(5))
    os.replace(other, source)


def write_into_it(source: Path) -> None:
    """Same inode, same size, same times: only the bytes tell."""
    known, content = source.stat(), bytearray(source.read_bytes())
    content[-1] ^= 1
    source.write_bytes(content)
    os.utime(source, ns=(known.st_atime_ns, known.st_mtime_ns))


@pytest.mark.parametrize("stage", ["protecting", "writing", "checking", "repairing"])
def test_an_input_replaced_during_a_run_is_not_published(source: Path, target: Path, stage: str) -> None:
    with pytest.raises(MediaReadError, match=r"in\.mkv was changed or replaced while it was worked on"):
        run(source, target, stage=at(stage, lambda: put_another_there(source)))
    assert published(target) == []


def test_bytes_changed_behind_the_times_of_an_input_that_is_read_again(source: Path, target: Path) -> None:
    with pytest.raises(MediaReadError, match="changed or replaced"):
        run(source, target, stage=at("repairing", lambda: write_into_it(source)))
    assert published(target) == []


def test_an_input_replaced_between_its_hash_and_its_first_frame(source: Path, target: Path) -> None:
    clip = ClipSource.of_file(source)
    put_another_there(source)
    with pytest.raises(MediaReadError, match="changed or replaced"):
        ClipJob(protector(), clip, target, Output(), None)


def test_an_input_that_is_gone(source: Path, target: Path) -> None:
    with pytest.raises(MediaReadError, match=r"in\.mkv cannot be read"):
        run(source, target, stage=at("repairing", source.unlink))
    assert published(target) == []


def test_one_picture_of_a_folder_replaced(tmp_path: Path, target: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, image in enumerate(face()):
        write_image(frames / f"{number}.png", image)

    def replace() -> None:
        shutil.copy(frames / "0.png", frames / "5.png")

    with pytest.raises(MediaReadError, match="frames was changed or replaced"):
        run(frames, target, stage=at("writing", replace))
    assert published(target) == []


def test_sound_is_not_taken_from_another_file(tmp_path: Path, target: Path) -> None:
    clip = make_sounding_video(tmp_path / "in.mkv", face())
    with pytest.raises(MediaReadError, match="changed or replaced"):
        run(clip, target, output=Output(audio="copy"), stage=at("writing", lambda: put_another_there(clip)))
    assert published(target) == []


def test_outside_the_mask_a_repair_takes_nothing_from_the_source(source: Path) -> None:
    """Whatever is read under the same places the second time."""
    deidentifier = protector(reads_badly=True)
    originals, others = face(), 1 - face(5)
    ((batch, tracked),) = deidentifier.follow([deidentifier.detect(originals, 0)])
    first = deidentifier.protect(batch, tracked).images
    ((other, _),) = deidentifier.follow([deidentifier.detect(others, 0)])
    better, _ = deidentifier.repair(other, tracked, first, range(COUNT), 2)
    outside = deidentifier.obfuscator.mask([frame.found for frame in tracked], SIDE, SIDE).expand_as(first) == 0
    assert outside.any()
    assert torch.equal(better[outside], first[outside])
    assert not torch.equal(better, first)


def test_an_input_left_alone_is_published(source: Path, target: Path) -> None:
    stages: list[str] = []
    run(source, target, stage=stages.append)
    assert "repairing" in stages
    assert published(target) == ["out.mkv", "out.mkv.json"]
    assert len(read_video(target)) == COUNT


# The work folder


class Stop(Exception):
    pass


def stop() -> None:
    raise Stop


def stopped(source: Path, target: Path, **settings: Any) -> Path:
    """The work folder of a job that ended before it wrote its output."""
    with pytest.raises(Stop):
        run(source, target, stage=at("writing", stop), **settings)
    return target.parent / f".{target.name}.deidlib-work"


def replant(work: Path, number: int, round_: int, frames: Tensor) -> None:
    """Another segment, with the hash of it in a record as anybody could write it."""
    video = make_video(work / f"{number:06d}.{round_}.mkv", frames)
    record = work / f"{number:06d}.0.json"
    data = json.loads(record.read_text()) | {"sha256": sha256_of(video)}
    (work / f"{number:06d}.{round_}.json").write_text(json.dumps(data))


@pytest.mark.parametrize("round_", [0, 1, 2])
@pytest.mark.parametrize("key", [None, Key(bytes(32))])
def test_a_planted_segment_is_made_again(source: Path, target: Path, key: Key | None, round_: int) -> None:
    run(source, target, key=key)
    whole = target.read_bytes()
    target.unlink()
    work = stopped(source, target, key=key)
    replant(work, 1, round_, face()[SEGMENT:])
    run(source, target, key=key)
    assert target.read_bytes() == whole


def test_a_record_under_another_name_is_nobodys(source: Path, target: Path) -> None:
    """The first segment twice is not the clip."""
    run(source, target)
    whole = target.read_bytes()
    work = stopped(source, target)
    for suffix in ("mkv", "json"):
        shutil.copy(work / f"000000.0.{suffix}", work / f"000001.0.{suffix}")
        shutil.copy(work / f"000000.0.{suffix}", work / f"000001.1.{suffix}")
    run(source, target)
    assert target.read_bytes() == whole


DAMAGE = {
    "empty": b"",
    "list": b"[]",
    "no record": b"{}",
    "deep": b"[" * 200_000,
    "emptied": b'{"bad": [], "frames": 1}',
    "no text": bytes(range(256)),
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["000001.0.json", "clip.json", "checked-0.json", "job.json", "key"])
def test_a_damaged_record_is_made_again(source: Path, target: Path, name: str, content: bytes) -> None:
    run(source, target)
    whole = target.read_bytes()
    work = stopped(source, target)
    (work / name).write_bytes(content)
    run(source, target)
    assert target.read_bytes() == whole
    assert published(target) == ["out.mkv", "out.mkv.json"]


def test_what_was_read_for_the_holder_of_a_key_lies_nowhere_in_clear(source: Path, target: Path) -> None:
    key = Key(bytes(range(32)))
    work = stopped(source, target, key=key)
    texts = [path.read_text() for path in work.glob("0*.json")]
    assert len(texts) == COUNT // SEGMENT
    assert not any("boxes" in text or str(BOX[0]) in text for text in texts)
    assert not (work / "key").exists()
    # Another key does not open it: the job begins anew, with a nonce of its own.
    run(source, target, key=Key(bytes(32)))
    assert published(target) == ["out.mkv", "out.mkv.json"]


# What somebody has put there before


@pytest.mark.parametrize("name", ["lock", "owner", "key", "job.json", "clip.json", "000000.0.json", "000000.0.mkv"])
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "link to nothing"])
def test_nothing_is_written_through_a_link(source: Path, target: Path, tmp_path: Path, name: str, kind: str) -> None:
    """In a work folder that others could write into: made by hand, or unpacked from an archive."""
    work, mine = target.parent / ".out.mkv.deidlib-work", tmp_path / "mine"
    mine.write_bytes(b"of mine")
    work.mkdir()
    work.chmod(0o777)
    if kind == "hard link":
        os.link(mine, work / name)
    elif kind == "pipe":
        os.mkfifo(work / name)
    else:
        (work / name).symlink_to(mine if kind == "link" else tmp_path / "nothing")
    run(source, target)
    assert mine.read_bytes() == b"of mine"
    assert not (tmp_path / "nothing").exists()
    assert published(target) == ["out.mkv", "out.mkv.json"]


@pytest.mark.parametrize("name", ["output", ".", "strange"])
def test_no_folder_of_others_is_emptied(source: Path, target: Path, tmp_path: Path, name: str) -> None:
    work, mine = target.parent / ".out.mkv.deidlib-work", tmp_path / "mine"
    mine.mkdir()
    (mine / "precious.mkv").write_bytes(b"of mine")
    if name == ".":
        work.symlink_to(mine)
        with pytest.raises(MediaWriteError, match="is no work folder of yours but a link or another's file"):
            run(source, target)
    else:
        work.mkdir()
        (work / name).symlink_to(mine)
        run(source, target)
    assert (mine / "precious.mkv").read_bytes() == b"of mine"
    assert [path.name for path in mine.iterdir()] == ["precious.mkv"]


@pytest.mark.parametrize("key", [None, Key(bytes(32))])
def test_a_work_folder_is_its_owners_alone(source: Path, target: Path, key: Key | None) -> None:
    work = stopped(source, target, key=key)
    assert work.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in work.iterdir() if path.name != "output"}
    assert {"owner", "job.json", "clip.json", "000000.0.json", "000000.0.mkv"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_a_work_folder_of_somebody_else_is_refused(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (target.parent / ".out.mkv.deidlib-work").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(MediaWriteError, match="is no work folder of yours"):
        run(source, target)


@pytest.mark.parametrize("key", [None, Key(bytes(range(32)))], ids=["plain", "keyed"])
@pytest.mark.parametrize("given", [False, True], ids=["detected", "given"])
def test_a_work_folder_that_was_left_tells_neither_input_nor_readings(
    source: Path, target: Path, key: Key | None, given: bool
) -> None:
    """Nor does it confirm what somebody guesses: no hash of them lies there, nor in what is published."""
    place = Faces(torch.tensor([[9.25, 8.5, 23.75, 24.125]]), torch.ones(1))
    # All that there is to be read is given, as the toys read it on these very frames.
    faces = seen_on(face(), [place] * COUNT) if given else None
    guessed = [fingerprint(described(faces)), fingerprint([described(row) for row in faces])] if faces else []
    secrets = [sha256_of(source), "23.75", '"boxes": [', bytes(range(32)).hex(), *guessed]
    settings: dict[str, Any] = {"faces": faces} if given else {}
    work = stopped(source, target, key=key, **settings)
    contents = {path.name: path.read_bytes() for path in work.rglob("*") if path.is_file() and path.name != "key"}
    assert {"job.json", "clip.json", "000000.0.json", "000000.0.mkv"} <= contents.keys()
    run(source, target, key=key, **settings)
    contents["out.mkv.json"] = target.with_name("out.mkv.json").read_bytes()
    for name, content in contents.items():
        assert not [secret for secret in secrets if secret.encode() in content], name
