from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from deidlib import cli
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.cli import astronaut as demo
from deidlib.cli.astronaut import moving_astronaut, run
from deidlib.geometry.boxes import iou
from deidlib.media import VideoReader, read_image
from deidlib.models.mtcnn import MTCNN
from deidlib.protect.deidentifier import Deidentifier


def read(path: Path) -> tuple[Tensor, Fraction]:
    with VideoReader(path) as reader:
        return torch.cat([images for images, _ in reader.batches(16)]), reader.info.fps


def test_the_clip_moves() -> None:
    clip = moving_astronaut(4)
    assert clip.shape == (4, 3, 256, 256)
    assert torch.equal((clip * 255).round() / 255, clip)
    assert ((clip[1:] - clip[:-1]).abs().mean(dim=(1, 2, 3)) > 0.02).all()
    # The same clip every time, and the face in every frame.
    assert torch.equal(clip, moving_astronaut(4))
    assert [len(faces) for faces in MTCNN().predict(clip)] == [1] * 4


def test_the_demo_keeps_its_promise(tmp_path: Path) -> None:
    folder, steps = tmp_path / "new" / "demo", list[int]()
    report = run(folder, frames=3, progress=steps.append)
    assert sum(steps) == 3
    assert json.loads((folder / "demo.json").read_text()) == report
    expected = ["demo.json", "original.mkv", "protected.mkv", "protected.mkv.json", "sheet.png"]
    assert sorted(path.name for path in folder.iterdir()) == expected
    assert set(report["files"].values()) == {"original.mkv", "protected.mkv", "sheet.png"}
    assert report["frames"] == {"all": 3, "found": 3, "held": 0, "whole_frame": 0}
    assert report["seconds"] > 0

    stages = report["stages"]
    assert stages["original"] == {"faces": 3, "found": 1.0, "iou": 1.0}
    assert stages["obfuscated"] == {"faces": 3, "found": 0.0, "iou": 0.0}
    assert stages["protected"]["found"] == 1.0
    assert stages["protected"]["iou"] >= 0.85
    assert report["perturbation"]["outside"] == 0
    assert 0 < report["perturbation"]["mean_inside"] < report["perturbation"]["largest"] <= 8

    # The same numbers, from the files alone.
    (before, rate), (after, fps) = read(folder / "original.mkv"), read(folder / "protected.mkv")
    assert rate == fps == 12
    assert torch.equal(before, moving_astronaut(3))
    model = MTCNN()
    truth, seen = model.predict(before), model.predict(after)
    overlaps = torch.cat([iou(a.boxes, b.boxes).amax(dim=1) for a, b in zip(truth, seen, strict=True)])
    assert float(overlaps.mean()) == pytest.approx(stages["protected"]["iou"], abs=1e-4)
    # Smoothed through time, the hidden region is a little larger than a frame alone would have it.
    unattacked = Deidentifier(IFGSMAttacker([model], max_iterations=0))
    (batch,) = unattacked.frames([before])
    hidden = batch.hidden
    assert float((after - hidden).abs().max()) * 255 == pytest.approx(report["perturbation"]["largest"], abs=0.51)
    # Three rows of four pictures, each 256 wide.
    sheet = read_image(folder / "sheet.png")
    assert sheet.shape[2] > 3 * 256
    assert sheet.shape[3] > 4 * 256


def test_a_place_held_is_no_perturbation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The face is gone in the last frame: its place stays hidden, and that is not the attack's doing.
    clip = moving_astronaut(4)
    clip[3] = torch.linspace(0, 1, 256).mul(255).round() / 255
    monkeypatch.setattr(demo, "moving_astronaut", lambda frames: clip)
    # Two steps tell as much here as sixty.
    monkeypatch.setattr(demo, "recommended", lambda models: IFGSMAttacker(models, max_iterations=2))
    report = run(tmp_path, frames=4)
    assert report["frames"] == {"all": 4, "found": 3, "held": 1, "whole_frame": 0}
    assert report["stages"]["original"]["faces"] == 3
    assert report["perturbation"]["outside"] == 0
    # Two steps of a grey level, and twice and four times as many where that was not enough.
    assert 0 < report["perturbation"]["largest"] <= 8
    after, _ = read(tmp_path / "protected.mkv")
    assert not torch.equal(after[3], clip[3])


def test_the_command_prints_what_was_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"faces": 3, "found": 1.0, "iou": 0.914}
    report = {
        "stages": {"original": row | {"iou": 1.0}, "obfuscated": row | {"found": 0.0, "iou": 0.0}, "protected": row},
        "perturbation": {"largest": 8.0, "mean_inside": 4.56, "outside": 0.0},
        "seconds": 9.5,
        "frames": {"all": 3},
    }
    monkeypatch.setattr(demo, "run", lambda folder, frames, progress: report)
    result = CliRunner().invoke(cli.app, ["demo", str(tmp_path / "here"), "--frames", "3"])
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[1:4] == [["original", "100%", "1.000"], ["obfuscated", "0%", "0.000"], ["protected", "100%", "0.914"]]
    assert "4.6 grey levels on average" in result.stdout
    assert "8 at most, 0 outside" in result.stdout
    assert str(tmp_path / "here" / "sheet.png") in result.stdout


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "demo"):
        result = CliRunner().invoke(cli.app, ["demo", str(place)])
        assert result.exit_code == 1
        assert f"error: the output folder {place} cannot be created" in result.stderr
        assert "Choose another" in result.stderr
    assert CliRunner().invoke(cli.app, ["demo", "--frames", "2"]).exit_code == 2
