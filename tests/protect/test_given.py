"""Faces that are given are those of this clip, and hiding them hides faces; all else is refused before any work."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import astronauts, make_video
from command import deidlib, done, refused
from patches import LEFT, Patches, frame
from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.evaluation import EvaluationError, evaluate
from deidlib.faces import Faces
from deidlib.media import read_image, write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.protect import Deidentifier, protect_image, protect_video
from deidlib.protect.clip import ClipJob
from deidlib.protect.given import check_places
from deidlib.protect.output import Output
from deidlib.protect.source import ClipSource
from deidlib.records.detections import Detections, DetectionsError, write_detections
from deidlib.records.fingerprint import fingerprint

FACE = (30.0, 40.0, 90.0, 110.0)
HIDE = ("--iterations", 0, "--no-verify")


@pytest.fixture(scope="module")
def hider() -> Deidentifier:
    return Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0))


def face(*box: float) -> Faces:
    return Faces(torch.tensor([box], dtype=torch.float32), torch.ones(1))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_faces_of_another_size_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", astronauts(1))
    clip = make_video(tmp_path / "a.mkv", astronauts(2))
    write_detections(tmp_path / "half.json", Detections([face(15, 20, 45, 55)], size=(64, 64)))
    write_detections(tmp_path / "two.json", Detections([face(15, 20, 45, 55)] * 2, size=(64, 64)))
    for source, out, known in ((tmp_path / "a.png", "o.png", "half.json"), (clip, "o.mkv", "two.json")):
        result = deidlib("protect", source, tmp_path / out, "--faces", tmp_path / known, *HIDE)
        refused(result, "64x64 pixels", "128x128")
        assert not (tmp_path / out).exists()


def test_faces_of_another_number_of_frames_are_refused(tmp_path: Path, hider: Deidentifier) -> None:
    clip = make_video(tmp_path / "a.mkv", astronauts(2))
    for count in (1, 3):
        write_detections(tmp_path / "faces.json", Detections([face(*FACE)] * count, size=(128, 128)))
        result = deidlib("protect", clip, tmp_path / "o.mkv", "--faces", tmp_path / "faces.json", *HIDE)
        refused(result, f"detections on {count} frames; the clip has 2")
        with pytest.raises(ValueError, match=r"faces are given for 3|more frames than the 1|one entry per frame"):
            protect_video(hider, clip, tmp_path / "o.mkv", faces=[face(*FACE)] * count, check=None)
        with pytest.raises(ValueError, match=r"faces are given for 3 frames, and there are 2|one entry per frame"):
            list(hider.frames([astronauts(2)], faces=[face(*FACE)] * count))
        assert not (tmp_path / "o.mkv").exists()


def test_a_csv_that_ends_before_the_clip_has_no_faces_there(tmp_path: Path) -> None:
    columns = ["frame", "score", "x", "y", "w", "h", *(f"point_{k:02d}_{axis}" for k in range(5) for axis in "xy")]
    row = [1, 0.9, 30, 40, 60, 70, 45, 60, 75, 60, 60, 75, 50, 95, 70, 95]
    (tmp_path / "a.csv").write_text(f"{','.join(columns)}\n{','.join(map(str, row))}\n")
    clip = make_video(tmp_path / "a.mkv", astronauts(2))
    result = done(deidlib("protect", clip, tmp_path / "o.mkv", "--faces", tmp_path / "a.csv", *HIDE))
    assert "2 frames, 1 with faces hidden and attacked, 1 held\n" in result.stdout


def test_faces_of_another_file_are_refused(tmp_path: Path, hider: Deidentifier) -> None:
    write_image(tmp_path / "a.png", astronauts(1))
    write_image(tmp_path / "b.png", astronauts(1).flip(-1))
    known = Detections([face(*FACE)], size=(128, 128), sha256=sha256(tmp_path / "b.png"))
    write_detections(tmp_path / "b.json", known)
    result = deidlib("protect", tmp_path / "a.png", tmp_path / "o.png", "--faces", tmp_path / "b.json", *HIDE)
    refused(result, sha256(tmp_path / "b.png")[:12], sha256(tmp_path / "a.png")[:12], "null")
    with pytest.raises(DetectionsError, match="another file"):
        protect_image(hider, tmp_path / "a.png", tmp_path / "o.png", faces=known, check=None)
    own = Detections([face(*FACE)], size=(128, 128), sha256=sha256(tmp_path / "a.png"))
    assert protect_image(hider, tmp_path / "a.png", tmp_path / "o.png", faces=own, check=None).found == 1
    changed = (read_image(tmp_path / "o.png") - astronauts(1)).abs().amax(dim=(0, 1)) > 0
    assert changed[40:110, 30:90].float().mean() > 0.9


@pytest.mark.parametrize(
    "box",
    [
        (0.35, 0.2, 0.62, 0.58),  # shares of the frame
        (35.0, 20.0, 38.0, 58.0),  # a sliver
        (50.0, 50.0, 50.0, 50.0),  # no area
        (20.0, 60.0, 80.0, 60.0),  # a line
        (127.0, 20.0, 187.0, 90.0),  # all but a sliver outside the frame
        (300.0, 400.0, 900.0, 1100.0),  # of a frame that is larger
    ],
)
def test_a_box_that_hides_no_face_is_refused_everywhere(
    tmp_path: Path, hider: Deidentifier, box: tuple[float, ...]
) -> None:
    bad = face(*box)
    image, clip = tmp_path / "a.png", make_video(tmp_path / "a.mkv", astronauts(2))
    write_image(image, astronauts(1))
    write_detections(tmp_path / "a.json", Detections([bad]))
    asked = r"Boxes are x1, y1, x2, y2 in pixels of the frame, here 128x128"
    refused(deidlib("protect", image, tmp_path / "o.png", "--faces", tmp_path / "a.json", *HIDE), asked)
    with pytest.raises(ValueError, match=f"frame 0, face 0: .*{asked}"):
        protect_image(hider, image, tmp_path / "o.png", faces=bad)
    with pytest.raises(ValueError, match=f"frame 1, face 1: .*{asked}"):
        protect_video(hider, clip, tmp_path / "o.mkv", faces=[face(*FACE), Faces.cat([face(*FACE), bad])])
    with pytest.raises(ValueError, match=f"frame 1, face 0: .*{asked}"):
        list(hider.frames(torch.split(astronauts(2), 1), faces=[face(*FACE), bad]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.mkv", "a.png"]


@pytest.mark.parametrize("box", [FACE, (-40.0, 20.0, 20.0, 90.0), (0.0, 0.0, 128.0, 128.0), (9.0, 9.0, 14.0, 14.0)])
def test_a_box_of_a_face_is_taken(box: tuple[float, ...]) -> None:
    check_places([face(*box), Faces.empty()], (128, 128))


def test_what_is_no_faces_is_named(tmp_path: Path, hider: Deidentifier) -> None:
    write_image(tmp_path / "a.png", astronauts(1))
    for wrong in (np.array([FACE]), torch.tensor([FACE]), [FACE]):
        given: Any = [wrong]
        with pytest.raises(TypeError, match=r"deidlib.Faces for every frame, got (ndarray|Tensor|list) for frame 0"):
            list(hider.frames([astronauts(1)], faces=given))
        with pytest.raises(TypeError, match=r"deidlib.Faces for every frame"):
            protect_video(hider, tmp_path / "a.png", tmp_path / "o.mkv", faces=given)


def test_a_truth_of_another_file_is_refused(tmp_path: Path) -> None:
    shown: Tensor = frame(LEFT)
    write_image(tmp_path / "a.png", shown)
    write_image(tmp_path / "b.png", shown * 0.5)
    size, known = (shown.shape[-2], shown.shape[-1]), Patches().predict(shown[None])
    write_image(tmp_path / "c.png", shown * 0.25)
    truth = Detections(known, size=size, sha256=sha256(tmp_path / "c.png"))
    readers = {"patches": Patches()}
    with pytest.raises(EvaluationError, match=r"another file: sha256 \w{12}\.\.\., .*a\.png has"):
        evaluate(tmp_path / "a.png", tmp_path / "b.png", authorised=readers, truth=truth)
    # What was read on either of the two may be it.
    for mine in ("a.png", "b.png"):
        truth = Detections(known, size=size, sha256=sha256(tmp_path / mine))
        result = evaluate(tmp_path / "a.png", tmp_path / "b.png", authorised=readers, truth=truth)
        assert result.readers["patches"].faces


def test_another_gaze_given_is_other_work(tmp_path: Path, hider: Deidentifier) -> None:
    write_image(tmp_path / "a.png", astronauts(1))
    marks, published = set(), set()
    for gaze in (None, [0.0, 0.0, -1.0], [0.6, 0.0, -0.8]):
        faces = Faces(torch.tensor([FACE]), torch.ones(1), gaze=None if gaze is None else torch.tensor([gaze]))
        clip = ClipSource.of_file(tmp_path / "a.png")
        job = ClipJob(hider, clip, tmp_path / "o.mkv", Output(), None, faces=[faces])
        marks.add(fingerprint(job.work))
        published.add(fingerprint(job.settings))
    # What is published confirms no guess.
    assert (len(marks), len(published)) == (3, 1)
