"""Whatever a file holds, and whatever kind of file it is: an answer at once, and an error that is ours."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deidlib.bounded import (
    BoundsError,
    fields,
    json_of,
    listed,
    maybe,
    number,
    read_bounded,
    read_json,
    text,
    whole,
)
from deidlib.faces import Faces
from deidlib.keys.key import Key, KeyFileError
from deidlib.keys.record import KeyRecord
from deidlib.keys.scramble import CellPermutation
from deidlib.media import MediaReadError, VideoWriter
from deidlib.media.clip import open_frames
from deidlib.protect.sidecar import Sidecar, opened
from deidlib.records.detections import Detections, DetectionsError, read_detections, write_detections

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices of Unix")


def detections(path: Path) -> object:
    return read_detections(path)


def key(path: Path) -> object:
    return Key.load(path)


def sidecar(path: Path) -> object:
    return Sidecar.read(path.with_name("a.mkv"), path)


def times(path: Path) -> object:
    return open_frames(path.parent)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from fractions import Fraction

    folder = tmp_path / "pictures"
    with VideoWriter(folder, Fraction(25), (8, 8), codec="png-folder") as writer:
        writer.write(torch.rand(3, 3, 8, 8))
    (folder / "frames.json").rename(folder / "sound.json")
    return folder


READERS: dict[str, tuple[Callable[[Path], object], type[ValueError]]] = {
    "faces.json": (detections, DetectionsError),
    "faces.csv": (detections, DetectionsError),
    "secret.key": (key, KeyFileError),
    "a.mkv.json": (sidecar, ValueError),
    "frames.json": (times, MediaReadError),
}


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_not_waited_for(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    read, error = READERS[name]
    with pytest.raises(error, match=name) as caught:
        read(path)
    assert type(caught.value) is error


HOSTILE: dict[str, bytes] = {
    "deep": b"[" * 200_000,
    "deep object": b'{"a":' * 100_000,
    "deep in a text": json.dumps({"format": "[" * 10_000}).encode(),
    "NaN": b'{"format": NaN}',
    "long number": b"9" * 100_000,
    "no text": bytes(range(256)),
    "zeros": bytes(100_000),
    "field": b"frame,score\n" + b"1" * 200_000,
    "open quote": b'frame,score\n"' + b"1\n" * 200_000,
    "numbers": b"1e400",
    "empty": b"",
    "null": b"null",
    "huge fraction": b'{"fps": "1e999999999", "time_base": "1/25", "pts": [0, 1, 2]}',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", READERS)
def test_hostile_contents(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    path.chmod(0o600)
    read, error = READERS[name]
    with pytest.raises(error, match=name) as caught:
        read(path)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "change",
    [
        {"time_base": "1e999999999"},
        {"time_base": "1/" + "9" * 30},
        {"time_base": 0.04},
        {"size": [10**9, 10**9]},
        {"size": "12"},
        {"format": "x" * 100_000},
        {"format": ["x" * 100_000]},
        {"readers": "mtcnn"},
        {"readers": [["mtcnn"]]},
        {"sha256": ["0" * 64]},
        {"frames": [{"pts": 10**400}]},
        {"frames": [{"pts": True}]},
        {"frames": [{"pts": None, "boxes": [[0, 0, 1e300, 1]], "scores": [1], "landmarks": None, "gaze": None}]},
        {"frames": [{"pts": None, "boxes": [[[[]]]], "scores": [1], "landmarks": None, "gaze": None}]},
        {"frames": [{"pts": None, "boxes": {}, "scores": [1], "landmarks": None, "gaze": None}]},
    ],
)
def test_hostile_fields_of_detections(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "faces.json"
    write_detections(path, Detections([Faces.empty()]))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DetectionsError, match=r"faces\.json") as caught:
        read_detections(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("frame", ["1e9", "1e300", "10000001", "-1", "0", "nan", "1.5", "9" * 5000])
def test_a_csv_with_a_frame_that_no_clip_has(tmp_path: Path, frame: str) -> None:
    names = "frame,score,x,y,w,h," + ",".join(f"point_{k:02d}_x,point_{k:02d}_y" for k in range(5))
    path = tmp_path / "faces.csv"
    path.write_text(f"{names}\n{frame}," + ",".join(["1"] * 15) + "\n")
    with pytest.raises(DetectionsError, match=r"faces\.csv, line 2"):
        read_detections(path)


def test_a_csv_of_one_late_frame_costs_little(tmp_path: Path) -> None:
    """The frames between are one and the same."""
    names = "frame,score,x,y,w,h," + ",".join(f"point_{k:02d}_x,point_{k:02d}_y" for k in range(5))
    path = tmp_path / "faces.csv"
    path.write_text(f"{names}\n1000000," + ",".join(["1"] * 15) + "\n")
    frames = read_detections(path).frames
    assert len(frames) == 1_000_000
    assert len({id(known) for known in frames}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"fps": "0"},
        {"fps": "1/0"},
        {"fps": "-25"},
        {"fps": 25},
        {"fps": "1e999999999"},
        {"time_base": None},
        {"pts": [0, 1]},
        {"pts": [0, 1, 1]},
        {"pts": [2, 1, 0]},
        {"pts": [0, 1, 10**30]},
        {"pts": [0, 1, 2.5]},
        {"pts": [0, True, 2]},
        {"pts": {"0": 1}},
        {"pts": "012"},
    ],
)
def test_wrong_times_of_pictures_are_named(folder: Path, change: dict[str, Any]) -> None:
    said = json.loads((folder / "sound.json").read_text())
    (folder / "frames.json").write_text(json.dumps(said | change))
    with pytest.raises(MediaReadError, match=r"frames\.json does not say when the pictures are shown"):
        open_frames(folder)
    (folder / "frames.json").write_text(json.dumps(said))
    with open_frames(folder) as reader:
        assert reader.info.fps == 25


RECORD = KeyRecord.of(Key(bytes(32)), nonce="n", scramble=CellPermutation(), models=["mtcnn"])


@pytest.mark.parametrize(
    "change",
    [
        {"key": 3},
        {"key": []},
        {"key": RECORD.to_dict() | {"nonce": 5}},
        {"key": RECORD.to_dict() | {"nonce": "n" * 5000}},
        {"key": RECORD.to_dict() | {"models": "mtcnn"}},
        {"key": RECORD.to_dict() | {"models": ["m"] * 5000}},
        {"key": RECORD.to_dict() | {"scramble": {"cell": {"a": 1}}}},
        {"key": RECORD.to_dict() | {"scramble": {"cell": [[[[1]]]] * 5000}}},
        {"key": RECORD.to_dict() | {"seal": None}},
        {"output": None},
        {"output": {"sha256": "0" * 65}},
        {"frames": {"frames": -1}},
        {"frames": {"frames": 1e300}},
        {"frames": 4},
        {"hidden": [[[1, 2, 3]], [], []]},
        {"hidden": [[[1, 2, 3, 4, 5]], [], []]},
    ],
)
def test_a_description_that_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "a.mkv.json"
    said = {"format": "deidlib-protection/1", "output": {"sha256": "0" * 64}, "frames": {"frames": 3}}
    said |= {"key": RECORD.to_dict()}
    path.write_text(json.dumps(said))
    assert Sidecar.read(tmp_path / "a.mkv") is not None
    path.write_text(json.dumps(said | change))
    with pytest.raises(ValueError, match=r"a\.mkv\.json is damaged: .* Get the file that was written\."):
        Sidecar.read(tmp_path / "a.mkv")


def test_the_name_of_a_key_is_under_its_seal(tmp_path: Path) -> None:
    """Or a reader would be sent to look for a key that does not exist."""
    key, path = Key(bytes(32)), tmp_path / "a.mkv.json"
    said = {"format": "deidlib-protection/1", "output": {"sha256": "0" * 64}, "frames": {"frames": 3}}
    path.write_text(json.dumps(said | {"key": RECORD.to_dict() | {"key_id": "0123456789abcdef"}}))
    known = Sidecar.read(tmp_path / "a.mkv")
    assert known is not None
    assert known.record is not None
    assert not known.record.opened_by(key)
    with pytest.raises(ValueError, match="what it says of the key has been changed since it was written"):
        opened(known, key, tmp_path / "a.mkv")
    with pytest.raises(ValueError, match="was protected with key 0123456789abcdef"):
        opened(known, Key(bytes(range(32))), tmp_path / "a.mkv")


# The reader itself


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(BoundsError, match="has 5 bytes, more than the 4"):
        read_bounded(path, 4)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "b")


def test_depth_counts_lists_and_objects_and_no_texts() -> None:
    assert json_of("[" * 24 + "]" * 24) is not None
    with pytest.raises(BoundsError, match="24 deep"):
        json_of("[" * 25 + "]" * 25)
    assert json_of(json.dumps(["[" * 99, '\\"[[' * 99, "{"])) is not None
    assert json_of("[[]" + ",[]" * 99 + "]") is not None


@pytest.mark.parametrize("end", ["", "\n", "\\"])
def test_a_text_of_quotes_that_does_not_end_is_looked_at_once(end: str) -> None:
    # From each of its quotes to its end it would be 10^13 characters.
    with pytest.raises(BoundsError, match="it is not JSON"):
        json_of('["' + '\\"' * 3_000_000 + end)


@pytest.mark.parametrize("value", [10**309, -(10**309), math.nan, math.inf, True, "1", None])
def test_numbers_are_those_that_a_float_can_hold(value: object) -> None:
    with pytest.raises(BoundsError, match="it must be a finite number"):
        number(value, "it")
    number(10**308, "it")
    number(-1.5, "it")


def test_an_object_of_a_shape_or_none(tmp_path: Path) -> None:
    shape = fields({"n": whole(0, 3)}, {"names": listed(text(3, "[a-z]+"), 2), "more": maybe(text())})
    path = tmp_path / "a.json"
    for sound in ({"n": 0}, {"n": 3, "names": ["a", "abc"]}, {"n": 1, "more": None}, {"n": 1, "other": []}):
        path.write_text(json.dumps(sound))
        assert read_json(path, shape) == sound
    for wrong in (
        {}, {"n": 4}, {"n": -1}, {"n": True}, {"n": 1.0}, {"n": None}, [3], 3, None,
        {"n": 1, "names": ["a", "b", "c"]}, {"n": 1, "names": ["abcd"]}, {"n": 1, "names": ["A"]}, {"n": 1, "more": 3},
    ):  # fmt: skip
        path.write_text(json.dumps(wrong))
        assert read_json(path, shape) is None
