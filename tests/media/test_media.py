from __future__ import annotations

import gc
import hashlib
import json
import os
import struct
import subprocess
import sys
import weakref
import zlib
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut
from torch import Tensor

from deidlib.images import to_grid
from deidlib.media import (
    CODECS,
    Frame,
    MediaError,
    MediaReadError,
    MediaWriteError,
    VideoReader,
    VideoWriter,
    check_paths,
    read_image,
    write_image,
)

NTSC = Fraction(30000, 1001)
LOSSLESS = [
    ("ffv1", "clip.mkv"),
    ("h264-lossless", "clip.mp4"),
    ("h264-lossless", "clip.mov"),
    ("h264-lossless", "clip.mkv"),
]


def pictures(count: int, height: int = 36, width: int = 48) -> NDArray[np.uint8]:
    """The astronaut's face, moving: (count, height, width, 3)."""
    face = astronaut()
    return np.stack([face[60 + 2 * k : 60 + 2 * k + height, 180 + k : 180 + k + width] for k in range(count)])


def tensors(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def make_clip(
    path: Path,
    images: NDArray[np.uint8],
    *,
    encoder: str = "mpeg4",
    pixel_format: str = "yuv420p",
    rate: Fraction = NTSC,
    prepare: Callable[[Any], None] | None = None,
    change: Callable[[Any], None] | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """A video from PyAV itself, not from the writer under test."""
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream: Any = container.add_stream(encoder, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = images.shape[1], images.shape[2], pixel_format
        if prepare:
            prepare(stream)
        for picture in images:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if change:
                change(frame)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_all(path: Path, *, strict: bool = True) -> tuple[Tensor, list[int], VideoReader]:
    with VideoReader(path, strict=strict) as reader:
        frames = list(reader)
    return torch.stack([frame.image for frame in frames]), [frame.pts for frame in frames], reader


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# What is written is what is read


@pytest.mark.parametrize(("codec", "name"), LOSSLESS)
@pytest.mark.parametrize("size", [(36, 48), (35, 47), (16, 16)])
def test_lossless_is_bit_identical(tmp_path: Path, codec: str, name: str, size: tuple[int, int]) -> None:
    # Noise: no codec can guess it.
    frames = to_grid(torch.rand(5, 3, *size))
    with VideoWriter(tmp_path / name, NTSC, size, codec=codec) as writer:
        writer.write(frames[:2])
        writer.write(frames[2:])
    images, pts, reader = read_all(tmp_path / name)
    assert torch.equal(images, frames)
    assert reader.info.fps == NTSC
    assert (reader.info.height, reader.info.width) == size
    tick = Fraction(1, 1000) if name.endswith("mkv") else Fraction(0)
    for k, time in enumerate(pts):
        assert abs(time * reader.info.time_base - k / NTSC) <= tick / 2
    assert leftovers(tmp_path) == [name]


def test_all_256_levels_survive(tmp_path: Path) -> None:
    levels = torch.arange(256).float().div(255).reshape(1, 1, 16, 16)
    frame = torch.cat([levels, levels.flip(2), levels.mT], dim=1)
    for codec, name in LOSSLESS:
        with VideoWriter(tmp_path / name, Fraction(25), (16, 16), codec=codec) as writer:
            writer.write(frame)
        assert torch.equal(read_all(tmp_path / name)[0], frame)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2)])
def test_the_smallest_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = to_grid(torch.rand(2, 3, *size))
    with VideoWriter(tmp_path / "a.mkv", NTSC, size) as writer:
        writer.write(frames)
    assert torch.equal(read_all(tmp_path / "a.mkv")[0], frames)


@pytest.mark.parametrize("size", [(36, 48), (35, 47)])
def test_h264_is_close_in_every_colour(tmp_path: Path, size: tuple[int, int]) -> None:
    """A wrong colour matrix or range moves saturated colours by 20 levels and more."""
    for color in ((0.8, 0.2, 0.2), (0.1, 0.7, 0.2), (0.2, 0.2, 0.9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)):
        frames = torch.tensor(color)[None, :, None, None].expand(3, 3, *size)
        with VideoWriter(tmp_path / "a.mp4", NTSC, size, codec="h264", quality=1) as writer:
            writer.write(frames)
        images, pts, reader = read_all(tmp_path / "a.mp4")
        assert (images - frames).abs().max() * 255 <= 3
        assert [t * reader.info.time_base * NTSC for t in pts] == [0, 1, 2]
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)


