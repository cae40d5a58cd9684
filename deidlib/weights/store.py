"""Checkpoints: where each comes from, what it must hash to, what its net expects, and how to get it.

A checkpoint is looked for in this order: the path that the caller gives, the folder named by
``DEIDLIB_WEIGHTS``, the cache (``DEIDLIB_CACHE``, or the system's cache folder), and last its published
address. Nothing is loaded whose hash is not the one on record.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deidlib.weights.table import CHECKPOINTS, Checkpoint, by_name, checkpoint

_log = logging.getLogger(__name__)
_FOLDER_VARIABLE = "DEIDLIB_WEIGHTS"
_CACHE_VARIABLE = "DEIDLIB_CACHE"
_SUFFIXES = (".pth", ".pt", ".tar", ".zip", ".onnx", ".tflite", ".ckpt", ".bin", ".safetensors")


class WeightsNotFound(FileNotFoundError):
    """A checkpoint is in none of the folders and could not be downloaded."""


class CorruptWeights(ValueError):
    """A file is not the checkpoint that it should be, or no checkpoint at all."""


@dataclass(frozen=True)
class Status:
    """What is known about a checkpoint on this machine.

    Args:
        checkpoint: which.
        path: where it was found, ``None`` if nowhere.
        state: ``"missing"``; ``"verified"``: its hash is the published one; ``"recorded"``: no hash is
            published, and it is the file that was first downloaded; ``"unknown"``: no hash is published or
            recorded; ``"mismatch"``: it is another file, and would be refused.
    """

    checkpoint: Checkpoint
    path: Path | None
    state: Literal["missing", "verified", "recorded", "unknown", "mismatch"]


def find(name_or_path: str | Path) -> Path:
    """The file of a checkpoint, downloaded if it is nowhere on this machine, with its hash verified.

    Args:
        name_or_path: a name of :data:`CHECKPOINTS`, or the path of a file, which is taken as it is.

    Raises:
        ValueError: neither a known name nor a path.
        WeightsNotFound: no such file; or no network, and then the message says what to put where.
        CorruptWeights: the file is not the published one. In the cache it is removed, elsewhere left alone.
    """
    wanted = by_name(name_or_path) if isinstance(name_or_path, str) else None
    if wanted is None:
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
        if isinstance(name_or_path, str) and path.name == name_or_path and path.suffix not in _SUFFIXES:
            checkpoint(name_or_path)
        raise WeightsNotFound(
            f"no weights file at {str(name_or_path)!r}. Give an existing file or one of: {', '.join(CHECKPOINTS)}."
        )
    path = locate(wanted.name) or _fetch(wanted)
    state = _state(wanted, path)
    if state == "mismatch":
        raise CorruptWeights(_refuse(wanted, path))
    if state == "unknown" and path.parent == cache_folder():
        # Nobody publishes a hash: later readers at least get what the first one got.
        with contextlib.suppress(OSError):  # a cache that is shared and read-only
            _record_of(path).write_text(f"{_digests(path).sha256}  {path.name}\n")
    _log.info("%s: %s, %s", wanted.name, path, state)
    return path


def locate(name: str) -> Path | None:
    """Where a checkpoint is on this machine, ``None`` if it is not; nothing is downloaded or verified.

    It may lie in the folder of weights, in a folder within that, or in the cache.

    Raises:
        ValueError: unknown name.
        WeightsNotFound: ``DEIDLIB_WEIGHTS`` names no folder.
    """
    file = checkpoint(name).file
    own = weights_folder()
    for path in (*((own / file, *sorted(own.glob(f"*/{file}"))) if own else ()), cache_folder() / file):
        if path.is_file():
            return path
    return None


def weights_folder() -> Path | None:
    """The user's own folder of weights, from ``DEIDLIB_WEIGHTS``; ``None`` if not set.

    Raises:
        WeightsNotFound: the variable names no folder.
    """
    value = os.environ.get(_FOLDER_VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise WeightsNotFound(f"{_FOLDER_VARIABLE} is {value!r}, which is no folder. Correct or unset the variable.")
    return folder


def cache_folder() -> Path:
    """Where downloads are kept: ``DEIDLIB_CACHE``, or ``deidlib`` in the system's cache folder."""
    value = os.environ.get(_CACHE_VARIABLE)
    if value:
        return Path(value).expanduser()
    import pooch

    return Path(pooch.os_cache("deidlib"))


def status(name: str) -> Status:
    """Where a checkpoint is and whether it is the published one; nothing is downloaded or removed.

    Raises:
        ValueError: unknown name.
    """
    wanted, path = checkpoint(name), locate(name)
    return Status(wanted, path, "missing" if path is None else _state(wanted, path))


