from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import astronauts, make_video, read_video
from command import deidlib, done, refused

from deidlib import cli, weights
from deidlib.attack.aggregation import Sum
from deidlib.attack.distortions import H264, JPEG
from deidlib.attack.steps import APGDStep, MomentumSignStep, SignStep
from deidlib.cli import names
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.media import MediaError, read_image, write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import GaussianBlur, Pixelate, Solid
from deidlib.protect import file
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.inputs import Inputs
from deidlib.protect.source import ClipSource, path_of
from deidlib.protect.video import protect_video
from deidlib.records.detections import Detections, write_detections
from deidlib.records.files import sha256_of


def tree(folder: Path) -> list[str]:
    """All files but the secret that a folder's inputs are known by."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".deidlib-inputs.key")
    return sorted(str(path.relative_to(folder)) for path in files)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "in.png", astronauts(1))
    return tmp_path / "in.png"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "in.mp4", astronauts(3))


# What it is for


def test_help_names_the_commands_and_options() -> None:
    assert "De-identify faces" in deidlib("--help").output
    for part in ("protect", "demo", "weights"):
        assert part in deidlib("--help").output
    assert "SOURCE" in deidlib("protect", "--help").output
    # Without a command there is nothing to do.
    assert deidlib().exit_code != 0


def test_hide_only_hides_and_attacks_nothing(image: Path) -> None:
    target = image.with_name("out.png")
    told = done(deidlib("protect", image, target, "--hide-only", "--device", "cpu")).stdout
    assert told.startswith(f"{target}: 1 frame, 1 with faces hidden\n")
    assert "loss" not in told
    before, after = read_image(image), read_image(target)
    (face,) = MTCNN().predict(before)
    expected = Solid()(before, [face])
    assert torch.equal(after, expected.mul(255).round().div(255))


def test_hide_only_does_not_take_what_tells_an_attack_what_to_do(image: Path) -> None:
    refused(deidlib("protect", image, image.with_name("out.png"), "--hide-only", "--until", "quick"), "--until")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hide-only"], "--hide-only attacks nothing, so that --silence would do nothing"),
        (["--paper"], "Leave --silence or --paper out"),
        (["--targets", "mtcnn"], "mtcnn cannot be authorised and silenced"),
    ],
)
def test_nobody_is_silenced_in_vain(image: Path, options: list[str], message: str) -> None:
    refused(deidlib("protect", image, image.with_name("out.png"), "--silence", "mtcnn", *options), message)


def test_with_a_key_nobody_needs_to_be_silenced(image: Path) -> None:
    key = image.with_name("my.key")
    done(deidlib("key", "new", key))
    target = image.with_name("out.png")
    refused(deidlib("protect", image, target, "--silence", "mtcnn", "--key", key), "--key keeps everybody out")


@pytest.mark.slow
def test_a_silenced_detector_is_no_part_of_what_is_authorised(image: Path, shared: Path) -> None:
    target = image.with_name("out.png")
    options = ["--targets", "retinaface", "--until", "quick"]  # by default the twin is silent
    done(deidlib("protect", image, target, *options, "--device", "cpu"))
    written = read_image(target)
    assert len(RetinaFace().predict(written)[0]) == 1
    assert len(RetinaFace("retinaface_mobilenet0.25_1mb").predict(written)[0]) == 0
    assert "silent" not in target.with_name("out.png.json").read_text()


def test_protect_an_image(image: Path) -> None:
    target = image.parent / "new" / "folder" / "out.png"
    result = deidlib("protect", image, target, "--iterations", 2, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{target}: 1 frame, 1 with faces hidden and attacked\n")
    assert "final loss: mtcnn" in result.stdout
    assert "device: cpu" in result.stderr
    before, after = read_image(image), read_image(target)
    (face,) = MTCNN().predict(before)
    left, top, right, bottom = face.boxes[0].round().long().tolist()
    changed = (after - before).abs().amax(dim=(0, 1))
    assert changed[top:bottom, left:right].mul(255).mean() > 10
    assert not changed[: max(0, top - 20)].any()
    assert not changed[:, : max(0, left - 20)].any()


def test_protect_a_video(video: Path) -> None:
    target = video.with_name("out.mkv")
    result = deidlib("protect", video, target, "--iterations", "1", "--batch", "2")
    assert result.exit_code == 0, result.output
    assert "3 frames, 3 with faces" in result.stdout
    assert "3.0/3 frames" in result.stderr
    after = read_video(target)
    assert after.shape == (3, 3, 128, 128)
    assert (after - read_video(video)).abs().amax(dim=(1, 2, 3)).min() > 0.2
    assert tree(video.parent) == ["in.mp4", "out.mkv", "out.mkv.json"]
    assert "mtcnn reads from the file: " in result.stdout


@pytest.mark.parametrize("share", ["0.03", "0.03137", "0.999"])
def test_an_epsilon_meant_as_a_share_is_refused(image: Path, share: str) -> None:
    target = image.with_name("out.png")
    line = refused(deidlib("protect", image, target, "--epsilon", share), "grey levels of 255", "from 0 to 1")
    assert f"--epsilon {float(share) * 255:.3g} here" in line
    assert tree(image.parent) == ["in.png"]


def test_epsilon_is_in_grey_levels_and_blocks_are_cells(image: Path) -> None:
    exact, near = image.with_name("exact.png"), image.with_name("near.png")
    for target, epsilon in ((exact, 0), (near, 3)):
        result = deidlib(
            "protect", image, target, "--epsilon", epsilon, "--iterations", 4, "--hide", "pixelate", "--blocks", 2
        )
        assert result.exit_code == 0, result.output
    hidden = read_image(exact)
    assert (read_image(near) - hidden).abs().mul(255).max().round() == 3
    changed = (hidden != read_image(image)).any(dim=1)[0]
    # Two cells across, two or three down.
    assert len(torch.unique(hidden[0][:, changed].T, dim=0)) in (4, 6)


def test_nothing_of_the_face_is_taken_unless_that_is_asked_for(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Deidentifier] = []

    def remember(deidentifier: Deidentifier, *_: object, **__: object) -> None:
        seen.append(deidentifier)
        raise KeyboardInterrupt

    monkeypatch.setattr(file, "protect_image", remember)
    outputs = [
        deidlib("protect", image, image.with_name("out.png"), *options).stderr
        for options in (
            [],
            ["--paper"],
            ["--paper", "--hide", "solid", "--steps", "mi-fgsm"],
            ["--hide", "blur", "--until", "never"],
        )
    ]
    assert [one.obfuscator for one in seen] == [Solid(), Pixelate(4), Solid(), GaussianBlur()]
    assert [type(one.attacker.step) for one in seen] == [MomentumSignStep, SignStep, MomentumSignStep, APGDStep]
    assert seen[1].attacker.aggregate == Sum()
    assert seen[1].chain is None
    assert [one.attacker.until is None for one in seen] == [False, True, True, True]
    assert ["over a clip they add up" in text for text in outputs] == [False, True, False, True]
    refused(deidlib("protect", image, image.with_name("out.png"), "--blocks", 3), "Add --hide pixelate")


def test_a_picture_without_a_face_is_hidden_and_said_so(tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", torch.rand(1, 3, 40, 48))
    result = deidlib("protect", tmp_path / "in.png", tmp_path / "out.png")
    assert result.exit_code == 0
    assert "1 wholly hidden" in result.stdout
    assert "warning: no face was found" in result.stderr
    assert len(torch.unique(read_image(tmp_path / "out.png")[0].flatten(1).T, dim=0)) == 1
    kept = deidlib("protect", tmp_path / "in.png", tmp_path / "kept.png", "--on-missing", "keep")
    assert kept.exit_code == 0
    assert torch.equal(read_image(tmp_path / "kept.png"), read_image(tmp_path / "in.png"))
    wanted = deidlib("protect", tmp_path / "in.png", tmp_path / "no.png", "--on-missing", "error")
    refused(wanted, str(tmp_path / "in.png"), "frame 0 shows no face", "mtcnn", "Choose on_missing='hold'")
    assert tree(tmp_path) == ["in.png", "kept.png", "kept.png.json", "out.png", "out.png.json"]


def test_a_folder_keeps_its_tree_and_one_broken_file_does_not_stop_it(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "day" / "one").mkdir(parents=True)
    write_image(source / "a.png", astronauts(1))
    write_image(source / "day" / "b.jpg", astronauts(1), quality=95)
    make_video(source / "day" / "one" / "c.mp4", astronauts(2))
    (source / "day" / "broken.mp4").write_bytes(b"hello\n" * 99)
    (source / "notes.txt").write_text("not media")
    result = deidlib("protect", source, target, "--iterations", 0)
    assert "passed over: 1 file neither an image nor a video: notes.txt" in result.stderr
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {source / 'day' / 'broken.mp4'} is not a video")
    assert "1 of 4 files failed" in result.stderr
    assert result.stdout.count("with faces hidden") == 3
    outputs = ["a.png", "day/b.png", "day/one/c.mkv"]
    assert tree(target) == sorted([*outputs, *(f"{name}.json" for name in outputs), "deidlib-manifest.jsonl"])
    assert len(read_video(target / "day" / "one" / "c.mkv")) == 2

    (source / "day" / "broken.mp4").unlink()
    assert deidlib("protect", source, target, "--iterations", 0).exit_code == 0


# Folders, again and again


def folder_of_clips(source: Path) -> None:
    (source / "day").mkdir(parents=True)
    for name in ("a.mp4", "day/b.mp4", "day/c.mp4"):
        make_video(source / name, astronauts(2, side=64))


def manifest(target: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (target / "deidlib-manifest.jsonl").read_text().splitlines()]


QUICK = ("--iterations", 0, "--no-verify", "--device", "cpu")


def test_what_is_finished_is_left_as_it_is(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    folder_of_clips(source)
    assert deidlib("protect", source, target, *QUICK).exit_code == 0
    lines = manifest(target)
    assert [(line["output"], line["input"], line["status"]) for line in lines] == [
        ("a.mkv", "a.mp4", "done"),
        ("day/b.mkv", "day/b.mp4", "done"),
        ("day/c.mkv", "day/c.mp4", "done"),
    ]
    for line in lines:
        secret = Key.load(target / ".deidlib-inputs.key")
        assert line["input_mac"] == secret.mac(sha256_of(source / line["input"]))
        assert line["output_sha256"] == sha256_of(target / line["output"])
    # Nothing says where the files lay.
    assert str(tmp_path) not in (target / "deidlib-manifest.jsonl").read_text()
    assert str(tmp_path) not in (target / "a.mkv.json").read_text()

    before = {path: path.stat().st_mtime_ns for path in target.rglob("*.mkv")}
    make_video(source / "day" / "c.mp4", astronauts(3, side=64))
    (target / "a.mkv").unlink()
    again = deidlib("protect", source, target, *QUICK)
    assert again.exit_code == 0
    assert "1 of 3 files were finished before" in again.stderr
    after = {path: path.stat().st_mtime_ns for path in target.rglob("*.mkv")}
    assert {path.name for path in after if after[path] == before[path]} == {"b.mkv"}
    assert len(read_video(target / "day" / "c.mkv")) == 3
    assert len(manifest(target)) == 5

    other = deidlib("protect", source, target, *QUICK, "--hide", "pixelate", "--blocks", 3)
    assert "finished before" not in other.stderr
    assert len(manifest(target)) == 8


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    folder_of_clips(source)
    video, done = protect_video, list[str]()

    def interrupted(deidentifier: Deidentifier, one: ClipSource, *arguments: Any, **settings: Any) -> Any:
        name = path_of(one).name
        done.append(name)
        if name == "b.mp4" and done.count("b.mp4") == 1:
            raise KeyboardInterrupt
        return video(deidentifier, one, *arguments, **settings)

    monkeypatch.setattr(file, "protect_video", interrupted)
    result = deidlib("protect", source, target, *QUICK)
    assert result.exit_code == 130
    assert "The same command goes on where it stopped" in result.stderr
    assert [line["output"] for line in manifest(target)] == ["a.mkv"]
    assert deidlib("protect", source, target, *QUICK).exit_code == 0
    assert done == ["a.mp4", "b.mp4", "b.mp4", "c.mp4"]


def test_what_failed_is_recorded_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    folder_of_clips(source)
    whole = (source / "a.mp4").read_bytes()
    (source / "a.mp4").write_bytes(whole[:-40])
    video = protect_video

    def breaks(deidentifier: Deidentifier, one: ClipSource, *arguments: Any, **settings: Any) -> Any:
        if path_of(one).name == "b.mp4":
            raise RuntimeError("out of memory")
        return video(deidentifier, one, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(file, "protect_video", breaks)
        result = deidlib("protect", source, target, *QUICK)
    assert result.exit_code == 1
    assert "2 of 3 files failed" in result.stderr
    lines = manifest(target)
    assert [line["status"] for line in lines] == ["failed", "failed", "done"]
    assert lines[0]["error"].startswith("a.mp4 is damaged or cut off")
    assert lines[1]["error"] == "day/b.mp4: out of memory"
    assert tree(target) == ["day/c.mkv", "day/c.mkv.json", "deidlib-manifest.jsonl"]
    (source / "a.mp4").write_bytes(whole)
    assert deidlib("protect", source, target, *QUICK).exit_code == 0
    assert [line["status"] for line in manifest(target)[3:]] == ["done", "done"]


def test_work_folders_are_no_inputs(tmp_path: Path) -> None:
    source = tmp_path / "in"
    hidden = source / ".a.mkv.deidlib-work"
    hidden.mkdir(parents=True)
    make_video(hidden / "000000.0.mkv", astronauts(1, side=64), codec="ffv1")
    make_video(source / "a.mp4", astronauts(1, side=64))
    assert deidlib("protect", source, tmp_path / "out", *QUICK).exit_code == 0
    lines = [(line["input"], line["status"]) for line in manifest(tmp_path / "out")]
    assert lines == [(hidden.name, "passed-over"), ("a.mp4", "done")]


# Other sources


def test_a_pipe_is_protected(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "in.mkv", astronauts(5), codec="ffv1")
    with clip.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "deidlib.cli", "protect", "-", "out.mkv", "--iterations", "0", "--frames", "4"],
            stdin=file,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "out.mkv: 4 frames, 4 with faces hidden" in done.stdout
    assert "neither continued nor mended" in done.stderr
    assert (read_video(tmp_path / "out.mkv") - astronauts(4)).abs().amax(dim=(1, 2, 3)).min() > 0.2
    assert tree(tmp_path) == ["in.mkv", "out.mkv", "out.mkv.json"]


def test_faces_from_a_file(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "in.mp4", torch.randint(0, 256, (3, 3, 40, 48)) / 255)
    known = Faces(torch.tensor([[10.0, 10, 30, 30]]), torch.ones(1))
    write_detections(tmp_path / "faces.json", Detections([known, known, Faces.empty()], size=(40, 48)))
    target, settings = tmp_path / "out.mkv", ("--faces", tmp_path / "faces.json", "--iterations", 0)
    result = deidlib("protect", clip, target, *settings)
    assert result.exit_code == 0, result.output
    assert "3 frames, 2 with faces hidden and attacked, 1 held\n" in result.stdout
    changed = (read_video(target) - read_video(clip)).abs().amax(dim=(0, 1)) > 0
    assert changed[10:30, 10:30].float().mean() > 0.9
    assert not changed[:, 40:].any()
    write_detections(tmp_path / "faces.json", Detections([known], size=(40, 48)))
    refused(deidlib("protect", clip, tmp_path / "b.mkv", *settings), "holds detections on 1 frames; the clip has 3")
    (tmp_path / "folder").mkdir()
    write_image(tmp_path / "folder" / "a.png", astronauts(1))
    refused(deidlib("protect", tmp_path / "folder", tmp_path / "o", *settings), "--faces belongs to one file")
    write_image(tmp_path / "a.png", torch.rand(1, 3, 40, 48))
    assert deidlib("protect", tmp_path / "a.png", tmp_path / "b.png", *settings).exit_code == 0
    assert len(torch.unique(read_image(tmp_path / "b.png")[0, :, 12:28, 12:28].flatten(1).T, dim=0)) <= 16


def test_what_must_be_survived_is_handed_on(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Deidentifier] = []

    def remember(deidentifier: Deidentifier, *_: object, **__: object) -> None:
        seen.append(deidentifier)
        raise KeyboardInterrupt

    monkeypatch.setattr(file, "protect_image", remember)
    deidlib("protect", image, image.with_name("out.png"), "--survive", "jpeg:75, h264:23", "--window", 3, "--hold", 7)
    assert list(seen[0].attacker.distortions or ()) == [JPEG(75), H264(23)]
    assert (seen[0].tracker.window, seen[0].tracker.hold) == (3, 7)
    refused(deidlib("protect", image, image.with_name("out.png"), "--survive", "mp3:75"), "unknown distortion 'mp3:75'")
    refused(deidlib("protect", image, image.with_name("out.png"), "--hide", "paint"), "--hide must be solid")


def test_a_camera_that_is_not_there(tmp_path: Path) -> None:
    refused(deidlib("protect", "97", tmp_path / "out.mkv"), "camera 97")
    assert tree(tmp_path) == []


# What can be wrong


def test_what_is_no_media_file(tmp_path: Path) -> None:
    contents = {"text": b"hello\n" * 50, "noise": bytes(range(256)) * 20, "empty": b""}
    for what, content in contents.items():
        for name, out in ((f"{what}.png", "out.png"), (f"{what}.mp4", "out.mkv")):
            (tmp_path / name).write_bytes(content)
            expected = "empty (0 bytes)" if what == "empty" else "is not a"
            refused(deidlib("protect", tmp_path / name, tmp_path / out), str(tmp_path / name), expected, "xpected")
    refused(deidlib("protect", tmp_path / "missing.png", tmp_path / "out.png"), "missing.png does not exist", "check")
    assert not [name for name in tree(tmp_path) if "out" in name or "partial" in name]


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_truncated_video(tmp_path: Path, share: float) -> None:
    source = make_video(tmp_path / "in.mkv", astronauts(12, side=64), codec="ffv1")
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])
    result = deidlib("protect", source, tmp_path / "out.mkv", "--iterations", 0, "--batch", 1)
    refused(result, str(source), "cut off")
    assert tree(tmp_path) == ["in.mkv"]


def test_a_truncated_image(image: Path) -> None:
    image.write_bytes(image.read_bytes()[:3000])
    refused(deidlib("protect", image, image.with_name("out.png")), str(image), "damaged", "get a sound copy")
    assert tree(image.parent) == ["in.png"]


Attempt = Callable[[Path, Path], Sequence[str | Path]]


@pytest.mark.parametrize(
    ("attempt", "parts"),
    [
        (lambda image, video: [image, "out.jpg"], ["out.jpg", "written as .png, not '.jpg'", "Write out.png"]),
        (lambda image, video: [image, "out.mkv"], ["out.mkv", "a protected image is written as .png", "'.mkv'"]),
        (
            lambda image, video: [video, "out.mp4"],
            ["out.mp4", "'ffv1' goes into .mkv, not '.mp4'", "take codec 'h264'"],
        ),
        (lambda image, video: [video, "out.png"], ["out.png", "'ffv1' goes into .mkv, not '.png'", "Change the name"]),
        (lambda image, video: [video, "out.mkv", "--codec", "h264-lossless", "--quality", "9"], ["quality belongs to"]),
        (lambda image, video: [image, image], ["output equals input", "in.png", "Choose another name"]),
        (lambda image, video: [video, video], ["output equals input", "in.mp4", "Choose another name"]),
        (lambda image, video: ["folder", image], ["is a folder, so the output must be one", "in.png is a file"]),
        (lambda image, video: ["folder", "folder"], ["must not be the input folder", "Choose another"]),
        (lambda image, video: ["folder", "folder/deeper/out"], ["must not be the input folder or lie inside it"]),
        (lambda image, video: ["folder", "out"], ["folder holds no image or video"]),
        (lambda image, video: [image, image / "out.png"], ["in.png cannot be created", "Choose another"]),
        (
            lambda image, video: [image, "out.png", "--targets", "mtcn"],
            ["unknown model 'mtcn' in --targets", "mtcnn, retinaface"],
        ),
        (lambda image, video: [image, "out.png", "--targets", " , "], ["at least one model", "--targets mtcnn"]),
        (lambda image, video: [image, "out.png", "--device", "gpu"], ["cuda:N", "got 'gpu'", "--device auto"]),
        (lambda image, video: [image, "out.png", "--device", "cuda:99"], ["--device cuda:99", "Use --device cpu"]),
    ],
)
def test_what_cannot_be_written(
    image: Path, video: Path, monkeypatch: pytest.MonkeyPatch, attempt: Attempt, parts: list[str]
) -> None:
    monkeypatch.chdir(image.parent)
    Path("folder").mkdir()
    before = {path: path.read_bytes() for path in (image, video)}
    refused(deidlib("protect", *attempt(image, video)), *parts)
    assert tree(image.parent) == ["in.mp4", "in.png"]
    assert {path: path.read_bytes() for path in before} == before


def test_two_inputs_for_one_output_keep_their_suffixes(tmp_path: Path) -> None:
    (tmp_path / "in/b").mkdir(parents=True)
    for name in ("a.jpg", "a.png", "a.mp4", "b/a.jpg"):
        (tmp_path / "in" / name).touch()
    found = Inputs.below(tmp_path / "in", tmp_path / "out", "ffv1")
    assert {path.relative_to(tmp_path / "in").as_posix(): out.relative_to(tmp_path / "out").as_posix()
            for path, out in found.pairs} == {
        "a.jpg": "a.jpg.png", "a.png": "a.png.png", "a.mp4": "a.mkv", "b/a.jpg": "b/a.png",
    }  # fmt: skip
    (tmp_path / "in/a.jpg.jpg").touch()
    refused(deidlib("protect", tmp_path / "in", tmp_path / "out"), "a.jpg.jpg", "both", "Rename one")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option",
    [
        ["--epsilon", "256"],
        ["--epsilon", "-1"],
        ["--blocks", "0"],
        ["--iterations", "-1"],
        ["--batch", "0"],
        ["--codec", "mp3"],
        ["--on-missing", "skip"],
        ["--nonsense"],
    ],
)
def test_options_are_checked(image: Path, option: list[str]) -> None:
    result = deidlib("protect", image, image.with_name("out.png"), *option)
    assert result.exit_code == 2
    assert option[0] in result.stderr
    assert tree(image.parent) == ["in.png"]


def test_interrupted(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(file, "protect_image", interrupt)
    result = deidlib("protect", image, image.with_name("out.png"))
    assert result.exit_code == 130
    assert "interrupted; nothing was left" in result.stderr
    assert tree(image.parent) == ["in.png"]


def test_the_installed_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deidlib.cli", "protect", "missing.mp4", "out.mkv"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: missing.mp4 does not exist")
    assert len(done.stderr.splitlines()) == 1
    assert tree(tmp_path) == []


# Weights


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no checkpoint and no network; the folder that DEIDLIB_WEIGHTS names."""
    mine = tmp_path / "mine"
    for place in (mine, tmp_path / "cache"):
        place.mkdir()
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(mine))
    monkeypatch.setenv("DEIDLIB_CACHE", str(tmp_path / "cache"))

    def no_network(url: str, path: Path) -> None:
        raise OSError("name or service not known")

    monkeypatch.setattr("deidlib.weights.store._download", no_network)
    return mine


