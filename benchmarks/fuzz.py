"""Damaged and hostile files: ``python -m benchmarks.fuzz --minutes 10 --seed 0``.

Small valid files of every kind that is read are damaged at random, bytes as bytes and JSON as JSON, and given to the
function that reads them. It must do its work, or raise an error that the command line makes one line of, raised by
this library's own code; within seconds; and leave nothing that was not there but a result that is complete. Each case
is known by a number: ``--case KIND:NUMBER`` does one again and shows how it ends.

The cases run in a process of their own, so that one that hangs or ends the interpreter is a finding, too.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import Middle
from deidlib import cli
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.cli.config import settings_of
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.media import MediaError, VideoWriter, read_image
from deidlib.media.clip import Clip
from deidlib.media.images import image_size
from deidlib.protect import deidentifier as frames_of_a_clip
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier, NoFaceError
from deidlib.protect.folder import protect_folder
from deidlib.protect.folder_work import MANIFEST
from deidlib.protect.given import given_faces
from deidlib.protect.manifest import Manifest
from deidlib.protect.output import Output
from deidlib.protect.sidecar import Sidecar, opened
from deidlib.protect.video import protect_video
from deidlib.protect.work_folder import WorkFolder
from deidlib.records.detections import Detections, read_detections, write_detections
from deidlib.weights import WeightsNotFound, fill, load_state

SIDE, FRAMES = 32, 6
# Seconds of a processor that a case may take, a hundred times what the slowest takes; and of the clock, if it waits for
# something, on a machine that has much else to do.
PATIENCE, WAIT = 20.0, 240.0
# What `deidlib.cli.errors` makes one line of.
PLAIN = (MediaError, NoFaceError, WeightsNotFound, ValueError, OSError)
KEY = Key(bytes(range(32)))
Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and who reads them.

    Args:
        read: told a folder in which the damaged file lies.
        file: its place in there.
        valid: what it holds when it is sound.
        besides: other files that lie there, as they are.
        share: how often it is drawn.
        seals: whether its JSON is sealed anew when it has been damaged, as only a holder of the key could.
    """

    read: Reader
    file: str
    valid: bytes
    besides: Path | None = None
    share: int = 10
    seals: bool = False


@dataclass
class Tally:
    """How cases ended.

    Args:
        ends: by kind and end: ``"read"``, ``"refused"``, or what is wrong.
        findings: of each that is wrong, its name and what was seen.
    """

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[tuple[str, str]] = field(default_factory=list)


