"""``Place``: a file or a folder, by URL or path, in whatever store it lies."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from deidlib.storage.errors import StorageError, explained, is_passing
from deidlib.storage.listing import Listed, listing

T = TypeVar("T")

# At least two letters: one is a drive of Windows.
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
# Stores in which an object appears when all of it is there. Elsewhere it is renamed then.
_WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
# What a store says of an object that nobody can guess its content by, and the rest.
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created", "VersionId", "generation")
_CONTENT = ("ETag", "etag", "md5Hash", "crc32c", "content_md5", "size")


@dataclass(frozen=True)
class Stat:
    """What a store says of an object.

    Args:
        size: bytes.
        times: when it was written, and as which version: another one if it is written again.
        content: what hangs on its bytes, some of it a plain hash: nothing to be published about an original.
    """

    size: int
    times: tuple[str, ...]
    content: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A file or a folder: ``s3://bucket/clips``, ``gs://``, ``memory://``, ``file://``, a path, or what fsspec knows.

    Credentials and endpoints are the store's own affair: its client reads its environment variables and files.

    Args:
        url: the URL or path.
        patience: seconds for which a store that does not answer is asked again.

    Raises:
        StorageError: of a store that nobody knows, or whose client is not installed.

    Example:
        >>> place = Place("memory://clips") / "drive.mp4"
        >>> place.write(b"frames")
        >>> place.name, place.read(100), [listed.name for listed in Place("memory://clips").files()]
        ('drive.mp4', b'frames', ['drive.mp4'])
    """

    url: str
    patience: float = field(default=60.0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/") or "/")
        if self.url.endswith(":"):
            raise StorageError(f"{self.url}// names no place. Name the bucket, or the folder.")
        # An address that is wrong is told before any work.
        self._opened()

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.url.rstrip('/')}/{name}", self.patience)

    def __str__(self) -> str:
        # Some addresses hold a password.
        return re.sub(r"://[^/@]*@", "://", self.url)

    @property
    def scheme(self) -> str:
        """``"s3"`` and such, ``"file"`` for a path."""
        match = _URL.match(self.url)
        return match[1].lower() if match else "file"

    def holds(self, other: Place) -> bool:
        """Whether another place is this one or lies below it."""
        mine, theirs = self._opened(), other._opened()
        return mine[0] == theirs[0] and f"{theirs[1]}/".startswith(f"{mine[1].rstrip('/')}/")

    @property
    def local(self) -> Path | None:
        """The path on this machine; None of another store."""
        return Path(self._opened()[1]) if self.scheme in ("file", "local") else None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.url.rsplit("/", 1)[-1]

    def stat(self) -> Stat | None:
        """What the store says of a file; None if there is none.

        Raises:
            StorageError: the store does not answer, or must not.
        """
        try:
            known = self._asked("read", lambda fs, path: fs.info(path, **self._fresh(fs)))
        except _AbsentError:
            return None
        return _stat(known) if known.get("type", "file") == "file" else None

    def files(self) -> Iterator[Listed]:
        """All files below a folder, by name, as they are listed: memory does not grow with their number.

        Raises:
            StorageError: the folder cannot be listed.
        """
        fs, path = self._opened()
        yield from listing(fs, path, lambda ask: self._asked("listed", lambda *_: ask()))

    def read(self, most: int) -> bytes | None:
        """The bytes of a small file; None if there is none.

        Args:
            most: what is longer is refused.

        Raises:
            StorageError: it is longer, or cannot be read.
        """
        try:
            content: bytes = self._asked("read", lambda fs, path: fs.cat_file(path, end=most + 1))
        except _AbsentError:
            return None
        if len(content) > most:
            raise StorageError(f"{self} is longer than {most} bytes, so it was not written by deidlib. Remove it.")
        return content

    def write(self, content: bytes) -> None:
        """A small file that appears whole, replacing an older one.

        Raises:
            StorageError: it cannot be written.
        """
        self._placed(lambda fs, path: fs.pipe_file(path, content))

    def fetch(self, target: Path) -> None:
        """Copy a file to this machine.

        Raises:
            StorageError: it is not there, is replaced meanwhile, or cannot be read; or there is no room for it.
        """
        before = self.stat()
        if before is None:
            raise StorageError(f"{self} is not there, or no longer. Check the address.")
        self._asked("read", lambda fs, path: fs.get_file(path, str(target)))
        if self.stat() != before or target.stat().st_size != before.size:
            raise StorageError(f"{self} was changed while it was read. Leave it alone and run again.")

    def put(self, source: Path) -> None:
        """Copy a file from this machine; it appears whole, replacing an older one.

        Raises:
            StorageError: it cannot be written.
        """
        self._placed(lambda fs, path: fs.put_file(str(source), path))

    def remove(self) -> None:
        """Remove a file, if it is there.

        Raises:
            StorageError: it cannot be removed.
        """
        try:
            self._asked("removed", lambda fs, path: fs.rm_file(path))
        except _AbsentError:
            return

    def _placed(self, write: Callable[[Any, str], object]) -> None:
        if self.scheme in _WHOLE:
            self._asked("written", write)
            return
        folder, _, name = self._opened()[1].rpartition("/")
        # Of a long name the beginning: what is longer than a file system takes is refused for its own sake.
        other = f"{folder}/.{name[:100]}.{uuid.uuid4().hex[:12]}.partial"

        def renamed(fs: Any, path: str) -> None:
            fs.makedirs(folder, exist_ok=True)
            try:
                write(fs, other)
                fs.mv(other, path)
            except BaseException:
                if fs.exists(other):
                    fs.rm_file(other)
                raise

        self._asked("written", renamed)

    def _asked(self, doing: str, ask: Callable[[Any, str], T]) -> T:
        """What the store answers, if need be when it is asked again."""
        fs, path = self._opened()
        end, pause = time.monotonic() + self.patience, 0.2
        while True:
            try:
                return ask(fs, path)
            except FileNotFoundError as error:
                raise _AbsentError(str(explained(error, str(self), doing))) from error
            except StorageError:
                raise
            except Exception as error:
                if not is_passing(error) or time.monotonic() + pause > end:
                    raise explained(error, str(self), doing) from error
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def _opened(self) -> tuple[Any, str]:
        """The file system, and the path in it."""
        import fsspec

        try:
            # What others write is to be seen.
            fs, path = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            extra = _EXTRAS.get(self.scheme)
            how = f'pip install "deidlib[{extra}]"' if extra else str(error)
            raise StorageError(f"{self}: the client of {self.scheme}:// is not installed. {how}") from None
        except ValueError as error:
            raise StorageError(
                f"{self}: nobody knows the store {self.scheme}:// ({error}). Known are s3://, gs://, file://, paths, "
                "and what fsspec knows."
            ) from None
        except Exception as error:
            raise explained(error, str(self), "opened") from error
        return fs, str(path).rstrip("/") or "/"

    @staticmethod
    def _fresh(fs: Any) -> dict[str, Any]:
        return {"refresh": True} if "s3" in fs.protocol else {}


class _AbsentError(StorageError):
    """There is none."""


def _stat(known: Mapping[str, Any]) -> Stat:
    return Stat(
        int(known.get("size") or 0),
        tuple(f"{name}={known[name]}" for name in _TIMES if known.get(name) is not None),
        tuple(f"{name}={known[name]}" for name in _CONTENT if known.get(name) is not None),
    )