def test_quality_trades_size(tmp_path: Path) -> None:
    frames = tensors(pictures(4))
    sizes = []
    for quality in (5, 25, 45):
        with VideoWriter(tmp_path / "a.mp4", NTSC, (36, 48), codec="h264", quality=quality) as writer:
            writer.write(frames)
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    base, pts = Fraction(1, 90000), [900, 3003, 3004, 50000, 180001]
    frames = tensors(pictures(5))
    for codec, name in LOSSLESS:
        with VideoWriter(tmp_path / name, NTSC, (36, 48), codec=codec, time_base=base) as writer:
            writer.write(frames[:3], pts[:3])
            writer.write(frames[3:], pts[3:])
        images, times, reader = read_all(tmp_path / name)
        assert torch.equal(images, frames)
        if not name.endswith("mkv"):
            assert [t * reader.info.time_base for t in times] == [t * base for t in pts]
        else:
            # Two frames within a millisecond.
            for time, wanted in zip(times, pts, strict=True):
                assert abs(time * reader.info.time_base - wanted * base) <= Fraction(1, 1000)


def test_a_copy_of_a_copy_keeps_rate_and_times(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "source.mp4", pictures(1).repeat(60, axis=0))
    for name, codec in (("a.mp4", "h264-lossless"), ("b.mkv", "ffv1"), ("c.mp4", "h264")):
        images, pts, reader = read_all(source)
        with VideoWriter(
            tmp_path / name, reader.info.fps, (36, 48), codec=codec, time_base=reader.info.time_base
        ) as writer:
            writer.write(images, pts)
        copied, times, copy = read_all(tmp_path / name)
        assert copy.info.fps == NTSC
        assert torch.equal(copied, images) or codec == "h264"
        for k, time in enumerate(times):
            assert abs(time * copy.info.time_base - k / NTSC) <= Fraction(1, 2000)
        source = tmp_path / name


def test_png_folder(tmp_path: Path) -> None:
    frames = to_grid(torch.rand(3, 3, 5, 7))
    folder = tmp_path / "clip"
    with VideoWriter(folder, NTSC, (5, 7), codec="png-folder", time_base=Fraction(1, 30000)) as writer:
        writer.write(frames, [0, 1001, 5000])
    assert leftovers(folder) == ["000000.png", "000001.png", "000002.png", "frames.json"]
    assert torch.equal(torch.cat([read_image(folder / f"{k:06d}.png") for k in range(3)]), frames)
    times = json.loads((folder / "frames.json").read_text())
    assert times == {"fps": "30000/1001", "time_base": "1/30000", "pts": [0, 1001, 5000]}
    with pytest.raises(MediaWriteError, match="no empty folder"):
        VideoWriter(folder, NTSC, (5, 7), codec="png-folder")
    assert leftovers(tmp_path) == ["clip"]


