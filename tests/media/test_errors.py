"""What is said of a file that cannot be written: the cause, and advice that fits it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import pytest

from deidlib.media import MediaWriteError
from deidlib.media.errors import reporting


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_where_space_is_lacking_it_is_said(number: int) -> None:
    with pytest.raises(MediaWriteError, match=r"Make space, or write to another disk\."), reporting(Path("a"), "it"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO, errno.ENOENT, errno.EINVAL])
@pytest.mark.parametrize("kind", ["system", "FFmpeg"])
def test_of_any_other_cause_nothing_is_said_of_space(number: int, kind: str) -> None:
    error: Exception = OSError(number, os.strerror(number))
    if kind == "FFmpeg":
        error = av.FFmpegError(number, os.strerror(number))
    with pytest.raises(MediaWriteError, match=os.strerror(number)) as caught, reporting(Path("a.mkv"), "the frames"):
        raise error
    assert str(caught.value).startswith("a.mkv: could not write the frames (")
    assert "space" not in str(caught.value).lower()
