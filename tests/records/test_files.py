from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from deidlib.protect.folder import Manifest
from deidlib.records.files import read_json, sha256_of, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_json_is_there_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": 1, "b": object()})
    assert read_json(path) == {"a": 1}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"a": 1'])
def test_what_is_no_object_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "missing.json") is None


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, content in (("b", b"two"), ("a", b"one")):
        (tmp_path / "folder" / name).write_bytes(content)
    one, two = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()
    assert sha256_of(tmp_path / "folder" / "a") == one
    # As `sha256sum *` in the folder prints it.
    assert sha256_of(tmp_path / "folder") == hashlib.sha256(f"{one}  a\n{two}  b\n".encode()).hexdigest()


def test_the_last_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    manifest = Manifest(path)
    assert manifest.last("a") is None
    for line in ({"output": "a", "n": 1}, {"output": "b", "n": 2}, {"output": "a", "n": 3}):
        manifest.add(line)
    for seen in (manifest, Manifest(path)):
        assert seen.last("a") == {"output": "a", "n": 3}
        assert seen.last("b") == {"output": "b", "n": 2}
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("torn", [b'{"output": "b", "n": 2', b"{", b"\x00\x00", b'{"output": "b\xc3'])
def test_a_line_cut_short_hurts_no_other(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "manifest.jsonl"
    Manifest(path).add({"output": "a", "n": 1})
    with path.open("ab") as file:
        file.write(torn)
    manifest = Manifest(path)
    assert manifest.last("a") == {"output": "a", "n": 1}
    assert manifest.last("b") is None
    manifest.add({"output": "b", "n": 3})
    again = Manifest(path)
    assert (again.last("a"), again.last("b")) == ({"output": "a", "n": 1}, {"output": "b", "n": 3})
