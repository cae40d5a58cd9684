"""Videos protected in processes of their own, which may be killed, stopped, starved and stripped of their rights.

One server imports everything once and forks for every order; it computes nothing itself, so that its children begin
without any threads. ``Forks`` is how tests talk to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class End:
    """How a child ended.

    Args:
        signal: the signal that killed it, 0 if it ended by itself.
        error: the name of the exception's class and those it derives from; empty if all went well.
        message: of the exception.
        read: frames that a strict ``VideoReader`` gave, or None where it raised a ``MediaError``.
        summary: the counts of ``Summary``.
        seconds: what protecting took.
    """

    signal: int
    error: tuple[str, ...] = ()
    message: str = ""
    read: int | None = None
    summary: dict[str, int] | None = None
    seconds: float = 0.0


class Forks:
    """The server's client."""

    def __init__(self) -> None:
        # The library that the tests have, wherever another one may be installed.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Without input it ends.
        self._server.communicate()

    def start(
        self,
        source: Path,
        target: Path,
        *,
        toy: bool = False,
        read: bool = False,
        segment: int = 4,
        file_limit: int | None = None,
        powerless: bool = False,
        kill: tuple[str, int] | None = None,
        form: str = "file",
        **video: Any,
    ) -> int:
        """Begin to protect a video, and return the process.

        Args:
            source: the video, or a folder of them.
            target: the output.
            toy: a detector that finds a face in the middle of every frame, instead of MTCNN.
            read: read the source before.
            segment: frames in a segment, about.
            file_limit: bytes that no file may exceed.
            powerless: root has no more rights than others.
            kill: a step, ``"mux"``, ``"rename"``, ``"describe"``, ``"repair"``, ``"publish"``, ``"note"`` (in a
                folder's manifest) or ``"clear"``, and which time that it is taken the process is killed.
            form: what the source is: a ``"file"``, a ``"folder"``, or a ``"recording"``, which comes once through
                stdin, and whose nonce is here the same every time, so that two may be compared.
            **video: of ``protect_video``; ``repairs`` of its check, ``codec`` of its output, ``keyed`` for a key.
        """
        order = {"source": str(source), "target": str(target), "toy": toy, "read": read, "segment": segment}
        order |= {"file_limit": file_limit, "powerless": powerless, "kill": kill, "form": form, "video": video}
        return int(self._ask(order))

    def wait(self, process: int) -> End:
        """Wait for the end of a process."""
        end: dict[str, Any] = self._ask({"wait": process})
        end["error"] = tuple(end.get("error", ()))
        return End(**end)

    def protect(self, source: Path, target: Path, **order: Any) -> End:
        """Protect a video, and wait."""
        return self.wait(self.start(source, target, **order))

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


# The server


def serve() -> None:
    """Do what stdin says until it ends."""
    import av
    import facenet_pytorch
    import scipy.optimize
    import torch
    import toys

    import deidlib.metrics.reading_difference
    import deidlib.models.mtcnn
    import deidlib.protect.deidentifier
    import deidlib.protect.folder
    import deidlib.protect.live

    # All of it, also what the library imports where it is used, so that no child has to: it would take two seconds.
    assert all((av, facenet_pytorch, scipy.optimize, toys, deidlib.metrics, deidlib.models.mtcnn))
    assert all((deidlib.protect.deidentifier, deidlib.protect.live))
    torch.set_num_threads(1)
    # What a killed process has handed to the system stays; only a machine without power would lose it, and a disk that
    # others use makes each of them wait.
    os.fsync = lambda fd: None
    pipes: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer: Any = _reaped(order["wait"], pipes.pop(order["wait"]))
        else:
            ours, theirs = os.pipe()
            answer = os.fork()
            if answer == 0:
                os.close(ours)
                _child(order, theirs)
            os.close(theirs)
            pipes[answer] = ours
        print(json.dumps(answer), flush=True)


def _reaped(process: int, pipe: int) -> dict[str, Any]:
    with os.fdopen(pipe) as file:
        text = file.read()
    _, status = os.waitpid(process, 0)
    said = json.loads(text) if text else {}
    return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, **said}