# Damage


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Bytes after one to eight accidents; text that is JSON mostly stays JSON."""
    with contextlib.suppress(ValueError):
        if content[:1] in b"{[" and draw.random() < 0.75:
            data = json.loads(content)
            for _ in range(draw.choice((1, 1, 1, 2, 5))):
                data = _changed(data, draw)
            return _text_of(data).encode(errors="surrogatepass")
    for _ in range(draw.choice((1, 1, 2, 8))):
        content = draw.choice(_ACCIDENTS)(content, draw)
    return content


def _flip(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return content
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def _flip_head(content: bytes, draw: random.Random) -> bytes:
    head = min(len(content), 256)
    return _flip(content[:head], draw) + content[head:]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _span(content: bytes, draw: random.Random) -> tuple[int, int]:
    first = draw.randrange(len(content) + 1)
    return first, min(len(content), first + draw.choice((1, 4, 16, 256, 4096)))


def _remove(content: bytes, draw: random.Random) -> bytes:
    first, last = _span(content, draw)
    return content[:first] + content[last:]


def _repeat(content: bytes, draw: random.Random) -> bytes:
    first, last = _span(content, draw)
    return content[:last] + content[first:last] * draw.choice((1, 2, 50)) + content[last:]


def _noise(content: bytes, draw: random.Random) -> bytes:
    first, last = _span(content, draw)
    return content[:first] + draw.randbytes(last - first) + content[last:]


def _number(content: bytes, draw: random.Random) -> bytes:
    """One of the numbers that programs forget, in the place of four bytes."""
    place = draw.randrange(len(content) + 1)
    value = draw.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    return content[:place] + value.to_bytes(4, draw.choice(("big", "little"))) + content[place + 4 :]


def _insert(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(_TEXTS) + content[place:]


_TEXTS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b'"', b"'", b",", b"[" * 30_000, b'"' + b'\\"' * 200_000, b"NaN",
    b"1e999", b"9" * 5000, b"-", b"1" * 400, b"{" * 50, b"=" * 100, b"\x1b[31m", "\u202e".encode(), b"a" * 200_000,
    b"[[x]]\n" * 99, b"ctorch\n" + b"a" * 200_000 + b"\n", b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R",
    b")" + b"\x85" * 300_000,
)  # fmt: skip
_ACCIDENTS = (_flip, _flip, _flip_head, _flip_head, _cut, _remove, _repeat, _noise, _number, _insert)


def _changed(data: Any, draw: random.Random) -> Any:
    """JSON with one place in it changed."""
    if isinstance(data, dict | list) and data and draw.random() < 0.85:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        key, copy = draw.choice(keys), data.copy()
        what = draw.random()
        if what < 0.7:
            copy[key] = _changed(data[key], draw)
        elif what < 0.85:
            del copy[key]
        elif isinstance(copy, dict):
            copy[draw.choice(("", "a", "\x00", "x" * 5000, str(key) * 2))] = data[key]
        else:
            copy.extend([data[key]] * draw.choice((1, 1, 300)))
        return copy
    return draw.choice(_VALUES)


_DEEP, _RAW_NUMBER = "@deep@", "@number@"
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e-320, 1e300, 2**31, 2**63, -(2**63), 2**64, 10**400, float("nan"),
    float("inf"), "", "a", "0", "1/0", "1e999999999", "\ud800", "\x00", "\x1b[2J", "../../etc/passwd", "x" * 100_000,
    "0" * 64, "é" * 64, [], {}, [[]], [None], [0] * 5, [{}], {"a": {}}, [[1, 2, 3, 4]], [[0, 0, 10**9, 10**9]],
    [[1e39, 0, 1, 1]], _DEEP, _RAW_NUMBER,
)  # fmt: skip


def _text_of(data: Any) -> str:
    said = json.dumps(data)
    deep = "[" * 3000 + "]" * 3000
    return said.replace(f'"{_DEEP}"', deep).replace(f'"{_RAW_NUMBER}"', "9" * 6000)


# What is read


def _protector() -> Deidentifier:
    return Deidentifier(IFGSMAttacker([Middle()], max_iterations=0))


def _frames() -> torch.Tensor:
    picture = torch.linspace(0, 1, SIDE).expand(3, SIDE, SIDE)
    return torch.stack([picture.roll(k, 2) for k in range(FRAMES)]).mul(255).round().div(255)


def kinds(place: Path) -> dict[str, Kind]:
    """The kinds, with their sound files made in a folder."""
    from PIL import Image, features

    found: dict[str, Kind] = {}
    (place / "made").mkdir(parents=True)
    frames = _frames()
    for name, codec in (("mkv", "ffv1"), ("mp4", "h264")):
        with VideoWriter(place / "made" / f"in.{name}", Fraction(25), (SIDE, SIDE), codec=codec) as writer:
            writer.write(frames)
    (place / "made" / "in.avi").write_bytes(_avi(frames))
    for name in ("mkv", "mp4", "avi"):
        content = (place / "made" / f"in.{name}").read_bytes()
        found[name] = Kind(_clip, f"in.{name}", content, share=15)
        found[f"{name}-run"] = Kind(_run, f"in.{name}", content, share=4)
    pictures = ["png", "jpeg", "webp", "bmp", "tiff", "gif", "ppm", "ico"]
    pictures += [name for name, feature in (("avif", "avif"), ("jpeg2000", "jpg_2000")) if features.check(feature)]
    pixels = (frames[0] * 255).byte().permute(1, 2, 0).numpy()
    for form in pictures:
        with BytesIO() as stored:
            image = Image.fromarray(pixels)
            image.getexif()[0x0112] = 6
            image.save(stored, form.upper(), **({"exif": image.getexif()} if form in ("png", "jpeg", "webp") else {}))
            found[form] = Kind(_picture, f"in.{form}", stored.getvalue(), share=8)
    found["png-run"] = Kind(_run_picture, "in.png", found["png"].valid, share=4)

    face = Faces(torch.tensor([[8.0, 8.0, 24.0, 24.0]]), torch.tensor([0.9]), torch.rand(1, 5, 2) * 8 + 12)
    detections = Detections(
        [face] * (FRAMES - 1) + [Faces.empty()], (SIDE, SIDE), "0" * 64, ("toy",), tuple(range(FRAMES)), Fraction(1, 25)
    )
    write_detections(place / "made" / "faces.json", detections)
    found["detections"] = Kind(_detections, "faces.json", (place / "made" / "faces.json").read_bytes(), share=25)
    points = ",".join(f"point_{k:02d}_{axis}" for k in range(5) for axis in "xy")
    rows = "".join(f"{k + 1},0.9,8,8,16,16,12,12,20,12,16,16,13,20,19,20\n" for k in range(FRAMES))
    found["csv"] = Kind(_detections, "faces.csv", f"frame,score,x,y,w,h,{points}\n{rows}".encode(), share=25)

    source, work = place / "made" / "in.mkv", place / "work"
    for name, key in (("", None), ("keyed-", KEY)):
        done = place / f"{name}done"
        done.mkdir()
        shutil.copy(source, done / "in.mkv")
        protect_video(_protector(), done / "in.mkv", done / "out.mkv", key=key)
        found[f"{name}sidecar"] = Kind(_sidecar, "out.mkv.json", (done / "out.mkv.json").read_bytes(), done, share=15)
        # As a process that was killed leaves it.
        left = Path(f"{work}-{name}left")
        left.mkdir()
        shutil.copy(source, left / "in.mkv")
        _interrupt(left, key)
        for path in sorted((left / _WORK).iterdir()):
            if path.is_file() and path.name != "lock":
                reader = _resume_keyed if key is not None else _resume
                content = path.read_bytes()
                found[f"{name}work-{path.name}"] = Kind(reader, f"{_WORK}/{path.name}", content, left, share=2)
        if key is not None:
            folder = _work_of(left)
            for path in sorted((left / _WORK).glob("*.json")):
                with contextlib.suppress(ValueError, KeyError):
                    sealed = base64.b64decode(json.loads(path.read_text())["sealed"])
                    content = folder.key.decrypt(sealed, f"{folder.job} {path.stem}")
                    found[f"sealed-{path.stem}"] = Kind(
                        _resume_keyed, f"{_WORK}/{path.name}", content, left, share=6, seals=True
                    )

    shown = place / "shown"
    shown.mkdir()
    with VideoWriter(shown / "clip", Fraction(25), (SIDE, SIDE), codec="png-folder") as writer:
        writer.write(frames)
    found["frames.json"] = Kind(
        lambda folder: Clip.open(folder / "clip"),
        "clip/frames.json",
        (shown / "clip/frames.json").read_bytes(),
        shown,
        15,
    )
    many = place / "many"
    (many / "in").mkdir(parents=True)
    Image.fromarray(pixels).save(many / "in" / "a.png")
    _folder(many)
    found["manifest"] = Kind(_folder, f"out/{MANIFEST}", (many / "out" / MANIFEST).read_bytes(), many, share=10)

    KEY.save(place / "made" / "key")
    found["key"] = Kind(_key, "key", (place / "made" / "key").read_bytes(), share=10)
    found["config"] = Kind(_config, "config.toml", _CONFIG, share=15)
    found["config-command"] = Kind(_command, "config.toml", _CONFIG, share=4)
    net = _net()
    for name, old in (("pth", False), ("pth-legacy", True)):
        with BytesIO() as stored:
            torch.save({"state_dict": net.state_dict()}, stored, _use_new_zipfile_serialization=not old)
            found[name] = Kind(_weights, "net.pth", stored.getvalue(), share=12)
    return found


_WORK = ".out.mkv.deidlib-work"
_CONFIG = b"""# As a user writes it
targets = ["mtcnn"]
on-missing = "hold"
epsilon = 8
iterations = 3
batch = 4
output = 'x.mkv'
dry = true
"""


def _avi(frames: torch.Tensor) -> bytes:
    """Motion JPEG in AVI, which is read and not written here."""
    import av

    with BytesIO() as stored:
        with av.open(stored, "w", format="avi") as container:
            stream = container.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuvj420p"
            for image in (frames * 255).byte().permute(0, 2, 3, 1).numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image).reformat(format="yuvj420p")))
            container.mux(stream.encode())
        return stored.getvalue()


def _net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))


class _Killed(BaseException):
    """As if the process ended here."""


def _interrupt(folder: Path, key: Key | None) -> None:
    def stop(stage: str) -> None:
        if stage == "checking":
            raise _Killed

    with contextlib.suppress(_Killed):
        protect_video(_protector(), folder / "in.mkv", folder / "out.mkv", key=key, stage=stop)


@dataclass(frozen=True)
class _Work:
    key: Key
    job: str


def _work_of(folder: Path) -> _Work:
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "copy")
        shutil.copytree(folder, copy)
        job = json.loads((copy / _WORK / "job.json").read_text())
        work = WorkFolder(copy / "out.mkv", job, KEY)
        try:
            return _Work(work._key, work._job)
        finally:
            work.close(keep=True)


def _clip(folder: Path) -> object:
    (path,) = folder.iterdir()
    clip = Clip.open(path)
    return sum(len(images) for images in clip.batches(4))


def _run(folder: Path) -> object:
    (path,) = folder.iterdir()
    return protect_video(_protector(), path, folder / "out.mkv", batch_size=4)


def _run_picture(folder: Path) -> object:
    from deidlib.protect.image import protect_image

    return protect_image(_protector(), folder / "in.png", folder / "out.png")


def _picture(folder: Path) -> object:
    (path,) = folder.iterdir()
    return image_size(path), read_image(path)


def _detections(folder: Path) -> object:
    (path,) = folder.iterdir()
    found = read_detections(path)
    return given_faces(found, (SIDE, SIDE), None, "the clip")


def _sidecar(folder: Path) -> object:
    protected = folder / "out.mkv"
    Sidecar.describes(protected)
    known = Sidecar.read(protected, wanted=True)
    assert known is not None, "what is wanted is there, or an error"
    opened(known, KEY if known.record is not None else None, protected)
    return known.reader(Middle(), KEY) if known.record is not None else known


def _resume(folder: Path) -> object:
    return protect_video(_protector(), folder / "in.mkv", folder / "out.mkv")


def _resume_keyed(folder: Path) -> object:
    return protect_video(_protector(), folder / "in.mkv", folder / "out.mkv", key=KEY)


def _folder(folder: Path) -> object:
    Manifest(folder / "out" / MANIFEST).last("a.png") if (folder / "out").exists() else None
    done = protect_folder(_protector(), folder / "in", folder / "out", key=KEY, check=Check(), output=Output())
    if done.failed:
        raise ValueError(done.failed[0].error)
    return done


def _key(folder: Path) -> object:
    (folder / "key").chmod(0o600)
    return Key.load(folder / "key")


def _config(folder: Path) -> object:
    return settings_of(
        folder / "config.toml", {"targets", "on_missing", "epsilon", "iterations", "batch", "output", "dry"}
    )


def _command(folder: Path) -> object:
    """The command line itself, which ends before it works: there is no such input."""
    from typer.testing import CliRunner

    arguments = [
        "protect",
        str(folder / "none.mkv"),
        "-o",
        str(folder / "out.mkv"),
        "--config",
        str(folder / "config.toml"),
    ]
    result = CliRunner().invoke(cli.app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output, result.output
    return result


def _weights(folder: Path) -> object:
    state = load_state(folder / "net.pth")
    fill(_net(), state, folder / "net.pth")
    return state


# One case


def case(kind: Kind, number: int, place: Path) -> str:
    """Damage a file of a kind, let it be read, and say how that ended.

    Args:
        kind: of file.
        number: what the damage is drawn by; 0: none.
        place: a folder that does not exist; it is removed.

    Returns:
        ``"read"``, ``"refused"``, or what is wrong.
    """
    draw = random.Random(number)
    if kind.besides is None:
        place.mkdir(parents=True)
    else:
        shutil.copytree(kind.besides, place)
    try:
        content = damaged(kind.valid, draw) if number else kind.valid
        if kind.seals:
            work, name = _work_of(place), Path(kind.file).stem
            content = json.dumps(
                {"sealed": base64.b64encode(work.key.encrypt(content, f"{work.job} {name}")).decode()}
            ).encode()
        (place / kind.file).write_bytes(content)
        before = _listed(place)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kind.read(place)
            end = "read"
        except BaseException as error:
            end = _judged(error)
        return _leftover(before, _listed(place), end == "read") or end
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _judged(error: BaseException) -> str:
    """``"refused"`` if it is one of ours, in one line; else what is wrong."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    ours = "deidlib" in Path(where.filename).parts or Path(where.filename).name == "fuzz.py"
    said = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:200]}"
    if not isinstance(error, PLAIN):
        return f"raw error: {said}"
    if type(error) in (ValueError, OSError) and not ours:
        return f"raw error: {said}"
    if isinstance(error, UnicodeError | json.JSONDecodeError):
        return f"raw error: {said}"
    if len(str(error).splitlines()) != 1 or len(str(error)) > 2000:
        return f"not one line: {said!r}"
    return "refused"