def test_nothing_of_the_original_is_in_the_container(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", NTSC, (36, 48), codec="h264") as writer:
        writer.write(tensors(pictures(2)))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert set(container.metadata) <= {"major_brand", "minor_version", "compatible_brands", "encoder"}
        assert len(container.streams) == 1
        assert set(container.streams.video[0].metadata) <= {"language", "handler_name", "vendor_id", "encoder"}


# Reading


def test_batches_hold_every_frame_once(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", pictures(7))
    images, pts, reader = read_all(path)
    batches = list(reader.batches(3))
    assert [len(batch.images) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.cat([batch.images for batch in batches]), images)
    assert [t for batch in batches for t in batch.pts] == pts
    assert images.dtype == torch.float32
    assert torch.equal(to_grid(images), images)
    with pytest.raises(ValueError, match="at least 1"):
        next(reader.batches(0))


def test_info(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", pictures(4, 36, 48))
    info = VideoReader(path).info
    assert (info.width, info.height, info.fps, info.frames) == (48, 36, NTSC, 4)
    assert (info.codec, info.pixel_format, info.rotation) == ("mpeg4", "yuv420p", 0)
    assert not info.has_audio
    assert not info.interlaced


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
def test_rotated_and_mirrored_phone_video_is_upright(tmp_path: Path, turn: int, mirror: bool) -> None:
    upright = pictures(2)
    # "degrees counter-clockwise, then mirrored" must undo what is stored.
    stored = upright[:, :, ::-1] if mirror else upright
    stored = np.ascontiguousarray(np.rot90(stored, k=-turn // 90, axes=(1, 2)))
    path = make_clip(
        tmp_path / "a.mp4",
        stored,
        encoder="libx264rgb",
        pixel_format="rgb24",
        options={"qp": "0"},
        prepare=lambda stream: stream.set_display_rotation(turn, hflip=mirror),
    )
    images, _, reader = read_all(path)
    assert torch.equal(images, tensors(upright))
    assert (reader.info.height, reader.info.width) == (36, 48)
    if not mirror:
        assert reader.info.rotation % 360 == turn


@pytest.mark.parametrize(
    ("encoder", "pixel_format", "tolerance"),
    [
        ("ffv1", "gray", 1),
        ("ffv1", "gray10le", 1),
        ("ffv1", "yuv420p10le", 3),
        ("ffv1", "yuv422p", 3),
        ("ffv1", "yuv422p10le", 3),
        ("ffv1", "yuv444p16le", 3),
        ("ffv1", "gbrp10le", 1),
        ("ffv1", "bgra", 0),
    ],
)
def test_other_pixel_formats(tmp_path: Path, encoder: str, pixel_format: str, tolerance: int) -> None:
    grey = np.repeat(np.arange(0, 256, 4).astype(np.uint8)[None, None, :, None], 3, axis=3).repeat(16, axis=1)
    path = make_clip(tmp_path / "a.mkv", grey, encoder=encoder, pixel_format=pixel_format)
    images, _, reader = read_all(path)
    assert reader.info.pixel_format == pixel_format
    assert (images - tensors(grey)).abs().max() * 255 <= tolerance + 0.5


def test_interlaced_is_said(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "a.mp4",
        pictures(4, 64, 64),
        encoder="libx264",
        options={"x264-params": "tff=1:interlaced=1"},
    )
    assert VideoReader(path).info.interlaced


def test_frames_without_time_follow_each_other(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.h264", pictures(5), encoder="libx264", options={"bf": "0"})
    images, pts, _ = read_all(path)
    assert len(images) == 5
    assert all(b > a for a, b in pairwise(pts))


def test_sound_is_noticed_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = 36, 48, "yuv420p"
        audio: Any = container.add_stream("aac", rate=16000)
        for picture in pictures(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.rate = 16000
        container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    images, pts, reader = read_all(path)
    assert reader.info.has_audio
    assert len(images) == 5
    with VideoWriter(tmp_path / "b.mkv", reader.info.fps, (36, 48), time_base=reader.info.time_base) as writer:
        writer.write(images, pts)
    assert not VideoReader(tmp_path / "b.mkv").info.has_audio


def test_the_organisers_clip(shared: Path) -> None:
    """The header promises 279 frames; nine of them an edit list hides."""
    vectors = json.loads((shared / "parity/frames/frames.json").read_text())
    wanted = {v["index0"]: v for v in vectors.values()}
    with VideoReader(shared / "media/T002_talk.mp4") as reader:
        assert (reader.info.fps, reader.info.frames) == (NTSC, 279)
        times = []
        for index, (image, pts) in enumerate(reader):
            times.append(pts * reader.info.time_base)
            if index in wanted:
                pixels = image.mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
                assert hashlib.sha256(pixels.tobytes()).hexdigest() == wanted[index]["sha256_rgb_uint8"]
                assert torch.equal(image[None], read_image(shared / "parity/frames" / wanted[index]["file"]))
    assert len(wanted) == 4
    assert times == [k / NTSC for k in range(270)]


def test_the_talk_clip(shared: Path) -> None:
    with VideoReader(shared / "media/talk_video00.mp4") as reader:
        assert (reader.info.width, reader.info.height, reader.info.fps) == (1280, 720, Fraction(25))
        assert [frame.pts * reader.info.time_base for frame in reader] == [Fraction(k, 25) for k in range(433)]


# Bad input


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp4", None, "does not exist"),
        ("empty.mp4", b"", r"empty \(0 bytes\)"),
        ("text.mp4", b"hello\n" * 100, "is not a video"),
        ("text.txt", b"hello\n" * 100, "is no video"),
        ("noise.mp4", bytes(range(256)) * 40, "is not a video"),
    ],
)
def test_no_video(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaReadError, match=message) as caught:
        VideoReader(tmp_path / name)
    assert name in str(caught.value)
    with pytest.raises(MediaReadError, match=name):
        read_image(tmp_path / name)


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(MediaReadError, match="is a folder"):
        VideoReader(tmp_path)
    with pytest.raises(MediaReadError, match="is a folder"):
        read_image(tmp_path)


def test_an_image_is_no_video(tmp_path: Path) -> None:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    with pytest.raises(MediaReadError, match="read_image"):
        VideoReader(tmp_path / "a.png")


def test_audio_only(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        audio: Any = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.rate = 16000
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    with pytest.raises(MediaReadError, match="no video stream; its streams: audio"):
        VideoReader(tmp_path / "a.mp4")


def test_a_video_without_frames(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 36, 48, "bgr0"
        container.start_encoding()
    with pytest.raises(MediaReadError, match=r"a\.mkv"):
        VideoReader(tmp_path / "a.mkv")


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("kind", ["ffv1.mkv", "mpeg4.mp4", "libx264.mp4", "libx264rgb.mkv", "mpeg4.avi"])
def test_a_truncated_video(tmp_path: Path, kind: str, share: float) -> None:
    encoder, _, _ = kind.partition(".")
    path = make_clip(
        tmp_path / kind,
        np.random.default_rng(0).integers(0, 256, (30, 36, 48, 3), np.uint8),
        encoder=encoder,
        pixel_format={"ffv1": "bgr0", "libx264rgb": "rgb24"}.get(encoder, "yuv420p"),
        # The index at the front, or nothing could be read at all.
        muxer={"movflags": "faststart"} if kind.endswith("mp4") else {},
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    # At once, before any work.
    with pytest.raises(
        MediaReadError, match=rf"{path.name} is damaged or cut off: it has .* of the {len(whole)} bytes"
    ):
        VideoReader(path)
    # Those who want what is left get it.
    images, _, _ = read_all(path, strict=False)
    assert 0 < len(images) < 30


@pytest.mark.parametrize("kind", ["ffv1.mkv", "mpeg4.mp4", "libx264.mov", "libvpx.webm", "mpeg4.avi"])
def test_a_single_byte_too_few(tmp_path: Path, kind: str) -> None:
    encoder, _, _ = kind.partition(".")
    path = make_clip(
        tmp_path / kind,
        pictures(9),
        encoder=encoder,
        pixel_format="bgr0" if encoder == "ffv1" else "yuv420p",
        muxer={"movflags": "faststart"} if kind.endswith(("mp4", "mov")) else {},
    )
    assert len(read_all(path)[0]) == 9
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MediaReadError, match="cut off"):
        VideoReader(path)


def test_a_recording_that_never_knew_its_length(tmp_path: Path) -> None:
    """A live stream's header says "unknown", and that is no damage."""
    path = make_clip(tmp_path / "a.mkv", pictures(9), encoder="ffv1", pixel_format="bgr0", muxer={"live": "1"})
    assert len(read_all(path)[0]) == 9


def test_a_video_cut_off_before_its_index(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", pictures(30))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(MediaReadError, match=r"a\.mp4"):
        VideoReader(path)


@pytest.mark.parametrize(("whole", "message"), [(True, "frame 5 cannot be decoded"), (False, "frame 5 is damaged")])
def test_damage_in_the_middle_names_the_frame(tmp_path: Path, whole: bool, message: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 36, 48, 3), np.uint8)
    path = make_clip(tmp_path / "a.mp4", noise, options={"g": "1"})
    sound = read_all(path)[0]
    with av.open(str(path)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0) if packet.size][5]
    content = bytearray(path.read_bytes())
    start = content.index(packet)
    for k in range(len(packet)) if whole else range(len(packet) // 2, len(packet) // 2 + 40):
        content[start + k] ^= 0xFF
    path.write_bytes(content)
    seen: list[Frame] = []
    with pytest.raises(MediaReadError, match=rf"a\.mp4: {message}.*; 5 frames before that are sound"):
        seen.extend(VideoReader(path))
    assert torch.equal(torch.stack([frame.image for frame in seen]), sound[:5])
    images, pts, reader = read_all(path, strict=False)
    assert torch.equal(images[-6:], sound[-6:])
    # A frame that is lost leaves the others' times alone.
    numbers = [round(t * reader.info.time_base * NTSC) for t in pts]
    assert numbers == [k for k in range(12) if k != 5 or not whole]


def test_a_change_of_size(tmp_path: Path) -> None:
    parts = [make_clip(tmp_path / f"{k}.ts", pictures(3, *size)) for k, size in enumerate([(36, 48), (48, 64)])]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(MediaReadError, match=r"both\.ts: frame 3 is 64x48 .* 48x36"):
        list(VideoReader(path))


# Bad output


def test_refuses_output_equals_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_clip(tmp_path / "a.mkv", pictures(2), encoder="ffv1", pixel_format="bgr0")
    (tmp_path / "link.mkv").symlink_to(source)
    os.link(source, tmp_path / "hard.mkv")
    monkeypatch.chdir(tmp_path)
    for target in (
        source,
        tmp_path / "link.mkv",
        tmp_path / "hard.mkv",
        Path("a.mkv"),
        tmp_path / "x" / ".." / "a.mkv",
    ):
        with pytest.raises(MediaWriteError, match="output equals input"):
            check_paths(source, target, codec="ffv1")
    check_paths(source, tmp_path / "b.mkv", codec="ffv1")
    check_paths(source, tmp_path / "b.png")
    assert leftovers(tmp_path) == ["a.mkv", "hard.mkv", "link.mkv"]


@pytest.mark.parametrize(
    ("name", "codec", "message"),
    [
        ("a.mp4", "ffv1", r"goes into \.mkv, not '\.mp4'.*take codec 'h264' or 'h264-lossless'"),
        ("a.xyz", "h264", r"goes into \.mp4 or \.mov or \.mkv, not '\.xyz'"),
        ("a", "h264", "not ''"),
        ("a.mp4", "vp9", "unknown codec 'vp9'. Known: ffv1, h264, h264-lossless, mjpeg, png-folder"),
        ("a.mp4", "png-folder", "writes a folder"),
        ("missing/a.mkv", "ffv1", "does not exist. Create it"),
        ("file/a.mkv", "ffv1", "does not exist"),
        ("folder.mkv", "ffv1", "is a folder"),
    ],
)
def test_refuses_before_work_starts(tmp_path: Path, name: str, codec: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mkv").mkdir()
    for attempt in (
        lambda: VideoWriter(tmp_path / name, NTSC, (36, 48), codec=codec),
        lambda: check_paths(tmp_path / "other.mp4", tmp_path / name, codec=codec),
    ):
        with pytest.raises(MediaWriteError, match=message):
            attempt()
    assert leftovers(tmp_path) == ["file", "folder.mkv"]


def test_refuses_an_unwritable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(MediaWriteError, match="Permission denied"):
        VideoWriter(tmp_path / "a.mkv", NTSC, (36, 48))
    with pytest.raises(MediaWriteError, match="Permission denied"):
        check_paths(tmp_path / "b.png", tmp_path / "a.png")
    with pytest.raises(MediaWriteError, match="Permission denied"):
        write_image(tmp_path / "a.png", torch.zeros(3, 4, 4))


@pytest.mark.parametrize(("codec", "name"), [*LOSSLESS, ("h264", "a.mp4"), ("png-folder", "clip")])
def test_an_error_leaves_nothing(tmp_path: Path, codec: str, name: str) -> None:
    writer = VideoWriter(tmp_path / name, NTSC, (36, 48), codec=codec)

    def interrupted() -> None:
        with writer:
            writer.write(tensors(pictures(3)))
            assert name not in leftovers(tmp_path)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert leftovers(tmp_path) == []
    with pytest.raises(MediaWriteError, match="closed"):
        writer.write(tensors(pictures(1)))
    writer.close()


def test_an_error_leaves_an_earlier_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    for frames in (tensors(pictures(2)), tensors(pictures(3))):
        with VideoWriter(path, NTSC, (36, 48)) as writer:
            writer.write(frames)
    assert len(read_all(path)[0]) == 3
    before = path.read_bytes()
    with pytest.raises(ValueError, match="36 high"), VideoWriter(path, NTSC, (36, 48)) as writer:
        writer.write(torch.zeros(1, 3, 48, 36))
    assert path.read_bytes() == before
    assert leftovers(tmp_path) == ["a.mkv"]


@pytest.mark.parametrize("codec", CODECS)
def test_no_frames_is_an_error(tmp_path: Path, codec: str) -> None:
    name = {"ffv1": "a.mkv", "mjpeg": "a.avi", "png-folder": "a"}.get(codec, "a.mp4")
    with pytest.raises(MediaWriteError, match="no frame"), VideoWriter(tmp_path / name, NTSC, (36, 48), codec=codec):
        pass
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    full = tmp_path / "temporary"
    full.symlink_to("/dev/full")
    codec = "ffv1" if name == "a.mkv" else "h264-lossless"
    monkeypatch.setattr("deidlib.media.files.check_writable", lambda path: None)
    monkeypatch.setattr("deidlib.media.writer.temporary_name", lambda path: full)
    with (
        pytest.raises(MediaWriteError, match="space"),
        VideoWriter(tmp_path / name, NTSC, (36, 48), codec=codec) as writer,
    ):
        writer.write(torch.rand(20, 3, 36, 48))
    assert leftovers(tmp_path) == []


def test_refuses_bad_frames_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with pytest.raises(TypeError, match="Fraction"):
        VideoWriter(path, 29.97, (36, 48))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        VideoWriter(path, Fraction(0), (36, 48))
    with pytest.raises(ValueError, match="quality belongs to codecs 'h264' and 'mjpeg' only"):
        VideoWriter(path, NTSC, (36, 48), quality=20)
    with pytest.raises(ValueError, match="51"):
        VideoWriter(tmp_path / "a.mp4", NTSC, (36, 48), codec="h264", quality=60)
    writer = VideoWriter(path, NTSC, (36, 48))
    with pytest.raises(TypeError, match="uint8"):
        writer.write(torch.zeros(1, 3, 36, 48, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        writer.write(torch.full((1, 3, 36, 48), 1.5))
    with pytest.raises(ValueError, match="2 for 1 frames"):
        writer.write(torch.zeros(1, 3, 36, 48), [0, 1])
    with pytest.raises(ValueError, match="frame 1 at 5 after 5"):
        writer.write(torch.zeros(2, 3, 36, 48), [5, 5])
    writer.abort()
    assert leftovers(tmp_path) == []


def test_errors_are_media_errors() -> None:
    assert issubclass(MediaReadError, MediaError)
    assert issubclass(MediaWriteError, MediaError)
    assert issubclass(MediaError, ValueError)


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    """Frames are handed on one by one: after each, no earlier one is held."""
    path = make_clip(tmp_path / "a.mp4", pictures(30))
    alive = []
    for batch in VideoReader(path).batches(2):
        alive.append(weakref.ref(batch.images))
        assert sum(ref() is not None for ref in alive) <= 2
        del batch


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to tell its memory")
def test_decoded_frames_do_not_wait_for_the_garbage_collector(tmp_path: Path) -> None:
    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    path = make_clip(tmp_path / "a.mp4", np.zeros((1, 480, 640, 3), np.uint8).repeat(200, axis=0))
    gc.disable()
    try:
        sizes = [resident() for frame in VideoReader(path)]
    finally:
        gc.enable()
    # A decoded frame takes 0.44 MiB, so 150 of them 66 MiB.
    assert sizes[-1] - sizes[50] < 20


# Images


def test_png_is_bit_identical(tmp_path: Path) -> None:
    for shape in ((1, 3, 7, 5), (3, 7, 5)):
        image = to_grid(torch.rand(*shape))
        write_image(tmp_path / "a.png", image)
        back = read_image(tmp_path / "a.png")
        assert back.shape == (1, 3, 7, 5)
        assert back.dtype == torch.float32
        assert torch.equal(back[0], image.reshape(3, 7, 5))
    assert leftovers(tmp_path) == ["a.png"]
    with Image.open(tmp_path / "a.png") as file:
        assert file.info == {}


def test_values_are_rounded_not_cut(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.tensor([0.0, 0.4, 0.6, 254.5]).add(1e-4).div(255).clamp(0, 1).expand(3, 1, 4))
    assert read_image(tmp_path / "a.png")[0, 0, 0].mul(255).round().tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = pictures(1)[0]
    # How a camera stores an upright picture for each orientation value.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[:, ::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright[::-1].transpose(1, 0, 2),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Camera maker"
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    image = read_image(tmp_path / "a.png")
    assert torch.equal(image, tensors(upright[None]))
    write_image(tmp_path / "b.png", image)
    assert b"Camera" not in (tmp_path / "b.png").read_bytes()


def test_grey_sixteen_bit_palette_and_cmyk_become_rgb(tmp_path: Path) -> None:
    levels = np.array([[0, 128, 255]], np.uint8)
    wanted = torch.from_numpy(levels).float().div(255).expand(1, 3, 1, 3)
    grey = Image.fromarray(levels)
    grey.save(tmp_path / "grey.png")
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "sixteen.tif")
    grey.convert("P").save(tmp_path / "palette.png")
    grey.convert("RGB").convert("CMYK").save(tmp_path / "cmyk.tif")
    for name in ("grey.png", "sixteen.png", "sixteen.tif", "palette.png", "cmyk.tif"):
        assert torch.equal(read_image(tmp_path / name), wanted), name
    Image.fromarray(np.array([[0, 1]], bool)).save(tmp_path / "bits.png")
    assert read_image(tmp_path / "bits.png")[0, 0, 0].tolist() == [0, 1]


def test_sixteen_bit_rgb(tmp_path: Path) -> None:
    """Written by hand, as Pillow cannot: PNG colour type 2, bit depth 16."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">6H", 0, 0x8080, 0xFFFF, 0x0101, 0x4040, 0xC0C0)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    assert read_image(tmp_path / "a.png").mul(255).round()[0, :, 0].T.tolist() == [[0, 128, 255], [1, 64, 192]]


def test_transparent_parts_are_shown_on_white(tmp_path: Path) -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    # The last one: 20 % black on white.
    assert read_image(tmp_path / "a.png").mul(255).round()[0, :, 0].T.tolist() == [[200, 0, 0], [255] * 3, [204] * 3]


def test_jpeg_only_on_request(tmp_path: Path) -> None:
    image = tensors(pictures(1))
    with pytest.raises(MediaWriteError, match="JPEG changes pixels"):
        write_image(tmp_path / "a.jpg", image)
    write_image(tmp_path / "a.jpg", image, quality=95)
    assert (read_image(tmp_path / "a.jpg") - image).abs().mean() < 0.02
    with Image.open(tmp_path / "a.jpg") as file:
        assert "exif" not in file.info


@pytest.mark.parametrize(
    ("name", "image", "quality", "error", "message"),
    [
        ("a.gif", torch.zeros(3, 4, 4), None, MediaWriteError, r"\.png"),
        ("a", torch.zeros(3, 4, 4), None, MediaWriteError, r"\.png"),
        ("missing/a.png", torch.zeros(3, 4, 4), None, MediaWriteError, "Create it first"),
        ("a.png", torch.zeros(3, 4, 4), 90, ValueError, "belongs to JPEG"),
        ("a.jpg", torch.zeros(3, 4, 4), 101, ValueError, "1 to 100"),
        ("a.png", torch.zeros(2, 3, 4, 4), None, ValueError, "one image"),
        ("a.png", torch.zeros(4, 4, 3), None, ValueError, r"\(B, 3, H, W\)"),
        ("a.png", torch.zeros(3, 4, 4, dtype=torch.uint8), None, TypeError, "uint8"),
        ("a.png", np.zeros((4, 4, 3)), None, TypeError, "ndarray"),
        ("a.png", torch.full((3, 4, 4), float("nan")), None, ValueError, r"\[0, 1\]"),
    ],
)
def test_write_image_refuses(
    tmp_path: Path, name: str, image: Any, quality: int | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write_image(tmp_path / name, image, quality=quality)
    assert leftovers(tmp_path) == []


def test_damaged_images(tmp_path: Path) -> None:
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    for name in ("a.png", "a.jpg", "a.bmp"):
        rgb.save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(MediaReadError, match=name):
            read_image(tmp_path / name)


def test_an_animation_is_not_a_still_image(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture) for picture in pictures(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40)
    with pytest.raises(MediaReadError, match="3 frames"):
        read_image(tmp_path / "a.gif")
    images, _, _ = read_all(tmp_path / "a.gif")
    assert len(images) == 3


# Motion JPEG


@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
@pytest.mark.parametrize("size", [(36, 48), (35, 47)])
def test_mjpeg_is_close_in_every_colour(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    for color in ((0.8, 0.2, 0.2), (0.1, 0.7, 0.2), (0.2, 0.2, 0.9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)):
        frames = torch.tensor(color)[None, :, None, None].expand(3, 3, *size)
        with VideoWriter(tmp_path / name, NTSC, size, codec="mjpeg", quality=2) as writer:
            writer.write(frames)
        images, pts, reader = read_all(tmp_path / name)
        assert (images - frames).abs().max() * 255 <= 3
        assert len(pts) == 3
        assert (reader.info.codec, reader.info.fps) == ("mjpeg", NTSC)


def test_mjpeg_trades_size_for_quality(tmp_path: Path) -> None:
    frames = tensors(pictures(4))
    sizes, errors = [], []
    for quality in (2, 3, 10, 31):
        with VideoWriter(tmp_path / "a.avi", NTSC, (36, 48), codec="mjpeg", quality=quality) as writer:
            writer.write(frames)
        sizes.append((tmp_path / "a.avi").stat().st_size)
        errors.append(float((read_all(tmp_path / "a.avi")[0] - frames).abs().mean()))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert sizes[0] > sizes[-1]
    with VideoWriter(tmp_path / "b.avi", NTSC, (36, 48), codec="mjpeg") as writer:
        writer.write(frames)
    assert (tmp_path / "b.avi").stat().st_size == sizes[1]


def test_avi_keeps_a_fixed_rhythm(tmp_path: Path) -> None:
    """AVI has no time stamps: uneven times go to the nearest frame, and no frame is lost."""
    frames = tensors(pictures(4))
    with VideoWriter(tmp_path / "a.avi", Fraction(25), (36, 48), codec="mjpeg", time_base=Fraction(1, 1000)) as writer:
        writer.write(frames, [0, 38, 41, 200])
    images, pts, reader = read_all(tmp_path / "a.avi")
    assert len(images) == 4
    assert [t * reader.info.time_base * 25 for t in pts] == [0, 1, 2, 5]


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    # Not H.264: x264's own choices differ from run to run, of the same pixels (its macroblock tree, in assembly).
    frames = tensors(pictures(5))
    for codec, name in [("ffv1", "a.mkv"), ("h264-lossless", "a.mp4"), ("h264-lossless", "b.mkv"), ("mjpeg", "a.avi")]:
        files = []
        for folder in ("x", "y"):
            (tmp_path / folder).mkdir(exist_ok=True)
            with VideoWriter(tmp_path / folder / name, NTSC, (36, 48), codec=codec) as writer:
                writer.write(frames)
            files.append((tmp_path / folder / name).read_bytes())
        assert files[0] == files[1]


# Sound


def talking(path: Path, *, seconds: int = 2, sound: str = "aac") -> Path:
    """A clip whose sound begins to hum where its picture turns white, at one second."""
    with av.open(str(path), "w") as container:
        container.metadata["location"] = "+48.8577+002.295/"
        video: Any = container.add_stream("mpeg4", rate=25)
        video.height, video.width, video.pix_fmt = 36, 48, "yuv420p"
        audio: Any = container.add_stream(sound, rate=16000, layout="mono")
        audio.metadata["title"] = "spoken by Jane Doe"
        for k in range(25 * seconds):
            picture = np.full((36, 48, 3), 255 if k >= 25 else 0, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
        wave = np.sin(np.arange(16000 * seconds) * 0.2)
        wave[:16000] = 0
        for k in range(0, len(wave), 1000):
            part = (wave[k : k + 1000] * 20000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.rate, frame.pts = 16000, k
            container.mux(audio.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def hum_begins(path: Path) -> float:
    """Seconds, by the container's own clock."""
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.abs(frame.to_ndarray().astype(np.float64)).reshape(-1)
            loud = loud / (32768 if frame.format.name.startswith("s16") else 1)
            if (loud > 0.1).any():
                assert frame.time is not None
                return float(frame.time + np.argmax(loud > 0.1) / frame.sample_rate)
    raise AssertionError("no hum")


@pytest.mark.parametrize(("name", "codec"), [("b.mp4", "h264"), ("b.mkv", "ffv1"), ("b.avi", "mjpeg")])
def test_sound_stays_in_step(tmp_path: Path, name: str, codec: str) -> None:
    source = talking(tmp_path / "a.mp4", sound="mp3" if name.endswith("avi") else "aac")
    images, pts, reader = read_all(source)
    info = reader.info
    with VideoWriter(
        tmp_path / name, info.fps, (36, 48), codec=codec, time_base=info.time_base, sound=source
    ) as writer:
        for k in range(0, 50, 8):
            writer.write(images[k : k + 8], pts[k : k + 8])
    copied, times, copy = read_all(tmp_path / name)
    assert copy.info.has_audio
    (white,) = (copied[:25].mean(), copied[25:].mean())[1:]
    assert white > 0.9
    assert abs(times[25] * copy.info.time_base - 1) <= Fraction(1, 1000)
    assert abs(hum_begins(source) - hum_begins(tmp_path / name)) < (0.02 if name.endswith("avi") else 0.002)
    with av.open(str(source)) as before, av.open(str(tmp_path / name)) as after:
        heard = [bytes(p) for p in before.demux(audio=0) if p.pts is not None and p.pts >= 0]
        assert [bytes(p) for p in after.demux(audio=0) if p.size] == heard
        assert b"Jane" not in (tmp_path / name).read_bytes()
        assert b"+48.8577" not in (tmp_path / name).read_bytes()
        assert "title" not in after.streams.audio[0].metadata
    assert leftovers(tmp_path) == sorted(["a.mp4", name])


def test_sound_that_does_not_fit(tmp_path: Path) -> None:
    source = talking(tmp_path / "a.mkv", sound="libopus")
    with pytest.raises(MediaWriteError, match=r"b\.avi: sound in '\w+' cannot be stored in \.avi"):
        VideoWriter(tmp_path / "b.avi", NTSC, (36, 48), codec="mjpeg", sound=source)
    with pytest.raises(MediaWriteError, match="holds no sound"):
        VideoWriter(tmp_path / "b", NTSC, (36, 48), codec="png-folder", sound=source)
    silent = make_clip(tmp_path / "silent.mp4", pictures(3))
    with VideoWriter(tmp_path / "c.mkv", NTSC, (36, 48), sound=silent) as writer:
        writer.write(tensors(pictures(3)))
    assert not VideoReader(tmp_path / "c.mkv").info.has_audio
    assert leftovers(tmp_path) == ["a.mkv", "c.mkv", "silent.mp4"]


def test_sources_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(MediaReadError, match="camera 99"):
        VideoReader(99)
    code = "from deidlib.media import VideoReader\nr = VideoReader('-')\nprint(sum(1 for _ in r))\nlist(r)"
    path = make_clip(tmp_path / "a.mkv", pictures(4), encoder="ffv1", pixel_format="bgr0")
    with path.open("rb") as file:
        done = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True, text=True, check=False)
    assert done.stdout == "4\n"
    assert "standard input can be read once only" in done.stderr
