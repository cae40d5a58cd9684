"""``limit_threads``: how many threads FFmpeg may take for each file, in a process that is one of several."""

from __future__ import annotations

from typing import Any

_most = 0


def limit_threads(most: int) -> None:
    """From now on FFmpeg takes at most so many threads in this process, for each file that it reads or writes.

    By default it takes one for every core. Of as many processes as there are cores each would do so.

    Args:
        most: threads; 0: as it likes.

    Raises:
        ValueError: less than 0.
    """
    global _most
    if most < 0:
        raise ValueError(f"FFmpeg takes at least 1 thread, or 0 for as many as it likes, got {most}.")
    _most = most


def set_threads(context: Any, wanted: int = 0) -> None:
    """Tell a decoder or encoder, before it is opened, how many threads it has.

    Args:
        context: PyAV's ``CodecContext``.
        wanted: so many in any case, where what it writes hangs on it; 0: as many as there may be.
    """
    if wanted or _most:
        context.thread_count = wanted or _most
