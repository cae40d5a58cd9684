"""A real S3 server on this machine (moto's), behind a wire that can be cut."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest


class Wire:
    """Hands on what comes to a port, until it is cut: then all connections break, and no new one is made.

    Args:
        port: of the server.

    Attributes:
        sent: bytes that have gone to the server.
    """

    def __init__(self, port: int) -> None:
        self._server, self._lock = port, threading.Lock()
        self._ends: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._left: int | None = None
        self.port, self.sent = 0, 0
        self.mend()

    def cut_after(self, count: int) -> None:
        """Cut it by itself when so many bytes more have gone to the server."""
        self._left = count

    def cut(self) -> None:
        """Break it."""
        with self._lock:
            self._left = None
            listener, self._listener = self._listener, None
            ends, self._ends = self._ends, set()
        for end in (listener, *ends):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def whole(self) -> bool:
        """Stop counting, and say whether it is not cut."""
        with self._lock:
            self._left = None
            return self._listener is not None

    def mend(self) -> None:
        """Let it be reached again, at the same port."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                return
            with self._lock:
                self._ends |= {client, server}
            for one, other, counted in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._hand_on, args=(one, other, counted), daemon=True).start()

    def _hand_on(self, one: socket.socket, other: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 12):
                self.sent += len(data) if counted else 0
                if counted and self._left is not None:
                    self._left -= len(data)
                    if self._left < 0:
                        self.cut()
                        return
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def s3_server() -> Iterator[tuple[Any, Wire]]:
    """A client of boto3 that knows the server directly, and the wire that the environment's clients are led through."""
    pytest.importorskip("s3fs", reason='needs s3fs: pip install "deidlib[s3]"')
    server_module = pytest.importorskip("moto.server", reason='needs moto: pip install "moto[s3,server]"')
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    wire = Wire(port)
    try:
        with led_to(wire.port):
            yield boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}"), wire
    finally:
        wire.cut()
        server.stop()


@contextlib.contextmanager
def led_to(port: int) -> Iterator[None]:
    """Lead the clients of this process to a server."""
    import fsspec

    known = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        # A client of its own tries for a minute what ours tries for as long as it is told to.
        "AWS_MAX_ATTEMPTS": "1",
    }
    before = {name: os.environ.get(name) for name in known}
    os.environ.update(known)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        yield
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def keys(client: Any, bucket: str, below: str = "") -> dict[str, bytes]:
    """All objects of a bucket whose names begin so."""
    names = [row["Key"] for row in client.list_objects_v2(Bucket=bucket, Prefix=below).get("Contents", ())]
    return {name: client.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}
