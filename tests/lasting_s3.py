"""A real S3 server that can be killed: a process of its own (moto's), whose objects outlive it as a store's do.

moto holds all in memory. Here, what a request has changed lies on the disk before it is answered, in one file that is
renamed into place, and the next life of the server begins with that. So a kill in the middle of a request leaves what
a store leaves: all of an object or nothing, and a client that does not know which.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, cast

When = Literal["before", "after"]
"""Of a request that changes something, it dies before that is on the disk, or after, and without an answer."""


class LastingServer:
    """The server, for whoever tests.

    Args:
        folder: for its state.
        again: told the number of a life that has ended, which request of the next life is to kill it, and when; None
            if it is to stay away.
    """

    def __init__(self, folder: Path, again: Callable[[int], tuple[int, When] | None]) -> None:
        self._again, self.lives = again, 0
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [sys.executable, __file__, str(self.port), str(folder / "state")]
        self._nursery = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._deaths = threading.Thread(target=self._wait, daemon=True)

    def __enter__(self) -> Self:
        self.live()
        self._deaths.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It ends with its input, and takes the server with it.
        cast(IO[str], self._nursery.stdin).close()
        self._nursery.wait()
        self._deaths.join()
        cast(IO[str], self._nursery.stdout).close()

    def live(self, dies: tuple[int, When] | None = None) -> None:
        """Begin a life, with what the one before has left.

        Args:
            dies: at which request that changes something, from 1, and when; None: at none.
        """
        known = cast(IO[str], self._nursery.stdin)
        known.write("live\n" if dies is None else f"live {dies[0]} {dies[1]}\n")
        known.flush()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the server does not come up")

    def kill(self) -> None:
        """Kill it now, whatever it is at, by the signal that nobody hears."""
        known = cast(IO[str], self._nursery.stdin)
        known.write("kill\n")
        known.flush()

    def _wait(self) -> None:
        for _ in cast(IO[str], self._nursery.stdout):
            self.lives += 1
            if (dies := self._again(self.lives)) is not None:
                self.live(dies if dies[0] else None)


# In the other process


def _nurse(port: int, state: Path) -> None:
    """Bring up a server for every line that says so, one after the other."""
    # Once for all of its lives: it takes seconds.
    from moto.server import DomainDispatcherApplication, create_backend_app

    app = DomainDispatcherApplication(create_backend_app)
    life: int | None = None
    for line in sys.stdin:
        word, *dies = line.split()
        if word == "kill" and life is not None:
            _kill(life)
            continue
        life = os.fork()
        if not life:
            _serve(app, port, state, (int(dies[0]), dies[1]) if dies else (0, ""))
        threading.Thread(target=_bury, args=(life,), daemon=True).start()
    if life is not None:
        _kill(life)


def _kill(life: int) -> None:
    # It may have died by itself.
    with contextlib.suppress(ProcessLookupError):
        os.kill(life, signal.SIGKILL)


def _bury(life: int) -> None:
    os.waitpid(life, 0)
    print("died", flush=True)


def _serve(app: Any, port: int, state: Path, dies: tuple[int, str]) -> None:
    import logging

    from moto.s3.models import s3_backends
    from werkzeug.serving import run_simple

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    backend = s3_backends["123456789012"]["aws"]
    if state.exists():
        backend.buckets.update(pickle.loads(state.read_bytes()))
    lock, changes = threading.Lock(), 0

    def lasting(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        nonlocal changes
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return cast(Iterable[bytes], app(environ, start))
        with lock:
            changes += 1
            answer = list(app(environ, start))
            if (changes, "before") == dies:
                os.kill(os.getpid(), signal.SIGKILL)
            state.with_suffix(".partial").write_bytes(pickle.dumps(dict(backend.buckets)))
            state.with_suffix(".partial").replace(state)
            if (changes, "after") == dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

    run_simple("127.0.0.1", port, lasting, threaded=True)


if __name__ == "__main__":
    _nurse(int(sys.argv[1]), Path(sys.argv[2]))