def _listed(place: Path) -> dict[str, str]:
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def _leftover(before: dict[str, str], after: dict[str, str], done: bool) -> str | None:
    """What lies there that should not."""
    if partial := [name for name in after if name.endswith(".partial") and name not in before]:
        return f"left over: {partial[0]}"
    fresh = [name for name in after if after[name] != before.get(name) and not name.startswith(_WORK)]
    results = [name for name in fresh if Path(name).name.startswith(("out.", "a.png")) or name.startswith("out/")]
    if other := sorted(set(fresh) - set(results)):
        return f"left over: {other[0]}"
    if not done and any(name in ("out.mkv", "out.png") for name in results):
        return f"left over after an error: {results}"
    work = [name for name in after if name.startswith(_WORK)]
    if work and done and not before.keys() & set(work):
        return f"left over: {work[0]}"
    return None


# All of them


def serve(place: Path) -> None:
    """Do the cases that are named on standard input, and say on standard output how each ended."""
    torch.set_num_threads(1)
    # More than any file here needs by far.
    limit = 12 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    frames_of_a_clip._PART = 2
    known = kinds(place)
    print(json.dumps({name: kind.share for name, kind in known.items()}), flush=True)
    for line in sys.stdin:
        name, number = line.rsplit(":", 1)
        print(json.dumps(case(known[name], int(number), place / "case")), flush=True)


