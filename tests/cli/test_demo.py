from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from patches import Patches
from torch import Tensor
from typer.testing import CliRunner

from deidlib import cli
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.cli import astronaut as demo
from deidlib.cli.astronaut import UNTIL, moving_astronaut, run
from deidlib.cli.demo import _at_hand, show
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
    report = run(folder, frames=3, others={"mtcnn too": MTCNN(), "blind": Patches()}, progress=steps.append)
    assert sum(steps) == 3
    assert json.loads((folder / "demo.json").read_text()) == report
    expected = ["demo.json", "original.mkv", "protected.mkv", "protected.mkv.json", "sheet.png"]
    assert sorted(path.name for path in folder.iterdir()) == expected
    assert set(report["files"].values()) == {"original.mkv", "protected.mkv", "sheet.png"}
    assert report["frames"] == {"all": 3, "found": 3, "held": 0, "whole_frame": 0}
    assert report["seconds"] > 0

    stages = report["stages"]
    assert stages["original"] == {"faces": 3, "found": 3, "iou": 1.0, "points": 0.0, "head_pose_deg": 0.0}
    assert stages["obfuscated"] == {"faces": 3, "found": 0, "iou": 0.0, "points": None, "head_pose_deg": None}
    # It stops when it reads, and says so.
    assert report["within"] == stages["protected"]["found"] == 3
    assert stages["protected"]["iou"] >= UNTIL.iou
    assert stages["protected"]["points"] <= UNTIL.nme
    assert stages["protected"]["head_pose_deg"] < 8
    # Whoever sees everything sees the face; whoever sees nothing does not.
    assert report["others"] == {
        "mtcnn too": {"original": {"faces": 3, "found": 3}, "obfuscated": {"faces": 3, "found": 0},
                      "protected": {"faces": 3, "found": 3}},
        "blind": {stage: {"faces": 0, "found": 0} for stage in stages},
    }  # fmt: skip
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
    # Three rows of four pictures, each 256 wide, with who finds the face below.
    sheet = read_image(folder / "sheet.png")
    assert sheet.shape[2] > 3 * 256
    assert sheet.shape[3] > 4 * 256


def test_a_place_held_is_no_perturbation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The face is gone in the last frame: its place stays hidden, and that is not the attack's doing.
    clip = moving_astronaut(4)
    clip[3] = torch.linspace(0, 1, 256).mul(255).round() / 255
    monkeypatch.setattr(demo, "moving_astronaut", lambda frames: clip)
    # Two steps tell as much here as sixty.
    monkeypatch.setattr(demo, "recommended", lambda models, until: IFGSMAttacker(models, max_iterations=2, until=until))
    report = run(tmp_path, frames=4)
    assert report["frames"] == {"all": 4, "found": 3, "held": 1, "whole_frame": 0}
    assert report["stages"]["original"]["faces"] == 3
    assert report["perturbation"]["outside"] == 0
    # Two steps of a grey level, and more where that was not enough.
    assert 0 < report["perturbation"]["largest"] <= 8
    after, _ = read(tmp_path / "protected.mkv")
    assert not torch.equal(after[3], clip[3])


def test_the_command_prints_what_was_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"faces": 3, "found": 3, "iou": 0.914, "points": 0.0123, "head_pose_deg": 4.56}
    nothing = row | {"found": 0, "iou": 0.0, "points": None, "head_pose_deg": None}
    seen = {"original": {"faces": 3, "found": 3}, "obfuscated": {"faces": 3, "found": 0}}
    report: dict[str, Any] = {
        "stages": {"original": row | {"iou": 1.0}, "obfuscated": nothing, "protected": row},
        "others": {"yunet": seen | {"protected": {"faces": 3, "found": 2}}},
        "within": 2,
        "tolerance": {"iou": 0.95, "points": 0.02},
        "perturbation": {"largest": 8.0, "mean_inside": 4.56, "outside": 0.0},
        "seconds": 9.5,
        "frames": {"all": 3},
    }
    monkeypatch.setattr(demo, "run", lambda folder, frames, others, progress: report)
    monkeypatch.setattr("deidlib.cli.demo._at_hand", dict)
    result = CliRunner().invoke(cli.app, ["demo", str(tmp_path / "here"), "--frames", "3"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 79
    (hidden,), (protected,) = ([line.split() for line in lines if stage in line[:22]]
                               for stage in ("the hidden frames", "the protected file"))  # fmt: skip
    assert hidden == ["the", "hidden", "frames", "0", "of", "3"]
    assert protected == ["the", "protected", "file", "3", "of", "3", "0.914", "1.2%", "4.6°"]
    text = " ".join(result.stdout.split())
    assert "changed by 4.6 of 255 levels on average, 8 at most, and 0 outside" in text
    assert "reached in 2 of 3 frames" in text
    assert "YuNet (OpenCV) 3 of 3 0 of 3 2 of 3" in text
    assert "others see too: that there is a face and where, not whose" in text
    assert "With a key none of eleven detectors found any" in text
    assert str(tmp_path / "here" / "sheet.png") in result.stdout


@pytest.mark.parametrize(
    ("found", "said", "unsaid"),
    [
        (0, "These see nothing, but networks that were trained as MTCNN was", "others see too"),
        (1, "What one detector is made to see, others see too", "These see nothing"),
    ],
)
def test_what_others_see_is_said_as_it_is(
    found: int, said: str, unsaid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"faces": 3, "found": 3, "iou": 1.0, "points": 0.0, "head_pose_deg": 0.0}
    change = {"largest": 8.0, "mean_inside": 4.0, "outside": 0.0}
    stages = {"original": 3, "obfuscated": 0, "protected": found}
    others = {"lbp": {stage: {"faces": 3, "found": count} for stage, count in stages.items()}}
    show({"stages": {"original": row}, "others": others, "within": 3, "tolerance": {"iou": 0.95, "points": 0.02},
          "perturbation": change, "seconds": 1.0, "frames": {"all": 3}})  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 79
    text = " ".join(" ".join(lines).split())
    assert f"scikit-image's cascade 3 of 3 0 of 3 {found} of 3" in text
    assert said in text
    assert unsaid not in text
    assert "With a key none of eleven detectors found any" in text


def test_somebody_whom_nobody_authorised_is_asked_without_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("deidlib.weights.store.cache_folder", lambda: tmp_path / "empty")
    others = _at_hand()
    assert "lbp" in others
    assert not {"yunet", "centerface", "retinaface"} & set(others)
    assert [len(faces) for faces in others["lbp"].predict(moving_astronaut(3))] == [1] * 3


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "demo"):
        result = CliRunner().invoke(cli.app, ["demo", str(place)])
        assert result.exit_code == 1
        assert f"error: the output folder {place} cannot be created" in result.stderr
        assert "Choose another" in result.stderr
    assert CliRunner().invoke(cli.app, ["demo", "--frames", "2"]).exit_code == 2