def test_missing_weights_without_a_network(image: Path, offline: Path) -> None:
    wanted = weights.checkpoint("retinaface_mobilenet0.25")
    assert wanted.url
    target = image.with_name("out.png")
    line = refused(
        deidlib("protect", image, target, "--targets", "retinaface"),
        *(wanted.file, wanted.url, str(offline), "DEIDLIB_WEIGHTS", "name or service not known"),
    )
    assert line.count("\n") == 0
    assert not target.exists()
    refused(deidlib("weights", "fetch", wanted.name), wanted.file, wanted.url, str(offline), "DEIDLIB_WEIGHTS")


def test_a_landmark_model_alone_cannot_find_faces(image: Path, offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDetector(torch.nn.Module):
        task = "landmarks"

    monkeypatch.setattr(names, "targets", lambda: {"fan": names.Entry[Any](NoDetector)})
    result = deidlib("protect", image, image.with_name("out.png"), "--targets", "fan")
    refused(result, "must name a detector", "got fan", "--targets mtcnn,fan")


def test_the_shell_knows_every_checkpoint_it_names() -> None:
    for name, entry in names.targets().items():
        assert name == "mtcnn" or entry.checkpoint in weights.CHECKPOINTS


def test_weights_list_and_where(offline: Path) -> None:
    listed = deidlib("weights", "list")
    assert listed.exit_code == 0
    lines = listed.stdout.splitlines()
    assert len(lines) == 2 * len(weights.CHECKPOINTS)
    for line, origin, (name, known) in zip(lines[::2], lines[1::2], weights.CHECKPOINTS.items(), strict=True):
        assert line.split() == [name, "missing", *known.licence.split()]
        assert origin == f"  {known.origin}"
    known = weights.checkpoint("retinaface_mobilenet0.25")
    (offline / known.file).write_bytes(b"x" * 1_234_567)
    assert deidlib("weights", "list").stdout.splitlines()[0].split()[1:4] == ["mismatch", "1.2", "MB"]
    (offline / known.file).unlink()
    where = deidlib("weights", "where")
    assert str(offline) in where.stdout
    assert str(offline.with_name("cache")) in where.stdout


def test_weights_where_when_nothing_is_set(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEIDLIB_WEIGHTS")
    assert "DEIDLIB_WEIGHTS: not set" in deidlib("weights", "where").stdout


def test_weights_verify(offline: Path) -> None:
    nothing = deidlib("weights", "verify")
    assert nothing.exit_code == 0
    known = weights.checkpoint("retinaface_mobilenet0.25")
    (offline / known.file).write_bytes(b"another file")
    wrong = deidlib("weights", "verify")
    assert wrong.exit_code == 1
    assert wrong.stdout.split() == [known.name, "mismatch", str(offline / known.file)]


def test_weights_fetch_of_an_unknown_name(offline: Path) -> None:
    refused(deidlib("weights", "fetch", "retinafase_resnet50"), "retinafase_resnet50", "retinaface_resnet50")


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "clips" / "closed"
    closed.mkdir(parents=True)
    (tmp_path / "clips" / "open.mp4").touch()
    assert [path.name for path, _ in Inputs.below(tmp_path / "clips", tmp_path / "out", "ffv1").pairs] == ["open.mp4"]
    looked = os.scandir

    def scandir(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return looked(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(MediaError, match="closed cannot be read"):
        Inputs.below(tmp_path / "clips", tmp_path / "out", "ffv1")
