"""Words of a shell, and the objects that they mean."""

from __future__ import annotations

import pytest

from deidlib.attack.distortions import H264, JPEG, Blur, ChromaSubsampling
from deidlib.cli.names import distortion_of


def test_distortions() -> None:
    assert distortion_of("jpeg:75") == JPEG(75)
    assert distortion_of("h264:23") == H264(23)
    assert distortion_of("blur:0.8") == Blur(0.8)
    assert distortion_of("chroma") == ChromaSubsampling()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vp9:30", "unknown distortion 'vp9:30' in --survive. Known: jpeg:QUALITY"),
        ("", "unknown distortion ''"),
        ("jpeg", "--survive 'jpeg': .*Known: jpeg:QUALITY"),
        ("jpeg:101", "whole number from 1 to 100, got 101"),
        ("jpeg:7.5", "--survive 'jpeg:7.5'"),
        ("h264:52", r"0 \(best\) to 51 \(worst\), got 52"),
        ("h264:nan", "got nan"),
        ("h264:best", "--survive 'h264:best'"),
        ("blur:0", "sigma must be positive and at most 100"),
        ("blur:inf", "sigma must be positive and at most 100"),
        ("chroma:2", "unknown distortion 'chroma:2'"),
    ],
)
def test_distortions_that_are_none(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distortion_of(name)
