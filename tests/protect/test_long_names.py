"""Output names up to what the file system takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clips import astronauts, make_video, read_video
from command import deidlib, refused
from toys import Sees

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.media import MediaWriteError, read_image, write_image
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.folder import protect_folder
from deidlib.protect.image import protect_image
from deidlib.protect.sidecar import Sidecar
from deidlib.protect.video import protect_video
from deidlib.protect.work_folder import WorkFolder
from deidlib.records.files import longest_name, name_beside, temporary_name

DEIDENTIFIER = Deidentifier(IFGSMAttacker([Sees(lambda image, number: [[8, 8, 20, 20]])], max_iterations=0))


def of_bytes(count: int, suffix: str, letter: str = "n") -> str:
    """A name of that many bytes in all."""
    letters, rest = divmod(count - len(suffix), len(letter.encode()))
    return "-" * rest + letter * letters + suffix


# 250 takes a sidecar, but no temporary name as it is; é and 顔 are two and three bytes each.
@pytest.mark.parametrize(("count", "letter"), [(234, "n"), (240, "n"), (250, "é"), (251, "n"), (255, "顔")])
def test_names_up_to_the_limit_are_written(tmp_path: Path, count: int, letter: str) -> None:
    frames = astronauts(2, side=32)
    write_image(tmp_path / "a.png", frames[:1])
    make_video(tmp_path / "a.mkv", frames)
    picture, video = (tmp_path / of_bytes(count, suffix, letter) for suffix in (".png", ".mkv"))
    assert len(picture.name.encode()) == count
    protect_image(DEIDENTIFIER, tmp_path / "a.png", picture)
    protect_video(DEIDENTIFIER, tmp_path / "a.mkv", video)
    assert torch.equal(read_image(picture)[0], read_video(video)[0])
    for path in (picture, video):
        described = Sidecar.read(path)
        assert described is not None
        assert described.frames == (1 if path == picture else 2)
    # Two outputs, what describes them, and nothing left over.
    assert len(list(tmp_path.iterdir())) == 6


def test_a_folder_with_long_names(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_image(source / of_bytes(254, ".png"), astronauts(1, side=32))
    write_image(source / of_bytes(255, ".png"), astronauts(1, side=32))
    assert not protect_folder(DEIDENTIFIER, source, tmp_path / "out").failed
    assert {path.name for path in source.iterdir()} < {path.name for path in (tmp_path / "out").iterdir()}


def test_what_belongs_to_a_name_is_told_from_what_belongs_to_another(tmp_path: Path) -> None:
    one, other = (tmp_path / of_bytes(255, end) for end in ("a.mkv", "b.mkv"))
    names = {name_beside(path, ".", ".deidlib-work").name for path in (one, other)}
    assert len(names) == 2
    assert all(len(name) == 255 and name.endswith(".deidlib-work") for name in names)
    with WorkFolder(one, {}), WorkFolder(other, {}):
        pass
    # A name of itself, where there is room.
    assert name_beside(tmp_path / "a.mkv", ".", ".deidlib-work").name == ".a.mkv.deidlib-work"
    temporary = temporary_name(one)
    assert (temporary.parent, len(temporary.name)) == (tmp_path, 255)
    temporary.touch()


def test_a_name_too_long_is_refused_before_any_work(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", astronauts(1, side=32))
    limit = longest_name(tmp_path)
    target = tmp_path / of_bytes(limit + 1, ".png")
    with pytest.raises(MediaWriteError, match=f"has {limit + 1} bytes, and at most {limit} fit"):
        protect_image(DEIDENTIFIER, tmp_path / "a.png", target)
    with pytest.raises(MediaWriteError, match="too long"):
        write_image(target, astronauts(1, side=32))
    refused(deidlib("protect", tmp_path / "a.png", target, "--iterations", 0), "name is too long")
    assert len(list(tmp_path.iterdir())) == 1
