"""Recordings as they come: clocks, several streams, pixels that are not square, fields, alpha, HDR."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import astronauts, read_video
from command import deidlib, done
from containers import Stream, pixels_of, remuxed, write
from footage import SHARED
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

from deidlib.images import to_pixels
from deidlib.media import CODECS, MediaReadError, VideoReader, VideoWriter, read_image
from deidlib.media.clip import open_frames
from deidlib.media.clock import Clock
from deidlib.media.colour import HLG, PQ, tone_mapped
from deidlib.media.presentation import Presentation
from deidlib.protect.output import Output

QUICK = ("--iterations", 0, "--no-verify", "--device", "cpu")
FRAMES = pixels_of(astronauts(20, side=64))
SMALL = FRAMES[:, ::4, ::4]


def times_of(path: Path) -> list[Fraction]:
    """When the frames are shown, from the first on."""
    with VideoReader(path) as reader:
        times = [frame.pts * reader.info.time_base for frame in reader]
    return [time - times[0] for time in times]


def twenty_fifths(numbers: list[int] | range) -> list[Fraction]:
    return [Fraction(number, 25) for number in numbers]


# Case 04: the clock


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize(("form", "codec"), [("mpegts", "libx264"), ("vob", "mpeg2video")])
def test_a_clock_that_restarts_goes_on(tmp_path: Path, form: str, codec: str) -> None:
    one = write(tmp_path / "one", Stream(FRAMES, codec), form=form)
    twice = joined(tmp_path / "twice", one, one, one)
    assert times_of(twice) == twenty_fifths(range(60))
    done(deidlib("protect", twice, tmp_path / "out.mkv", *QUICK))
    assert times_of(tmp_path / "out.mkv") == twenty_fifths(range(60))


def test_what_follows_keeps_its_own_differences(tmp_path: Path) -> None:
    one = write(tmp_path / "one.ts", Stream(FRAMES))
    uneven = write(tmp_path / "uneven.ts", Stream(FRAMES[:4], pts=[0, 2, 3, 9]))
    expected = [*range(20), 20, 22, 23, 29]
    assert times_of(joined(tmp_path / "both.ts", one, uneven)) == twenty_fifths(expected)


def test_a_clock_that_leaps_goes_on_and_a_pause_stays(tmp_path: Path) -> None:
    pts = [*range(5), *range(25 * 9, 25 * 9 + 5), *range(25 * 3600, 25 * 3600 + 5)]
    leap = write(tmp_path / "leap.ts", Stream(FRAMES[:15], pts=pts))
    assert times_of(leap) == twenty_fifths([*range(5), *range(225, 230), *range(230, 235)])
    # The clock of an MP4 does not leap: a picture was shown for an hour.
    pause = write(tmp_path / "pause.mp4", Stream(FRAMES[:15], pts=pts))
    assert times_of(pause) == twenty_fifths(pts)


def test_a_slip_of_a_time_stamp_leaves_those_after_it_alone() -> None:
    def mended(*raw: int | None, leap: int | None = None) -> list[int]:
        clock = Clock(40, leap)
        return [clock.tick(now, then) for now, then in zip(raw, [*raw[1:], None], strict=True)]

    assert mended(0, 40, 40, 120, 160) == [0, 40, 41, 120, 160]
    assert mended(0, 40, 80, 30, 160) == [0, 40, 80, 81, 160]
    assert mended(0, 80, 40, 120) == [0, 80, 81, 120]
    assert mended(0, None, None, 120) == [0, 40, 80, 120]
    assert mended(None, None, 5) == [0, 40, 41]
    assert mended(7, 47, 0, 40, 80, 0) == [7, 47, 87, 127, 167, 207]
    # One that is far off for a single frame is no new clock.
    assert mended(0, 40, 9000, 120, 160) == mended(0, 40, 9000, 120, 160, leap=400) == [0, 40, 80, 120, 160]
    for raw in ([5, 4, 3, 2, 1], [0, 0, 0, 0], [3, 1, 2, 0, 9, 8]):
        assert all(a < b for a, b in pairwise(mended(*raw)))


def with_sound(path: Path) -> Path:
    """A transport stream of 20 frames and as much sound."""
    with av.open(str(path), "w", format="mpegts") as container:
        video: Any = container.add_stream("libx264", rate=25)
        video.height = video.width = 64
        video.pix_fmt = "yuv420p"
        audio: Any = container.add_stream("mp2", rate=32000)
        for number, pixels in enumerate(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1280), np.int16), format="s16", layout="stereo")
            sound.rate, sound.pts, sound.time_base = 32000, 1280 * number, Fraction(1, 32000)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def test_sound_goes_on_with_the_frames(tmp_path: Path) -> None:
    one = with_sound(tmp_path / "one.ts")
    twice = joined(tmp_path / "twice.ts", one, one)
    done(deidlib("protect", twice, tmp_path / "out.mkv", *QUICK, "--audio", "copy"))
    assert times_of(tmp_path / "out.mkv") == twenty_fifths(range(40))
    with av.open(str(tmp_path / "out.mkv")) as container:
        heard = [float(p.pts * p.time_base) for p in container.demux(audio=0) if p.pts is not None and p.size]
    with av.open(str(twice)) as container:
        assert len(heard) == sum(p.size > 0 for p in container.demux(audio=0))
    assert all(0 < b - a < 0.08 for a, b in pairwise(heard))
    assert 1.5 < heard[-1] - heard[0] < 1.65


def test_a_clip_that_begins_late_is_whole(tmp_path: Path) -> None:
    """MKV says when it ends, not how long it lasts; five seconds were taken for missing."""
    path = write(tmp_path / "late.mkv", Stream(FRAMES, pts=range(125, 145)))
    assert len(read_video(path)) == 20


# Case 07: AVI


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_that_avi_stores_out_of_order(tmp_path: Path, codec: str) -> None:
    options = {"bf": "2"}
    clip = write(tmp_path / "a.mp4", Stream(FRAMES, codec, options=options))
    path = remuxed(clip, tmp_path / "a.avi", "avi")
    for strict in (True, False):
        with VideoReader(path, strict=strict) as reader:
            assert reader.info.fps == 25
            frames = list(reader)
        assert [frame.pts * reader.info.time_base for frame in frames] == twenty_fifths(range(20))
    assert torch.equal(torch.stack([frame.image for frame in frames]), read_video(clip))
    done(deidlib("protect", path, tmp_path / "out.mkv", *QUICK))


def test_the_avi_of_the_case() -> None:
    path = SHARED / "cases" / "07-h264-avi-called-damaged" / "a.avi"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    assert times_of(path) == twenty_fifths(range(20))
    with VideoReader(path) as reader:
        assert reader.info.fps == 25


def test_an_avi_that_is_cut_off_is_still_damaged(tmp_path: Path) -> None:
    path = remuxed(write(tmp_path / "a.mp4", Stream(FRAMES)), tmp_path / "a.avi", "avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaReadError, match="damaged or cut off"):
        read_video(path)


# Case 08: how pixels are shown


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(16, 11), Fraction(4, 3), Fraction(10, 11)])
@pytest.mark.parametrize("codec", CODECS)
def test_pixels_that_are_not_square_stay_so(tmp_path: Path, codec: str, aspect: Fraction) -> None:
    source = write(tmp_path / "in.mp4", Stream(FRAMES[:3], aspect=aspect))
    suffixes = {"ffv1": [".mkv"], "mjpeg": [".mkv", ".avi"], "png-folder": [""]}.get(codec, [".mp4", ".mov", ".mkv"])
    with VideoReader(source) as reader:
        assert reader.info.shown.pixel_aspect == aspect
        for suffix in suffixes:
            path = tmp_path / f"out{suffix}"
            with Output(codec).writer(path, reader.info) as writer:
                writer.write(torch.from_numpy(FRAMES[:3]).permute(0, 3, 1, 2) / 255)
            with open_frames(path) as written:
                got = written.info.shown.pixel_aspect
            # Containers count whole pixels of the width shown.
            assert abs(got - aspect) * 64 <= Fraction(1, 2), suffix
            assert len(next(iter(open_frames(path).batches(8))).images) == 3


def test_the_command_keeps_the_aspect(tmp_path: Path) -> None:
    source = write(tmp_path / "in.vob", Stream(FRAMES[:3], "mpeg2video", aspect=Fraction(16, 9)), form="vob")
    done(deidlib("protect", source, tmp_path / "out.mkv", *QUICK))
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert abs(Fraction(container.streams.video[0].sample_aspect_ratio or 0) - Fraction(16, 9)) * 64 <= Fraction(
            1, 2
        )
    square = write(tmp_path / "square.mp4", Stream(FRAMES[:3]))
    done(deidlib("protect", square, tmp_path / "square.mkv", *QUICK))
    with av.open(str(tmp_path / "square.mkv")) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 1)


def test_a_quarter_turn_turns_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        stream.set_display_rotation(90)
        for pixels in FRAMES[:3, :32]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))))
        container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert (reader.info.height, reader.info.width) == (64, 32)
        assert reader.info.shown.pixel_aspect == Fraction(1, 2)


@pytest.mark.parametrize("fields", ["top", "bottom"])
@pytest.mark.parametrize("codec", [name for name in CODECS if name != "mjpeg"])
def test_the_order_of_fields_is_kept(tmp_path: Path, codec: str, fields: str) -> None:
    params = {"x264-params": "tff=1" if fields == "top" else "bff=1"}
    source = write(tmp_path / "in.mp4", Stream(FRAMES[:3], options=params))
    with VideoReader(source) as reader:
        assert (reader.info.shown.fields, reader.info.interlaced) == (fields, True)
        for suffix in {"ffv1": [".mkv"], "png-folder": [""]}.get(codec, [".mp4", ".mkv"]):
            path = tmp_path / f"out{suffix}"
            images = torch.from_numpy(FRAMES[:3]).permute(0, 3, 1, 2) / 255
            with Output(codec).writer(path, reader.info) as writer:
                writer.write(images)
            with open_frames(path) as written:
                assert (written.info.shown.fields, written.info.interlaced) == (fields, True)
            if codec != "h264":
                assert torch.equal(torch.cat([batch.images for batch in open_frames(path).batches(8)]), images)


@pytest.mark.parametrize(
    ("turn", "mirror", "expected"),
    [(0, True, "top"), (90, False, "progressive"), (270, True, "progressive"), (180, False, "bottom")],
)
def test_fields_of_turned_frames(tmp_path: Path, turn: int, mirror: bool, expected: str) -> None:
    """After a quarter turn they are columns, after a half turn the other line is on top; it is said of all of them."""
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        stream.set_display_rotation(turn, hflip=mirror)
        for pixels in FRAMES[:3, :32]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))))
        container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert (reader.info.shown.fields, reader.info.interlaced) == (expected, True)
        info, images = reader.info, next(iter(reader.batches(3))).images
    with Output("ffv1").writer(tmp_path / "out.mkv", info) as writer:
        writer.write(images)
    with VideoReader(tmp_path / "out.mkv") as written:
        assert written.info.shown.fields == expected


def test_upside_down_the_order_of_fields_turns_with_an_even_number_of_lines() -> None:
    shown = Presentation(Fraction(2), "top", 9, 13)
    assert shown.flipped(32) == Presentation(Fraction(2), "bottom", 9, 13)
    assert shown.flipped(32).flipped(32) == shown.flipped(31) == shown
    assert Presentation().flipped(32) == Presentation()
    assert shown.turned() == Presentation(Fraction(1, 2), "progressive", 9, 13)


def test_whole_frames_are_not_said_to_be_fields(tmp_path: Path) -> None:
    for name, form in (("a.mp4", "mp4"), ("a.ts", "mpegts"), ("a.avi", "avi")):
        with VideoReader(write(tmp_path / name, Stream(FRAMES[:3]), form=form)) as reader:
            assert (reader.info.shown, reader.info.interlaced) == (Presentation(), False)


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "mjpeg"])
def test_what_the_colours_are_is_kept(tmp_path: Path, codec: str) -> None:
    # BT.601 of 625 lines, and BT.2020 that is not HDR.
    for primaries, transfer, matrix in ((5, 6, 5), (9, 14, 9)):
        context = {"color_primaries": primaries, "color_trc": transfer, "colorspace": matrix}
        source = write(tmp_path / f"in{primaries}.mp4", Stream(FRAMES[:3], context=context))
        with VideoReader(source) as reader:
            assert (reader.info.shown.primaries, reader.info.shown.transfer) == (primaries, transfer)
            path = tmp_path / f"out{primaries}{'' if codec == 'png-folder' else '.mkv'}"
            with Output(codec).writer(path, reader.info) as writer:
                writer.write(next(iter(reader.batches(3))).images)
        with open_frames(path) as written:
            assert (written.info.shown.primaries, written.info.shown.transfer) == (primaries, transfer)


def test_a_file_that_says_nothing_is_written_as_before(tmp_path: Path) -> None:
    images = torch.from_numpy(FRAMES[:3]).permute(0, 3, 1, 2) / 255
    with VideoWriter(tmp_path / "frames", Fraction(25), (64, 64), codec="png-folder") as writer:
        writer.write(images)
    assert json.loads((tmp_path / "frames/frames.json").read_text()).keys() == {"fps", "time_base", "pts"}
    with pytest.raises(ValueError, match="pixel_aspect must be positive"):
        Presentation(Fraction(0))


# Case 10: alpha and HDR


def half_transparent() -> NDArray[np.uint8]:
    """The left half is not to be seen, the right one is."""
    alpha = np.full((3, 64, 64, 1), 255, np.uint8)
    alpha[:, :, :32] = 0
    return np.concatenate([FRAMES[:3], alpha], axis=3)


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("a.mov", ("prores_ks", "yuva444p10le")),
        ("a.mov", ("qtrle", "argb")),
        ("a.mov", ("png", "rgba")),
        ("a.webm", ("libvpx-vp9", "yuva420p")),
        ("a.webm", ("libvpx", "yuva420p")),
        ("a.mkv", ("ffv1", "yuva444p")),
        ("a.nut", ("ffv1", "rgba64le")),
        ("a.apng", ("apng", "rgba")),
    ],
)
def test_what_is_transparent_is_white(tmp_path: Path, name: str, stream: tuple[str, str]) -> None:
    # VP8 has no alpha in frames that are not shown.
    options = {"auto-alt-ref": "0"} if stream[0] == "libvpx" else {}
    images = read_video(write(tmp_path / name, Stream(half_transparent(), *stream, options)))
    # Lossy codecs blur the edge.
    assert images.shape[0] == 3
    assert images[:, :, :, :24].min() > 0.97
    seen = torch.from_numpy(FRAMES[:3]).permute(0, 3, 1, 2) / 255
    assert (images - seen)[:, :, :, 40:].abs().mean() < 0.03


def test_alpha_of_a_video_is_as_of_an_image(tmp_path: Path) -> None:
    pixels = half_transparent()
    pixels[..., 3] = np.arange(64) * 4
    path = write(tmp_path / "a.mov", Stream(pixels, "png", "rgba"))
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    with open_frames(tmp_path / "a.png") as still:
        (image,) = still.batches(1)
    assert torch.equal(read_video(path)[:1], image.images)


def test_a_transparent_gif(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(pixels) for pixels in half_transparent()]
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, disposal=2)
    assert read_video(tmp_path / "a.gif")[:, :, :, :32].min() == 1


def test_alpha_that_no_decoder_sees_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.webm", Stream(half_transparent(), "libvpx-vp9", "yuva420p"))
    create = av.Codec

    def missing(name: str, mode: Any) -> object:
        if name == "libvpx-vp9":
            raise av.codec.codec.UnknownCodecError(name)
        return create(name, mode)

    monkeypatch.setattr(av, "Codec", missing)
    with pytest.raises(MediaReadError, match="what is hidden there would be shown"):
        VideoReader(path)


def light_of(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """sRGB as light, 1 for white; in BT.2020's primaries."""
    level = pixels / 255
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    wide: NDArray[np.float64] = light @ to_bt2020.T
    return wide


