from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import astronauts, make_video
from command import deidlib, done, refused
from patches import LEFT, MOVED, Patches, frame
from torch import Tensor

from deidlib import cli, weights
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.cli import names
from deidlib.faces import Faces
from deidlib.images import to_grid
from deidlib.media import write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.obfuscate import Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.video import protect_video
from deidlib.records.detections import Detections, read_detections


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Path, Path]:
    before, after = [frame(LEFT)] * 3, [frame(MOVED), frame(), frame(LEFT)]
    return make_video(tmp_path / "before.mkv", before), make_video(tmp_path / "after.mkv", after)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that take no time, by the names of real ones."""
    table = {"mtcnn": names.Entry(Patches), "yunet": names.Entry(lambda: Patches(1))}
    monkeypatch.setattr(names, "readers", lambda: table)


@pytest.mark.usefixtures("toys")
def test_everything_is_written(clip: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = deidlib(
        "evaluate", *clip, "--models", "mtcnn", "--against", "yunet",
        "--json", out / "a.json", "--html", out / "a.html", "--export-detections", out / "detections",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if "mtcnn" in line]
    assert row.split()[:4] == ["mtcnn", "2/3", f"{(36 / 44 + 1) / 3:.3f}", "0.000"]
    assert "protected frames only" in result.stdout
    data = json.loads((out / "a.json").read_text())
    assert data["readers"]["mtcnn"]["summary"]["found"] == 2
    assert data["readers"]["yunet"]["role"] == "unauthorised"
    assert (out / "a.html").read_text().startswith("<!doctype html>")
    back = read_detections(out / "detections" / "protected.mtcnn.json", size=(96, 128), frames=3)
    assert [len(known) for known in back.frames] == [1, 0, 1]
    assert sorted(path.name for path in (out / "detections").iterdir()) == [
        "original.mtcnn.json", "original.yunet.json", "protected.mtcnn.json", "protected.yunet.json"
    ]  # fmt: skip
    # What was exported can be the truth.
    again = deidlib("evaluate", *clip, "--truth", out / "detections" / "protected.mtcnn.json", "--no-quality")
    assert again.exit_code == 0, again.output
    (row,) = [line for line in again.stdout.splitlines() if "mtcnn" in line]
    assert row.split()[1:4] == ["2/2", "1.000", "1.000"]


@pytest.mark.usefixtures("toys")
def test_outside_is_what_was_really_not_hidden(tmp_path: Path) -> None:
    before, after = make_video(tmp_path / "a.mkv", [frame(LEFT)] * 4), tmp_path / "b.mkv"
    # Places given by hand, much larger than what the readers find: outside of them nothing is changed.
    wide = torch.tensor([[2.0, 5.0, 60.0, 90.0]])
    detections = Detections([Faces(wide, torch.ones(1)), *[Faces.empty()] * 2, Faces(wide, torch.ones(1))], (96, 128))
    deidentifier = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0), Solid((0.2, 0.2, 0.2)))
    summary = protect_video(deidentifier, before, after, faces=detections, check=None)
    assert (summary.found, summary.filled) == (2, 2)

    def quality(name: str) -> tuple[str, dict[str, Any]]:
        out = tmp_path / f"{name}.json"
        result = deidlib("evaluate", before, after, "--models", "mtcnn", "--json", out, "--html", tmp_path / "a.html")
        assert result.exit_code == 0, result.output
        (line,) = [line for line in result.stdout.splitlines() if line.startswith("picture:")]
        return line, json.loads(out.read_text())["quality"]

    line, known = quality("known")
    assert line.endswith("(inside: what was hidden)")
    assert "outside inf" in line
    assert "what was hidden, as the file beside" in (tmp_path / "a.html").read_text()
    regions = json.loads((tmp_path / "b.mkv.json").read_text())["hidden"]
    assert regions[0][-1] == [0, 0, 66, 96]
    assert known["frames"][0]["face_area"] == pytest.approx(66 / 128, abs=0.01)
    # Beside a file that is not the one described, or none, it is an estimate.
    (tmp_path / "b.mkv.json").unlink()
    line, _ = quality("estimate")
    assert line.endswith("(inside: an estimate, 1.2 times the faces' boxes)")
    assert "outside inf" not in line
    assert "an estimate, 1.2 times" in (tmp_path / "a.html").read_text()


@pytest.mark.usefixtures("toys")
def test_movements_are_shown(tmp_path: Path) -> None:
    boxes = [(16 + step, 20, 46 + step, 80) for step in (0, 3, 6, 4, 1, -2, -5, -3, 0, 2)]
    before = make_video(tmp_path / "a.mkv", [frame(box) for box in boxes])
    after = make_video(tmp_path / "b.mkv", [frame(box) for box in [boxes[0], *boxes[:-1]]])
    result = deidlib("evaluate", before, after, "--models", "mtcnn", "--against", "yunet", "--no-quality")
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if "box centre" in line]
    cells = re.split(r"\s{2,}", row)
    assert cells[:2] == ["mtcnn", "box centre"]
    assert cells[5:] == ["1.0", "10"]
    assert "follows: correlation" in result.stdout
    same = deidlib("evaluate", before, before, "--models", "mtcnn", "--no-quality")
    (row,) = [line for line in same.stdout.splitlines() if "box centre" in line]
    assert re.split(r"\s{2,}", row)[2:6] == ["1.000", "1.000", "0.00 px", "0.0"]


@pytest.mark.usefixtures("toys")
def test_the_challenge_csv_is_a_truth(clip: tuple[Path, Path], tmp_path: Path) -> None:
    header = ["frame", "score", "x", "y", "w", "h", *(f"point_{k:02d}_{axis}" for k in range(5) for axis in "xy")]
    x, y, width, height = 14, 20, 40, 60
    shares = [(0.25, 0.4), (0.75, 0.4), (0.5, 0.6), (0.3, 0.8), (0.7, 0.8)]
    points = [value for a, b in shares for value in (x + a * width, y + b * height)]
    row = ",".join(map(str, [1, 0.9, x, y, width, height, *points]))
    (tmp_path / "truth.csv").write_text(",".join(header) + "\n" + row + "\n")
    # Only the first frame has a face, and there it is where the protected frame's is.
    result = deidlib("evaluate", *clip, "--truth", tmp_path / "truth.csv", "--no-quality")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if "mtcnn" in line]
    assert line.split()[1:6] == ["1/1", "1", "1.000", "1.000", "0.0%"]


@pytest.mark.usefixtures("toys")
def test_lpips_where_it_is_wanted(clip: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(net: str) -> Callable[[Tensor, Tensor], Tensor]:
        assert net == "vgg"
        return lambda a, b: (a - b).abs().mean(dim=(1, 2, 3))

    monkeypatch.setattr("deidlib.metrics.LPIPS", made)
    told = ("--lpips", "vgg", "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    result = deidlib("evaluate", *clip, *told)
    assert result.exit_code == 0, result.output
    frames = json.loads((tmp_path / "a.json").read_text())["quality"]["frames"]
    shown = [to_grid(other) for other in (frame(MOVED), frame(), frame(LEFT))]
    wanted = [float((to_grid(frame(LEFT)) - other).abs().mean()) for other in shown]
    assert [row["lpips"] for row in frames] == pytest.approx(wanted, abs=1e-6)
    assert wanted[0] > 0 == wanted[2]
    assert "LPIPS" in result.stdout
    assert "LPIPS" in (tmp_path / "a.html").read_text()
    without = deidlib("evaluate", *clip, "--html", tmp_path / "b.html")
    assert "LPIPS" not in without.stdout + (tmp_path / "b.html").read_text()
    refused(deidlib("evaluate", *clip, "--lpips", "alex", "--no-quality"), "--lpips is part of the quality")


@pytest.mark.usefixtures("toys")
def test_originals_in_the_report_are_announced(clip: tuple[Path, Path], tmp_path: Path) -> None:
    result = deidlib("evaluate", *clip, "--html", tmp_path / "a.html", "--show-originals", "--worst", 1)
    assert result.exit_code == 0
    assert "original frames are in it" in result.stdout
    assert "original, with what is to be read" in (tmp_path / "a.html").read_text()


def test_the_astronaut_hidden_is_not_found(tmp_path: Path) -> None:
    image = astronauts(1, side=160)
    write_image(tmp_path / "a.png", image)
    write_image(tmp_path / "b.png", Solid()(image, MTCNN().predict(image)))
    result = deidlib("evaluate", tmp_path / "a.png", tmp_path / "b.png")
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if "mtcnn" in line]
    assert " 0/1 " in row
    assert " 180.0° " in row
    assert "outside inf" in result.stdout


def test_identity_by_a_known_embedder(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    image = astronauts(1, side=160)
    write_image(tmp_path / "a.png", image)
    file = weights.find("mobilefacenet")
    result = deidlib("evaluate", tmp_path / "a.png", tmp_path / "a.png", "--embedder", file, "--threshold", "0.5")
    assert result.exit_code == 0, result.output
    assert "cosine to the original 1.000 on average" in result.stdout
    assert "100.0% of 1 faces above the threshold 0.500 (given)" in result.stdout


@pytest.mark.usefixtures("toys")
def test_strangers_are_read_from_a_folder(
    clip: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def colour(crops: Tensor) -> Tensor:
        return crops.mean(dim=(2, 3))

    monkeypatch.setattr("deidlib.metrics.FacenetEmbedder", lambda: colour)
    people = tmp_path / "people"
    people.mkdir()
    refused(deidlib("evaluate", *clip, "--embedder", "facenet", "--strangers", people), "holds no picture")
    write_image(people / "a.png", frame(LEFT))
    result = deidlib("evaluate", *clip, "--embedder", "facenet", "--strangers", people)
    assert result.exit_code == 0, result.output
    # The stranger is the same picture: nobody can be told apart.
    assert "0.0% of 3 faces above the threshold 1.000 (3 pairs" in result.stdout


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--models", "alexnet"], ["unknown model 'alexnet' in --models", "yunet"]),
        (["--against", "nobody"], ["unknown model 'nobody' in --against"]),
        (["--models", "mtcnn", "--against", "mtcnn"], ["mtcnn: authorised and unauthorised"]),
        (["--models", ""], ["nobody to read"]),
        (["--json", "numbers.mkv"], ["--json must name a .json file", "got numbers.mkv"]),
        (["--html", "page.json"], ["--html must name a file that ends in .html"]),
        (["--show-originals"], ["Add --html"]),
        (["--hidden", "a.mkv"], ["Add --html"]),
        (["--threshold", "0.5"], ["Add --embedder"]),
        (["--embedder", "none.onnx"], ["none.onnx is no file"]),
        (["--truth", "none.csv"], ["none.csv cannot be read"]),
        (["--device", "abacus"], ["--device must be"]),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    clip: tuple[Path, Path], tmp_path: Path, options: list[str], parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = deidlib("evaluate", *clip, *options)
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    for part in parts:
        assert part in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.mkv", "before.mkv"]


@pytest.mark.usefixtures("toys")
def test_files_that_do_not_go_together_are_named(clip: tuple[Path, Path], tmp_path: Path) -> None:
    other = make_video(tmp_path / "long.mp4", torch.stack([frame()] * 5))
    result = deidlib("evaluate", clip[0], other)
    assert result.exit_code == 1
    assert "before.mkv has 3 frames and" in result.stderr
    assert "long.mp4 has 5" in result.stderr


def test_a_missing_extra_is_one_line(clip: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ModuleNotFoundError("pfld needs onnxruntime, which is not installed.")

    monkeypatch.setattr(names, "readers", lambda: {"mtcnn": names.Entry(Patches), "pfld": names.Entry(missing)})
    result = deidlib("evaluate", *clip, "--against", "pfld")
    assert result.exit_code == 1
    assert "error: pfld needs onnxruntime" in result.stderr


def test_every_name_has_its_weights_in_the_table() -> None:
    assert {"yunet", "pfld", "retinaface-twin"} <= names.readers().keys()
    assert names.targets().keys() < names.readers().keys()
    for entry in names.readers().values():
        assert entry.checkpoint is None or weights.checkpoint(entry.checkpoint).licence
    assert "evaluate" in {command.name or command.callback.__name__ for command in cli.app.registered_commands
                          if command.callback}  # fmt: skip


def test_a_file_that_says_how_it_was_hidden_is_quoted(tmp_path: Path) -> None:
    image = astronauts(1, side=160)
    write_image(tmp_path / "a.png", image)
    for hide, words in (("solid", "nothing in the file hangs on the pixels"), ("pixelate", "Not proved to hold")):
        made = tmp_path / f"{hide}.png"
        told = deidlib("protect", tmp_path / "a.png", made, "--hide", hide, "--iterations", 1, "--no-verify")
        assert told.exit_code == 0, told.output
        result = deidlib("evaluate", tmp_path / "a.png", made, "--no-quality", "--html", tmp_path / "a.html")
        assert words in result.stdout
        assert words in (tmp_path / "a.html").read_text()
    assert "over a clip that adds up" in result.stdout


@pytest.mark.usefixtures("toys")
def test_attacks_need_a_judge_and_a_name(clip: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    refused(deidlib("evaluate", *clip, "--attack", "perturbation"), "Add --embedder mobilefacenet")
    monkeypatch.setattr("deidlib.metrics.FacenetEmbedder", lambda: lambda crops: crops.mean(dim=(2, 3)))
    refused(deidlib("evaluate", *clip, "--embedder", "facenet", "--attack", "luck"), "unknown attack 'luck'")
    result = deidlib("evaluate", *clip, "--embedder", "facenet", "--attack", "perturbation", "--no-quality")
    assert result.exit_code == 0, result.output
    assert "perturbation, read as an average: the person is number 1 of 1" in result.stdout


# Tables, and which way is good


TOLD = """\
3 frames

