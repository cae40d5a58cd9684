"""A path is a file, and no file makes the reader open anything but itself."""

from __future__ import annotations

import socket
import wave
from pathlib import Path

import av
import pytest
import torch
from clips import make_video, read_video
from PIL import Image

from deidlib.media import MediaReadError, VideoReader, read_image
from deidlib.media.clip import open_frames
from deidlib.media.sound import SoundCopy

NAMES = ["cam-12:30:45.mkv", "http:x.mkv", "concat:inner.mkv", "data:a,b.mkv", "file:inner.mkv", "-a.mkv", "a%03d.mkv"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_with_a_colon_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "inner.mkv", torch.zeros(1, 3, 16, 16))
    shown = torch.ones(2, 3, 16, 32)
    make_video(tmp_path / "shown.mkv", shown).rename(tmp_path / name)
    for path in (Path(name), tmp_path / name):
        assert torch.equal(read_video(path), shown)


def test_a_file_that_names_others_opens_none(tmp_path: Path) -> None:
    make_video(tmp_path / "inner.mkv", torch.zeros(2, 3, 16, 16))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/inner.ts"
        m3u8 = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n{}\n#EXT-X-ENDLIST\n"
        sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        lists = {
            "a.ffconcat": "ffconcat version 1.0\nfile inner.mkv\n",
            "b.m3u8": m3u8.format("inner.mkv"),
            "c.mp4": m3u8.format(address),
            "d.sdp": sdp,
            "e.mkv": "ffconcat version 1.0\nfile inner.mkv\n",
        }
        for name, text in lists.items():
            (tmp_path / name).write_text(text)
            with pytest.raises(MediaReadError, match="whatever else names other files"):
                VideoReader(tmp_path / name)
        with pytest.raises(TimeoutError):
            server.accept()


def test_sound_is_taken_from_no_other_file(tmp_path: Path) -> None:
    """The sound is read by itself, from a file that may have been put there since its frames were read."""
    with wave.open(str(tmp_path / "inner.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 800, "NONE", ""))
        sound.writeframes(bytes(1600))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/inner.wav"
        lists = {
            "a.ffconcat": "ffconcat version 1.0\nfile inner.wav\n",
            "b.mkv": "ffconcat version 1.0\nfile inner.wav\n",
            "c.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\n{address}\n#EXT-X-ENDLIST\n",
            "d.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\ninner.wav\n#EXT-X-ENDLIST\n",
            "e.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        }
        for name, text in lists.items():
            (tmp_path / name).write_text(text)
            with (
                av.open(str(tmp_path / "out.mkv"), "w") as container,
                pytest.raises(MediaReadError, match="its sound cannot be read"),
            ):
                SoundCopy(tmp_path / name, container, tmp_path / "out.mkv")
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("name", ["http:x.wav", "concat:inner.wav|inner.wav", "data:a,b.wav", "cam-12:30.wav"])
def test_sound_in_a_file_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for path, count in ((Path("inner.wav"), 100), (Path(name), 800)):
        with wave.open(str(path.absolute()), "wb") as sound:
            sound.setparams((1, 2, 8000, count, "NONE", ""))
            sound.writeframes(bytes(2 * count))
    with av.open("out.mkv", "w") as container:
        copy = SoundCopy(Path(name), container, Path("out.mkv"))
        assert sum(packet.size for packet in copy.until(None)) == 1600
        copy.close()


@pytest.mark.parametrize("form", ["PCX", "SGI", "PDF", "DDS", "TGA"])
def test_only_formats_on_the_list_are_pictures(tmp_path: Path, form: str) -> None:
    """Pillow reads and writes more; what a name says is none of its business."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", format=form)
    with pytest.raises(MediaReadError, match="not an image that can be read"):
        read_image(tmp_path / "a.png")
    # Nor among the frames of a folder.
    with pytest.raises(MediaReadError), open_frames(tmp_path) as frames:
        list(frames.batches(1))


@pytest.mark.parametrize("name", ["a.eps", "a.png", "a.jpg"])
def test_no_image_starts_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from PIL import EpsImagePlugin

    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    Image.new("RGB", (8, 8)).save(tmp_path / name, format="EPS")
    with pytest.raises(MediaReadError, match="not an image that can be read"):
        read_image(tmp_path / name)
