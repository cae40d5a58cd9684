"""What can be wrong with a media file."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterator
from pathlib import Path


class MediaError(ValueError):
    """A media file cannot be used; the message names it."""


class MediaReadError(MediaError):
    """A file that is missing, is not what it is said to be, or is damaged."""


class NoVideoError(MediaReadError):
    """A container that holds no video.

    Args:
        message: what was expected, and what is there.
        streams: what it holds instead: ``"audio"``, ``"subtitle"``, ...; pictures of covers are ``"video"``.
    """

    def __init__(self, message: str, streams: Collection[str]) -> None:
        super().__init__(message)
        self.streams = frozenset(streams)


class MediaWriteError(MediaError):
    """A file that cannot be written; nothing lies under its name that was not there before."""


@contextlib.contextmanager
def reporting(path: Path, what: str) -> Iterator[None]:
    """Whatever goes wrong while writing becomes a MediaWriteError that names the file."""
    import av

    try:
        yield
    except MediaError:
        raise
    except (av.FFmpegError, OSError) as error:
        raise MediaWriteError(
            f"{path}: could not write {what} ({reason_of(error)}). {_advice(error)}Nothing was kept under that name."
        ) from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the system refuses while a file is read becomes a MediaReadError that names the file."""
    try:
        yield
    except OSError as error:
        raise MediaReadError(
            f"{path} cannot be read ({error.strerror}). Check its permissions, or get a sound copy."
        ) from error


def _advice(error: BaseException) -> str:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
    return "Make space, or write to another disk. " if full else ""


def reason_of(error: BaseException) -> str:
    """What an error says, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