def _child(order: dict[str, Any], pipe: int) -> None:
    """Obey, say how it went, and end without any clean-up that belongs to the server."""
    # Whatever hangs is killed, and the test sees by what.
    signal.alarm(60)
    try:
        said: dict[str, Any] = _obey(order)
    except BaseException as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        said = {"error": kinds, "message": str(error)}
    with contextlib.suppress(OSError):
        os.write(pipe, json.dumps(said).encode())
    os._exit(0)


def _obey(order: dict[str, Any]) -> dict[str, Any]:
    from toys import Pixels, White

    from deidlib.attack.attacker import IFGSMAttacker
    from deidlib.keys.key import Key
    from deidlib.media import MediaError, VideoReader
    from deidlib.models.mtcnn import MTCNN
    from deidlib.protect import deidentifier, keyed
    from deidlib.protect.check import Check
    from deidlib.protect.deidentifier import Deidentifier
    from deidlib.protect.folder import protect_folder
    from deidlib.protect.output import Output
    from deidlib.protect.video import protect_video

    if order["powerless"]:
        _drop_capabilities()
    if order["file_limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"], order["file_limit"]))
    deidentifier._PART = order["segment"]
    read = None
    if order["read"]:
        with contextlib.suppress(MediaError), VideoReader(order["source"]) as reader:
            read = sum(len(batch.images) for batch in reader.batches(4))
    detectors = [Pixels()] if order["toy"] else [MTCNN()]
    # Nothing is read in protected frames, so that all of them are attacked again.
    blind = White(lambda image, number: [], original=Pixels())
    protector = Deidentifier(IFGSMAttacker([blind], max_iterations=1), detectors=detectors)
    began = time.monotonic()
    try:
        video = order["video"]
        if order["kill"] is not None:
            _kill_at(*order["kill"])
        if "codec" in video:
            video["output"] = Output(video.pop("codec"))
        if video.pop("keyed", False):
            video["key"] = Key(bytes(range(32)))
        check = Check(repairs=video.pop("repairs")) if "repairs" in video else Check()
        if order["form"] == "folder":
            whole = protect_folder(protector, order["source"], order["target"], check=check, **video)
            assert whole.failed == []
            return {"read": read, "summary": {"files": len(whole.files), "finished_before": whole.finished_before}}
        source = order["source"]
        if order["form"] == "recording":
            os.dup2(os.open(source, os.O_RDONLY), 0)
            setattr(keyed, "new_nonce", lambda: "00" * 16)  # noqa: B010
            source = "-"
        summary = protect_video(protector, source, order["target"], check=check, **video)
    except BaseException as error:
        return {"read": read, "error": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}
    counts = {name: value for name, value in vars(summary).items() if isinstance(value, int)}
    return {"read": read, "summary": counts, "seconds": time.monotonic() - began}


def _kill_at(step: str, time: int) -> None:
    """Let the process be killed at once when it begins a step for the nth time."""
    from deidlib.media import sinks
    from deidlib.protect import clip, deidentifier, manifest, sidecar

    places: dict[str, tuple[Any, str]] = {
        "mux": (sinks.FileSink, "finish"),
        "rename": (os, "replace"),
        "describe": (sidecar.Sidecar, "write"),
        "repair": (deidentifier.Deidentifier, "repair"),
        "publish": (clip, "publish"),
        "note": (manifest.Manifest, "add"),
        "clear": (shutil, "rmtree"),
    }
    owner, name = places[step]
    known, count = getattr(owner, name), 0

    def counted(*arguments: Any, **settings: Any) -> Any:
        nonlocal count
        count += 1
        if count == time:
            os.kill(os.getpid(), signal.SIGKILL)
        return known(*arguments, **settings)

    setattr(owner, name, counted)


def _drop_capabilities() -> None:
    """Root without the right to pass over permissions (Linux)."""
    if os.geteuid() != 0:
        return
    # Version 3 of the interface, this process; no capability effective, permitted or inheritable.
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    serve()
