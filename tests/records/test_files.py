from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from deidlib.bounded import read_json
from deidlib.media import VideoWriter
from deidlib.records.files import atomic_write, sha256_of, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        # In the same folder, so on the same disk; and under a name that nobody takes for the file's.
        assert temporary.parent == path.parent
        assert temporary.suffix == ".partial"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        interrupted(temporary)
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass
    with pytest.raises(OSError, match="No such file"), atomic_write(tmp_path / "missing" / "a.txt") as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_appears_complete(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "frames") as temporary:
        temporary.mkdir()
        (temporary / "0.png").write_bytes(b"png")
        assert not (tmp_path / "frames").exists()

    def half(temporary: Path) -> None:
        temporary.mkdir()
        (temporary / "0.png").write_bytes(b"png")
        raise ValueError("half")

    with pytest.raises(ValueError, match="half"), atomic_write(tmp_path / "others") as temporary:
        half(temporary)
    assert names(tmp_path) == ["frames"]
    assert names(tmp_path / "frames") == ["0.png"]


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noted(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            done.append(name)
            real(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    write_json(tmp_path / "a.json", {"a": 1})
    # The file, its name, the folder's list of names.
    assert done == ["fsync", "replace", "fsync"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of open files in /proc")
def test_pictures_and_their_names_are_on_the_disk_before_the_name_of_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def noted(handle: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    def named(old: Path, new: Path) -> None:
        done.append(f"named {Path(new).name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", named)
    with VideoWriter(tmp_path / "out", Fraction(25), (8, 8), codec="png-folder") as writer:
        writer.write(torch.zeros(2, 3, 8, 8))
    *pictures, folder, name, above = done
    assert sorted(pictures) == ["000000.png", "000001.png", "frames.json"]
    assert folder.endswith(".partial")
    assert (name, above) == ("named out", tmp_path.name)


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
