"""``OwnFolder``: the folder of a session, where each file has a place of its own."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Characters of a name that are kept.
_LONGEST = 80


class OwnFolder:
    """Where a session keeps what it was given and what it makes.

    Args:
        path: a folder that nobody else looks into.

    Example:
        >>> import tempfile
        >>> folder = OwnFolder(Path(tempfile.mkdtemp()))
        >>> folder.place("a.png").relative_to(folder.path).as_posix()
        '1/a.png'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count, self._counting = 0, threading.Lock()

    def place(self, name: str) -> Path:
        """A path for a file of that name, which nothing has had before: browsers keep what they know by its address."""
        with self._counting:
            self._count += 1
            folder = self.path / str(self._count)
        folder.mkdir(mode=0o700)
        return folder / name

    @contextmanager
    def moved(self, upload: str | Path) -> Iterator[Path]:
        """A file that was uploaded, moved to a place of its own; it is removed if it turns out to be of no use.

        Raises:
            ValueError: it is not there any more.
        """
        path = self.place(plain_name(Path(upload).name))
        try:
            shutil.move(upload, path)
            path.chmod(0o600)
            yield path
        except FileNotFoundError as error:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise ValueError("the file is not there any more. Drop it once more.") from error
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise

    def in_words(self, error: BaseException) -> str:
        """What went wrong, without the names of folders that mean nothing to the user."""
        return re.sub(rf"{re.escape(str(self.path))}/\d+/(opened/)?", "", str(error)) or type(error).__name__

    def remove(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self.path, ignore_errors=True)


def plain_name(name: str) -> str:
    """A name that means nothing to a shell, a page or a file system: letters, digits and a few marks.

    Example:
        >>> plain_name("../my <b>face</b> & I.PNG"), plain_name(".hidden")
        ('_my__b_face__b____I.PNG', 'hidden')
    """
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")
    stem, dot, suffix = kept.rpartition(".")
    return f"{stem[:_LONGEST]}{dot}{suffix[:10]}" if stem else kept[:_LONGEST] or "file"
