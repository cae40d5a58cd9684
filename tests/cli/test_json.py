"""What programs are told: JSON on standard output, and nothing else there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clips import astronauts, make_video
from command import deidlib, done, refused

from deidlib.media import write_image

QUICK = ("--hide-only", "--device", "cpu", "--detectors", "mtcnn", "--lookout", "64")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "in.png", astronauts(1))
    return tmp_path / "in.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    make_video(folder / "a.mp4", astronauts(2))
    (folder / "b.mp4").write_bytes(b"no video")
    return folder


def out(result: Any) -> dict[str, Any]:
    """What stands on standard output, all of it."""
    known: dict[str, Any] = json.loads(result.stdout)
    return known


def test_of_a_file_the_summary(image: Path) -> None:
    target = image.with_name("out.png")
    told = out(done(deidlib("protect", image, target, *QUICK, "--json", "-")))
    assert told["format"] == "deidlib-run/1"
    (file,) = told["files"]
    assert (file["source"], file["target"], file["status"], file["error"]) == (str(image), str(target), "done", None)
    summary = file["summary"]
    assert (summary["frames"], summary["found"], summary["whole_frame"], summary["readback"]) == (1, 1, 0, None)
    place = image.with_name("told.json")
    told_again = done(deidlib("protect", image, target, *QUICK, "--json", place))
    assert told_again.stdout.startswith(f"{target}: 1 frame")
    assert json.loads(place.read_text()) == told


def test_of_a_folder_every_file_also_those_that_failed(folder: Path) -> None:
    result = deidlib("protect", folder, folder.with_name("out"), *QUICK, "--json", "-")
    assert result.exit_code == 1
    assert [(Path(file["source"]).name, file["status"]) for file in out(result)["files"]] == [
        ("a.mp4", "done"),
        ("b.mp4", "failed"),
    ]
    assert "b.mp4" in out(result)["files"][1]["error"]
    again = out(deidlib("protect", folder, folder.with_name("out"), *QUICK, "--json", "-"))
    assert [file["status"] for file in again["files"]] == ["finished before", "failed"]


def test_what_stops_a_single_file_is_in_it(folder: Path) -> None:
    result = deidlib("protect", folder / "b.mp4", folder / "out.mkv", *QUICK, "--json", "-")
    assert result.exit_code == 1
    assert out(result)["files"][0]["status"] == "failed"


def test_a_dry_run_tells_too(image: Path) -> None:
    told = out(done(deidlib("protect", image, image.with_name("out.png"), *QUICK, "--dry-run", "--json", "-")))
    (file,) = told["files"]
    assert told["format"] == "deidlib-dry-run/1"
    assert (file["frames"], file["faces"], file["size"]) == (1, {"0": 1}, [128, 128])
    assert file["seconds"] > 0


def test_evaluate_and_read(image: Path) -> None:
    told = out(done(deidlib("evaluate", image, image, "--json", "-")))
    assert told["format"] == "deidlib-evaluation/1"
    assert told["readers"]["mtcnn"]["summary"]["found"] == 1
    told = out(done(deidlib("read", image, "--json", "-")))
    assert told["format"] == "deidlib-detections/1"
    assert len(told["frames"][0]["boxes"]) == 1


def test_another_name_is_refused_before_the_work(image: Path) -> None:
    refused(deidlib("protect", image, image.with_name("out.png"), "--json", "told.txt"), "--json must name a .json")
    refused(deidlib("evaluate", image, image, "--json", "told.txt"), "--json must name a .json")
    assert not image.with_name("out.png").exists()
