"""Nothing that a camera writes about place, time, device and owner is in anything that is written or said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import astronauts
from command import deidlib, done
from PIL import Image

from deidlib.images import to_pixels

CANARY = "Canary-4711"
# Degrees, minutes and seconds as EXIF stores them would be found by their denominator alone.
PLACE = "48.137154,11.576124"
QUICK = ("--iterations", 1, "--until", "never", "--detectors", "mtcnn", "--no-verify", "--lookout", 30)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A picture and a clip with all that a camera knows, in a folder of another name."""
    folder = tmp_path / CANARY
    folder.mkdir()
    pixels = to_pixels(astronauts(1, side=128)[0])
    exif = Image.Exif()
    exif.update({0x010E: CANARY, 0x010F: CANARY, 0x0110: CANARY, 0x0131: CANARY, 0x013B: CANARY, 0x8298: CANARY})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 13.75), 3: "E", 4: (11.0, 34.0, 34.05), 29: CANARY})
    exif.get_ifd(0x8769).update({0x9003: CANARY, 0x9286: CANARY.encode(), 0xA431: CANARY})
    Image.fromarray(pixels).save(folder / "a.jpg", exif=exif, comment=CANARY.encode(), quality=95)
    with av.open(str(folder / "b.mkv"), "w") as container:
        container.metadata.update(
            {"title": CANARY, "location": PLACE, "comment": CANARY, "creation_time": "2021-03-04"}
        )
        video: Any = container.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = 128, 128, "bgr0"
        video.metadata.update({"title": CANARY, "handler_name": CANARY})
        for _ in range(2):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))))
        container.mux(video.encode(None))
    for name in ("a.jpg", "b.mkv"):
        # The control: they are there, to be found.
        assert CANARY.encode() in (folder / name).read_bytes()
    return folder


@pytest.mark.parametrize("keyed", [False, True])
def test_what_a_camera_knows_is_in_nothing_that_is_written(source: Path, tmp_path: Path, keyed: bool) -> None:
    out, options = tmp_path / "out", list[Any]()
    if keyed:
        done(deidlib("key", "new", tmp_path / "our.key"))
        options = ["--key", tmp_path / "our.key"]
    done(
        deidlib(
            "protect", source, out, *QUICK, *options, "--audit", tmp_path / "audit", "--json", tmp_path / "said.json"
        )
    )
    secrets = [CANARY, PLACE, "2021-03-04", CANARY.encode("utf-16-le").decode("latin-1")]
    written = [path for folder in (out, tmp_path / "audit") for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".png", ".mkv", ".json", ".jsonl", ".html"}
    for path in written:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode("latin-1") in content], path
    # A picture has no more than its pixels, a clip no more than its encoder's name.
    assert not Image.open(out / "a.png").getexif()
    with av.open(str(out / "b.mkv")) as container:
        known = [*container.metadata, *container.streams.video[0].metadata]
        assert {name.lower() for name in known} <= {"encoder", "duration"}