def checkpoint_of(path: str | Path) -> Checkpoint | None:
    """Which known checkpoint a file is, by its hash, whatever its name; ``None`` if it is none.

    A file that no hash is published for is known by its name and the hash recorded at its download.

    Raises:
        WeightsNotFound: no such file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsNotFound(f"no weights file at {str(path)!r}.")
    for known in CHECKPOINTS.values():
        state = _state(known, path)
        if state == "verified" or (state == "recorded" and path.name == known.file):
            return known
    return None


# --- hashes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Digests:
    sha256: str
    git_blob: str
    member_sha256: str | None  # of the one file in a zip archive


def _digests(path: Path) -> _Digests:
    stat = path.stat()
    return _digests_once(str(path.resolve()), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=256)
def _digests_once(path: str, mtime: int, size: int) -> _Digests:
    """Hashes of a file, computed once per process for as long as time stamp and size stay the same."""
    sha256, git_blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            git_blob.update(block)
    member = single_member(Path(path))
    if member is None:
        return _Digests(sha256.hexdigest(), git_blob.hexdigest(), None)
    inner = hashlib.sha256()
    with zipfile.ZipFile(path) as archive, archive.open(member) as content:
        while block := content.read(1 << 20):
            inner.update(block)
    return _Digests(sha256.hexdigest(), git_blob.hexdigest(), inner.hexdigest())


def _state(wanted: Checkpoint, path: Path) -> Literal["verified", "recorded", "unknown", "mismatch"]:
    digests = _digests(path)
    if wanted.pinned:
        fits = (
            (wanted.sha256 is None or digests.sha256 == wanted.sha256)
            and (wanted.git_blob is None or digests.git_blob == wanted.git_blob)
            and (
                wanted.sha256_prefix is None
                or digests.sha256.startswith(wanted.sha256_prefix)
                or (digests.member_sha256 or "").startswith(wanted.sha256_prefix)
            )
        )
        return "verified" if fits else "mismatch"
    record = _record_of(path)
    if not record.is_file():
        return "unknown"
    return "recorded" if record.read_text().split()[:1] == [digests.sha256] else "mismatch"


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _refuse(wanted: Checkpoint, path: Path) -> str:
    """Remove a wrong file if it is ours to remove, and say what happened."""
    digests = _digests(path)
    if wanted.sha256:
        expected, got = f"sha256 {wanted.sha256}", digests.sha256
    elif wanted.git_blob:
        expected, got = f"git blob {wanted.git_blob}", digests.git_blob
    elif wanted.sha256_prefix:
        expected, got = f"sha256 beginning with {wanted.sha256_prefix}", digests.sha256
    else:
        recorded = _record_of(path).read_text().split()[:1]
        expected, got = f"sha256 {' '.join(recorded)} as first downloaded", digests.sha256
    message = f"{path} is not {wanted.name}: expected {expected}, got {got}."
    if path.parent == cache_folder():
        path.unlink(missing_ok=True)
        return f"{message} The file was corrupt or has been replaced; it was removed: try again to download it."
    return f"{message} Replace the file, or remove it to have it downloaded from {wanted.url or wanted.origin}."


def single_member(path: Path) -> zipfile.ZipInfo | None:
    """The one file in a zip archive. PyTorch's own format is a zip as well, but of many files."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
    return files[0] if len(files) == 1 else None


# --- download ---------------------------------------------------------------------------------------------


def _fetch(wanted: Checkpoint) -> Path:
    """Download into the cache; the caller verifies."""
    cache = cache_folder()
    cause: Exception | None = None
    if wanted.url is not None:
        _log.info("%s: downloading %s", wanted.name, wanted.url)
        try:
            _download(wanted.url, cache / wanted.file)
            return cache / wanted.file
        except (OSError, ValueError) as error:  # requests' exceptions are OSErrors
            cause = error
    tried = f"could not be downloaded ({cause})" if cause else "cannot be downloaded by a program"
    raise WeightsNotFound(
        f"the weights {wanted.name} ({wanted.file}) are not on this machine and {tried}. "
        f"Get the file from {wanted.url or wanted.origin} and put it, under that name, into "
        f"{weights_folder() or cache}, or into a folder that the environment variable {_FOLDER_VARIABLE} names."
    ) from cause


def _download(url: str, path: Path) -> None:
    """Download with a progress bar and retries; ``path`` appears only when complete."""
    import pooch

    registry = pooch.create(
        path.parent, base_url="", registry={path.name: None}, urls={path.name: url}, retry_if_failed=2
    )
    registry.fetch(path.name, downloader=pooch.HTTPDownloader(progressbar=True))
