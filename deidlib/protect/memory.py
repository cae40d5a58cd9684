"""How much may be worked on at a time: ``frames_that_fit``, ``chains_that_fit``; and what to do about too much."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

# Bytes per pixel of a frame, measured on 6 and 12 megapixels with MTCNN (tests/protect/test_memory.py): to find
# and hide faces, and to attack them besides; with what is loaded for it on the way.
_HIDING, _ATTACK = 200, 450
# The share of what is free that may be filled with frames that wait.
_WAITING = 0.25


def frames_that_fit(size: tuple[int, int], wanted: int, device: torch.device, *, attacked: bool, name: object) -> int:
    """How many frames may be worked on at a time.

    Args:
        size: (height, width) in pixels.
        wanted: at most so many.
        device: where the models are.
        attacked: whether the frames are attacked, or only hidden.
        name: of the clip, for messages.

    Raises:
        ValueError: there is not enough memory for a single frame; the message says what would fit.

    Example:
        >>> frames_that_fit((480, 640), 8, torch.device("cpu"), attacked=True, name="a.mkv")
        8
    """
    free = available(device)
    each = (_ATTACK if attacked else _HIDING) * size[0] * size[1]
    if free is None or free >= each * wanted:
        return wanted
    if free >= each:
        return int(free // each)
    shrink = math.sqrt(free / each)
    height, width = (max(1, int(side * shrink) // 100 * 100) for side in size)
    alone = f", or hide only (--hide-only), for which {_gb(_HIDING * size[0] * size[1])} are enough" if attacked else ""
    raise ValueError(
        f"{name} has {size[1]}x{size[0]} pixels, for which about {_gb(each)} of memory are needed, and {_gb(free)} are "
        f"free. Scale it down to {width}x{height} or less, work where there is more{alone}."
    )


def chains_that_fit(size: tuple[int, int], wanted: int, length: int, device: torch.device) -> int:
    """How many chains may be attacked side by side: their frames wait in 8 bits, and as many before them.

    Args:
        size: (height, width) in pixels.
        wanted: at most so many.
        length: frames in each.
        device: where they wait.

    Example:
        >>> chains_that_fit((480, 640), 4, 8, torch.device("cpu"))
        4
    """
    free = available(device)
    each = 2 * 3 * length * size[0] * size[1]
    return wanted if free is None else max(1, min(wanted, int(free * _WAITING // each)))


def give_back() -> None:
    """Let the C library give back to the system what was freed.

    It keeps that, thread by thread, for whoever asks next: hundreds of megabytes after some hundred frames, and more
    the longer a clip is, though what is in use stays the same. Where it is not glibc, nothing is done.
    """
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    # Musl, macOS and Windows have none, and Windows no library of this process.
    with contextlib.suppress(OSError, TypeError, AttributeError):
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return trim
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory: of an accelerator, of torch on the CPU, or of Python.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    # torch has no class of its own for these.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT)


_OUT = ("not enough memory", "can't allocate memory", "out of memory")


def free_memory(device: torch.device) -> None:
    """Give back what is held of a device's memory without being used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def available(device: torch.device) -> int | None:
    """Bytes that are free for us there; None if nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [free for free in (_of_system(), _of_group()) if free is not None]
    return min(known) if known else None


def _of_system() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(AttributeError, OSError, ValueError):
        # Elsewhere only what there is altogether is known.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_group() -> int | None:
    """What is left of the limit of a container."""
    place = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        limit, used = ((place / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        cache = (line for line in (place / "memory.stat").read_text().splitlines() if line.startswith("inactive_file "))
        # Files that are kept in memory give way.
        return int(limit) - int(used) + int(next(cache).split()[1])
    return None


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