Who may read, and should read as on the original:
reader  found ↑  IoU ↑  least ↑  points ↓  gaze ↓  head ↓  score ↓
mtcnn       2/3  0.606    0.000     36.1%       -   60.5°  ...

Who may not, and should find nothing:
reader  found ↓  IoU ↓  least ↓  points ↑  gaze ↑  head ↑  score ↑
yunet       0/0      -        -         -       -       -        -

↑ the higher the better, ↓ the lower the better."""


@pytest.mark.usefixtures("toys")
def test_what_is_printed_says_which_way_is_good(
    clip: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = deidlib("evaluate", *clip, "--models", "mtcnn", "--against", "yunet", "--fail-if", "found(yunet) > 0")
    assert result.exit_code == 0, result.output
    shown = re.sub(r"(?<=[0-9]°)  +[\d.]+", "  ...", result.stdout)
    assert shown.startswith(TOLD)
    assert max(len(line) for line in TOLD.splitlines()) <= 80
    assert result.stdout.endswith("verdict: passed, since none of this is true: found(yunet) > 0\n")


@pytest.mark.usefixtures("toys")
def test_tables_are_for_spreadsheets_and_papers(clip: tuple[Path, Path], tmp_path: Path) -> None:
    places = [tmp_path / "new" / name for name in ("a.csv", "a.tex")]
    for place in places:
        done(deidlib("evaluate", *clip, "--models", "mtcnn", "--against", "yunet", "--no-quality", "--table", place))
    with places[0].open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    told = {name: first[name] for name in ("reader", "role", "reads", "frames", "faces", "found", "missed", "extra")}
    assert list(told.values()) == ["mtcnn", "authorised", "boxes", "3", "3", "2", "1", "0"]
    assert float(first["coverage"]) == 2 / 3
    assert float(first["iou_mean"]) == pytest.approx((36 / 44 + 1) / 3)
    assert first["gaze_deg_mean"] == ""
    assert (second["reader"], second["role"]) == ("yunet", "unauthorised")
    latex = places[1].read_text(encoding="utf-8")
    assert re.search(r"^mtcnn & 2/3 & 0\.606 & 36\.\d\d & -- & 60\.\d\d & ", latex, flags=re.M)
    assert r"\emph{unauthorised} & $\downarrow$ & $\downarrow$ & $\uparrow$" in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {6}
    refused(
        deidlib("evaluate", *clip, "--table", tmp_path / "a.txt"), "--table must name a file that ends in .csv or .tex"
    )


def test_a_name_is_no_formula_and_no_command() -> None:
    from deidlib.evaluation.tables import _cell, _escaped

    assert _cell("=HYPERLINK(1)") == "'=HYPERLINK(1)"
    assert _cell(float("nan")) == ""
    assert _escaped(r"\input{x}_%&") == r" input\{x\}\_\%\&"
