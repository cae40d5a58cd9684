"""What lies in scratch is nobody else's, and does not stay."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deidlib.storage.errors import StorageError
from deidlib.storage.scratch import ORIGINAL, WORK, Scratch, ScratchBusyError


def left(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def ended(scratch: Scratch, error: BaseException) -> None:
    """The work on a clip ends with an error."""
    with contextlib.suppress(type(error)), scratch.folder("a") as folder:
        (folder / ORIGINAL / "clip.mp4").write_bytes(b"a face")
        (folder / WORK / "segment.mkv").write_bytes(b"hidden")
        raise error


def test_a_clip_that_is_done_or_has_failed_leaves_nothing(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch")
    with scratch.folder("a") as folder:
        assert stat.S_IMODE(scratch.root.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / ORIGINAL).stat().st_mode) == 0o700
        (folder / ORIGINAL / "clip.mp4").write_bytes(b"a face")
        (folder / WORK / "clip.mkv").write_bytes(b"hidden")
    assert left(scratch.root) == []
    ended(scratch, ValueError("broken"))
    assert left(scratch.root) == []


def test_what_is_interrupted_leaves_its_work_and_not_the_original(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    ended(scratch, KeyboardInterrupt())
    assert [Path(name).name for name in left(tmp_path) if not name.endswith(".lock")] == ["segment.mkv"]
    with Scratch(tmp_path).folder("a") as folder:
        assert (folder / WORK / "segment.mkv").read_bytes() == b"hidden"


def test_what_a_killed_process_left_is_cleared_up(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from deidlib.storage.scratch import Scratch\n"
        "with Scratch(Path(sys.argv[1])).folder('a') as folder:\n"
        "    (folder / 'original' / 'clip.mp4').write_bytes(b'a face')\n"
        "    (folder / 'work' / 'segment.mkv').write_bytes(b'hidden')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert [Path(name).name for name in left(tmp_path) if "lock" not in name] == ["clip.mp4", "segment.mkv"]
    Scratch(tmp_path)
    assert [Path(name).name for name in left(tmp_path) if "lock" not in name] == ["segment.mkv"]
    (place,) = (path for path in tmp_path.iterdir() if path.is_dir())
    old = time.time() - 48 * 3600
    os.utime(place, (old, old))
    Scratch(tmp_path)
    assert left(tmp_path) == []


def test_what_another_works_on_is_left_alone(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    with scratch.folder("a") as folder:
        (folder / ORIGINAL / "clip.mp4").write_bytes(b"a face")
        other = Scratch(tmp_path)
        with pytest.raises(ScratchBusyError, match="another process on this machine"), other.folder("a"):
            pass
        with other.folder("b"):
            pass
        assert (folder / ORIGINAL / "clip.mp4").exists()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StorageError, match="is a link or another's"):
        Scratch(tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        Scratch(tmp_path / "file")
