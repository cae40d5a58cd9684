"""What is known of a folder's files: by whom it was written, and what becomes of lines that nobody wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deidlib.media import MediaWriteError
from deidlib.protect.manifest import Manifest


def test_the_last_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    manifest = Manifest(path)
    assert manifest.last("a") is None
    for line in ({"output": "a", "status": "1"}, {"output": "b", "status": "2"}, {"output": "a", "status": "3"}):
        manifest.add(line)
    for seen in (manifest, Manifest(path)):
        assert seen.last("a") == {"output": "a", "status": "3"}
        assert seen.last("b") == {"output": "b", "status": "2"}
    assert [json.loads(line)["status"] for line in path.read_text().splitlines()] == ["1", "2", "3"]


@pytest.mark.parametrize("torn", [b'{"output": "b", "status": "2"', b"{", b"\x00\x00", b'{"output": "b\xc3'])
def test_a_line_cut_short_hurts_no_other(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "manifest.jsonl"
    Manifest(path).add({"output": "a", "status": "1"})
    with path.open("ab") as file:
        file.write(torn)
    manifest = Manifest(path)
    assert manifest.last("a") == {"output": "a", "status": "1"}
    assert manifest.last("b") is None
    manifest.add({"output": "b", "status": "3"})
    again = Manifest(path)
    assert (again.last("a"), again.last("b")) == ({"output": "a", "status": "1"}, {"output": "b", "status": "3"})


def test_lines_of_two_processes(tmp_path: Path) -> None:
    one, other = Manifest(tmp_path / "m"), Manifest(tmp_path / "m")
    one.add({"output": "a", "status": "done"})
    assert other.last("a") is None
    other.add({"output": "b", "status": "done"})
    other.refresh()
    one.refresh()
    for manifest in (one, other):
        assert manifest.last("a") == {"output": "a", "status": "done"}
        assert manifest.last("b") == {"output": "b", "status": "done"}


@pytest.mark.parametrize(
    "strange",
    [
        b"[" * 200_000,
        b"[" * 20,
        b"3",
        b'{"output": "a", "status": ["done"]}',
        b'{"output": "a"}',
        b'{"output": ["a"], "status": "done"}',
        b'{"output": "a", "status": "done", "x": NaN}',
        b'{"output": "a", "status": "' + b"done" * 100_000 + b'"}',
        b"\xff\xfe",
        b'{"output": "a", "status": ' + b"9" * 9000 + b"}",
    ],
)
def test_a_line_that_nobody_wrote_is_passed_over(tmp_path: Path, strange: bytes) -> None:
    path = tmp_path / "m"
    Manifest(path).add({"output": "a", "status": "failed"})
    path.write_bytes(path.read_bytes() + strange + b"\n" + b'{"output": "b", "status": "done"}\n')
    manifest = Manifest(path)
    assert manifest.last("a") == {"output": "a", "status": "failed"}
    assert manifest.last("b") == {"output": "b", "status": "done"}


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of Unix")
@pytest.mark.parametrize("what", ["link", "dangling", "pipe", "folder"])
def test_it_is_a_file_of_the_folder_and_nothing_else(tmp_path: Path, what: str) -> None:
    path, mine = tmp_path / "m", tmp_path / "mine"
    mine.write_text("of mine\n")
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(mine if what == "link" else tmp_path / "nowhere")
    with pytest.raises(MediaWriteError, match=r"m (cannot be used|is no regular file)"):
        Manifest(path)
    assert mine.read_text() == "of mine\n"
    assert not (tmp_path / "nowhere").exists()
