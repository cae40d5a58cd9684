"""What is listed comes as it is asked for, and a million names take the memory of a page."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from deidlib.protect.outcome import RunSummary
from deidlib.protect.remote_pairs import remote_pairs
from deidlib.storage.listing import listing
from deidlib.storage.place import Place


class S3:
    """What a store with so many objects answers, page by page."""

    protocol = ("s3", "s3a")

    def __init__(self, count: int) -> None:
        self.count, self.pages = count, 0

    def info(self, path: str, **settings: Any) -> dict[str, Any]:
        raise FileNotFoundError(path)

    def call_s3(self, method: str, *, Bucket: str, Prefix: str, MaxKeys: int, ContinuationToken: str = "0") -> Any:
        assert (method, Bucket, Prefix) == ("list_objects_v2", "bucket", "clips/")
        self.pages += 1
        first = int(ContinuationToken)
        last = min(first + MaxKeys, self.count)
        rows = [{"Key": f"clips/d{k // 10_000:04d}/clip-{k:08d}.mp4", "Size": k} for k in range(first, last)]
        return {"Contents": rows, "IsTruncated": last < self.count, "NextContinuationToken": str(last)}


class GCS(S3):
    protocol = ("gs", "gcs")

    def call(
        self, how: str, what: str, bucket: str, *, prefix: str, maxResults: int, json_out: bool, **more: str
    ) -> Any:
        assert (how, what, bucket, prefix, json_out) == ("GET", "b/{}/o", "bucket", "clips/", True)
        page = self.call_s3(
            "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=maxResults,
            ContinuationToken=more.get("pageToken", "0"),
        )  # fmt: skip
        rows = {"items": [{"name": row["Key"], "size": str(row["Size"])} for row in page["Contents"]]}
        return rows | ({"nextPageToken": page["NextContinuationToken"]} if page["IsTruncated"] else {})


@pytest.mark.parametrize("store", [S3, GCS])
def test_pages_follow_each_other(store: type[S3]) -> None:
    fs = store(2500)
    names = list(listing(fs, "bucket/clips", lambda ask: ask()))
    assert [listed.size for listed in names] == list(range(2500))
    assert names[1234].name == "d0000/clip-00001234.mp4"
    assert fs.pages == 3


def test_nothing_is_listed_before_it_is_asked_for() -> None:
    fs = S3(1_000_000)
    rows = listing(fs, "bucket/clips", lambda ask: ask())
    next(rows)
    assert fs.pages == 1


@pytest.mark.slow
def test_a_million_objects_take_the_memory_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a run does with them but the work."""
    fs = S3(1_000_000)
    monkeypatch.setattr(Place, "_opened", lambda self: (fs, self.url.removeprefix("s3://")))
    summary, resident = RunSummary(), []
    for number, _ in enumerate(remote_pairs(Place("s3://bucket/clips"), Place("s3://bucket/out"), "ffv1", summary)):
        if number % 100_000 == 99_999:
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert len(resident) == 10
    assert resident[-1] - resident[0] < 4 << 20


def test_a_page_is_forgotten_when_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = S3(12_000)
    monkeypatch.setattr(Place, "_opened", lambda self: (fs, self.url.removeprefix("s3://")))
    pairs = remote_pairs(Place("s3://bucket/clips"), Place("s3://bucket/out"), "ffv1", RunSummary())
    tracemalloc.start()
    held = [tracemalloc.get_traced_memory()[0] for number, _ in enumerate(pairs) if number % 1000 == 500]
    tracemalloc.stop()
    assert len(held) == 12
    assert max(held[1:]) < 1.1 * min(held[1:])


def test_other_stores_are_listed_folder_by_folder(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/z.mp4", "a/b/c.mp4", "c/d.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "b.mp4")
    names = [listed.name for listed in Place(str(tmp_path)).files()]
    assert names == ["b.mp4", "link.mp4", "a/z.mp4", "a/b/c.mp4", "c/d.mp4"]