def pq_of(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084's inverse EOTF."""
    y = (nits / 10000) ** (2610 / 16384)
    level: NDArray[np.float64] = ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)
    return level


def hlg_of(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """ITU-R BT.2100's HLG for a screen of 1000 cd/m²."""
    shown = nits / 1000
    luminance = shown @ np.array([0.2627, 0.6780, 0.0593])
    scene = shown * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    level: NDArray[np.float64] = np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    )
    return level


HDR: dict[int, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {PQ: pq_of, HLG: hlg_of}


def sixteen_bits(level: NDArray[np.float64]) -> NDArray[np.uint16]:
    return (level.clip(0, 1) * 65535).round().astype(np.uint16)


@pytest.mark.parametrize("transfer", HDR)
def test_hdr_is_shown_as_the_sdr_that_it_was_made_from(tmp_path: Path, transfer: int) -> None:
    pixels = np.stack([astronaut()[:240, 80:400]] * 3)
    levels = sixteen_bits(HDR[transfer](203 * light_of(pixels)))
    context = {"color_primaries": 9, "color_trc": transfer, "colorspace": 9}
    options = {"x265-params": "log-level=none", "crf": "4"}
    path = write(tmp_path / "hdr.mp4", Stream(levels, "libx265", "yuv420p10le", options, context=context))
    with VideoReader(path) as reader:
        assert reader.info.hdr == {PQ: "PQ", HLG: "HLG"}[transfer]
        assert (reader.info.shown.primaries, reader.info.shown.transfer) == (1, 13)
        image = to_pixels(next(iter(reader)).image)
    # Read as if it were sRGB, it is 44 grey levels off.
    assert abs(image.mean() - pixels.mean()) < 3
    dark = light_of(pixels[0]).max(axis=2) < 0.7
    assert np.abs(image.astype(float) - pixels[0])[dark].mean() < 2
    result = done(deidlib("protect", path, tmp_path / "out.mkv", *QUICK))
    assert f"HDR ({reader.info.hdr}); it is read, and written, as SDR" in result.stderr
    with VideoReader(tmp_path / "out.mkv") as written:
        assert (written.info.shown.primaries, written.info.shown.transfer, written.info.hdr) == (1, 13, None)


@pytest.mark.parametrize("transfer", HDR)
@pytest.mark.parametrize("name", ["a.avif", "a.heic"])
def test_an_image_in_hdr_is_refused(tmp_path: Path, name: str, transfer: int) -> None:
    path = tmp_path / name
    if path.suffix == ".avif":
        context = {"color_primaries": 9, "color_trc": transfer, "colorspace": 9}
        write(path, Stream(FRAMES[:1], "libsvtav1", "yuv420p10le", context=context), form="avif")
    else:
        heif = pytest.importorskip("pillow_heif")
        profile = {"color_primaries": 9, "transfer_characteristics": transfer, "matrix_coefficients": 9}
        heif.from_pillow(Image.fromarray(FRAMES[0])).save(path, nclx_profile={**profile, "full_range_flag": 1})
    with pytest.raises(MediaReadError, match=r"is an HDR image.*Convert it to 8-bit sRGB"):
        read_image(path)


@pytest.mark.parametrize("transfer", HDR)
def test_light_keeps_its_order_and_grey_its_colour(transfer: int) -> None:
    nits = np.geomspace(0.01, 1000, 400)
    grey = tone_mapped(sixteen_bits(HDR[transfer](np.repeat(nits[None, :, None], 3, axis=2))), transfer)
    assert int(np.ptp(grey.astype(int), axis=2).max()) <= 1
    steps = np.diff(grey[0, :, 0].astype(int))
    assert steps.min() >= 0
    assert grey[0, -1].tolist() == [255, 255, 255]
    # The white of paper, 0.9025 by the bend, and grey of 18 %, as in sRGB.
    paper, middle = (np.full((1, 1, 3), value) for value in (203.0, 0.18 * 203))
    assert abs(int(tone_mapped(sixteen_bits(HDR[transfer](paper)), transfer)[0, 0, 0]) - 244) <= 1
    assert abs(int(tone_mapped(sixteen_bits(HDR[transfer](middle)), transfer)[0, 0, 0]) - 118) <= 1


def test_bt2020_without_hdr_is_left_as_it_is(tmp_path: Path) -> None:
    context = {"color_primaries": 9, "color_trc": 14, "colorspace": 9}
    path = write(tmp_path / "a.mp4", Stream(FRAMES[:3], context=context, options={"crf": "4"}))
    with VideoReader(path) as reader:
        assert reader.info.hdr is None
    assert (read_video(path) - torch.from_numpy(FRAMES[:3]).permute(0, 3, 1, 2) / 255).abs().mean() < 0.02


# Case 11: several videos


@pytest.mark.parametrize("form", ["matroska", "mp4", "mpegts"])
def test_of_several_videos_the_one_to_be_shown_or_the_largest_is_taken(tmp_path: Path, form: str) -> None:
    small, large = Stream(SMALL, default=True), Stream(FRAMES, default=True)
    for number, streams in enumerate([(small, large), (large, small)]):
        path = write(tmp_path / f"{number}", *streams, form=form)
        with VideoReader(path) as reader:
            assert (reader.info.width, reader.info.left_out) == (64, 1)
        result = done(deidlib("protect", path, tmp_path / "out.mkv", *QUICK))
        assert "holds 1 other video, left out; the one of 64x64 pixels is taken" in result.stderr


def test_what_the_file_says_is_to_be_shown_comes_first(tmp_path: Path) -> None:
    for number, shown in enumerate((True, False)):
        streams = (Stream(SMALL, default=shown), Stream(FRAMES, default=not shown))
        path = write(tmp_path / f"{number}.mkv", *streams)
        with VideoReader(path) as reader:
            assert reader.info.width == (16 if shown else 64)
    one = write(tmp_path / "one.mkv", Stream(FRAMES))
    with VideoReader(one) as reader:
        assert reader.info.left_out == 0


def test_a_still_picture_that_nobody_marked_is_not_the_video(tmp_path: Path) -> None:
    cover = Stream(SMALL[:1], "mjpeg", "yuvj420p", default=False)
    path = write(tmp_path / "two.mkv", cover, Stream(FRAMES, default=True))
    assert read_video(path).shape == (20, 3, 64, 64)
