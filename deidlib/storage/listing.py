"""``listing``: the files below a folder of a store, as they come; millions of them take the memory of a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

Asked = Callable[[Callable[[], Any]], Any]
"""Asks a store, and asks again if need be."""
_PAGE = 1000


@dataclass(frozen=True)
class Listed:
    """A file that was listed.

    Args:
        name: its path below the folder.
        size: bytes.
    """

    name: str
    size: int


def listing(fs: Any, path: str, asked: Asked) -> Iterator[Listed]:
    """All files below a folder, in the order of their names, in stores that have pages; else folder by folder.

    Args:
        fs: a file system of fsspec.
        path: the folder.
        asked: asks the store.
    """
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    pages = next((page for name, page in _PAGED.items() if name in protocols), None)
    yield from _by_folder(fs, path, asked) if pages is None else pages(fs, path, asked)


def _s3(fs: Any, path: str, asked: Asked) -> Iterator[Listed]:
    bucket, _, prefix = path.partition("/")
    prefix, more = f"{prefix}/" if prefix else "", {"MaxKeys": _PAGE}
    while True:
        page = asked(partial(fs.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more))
        for row in page.get("Contents", ()):
            # What ends with a slash stands for a folder.
            if not row["Key"].endswith("/"):
                yield Listed(row["Key"][len(prefix) :], int(row["Size"]))
        if not page.get("IsTruncated"):
            return
        more = {"MaxKeys": _PAGE, "ContinuationToken": page["NextContinuationToken"]}


def _gcs(fs: Any, path: str, asked: Asked) -> Iterator[Listed]:
    bucket, _, prefix = path.partition("/")
    prefix, more = f"{prefix}/" if prefix else "", dict[str, str]()
    while True:
        page = asked(partial(fs.call, "GET", "b/{}/o", bucket, prefix=prefix, maxResults=_PAGE, json_out=True, **more))
        for row in page.get("items", ()):
            if not row["name"].endswith("/"):
                yield Listed(row["name"][len(prefix) :], int(row["size"]))
        if not page.get("nextPageToken"):
            return
        more = {"pageToken": page["nextPageToken"]}


def _by_folder(fs: Any, path: str, asked: Asked) -> Iterator[Listed]:
    """Others list a folder at once: memory grows with the largest."""
    root = fs._strip_protocol(path).rstrip("/")
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        rows = sorted(asked(partial(fs.ls, folder or "/", detail=True)), key=lambda row: str(row["name"]))
        folders = []
        for row in rows:
            name = str(row["name"]).rstrip("/")
            if row["type"] == "directory":
                folders.append(name)
            # Not links to folders, which would lead in circles.
            elif name != folder and (row["type"] == "file" or (row.get("islink") and fs.isfile(name))):
                yield Listed(name[len(root) + 1 :], int(row.get("size") or 0))
        waiting += reversed(folders)


_PAGED: dict[str, Callable[[Any, str, Asked], Iterator[Listed]]] = {"s3": _s3, "gs": _gcs}
