"""``deidlib doctor``."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import typer

from deidlib.cli.voice import say

Verdict = Literal["ok", "without", "broken"]

# What the library stands on; who asks for help is asked for these first.
_LIBRARIES = ("deidlib", "torch", "torchvision", "kornia", "numpy", "av", "opencv-python", "facenet-pytorch")
# What is installed by an extra, what it is for, and how it is had.
_EXTRAS = (
    ("onnxruntime", "ONNX models that read (yunet, pfld, mobilefacenet)", 'pip install "deidlib[onnx]"'),
    ("gradio", "the page in the browser: deidlib app", 'pip install "deidlib[app]"'),
    ("pillow_heif", "HEIC and HEIF images, as phones make them", 'pip install "deidlib[heif]"'),
)
_CODECS = (
    ("ffv1", "--codec ffv1, the default"),
    ("libx264", "--codec h264 and h264-lossless"),
    ("mjpeg", "--codec mjpeg"),
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Args:
        topic: what was looked at.
        verdict: ``ok``; ``without``: something optional is not there; ``broken``: the main job cannot run.
        seen: what is there.
        advice: what to do about it; nothing to do where it is empty.
    """

    topic: str
    verdict: Verdict
    seen: str
    advice: str = ""


def doctor() -> None:
    """Say what works on this machine, what does not, and what to do. Exit code 1: the main job cannot run."""
    findings = list(examine())
    for finding in findings:
        say(f"{finding.verdict:<9}{finding.topic:<17}{finding.seen}", hang=26)
        if finding.advice:
            say(f"{'':<26}{finding.advice}", hang=26)
    broken = [finding.topic for finding in findings if finding.verdict == "broken"]
    typer.echo(f"cannot run: {', '.join(broken)}" if broken else "the main job can run: deidlib demo")
    if broken:
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """What :func:`doctor` prints, in its order."""
    yield Finding("python", "ok", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield from _libraries()
    yield from _devices()
    yield from _codecs()
    yield from _weights()
    yield from _folders()


def _libraries() -> Iterator[Finding]:
    for name in _LIBRARIES:
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            # OpenCV comes under several names.
            if name == "opencv-python" and find_spec("cv2") is not None:
                yield Finding(name, "ok", "cv2 is there, from another package")
            else:
                yield Finding(name, "broken", "not installed", "pip install deidlib")
    for name, use, command in _EXTRAS:
        if find_spec(name) is not None:
            yield Finding(name, "ok", metadata.version(name))
        else:
            yield Finding(name, "without", f"not installed: {use}", command)


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("cpu", "ok", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield Finding("gpu", "ok", f"cuda:{index}, {torch.cuda.get_device_name(index)}")
    elif torch.backends.mps.is_available():
        yield Finding("gpu", "ok", "mps")
    else:
        yield Finding("gpu", "without", "none that torch can use; all runs on the CPU")


def _codecs() -> Iterator[Finding]:
    import av

    for name, use in _CODECS:
        if name in av.codecs_available:
            yield Finding(name, "ok", use)
        else:
            verdict: Verdict = "broken" if name == "ffv1" else "without"
            yield Finding(name, verdict, f"av has no such encoder: no {use}", "pip install --force-reinstall av")


def _weights() -> Iterator[Finding]:
    from deidlib import weights

    states = {name: weights.status(name) for name in weights.CHECKPOINTS}
    here = [name for name, status in states.items() if status.state not in ("missing", "mismatch")]
    yield Finding("weights", "ok", "mtcnn, in the package facenet-pytorch")
    if here:
        yield Finding("weights", "ok", f"{len(here)} of {len(states)} checkpoints are here")
    if len(here) < len(states):
        yield Finding("weights", "without", f"{len(states) - len(here)} are not", "deidlib weights list, fetch NAME")
    for name, status in states.items():
        if status.state == "mismatch":
            yield Finding("weights", "without", f"{status.path} is another file than {name}", "delete it, fetch again")


def _folders() -> Iterator[Finding]:
    from deidlib import weights

    temporary = Path(tempfile.gettempdir())
    for topic, folder, needed in (
        ("here", Path.cwd(), False),
        ("temporary", temporary, True),
        ("cache", weights.cache_folder(), False),
    ):
        # A cache that is not there yet is made in the nearest folder that is.
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        if os.access(there, os.W_OK | os.X_OK):
            yield Finding(topic, "ok", f"can write to {folder}")
        else:
            verdict: Verdict = "broken" if needed else "without"
            yield Finding(topic, verdict, f"cannot write to {folder}", "choose another folder, or mend its rights")