class Worker:
    """A process that does cases, and another one when that has come to harm."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._begin()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._folder.cleanup()

    def do(self, name: str, number: int) -> str:
        """How a case ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}:{number}\n")
        self._process.stdin.flush()
        answer = self._answer(PATIENCE, WAIT)
        if answer is None:
            gone = self._process.poll()
            end = "hangs" if gone is None else f"ends the process, {gone}"
            self._end()
            self._begin()
            return end
        return str(answer)

    def _begin(self) -> None:
        place = Path(self._folder.name, str(time.monotonic_ns()))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fuzz", "--serve", str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            cwd=Path(__file__).parents[1],
        )
        shares = self._answer(180, 1800)
        assert shares is not None, "the worker does not begin"
        self.shares: dict[str, int] = shares

    def _answer(self, work: float, wait: float) -> Any:
        """What it says; None if it has ended, or has worked or not answered for so many seconds."""
        assert self._process.stdout is not None
        end, begun = time.monotonic() + wait, self._worked()
        while time.monotonic() < end and self._worked() - begun < work:
            if select.select([self._process.stdout], [], [], 1.0)[0]:
                line = self._process.stdout.readline()
                return json.loads(line) if line else None
        return None

    def _worked(self) -> float:
        """Seconds that it has had a processor; Linux."""
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: user and system time are the 12th and 13th.
            after = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(after[11]) + int(after[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()


def cases(shares: dict[str, int], seed: int) -> Iterator[tuple[str, int]]:
    """Without end: every kind once as it is, then damaged as they are drawn."""
    draw = random.Random(seed)
    yield from ((name, 0) for name in shares)
    while True:
        yield draw.choices(list(shares), list(shares.values()))[0], draw.getrandbits(48)


def fuzz(seed: int, *, seconds: float | None = None, count: int | None = None) -> Tally:
    """Do cases until the time is over, or so many are done."""
    tally, began = Tally(), time.monotonic()
    with Worker() as worker:
        for done, (name, number) in enumerate(cases(worker.shares, seed)):
            if (seconds is not None and time.monotonic() - began > seconds) or done == count:
                break
            end = worker.do(name, number)
            if number == 0 and end != "read":
                end = f"refused though it is sound: {end}"
            tally.ends[name.split("-")[0], end if end in ("read", "refused") else "wrong"] += 1
            if end not in ("read", "refused"):
                tally.findings.append((f"{name}:{number}", end))
                print(f"{name}:{number}  {end}", flush=True)
    return tally


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz, or do one case again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", help="KIND:NUMBER, once more, in this process")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args(arguments)
    if told.serve is not None:
        serve(told.serve)
    elif told.case is not None:
        frames_of_a_clip._PART = 2
        name, number = told.case.rsplit(":", 1)
        with tempfile.TemporaryDirectory() as place:
            print(case(kinds(Path(place, "kinds"))[name], int(number), Path(place, "case")))
    else:
        tally = fuzz(told.seed, seconds=60 * told.minutes)
        names = sorted({name for name, _ in tally.ends})
        for name in names:
            print(f"{name:16}" + "".join(f"{tally.ends[name, end]:8} {end}" for end in ("read", "refused", "wrong")))
        print(f"{sum(tally.ends.values())} cases, {len(tally.findings)} wrong")


if __name__ == "__main__":
    main()
