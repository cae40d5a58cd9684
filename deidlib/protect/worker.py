"""``serve``: what a worker does in its process, until its pipe is closed."""

from __future__ import annotations

import contextlib
import functools
import logging
import logging.handlers
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, cast

import torch

from deidlib.media.threads import limit_threads
from deidlib.protect.parcel import pickled, unpack_on

# Of what is sent: threads write to the log while another one tells how the work goes.
_ONE_AT_A_TIME = threading.Lock()


def serve(pipe: Connection, place: str, threads: int, level: int) -> None:
    """Do what comes through a pipe until it is closed.

    Args:
        pipe: for what is to be done, and for what is said of it.
        place: the device where models and frames are put.
        threads: for PyTorch, and for each file that FFmpeg reads or writes.
        level: of the log: what is below it is not said.
    """
    # Who started us hears it, too, and says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end = _End()
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    torch.set_num_threads(threads)
    limit_threads(threads)
    unpack_on(torch.device(place))
    logger = logging.getLogger("deidlib")
    logger.handlers, logger.propagate = [_ToPipe(cast(Any, pipe))], False
    logger.setLevel(level)
    try:
        task = pickle.loads(pipe.recv_bytes())
    except EOFError:
        return
    except Exception as error:  # what raises in the modules that it names is any of Python's errors
        _say(pipe, "unfit", f"what they are to do does not arrive: {type(error).__name__}: {error}")
        return
    # By the end of the pipe, or a broken one, it is known that nobody is there any more.
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        _say(pipe, "ready", None)
        while True:
            order = pickle.loads(pipe.recv_bytes())
            with end.as_interrupt():
                try:
                    answer = "done", task(order, functools.partial(_tell, pipe))
                except Exception as error:
                    answer = "failed", _sendable(error)
            _say(pipe, *answer)


class _ToPipe(logging.handlers.QueueHandler):
    """Records of the log go where this process was started, and are handled there, whoever handles them."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record, which is text by now."""
        # Nobody is there any more: the work will hear of that itself.
        with contextlib.suppress(OSError):
            _say(cast(Any, self.queue), "log", record)


class _End:
    """What a signal to end does: it interrupts what is being done, once; or ends what does nothing."""

    def __init__(self) -> None:
        self._at_work = self._ending = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._at_work:
            self._at_work, self._ending = False, True
            raise KeyboardInterrupt
        if not self._ending:
            os._exit(128 + number)

    @contextlib.contextmanager
    def as_interrupt(self) -> Iterator[None]:
        """Within it, something is being done."""
        self._at_work = True
        try:
            yield
        finally:
            self._at_work = False


def _tell(pipe: Connection, word: Any) -> None:
    try:
        _say(pipe, "told", word)
    except OSError:
        # No error of what is being done: it has nobody left to be done for.
        raise KeyboardInterrupt from None


def _say(pipe: Connection, kind: str, word: Any) -> None:
    content = pickled((kind, word))
    with _ONE_AT_A_TIME:
        pipe.send_bytes(content)


def _sendable(error: Exception) -> Exception:
    """The same error, or one of the same words that arrives."""
    with contextlib.suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    return RuntimeError(f"{type(error).__name__}: {error}")
