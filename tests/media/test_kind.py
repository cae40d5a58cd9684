"""What a file is, its content decides; a folder is taken whole, and what is passed over is said."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import wave
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import astronauts, make_video, read_video
from command import deidlib, done, refused
from containers import Stream, pixels_of, write
from footage import SHARED
from PIL import Image

from deidlib.evaluation.pairs import pairs
from deidlib.images import to_pixels
from deidlib.media import MediaReadError, VideoReader, read_image, sources, write_image
from deidlib.media.images import image_size
from deidlib.media.kind import kind_of
from deidlib.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from deidlib.media.tree import Tree
from deidlib.records.files import sha256_of

HEIC = SHARED / "cases" / "05-tiled-heic" / "grid.heic"
QUICK = ("--iterations", 0, "--no-verify", "--device", "cpu")
FRAMES = pixels_of(astronauts(3, side=64))
MP4 = Stream(FRAMES)
CONTAINERS = {
    "a.MTS": ("mpegts", MP4), "b.ts": ("mpegts", MP4), "c.wmv": ("asf", Stream(FRAMES, "wmv2")),
    "d.flv": ("flv", Stream(FRAMES, "flv")), "e.3gp": ("3gp", MP4), "f.vob": ("vob", Stream(FRAMES, "mpeg2video")),
    "g.ogv": ("ogg", Stream(FRAMES, "libvpx")), "h.gif": ("gif", Stream(FRAMES, "gif", "rgb8")),
    "i.mxf": ("mxf", Stream(FRAMES, "mpeg2video")), "j.webm": ("webm", Stream(FRAMES, "libvpx-vp9")),
    "k.h264": ("h264", MP4), "l.nut": ("nut", Stream(FRAMES, "ffv1")),
    "m.y4m": ("yuv4mpegpipe", Stream(FRAMES, "wrapped_avframe")),
    "n.ivf": ("ivf", Stream(FRAMES, "libvpx-vp9")), "o.mjpeg": ("mjpeg", Stream(FRAMES, "mjpeg", "yuvj420p")),
    "p": ("mp4", MP4), "q.recording": ("matroska", MP4), "r-12.30": ("mp4", MP4), "r-12.31": ("mp4", MP4),
}  # fmt: skip


def pictures(folder: Path) -> list[str]:
    """Still images of many kinds, some under names of another kind, or of none."""
    image = Image.fromarray(FRAMES[0])
    kinds = {"a.jpg": "JPEG", "b.jfif": "JPEG", "c.gif": "GIF", "d.avif": "AVIF", "e.jp2": "JPEG2000", "f.jpe": "JPEG",
             "g": "PNG", "h.mp4": "JPEG", "i.dat": "WEBP", "j.tga": "TGA", "k.ppm": "PPM"}  # fmt: skip
    for name, form in kinds.items():
        image.save(folder / name, format=form)
    return list(kinds)


# Case 06


@pytest.mark.slow
def test_a_folder_takes_what_works_when_it_is_named_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "videos").mkdir(parents=True)
    (source / "pictures").mkdir()
    images = pictures(source / "pictures")
    for name, (form, stream) in CONTAINERS.items():
        write(source / "videos" / name, stream, form=form)
    result = done(deidlib("protect", source, target, *QUICK))
    assert "passed over" not in result.stderr
    for name in CONTAINERS:
        stem = name if "." not in name or name[0] == "r" or name == "q.recording" else name.partition(".")[0]
        assert len(read_video(target / "videos" / f"{stem}.mkv")) == len(read_video(source / "videos" / name)) == 3
    for name in images:
        stem = "i.dat" if name == "i.dat" else name.partition(".")[0]
        assert read_image(target / "pictures" / f"{stem}.png").shape == read_image(source / "pictures" / name).shape


def test_what_is_passed_over_is_said_and_why(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "day").mkdir(parents=True)
    write_image(source / "a.png", astronauts(1, side=64))
    (source / "day" / "notes.txt").write_text("not media")
    (source / "faces.json").write_text("{}")
    (source / "part.bin").write_bytes(bytes(range(256)) * 40)
    (source / ".thumbnail.png").write_bytes(b"")
    (source / "gone.mp4").symlink_to(source / "nowhere.mp4")
    (source / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(source / "pipe.mp4")
    with wave.open(str(source / "voice.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 800, "NONE", ""))
        sound.writeframes(bytes(1600))
    result = done(deidlib("protect", source, target, *QUICK))
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("passed over: ")]
    assert set(line.removeprefix("passed over: ").split("; ")) == {
        "1 file hidden: .thumbnail.png",
        "1 file linked to a folder, which is not followed: elsewhere",
        "2 files linked to nothing, or no file: gone.mp4, pipe.mp4",
        "3 files neither an image nor a video: day/notes.txt, faces.json, part.bin",
        "1 file with sound alone: voice.wav",
    }
    manifest = target / "deidlib-manifest.jsonl"
    rows = [json.loads(text) for text in manifest.read_text().splitlines()]
    passed = {row["input"]: row["reason"] for row in rows if row["status"] == "passed-over"}
    assert len(passed) == 8
    assert passed["day/notes.txt"] == "neither an image nor a video"
    # Said again in every run, and written once.
    assert line in done(deidlib("protect", source, target, *QUICK)).stderr
    assert len(manifest.read_text().splitlines()) == len(rows)

    found = pairs(source, target)
    assert [pair.name for pair in found.pairs] == ["a"]
    assert {one.path.relative_to(source).as_posix() for one in found.passed_over} == passed.keys()
    numbers = tmp_path / "numbers.json"
    measured = done(deidlib("evaluate", source, target, "--json", numbers, "--device", "cpu"))
    assert line in " ".join(measured.stdout.split())
    # How many, and why: what is written for others names no files.
    told = {row["reason"]: row["files"] for row in json.loads(numbers.read_text())["passed_over"]}
    assert told == Counter(passed.values())


def test_what_a_file_is_its_name_does_not_say(tmp_path: Path) -> None:
    """Messages hold names: none is looked into for what is wrong."""
    (tmp_path / "streams: audio.bin").write_bytes(bytes(range(256)) * 40)
    (passed,) = Tree.below(tmp_path).passed_over
    assert passed.reason == "neither an image nor a video"


def test_a_damaged_recording_fails_and_is_not_passed_over(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_image(source / "a.png", astronauts(1, side=64))
    for suffix in (".ts", ".wmv", ".heic", ".avif", ".mp4"):
        (source / f"b{suffix}").write_bytes(b"hello\n" * 99)
        result = deidlib("protect", source, tmp_path / "out", *QUICK)
        assert result.exit_code == 1, suffix
        (source / f"b{suffix}").unlink()


def test_nothing_to_be_protected(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("not media")
    line = refused(deidlib("protect", tmp_path / "in", tmp_path / "out"), "holds no image or video")
    assert line.endswith("Passed over: 1 file neither an image nor a video: notes.txt.")


def test_a_folder_is_walked_once_and_every_input_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.mkv", "b.mkv"):
        make_video(source / name, astronauts(2, side=64))
    walks, hashed = Counter[str](), Counter[str]()
    walk, digest = os.walk, sha256_of

    def walked(top: Path, **settings: Any) -> Any:
        walks[Path(top).name] += 1
        return walk(top, **settings)

    def taken(path: Path) -> str:
        hashed[path.name] += path.parent == source
        return digest(path)

    monkeypatch.setattr(os, "walk", walked)
    for name, module in list(sys.modules.items()):
        if name.startswith("deidlib.") and getattr(module, "sha256_of", None) is digest:
            monkeypatch.setattr(module, "sha256_of", taken)
    done(deidlib("protect", source, tmp_path / "out", *QUICK))
    assert walks["in"] == 1
    assert +hashed == {"a.mkv": 1, "b.mkv": 1}


def test_the_names_that_a_folder_is_searched_by_follow_the_demuxers() -> None:
    # Of sound, subtitles and text; .ogg may be either, and is looked into, as are names of no kind.
    others = {".m4a", ".m4b", ".mka", ".mks", ".m2a", ".mp2", ".mp3", ".mpa", ".flac", ".aac", ".isma", ".ogg", ".wav"}
    for name in sources._SELF_CONTAINED:
        known = {f".{extension}" for extension in av.format.ContainerFormat(name, "r").extensions}
        if name != "tty":
            assert known - others <= {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}, name
    assert not {*IMAGE_SUFFIXES} & {*VIDEO_SUFFIXES}


# Case 05


def test_a_heic_of_tiles_is_read_whole() -> None:
    pytest.importorskip("pillow_heif")
    if not HEIC.exists():
        pytest.skip(f"{HEIC} is not there")
    from skimage.data import astronaut

    image = read_image(HEIC)
    assert image.shape == (1, 3, 512, 512)
    # Lossy; another picture, or a tile of it, is far off.
    assert np.abs(to_pixels(image)[0].astype(float) - astronaut()).mean() < 5


def heic(path: Path) -> Path:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(FRAMES[0])).save(path, quality=95)
    return path


@pytest.mark.parametrize("name", ["a.heic", "b.HEIF", "c.jpg", "d.mp4", "e"])
def test_a_heic_is_an_image_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = heic(tmp_path / "a.heic").rename(tmp_path / name)
    assert kind_of(path) == "image"
    assert (read_image(path)[0] * 255 - torch.from_numpy(FRAMES[0]).permute(2, 0, 1)).abs().mean() < 4
    done(deidlib("protect", path, tmp_path / "out.png", *QUICK))
    assert read_image(tmp_path / "out.png").shape == (1, 3, 64, 64)
    refused(deidlib("protect", path, tmp_path / "out.mkv", *QUICK), "written as .png, not '.mkv'")


def test_without_pillow_heif_a_heic_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = heic(tmp_path / "a.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MediaReadError, match=r"a\.heic is a HEIC or HEIF image.*deidlib\[heif\].*or convert"):
        read_image(path)
    with pytest.raises(MediaReadError, match="is no video but a HEIC or HEIF image"):
        VideoReader(path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: write(path, MP4, form="mp4"), "video"),
        (lambda path: write(path, MP4, form="matroska"), "video"),
        (lambda path: write(path, MP4, form="avi"), "video"),
        (lambda path: Image.fromarray(FRAMES[0]).save(path, format="PNG"), "image"),
        (lambda path: Image.fromarray(FRAMES[0]).save(path, format="BMP"), "image"),
        (lambda path: Image.fromarray(FRAMES[0]).save(path, format="GIF"), "image"),
        (lambda path: _animated(path, "GIF"), "video"),
        (lambda path: _animated(path, "PNG"), "video"),
    ],
)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.mp4", "a.gif", "a"])
def test_the_content_decides(tmp_path: Path, make: Callable[[Path], object], kind: str, name: str) -> None:
    path = tmp_path / name
    make(path)
    assert kind_of(path) == kind
    if kind == "image":
        assert read_image(path).shape[2:] == (64, 64)
    else:
        assert len(read_video(path)) == 3
    assert Tree.below(tmp_path).files == (path,)


def _animated(path: Path, form: str) -> None:
    first, *others = [Image.fromarray(pixels) for pixels in FRAMES]
    first.save(path, format=form, save_all=True, append_images=others)


def test_what_is_neither_is_told_by_its_name(tmp_path: Path) -> None:
    for name, kind in (("a.png", "image"), ("a.mp4", "video"), ("a", "video")):
        path = tmp_path / name
        assert kind_of(path) == kind
        path.write_bytes(b"neither")
        assert kind_of(path) == kind
    assert kind_of(tmp_path) == "frames"


def test_the_thumbnail_of_a_raw_file_is_not_taken_for_the_picture(tmp_path: Path) -> None:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    for tag, value in ((254, 1), (50706, b"\1\4\0\0")):
        tags = ImageFileDirectory_v2()
        tags[tag] = value
        data = io.BytesIO()
        Image.fromarray(FRAMES[0]).save(data, format="TIFF", tiffinfo=tags)
        path = tmp_path / f"{tag}.tif"
        path.write_bytes(data.getvalue())
        with pytest.raises(MediaReadError, match="raw file, of which only a thumbnail would be read"):
            read_image(path)


@pytest.mark.parametrize("error", [RuntimeError("no image\nitem"), KeyError(), struct.error("short"), TypeError("x")])
def test_whatever_a_reader_of_pictures_raises_is_one_line_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)

    def fail(*arguments: object, **settings: object) -> object:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(MediaReadError, match=r"a\.png cannot be read as an image: .* get a sound copy\.$") as caught:
        read_image(path)
    assert len(str(caught.value).splitlines()) == 1
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile._open", fail)
    assert (kind_of(path), image_size(path)) == ("image", None)
    with pytest.raises(MediaReadError, match=r"a\.png"):
        read_image(path)
