"""What a person is shown before a protected file is shared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from clips import make_video
from command import deidlib
from skimage.data import astronaut
from toys import Sees

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.faces import Faces
from deidlib.images import from_pixels
from deidlib.media import MediaWriteError, read_image, write_image
from deidlib.protect.audit import write_audit
from deidlib.protect.batches import FaceCount
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.frame_record import FrameRecord
from deidlib.protect.summary import Summary
from deidlib.protect.video import protect_video
from deidlib.tracking import FaceTracker

FACE = Faces(torch.tensor([[8.0, 8.0, 24.0, 24.0]]), torch.ones(1))


def record(faces: Faces, treatment: str = "found", others: int = 0, count: FaceCount | None = None) -> FrameRecord:
    return FrameRecord(0, faces, treatment, others, {}, {}, None, len(faces) + others, count or FaceCount({"a": 1}))


def test_why_a_frame_is_in_doubt() -> None:
    two = Faces.cat([FACE, Faces(FACE.boxes + 30, FACE.scores)])
    summary = Summary.of(
        [
            record(FACE),
            record(FACE, count=FaceCount({"a": 1, "b": 2}, turned=1)),
            record(two, others=1),
            record(Faces.empty(), "whole-frame"),
            record(Faces.empty(), "filled"),
        ]
    )
    assert summary.doubtful == {
        1: ("detectors disagree about the number of faces: a 1, b 2", "faces found in the turned frame only"),
        2: ("the place of a lost face is hidden besides", "faces found: 2, in the frame before 1"),
        3: ("no face found: the whole frame is hidden", "faces found: 0, in the frame before 2"),
        4: ("no face found: the places of those found before and after are hidden",),
    }
    assert (summary.disputed, summary.turned, summary.fewest, summary.most) == (1, 1, 1, 3)


def shades(path: Path, count: int) -> Path:
    return make_video(path, torch.stack([torch.full((3, 32, 48), k / count) for k in range(count)]))


def numbers(page: Path) -> list[int]:
    return [int(number) for number in re.findall(r'alt="frame (\d+)"', page.read_text())]


def test_every_nth_frame_and_all_in_doubt_but_thinned_where_nothing_changes(tmp_path: Path) -> None:
    protected = shades(tmp_path / "out <b>.mkv", 40)
    doubts = {13: ("why & how",)} | dict.fromkeys(range(20, 33), ("held",)) | {33: ("other",)}
    # Frame 30 is in any case to be shown, and in doubt as well.
    shown = write_audit(tmp_path / "sheet", protected, doubts, every=15)
    page = tmp_path / "sheet" / "index.html"
    expected = [0, 13, 15, 20, 25, 30, 32, 33]
    assert numbers(page) == expected
    assert shown == len(expected)
    assert sorted(path.name for path in page.parent.glob("*.jpg")) == [f"frame-{number:06d}.jpg" for number in expected]
    text = page.read_text()
    assert "out &lt;b&gt;.mkv" in text
    assert "why &amp; how" in text
    assert text.count('class="doubt"') == 6
    assert text.count("every 15th frame") == 2
    assert "frame 25, 0:01.00" in text, "at 25 frames a second"
    for number in expected:
        picture = read_image(page.parent / f"frame-{number:06d}.jpg")
        assert picture.shape == (1, 3, 32, 48)
        assert float((picture - number / 40).abs().max()) < 3 / 255
    # Another sheet in the same place leaves no picture of this one.
    write_audit(tmp_path / "sheet", protected, {}, every=39)
    assert sorted(path.name for path in page.parent.glob("*.jpg")) == ["frame-000000.jpg", "frame-000039.jpg"]


def test_one_file_holds_all_and_large_frames_are_shown_smaller(tmp_path: Path) -> None:
    write_image(tmp_path / "out.png", torch.rand(1, 3, 600, 1200))
    write_audit(tmp_path / "sheet.html", tmp_path / "out.png", {0: ("kept",)})
    text = (tmp_path / "sheet.html").read_text()
    assert text.count("data:image/jpeg;base64,") == 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".png"] == ["sheet.html"]
    write_audit(tmp_path / "folder", tmp_path / "out.png", {})
    assert read_image(tmp_path / "folder" / "frame-000000.jpg").shape == (1, 3, 240, 480)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    write_image(tmp_path / "out.png", torch.rand(1, 3, 32, 32))
    with pytest.raises(MediaWriteError, match="name a folder"):
        write_audit(tmp_path / "out.png", tmp_path / "out.png", {})
    with pytest.raises(ValueError, match="at least 1 frame"):
        write_audit(tmp_path / "sheet", tmp_path / "out.png", {}, every=0)


def test_nothing_of_the_original_is_on_it(tmp_path: Path) -> None:
    """Of two people with equal readings the sheets are the same, byte by byte."""
    seen = Sees(lambda image, number: [] if image[0, 31, 31] > 0.5 else [(8, 8, 24, 24)])
    pages = []
    for person in (0, 1):
        torch.manual_seed(7)
        frames = torch.randint(0, 256, (6, 3, 32, 32)) / 255
        frames[:, 0, 31, 31] = torch.tensor([0.0, 0, 0, 1, 0, 0])
        frames[:, :, 10:22, 10:22] = 0.2 + 0.6 * person
        clip = make_video(tmp_path / f"person-{person}.mkv", frames)
        deidentifier = Deidentifier(
            IFGSMAttacker([seen], max_iterations=0), tracker=FaceTracker(smoothing=0), lookout=None
        )
        out = tmp_path / f"{person}" / "out.mkv"
        out.parent.mkdir()
        summary = protect_video(deidentifier, clip, out, check=None)
        assert list(summary.doubtful) == [3, 4]
        write_audit(out.parent / "sheet", out, summary.doubtful, every=2)
        pages.append({path.name: path.read_bytes() for path in (out.parent / "sheet").iterdir()})
        assert not any(b"person" in data for data in pages[-1].values())
    assert len(pages[0]) == 5
    assert pages[0] == pages[1]


def test_the_command_line_writes_it(tmp_path: Path) -> None:
    face = from_pixels(astronaut()[:256, 96:352])
    # Upright, and upside down beside herself.
    write_image(tmp_path / "in.png", torch.cat([face, face.flip(1, 2)], dim=2)[None])
    run: list[str | Path] = ["protect", tmp_path / "in.png", tmp_path / "out.png", "--iterations", "0", "--no-verify"]
    result = deidlib(*run, "--audit", tmp_path / "sheet")
    assert result.exit_code == 0, result.output
    assert "hidden in a frame, faces and places of lost ones: 2 at least, 2 at most" in result.output
    assert "1 frames to be looked through, 1 in doubt" in result.output
    assert numbers(tmp_path / "sheet" / "index.html") == [0]
    refused = deidlib(*run, "--audit", tmp_path / "out.png")
    assert refused.exit_code == 1
    assert "is what is read or written" in refused.output
