"""``ClipSource``: where the frames of a clip come from, and whether they still do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deidlib.media import MediaReadError
from deidlib.media.clip import FrameReader, open_frames
from deidlib.media.errors import reading
from deidlib.media.files import input_sha256
from deidlib.records.files import sha256_of
from deidlib.records.identity import FileIdentity


@dataclass(frozen=True)
class ClipSource:
    """Where the frames of a clip come from.

    Args:
        open: a reader of them, from the first on.
        sha256: of the file; None for a live source, which can be opened once only.
        path: the file, whose sound may be copied; None for a live source.
        identity: of the file that was hashed.
    """

    open: Callable[[], FrameReader]
    sha256: str | None
    path: Path | None = None
    identity: FileIdentity | None = None

    @classmethod
    def of_file(cls, path: Path) -> ClipSource:
        """Of an image, a video, or a folder of frames.

        Raises:
            MediaReadError: it cannot be read.
        """
        with reading(path):
            # Before it is hashed: what is put there meanwhile is noticed, too.
            identity = FileIdentity.of(path)
        return cls(partial(open_frames, path), input_sha256(path), path, identity)

    def check(self, *, thoroughly: bool = False) -> None:
        """Make sure that the file is still the one that was hashed.

        Args:
            thoroughly: hash it again, which tells of bytes changed behind its times.

        Raises:
            MediaReadError: another file lies there, or other bytes, or none.
        """
        if self.path is None:
            return
        with reading(self.path):
            same = FileIdentity.of(self.path) == self.identity
            if not same or (thoroughly and sha256_of(self.path) != self.sha256):
                raise MediaReadError(
                    f"{self.path} was changed or replaced while it was worked on, so that nothing was written: the "
                    "result would be of two recordings. Leave it alone and run again."
                )


def path_of(source: str | Path | ClipSource) -> Path:
    """The file that frames come from.

    Raises:
        ValueError: they come live.
    """
    path = source.path if isinstance(source, ClipSource) else Path(source)
    if path is None:
        raise ValueError("a live source is given by its number or as '-', not as a ClipSource.")
    return path
