"""Files by URL: each store says what is there, and a name never shows half of a file."""

from __future__ import annotations

import contextlib
import errno
import http.server
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3 import Wire, keys, s3_server

from deidlib.storage.errors import StorageError, explained, is_passing
from deidlib.storage.place import Place


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Any, Wire]]:
    with s3_server() as known:
        yield known


@pytest.fixture(params=["memory", "file", "path", pytest.param("s3", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        client, _ = request.getfixturevalue("server")
        bucket = f"bucket-{uuid.uuid4().hex[:8]}"
        client.create_bucket(Bucket=bucket)
        return Place(f"s3://{bucket}/clips", 5.0)
    urls = {"memory": f"memory:/{tmp_path}", "file": f"file://{tmp_path}/clips", "path": f"{tmp_path}/clips"}
    return Place(urls[request.param], 5.0)


def test_what_is_written_is_read_listed_and_removed(folder: Place, tmp_path: Path) -> None:
    assert (folder / "a.mp4").stat() is None
    assert (folder / "a.mp4").read(10) is None
    local = tmp_path / "local.bin"
    local.write_bytes(bytes(range(256)) * 40)
    (folder / "b/c d.mp4").put(local)
    (folder / "a.mp4").write(b"frames")
    assert sorted((listed.name, listed.size) for listed in folder.files()) == [("a.mp4", 6), ("b/c d.mp4", 10240)]
    assert (folder / "a.mp4").read(6) == b"frames"
    with pytest.raises(StorageError, match="longer than 5 bytes"):
        (folder / "a.mp4").read(5)
    (folder / "b/c d.mp4").fetch(tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == local.read_bytes()
    # A folder is no file.
    assert (folder / "b").stat() is None
    (folder / "a.mp4").remove()
    (folder / "a.mp4").remove()
    assert (folder / "a.mp4").stat() is None


def test_what_is_replaced_has_another_stat(folder: Place, tmp_path: Path) -> None:
    (folder / "a").write(b"one")
    before = (folder / "a").stat()
    assert before == (folder / "a").stat()
    (folder / "a").write(b"two!")
    after = (folder / "a").stat()
    assert before is not None
    assert after is not None
    assert before.content != after.content
    assert (folder / "a").read(9) == b"two!"


def test_what_cannot_be_written_leaves_the_old_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    place = Place(str(tmp_path / "out/a.mkv"), 0.5)
    place.write(b"whole")
    local = fsspec.get_filesystem_class("file")

    def half(self: Any, source: str, target: str, **settings: Any) -> None:
        Path(target).write_bytes(b"ha")
        raise OSError(errno.ENOSPC, "No space left on device", target)

    monkeypatch.setattr(local, "put_file", half)
    with pytest.raises(StorageError, match=r"is full\. Make space"):
        place.put(tmp_path / "out/a.mkv")
    assert place.read(10) == b"whole"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mkv"]


def test_a_file_that_changes_while_it_is_fetched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    place = Place(str(tmp_path / "a.mp4"))
    place.write(b"first")
    local = fsspec.get_filesystem_class("file")
    known = local.get_file

    def late(self: Any, path: str, target: str, **settings: Any) -> None:
        known(self, path, target, **settings)
        Path(path).write_bytes(b"other")

    monkeypatch.setattr(local, "get_file", late)
    with pytest.raises(StorageError, match="was changed while it was read"):
        place.fetch(tmp_path / "copy.mp4")


@pytest.mark.slow
def test_a_store_that_is_away_for_a_moment_is_asked_again(server: tuple[Any, Wire]) -> None:
    client, wire = server
    client.create_bucket(Bucket="away")
    place = Place("s3://away/a", 20.0)
    place.write(b"here")
    wire.cut()
    threading.Timer(1.0, wire.mend).start()
    assert place.read(10) == b"here"


@pytest.mark.slow
def test_a_store_that_stays_away_is_named(server: tuple[Any, Wire]) -> None:
    _, wire = server
    wire.cut()
    try:
        with pytest.raises(StorageError, match=r"^s3://away/a cannot be read: the store does not answer \(.*Run again"):
            Place("s3://away/a", 0.0).read(10)
    finally:
        wire.mend()


@pytest.mark.slow
@pytest.mark.parametrize("parts", [False, True])
def test_cut_anywhere_an_object_is_whole_or_not_there(
    server: tuple[Any, Wire], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: bool
) -> None:
    """Sent at once, or in three parts, as what is large."""
    client, wire = server
    bucket = f"parts-{parts}".lower()
    client.create_bucket(Bucket=bucket)
    size = 11 << 20 if parts else 30_000
    if parts:
        monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda size, chunksize=None: 5 << 20)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"o" * size)
    new.write_bytes(b"n" * size)
    place, outcomes = Place(f"s3://{bucket}/clip.mkv", 0.0), set()
    for share in (0.0, 0.2, 0.6, 0.99, 1.5):
        place.put(old)
        wire.cut_after(int(share * size))
        try:
            place.put(new)
            outcomes.add("put")
        except StorageError as error:
            outcomes.add("failed" if "does not answer" in str(error) else str(error))
        finally:
            if not wire.whole():
                wire.mend()
        held = keys(client, bucket)
        assert set(held) == {"clip.mkv"}
        assert held["clip.mkv"] in (b"o" * size, b"n" * size)
    assert outcomes == {"put", "failed"}


ADDRESSES = {
    "xyz://bucket/a": "nobody knows the store xyz://",
    "s3://": "names no place",
    "s3://no-such-bucket/clips": "is not there",
}


@pytest.mark.slow
@pytest.mark.parametrize("url", ADDRESSES)
def test_addresses_that_are_wrong_say_so_in_one_line(server: tuple[Any, Wire], url: str) -> None:
    with pytest.raises(StorageError, match=ADDRESSES[url]) as raised:
        list(Place(url, 0.0).files())
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(url.rstrip("/"))


@pytest.mark.slow
def test_no_credentials(server: tuple[Any, Wire], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with _fresh(), pytest.raises(StorageError, match=r"no credentials were found .* AWS_ACCESS_KEY_ID"):
        Place("s3://away/a", 0.0).read(10)


class _Refuses(http.server.BaseHTTPRequestHandler):
    """A bucket that others must not look into."""

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_HEAD = do_GET

    def log_message(self, *said: Any) -> None:
        pass


@pytest.mark.slow
def test_a_bucket_that_must_not_be_read(server: tuple[Any, Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses)
    threading.Thread(target=refusing.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{refusing.server_port}")
    with _fresh():
        with pytest.raises(StorageError, match=r"^s3://secret/clips may not be listed \(.*Ask for the right to"):
            list(Place("s3://secret/clips").files())
        with pytest.raises(StorageError, match=r"^s3://secret/a may not be read"):
            Place("s3://secret/a").read(10)
    refusing.shutdown()
    refusing.server_close()


@contextlib.contextmanager
def _fresh() -> Iterator[None]:
    """Clients that look at the environment anew."""
    import fsspec

    s3 = fsspec.get_filesystem_class("s3")
    s3.clear_instance_cache()
    try:
        yield
    finally:
        s3.clear_instance_cache()


def test_what_a_store_refuses_or_has_no_room_for() -> None:
    refused = explained(PermissionError("Access Denied"), "s3://b/x", "listed")
    assert str(refused).startswith("s3://b/x may not be listed (Access Denied)")
    full = explained(OSError(errno.ENOSPC, "No space left", "/tmp/scratch/clip.mp4"), "s3://b/x", "read")
    assert "/tmp/scratch/clip.mp4 is full" in str(full)
    assert "--scratch" in str(full)
    assert not is_passing(PermissionError())
    assert not is_passing(FileNotFoundError())
    assert not is_passing(OSError(errno.ENOSPC, ""))
    assert is_passing(ConnectionResetError())
    assert is_passing(OSError(errno.EBUSY, "SlowDown"))


def test_a_password_in_an_address_is_not_shown() -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads https:// by aiohttp")
    assert str(Place("https://me:secret@example.invalid/a")) == "https://example.invalid/a"
