"""Every command of the pages: all are parsed by the command line itself, and all that can be are run, made small."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from clips import astronauts, make_video
from command import deidlib, done
from skimage.data import astronaut

from deidlib import cli
from deidlib.faces import Faces
from deidlib.images import from_pixels
from deidlib.media import write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.records.detections import Detections, write_detections

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?:sh|console|bash|shell)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command on a page that begins with ``deidlib``, without that one."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            part: list[str] = []
            for word in [*words, "&&"]:
                if word in ("&&", ";", "|", "||"):
                    if part[:1] == ["deidlib"]:
                        yield part[1:]
                    part = []
                else:
                    part.append(word)


WITH_COMMANDS = [page for page in PAGES if any(commands(page))]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages' commands are about, as small as it can be."""
    folder = tmp_path_factory.mktemp("prepared")
    clip = astronauts(1)
    whole = from_pixels(astronaut()[:256, 96:352])[None]
    for name in ("drive.mp4", "other.mp4", "a.mp4", "b.mp4", "clips/c1.mp4", "recordings/c1.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        make_video(folder / name, clip)
    for name in ("face.png", "nobody.png", "people/somebody.png", "portraits/somebody.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(folder / name, whole)
    faces = [known.replace(landmarks=None) for known in MTCNN().predict(clip)]
    assert all(isinstance(known, Faces) and len(known) for known in faces)
    write_detections(folder / "boxes.json", Detections(faces, size=(128, 128)))
    # Made before the page's first command, as somebody else's.
    done(deidlib("protect", folder / "drive.mp4", folder / "protected.mkv", *small(["protect"])))
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def small(words: list[str]) -> list[str]:
    """Options that leave a command what it is, and make it quick."""
    options: dict[str, list[str]] = {
        "protect": ["--iterations=1", "--lookout=64", "--silence=none", "--device=cpu", "--detectors=mtcnn"],
        "swap": ["--device=cpu"],
        "read": ["--device=cpu"],
        "evaluate": ["--device=cpu"],
    }
    said = {word.split("=")[0] for word in words}
    return [option for option in options.get(words[0], []) if option.split("=")[0] not in said]


def written_here(page: Path) -> None:
    """The settings that the page shows."""
    for text in re.findall(r"^```toml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        Path("study.toml").write_text(text, encoding="utf-8")


def parsed(words: list[str]) -> str:
    """The command that they name, once its options and arguments are known to be ones that it takes."""
    command: Any = typer.main.get_command(cli.app)
    context = command.make_context("deidlib", list(words))
    rest = list(words)
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, rest)
        if hasattr(command, "resolve_command"):
            context = command.make_context(name, list(rest), parent=context)
        else:
            with command.make_context(name, list(rest), parent=context):
                pass
    return str(command.name)


def test_commands_are_seen() -> None:
    found = {tuple(words[:2]) for page in WITH_COMMANDS for words in commands(page)}
    assert {("protect", "drive.mp4"), ("evaluate", "drive.mp4"), ("weights", "list"), ("key", "new")} <= found
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        # No other way to write a block of them.
        assert len(re.findall(r"^deidlib ", text, re.MULTILINE)) <= sum(1 for _ in commands(page)), page.name


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_on_the_page_are_ones(page: Path) -> None:
    written_here(page)
    for words in commands(page):
        assert parsed(words) in words


@pytest.mark.parametrize(
    "words", [["protect", "a", "b", "--wrong"], ["protect"], ["no-command"], ["protect", "--codec=x"]]
)
def test_what_is_none_is_not_taken_for_one(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|missing|invalid|is not one of"):
        parsed(words)


ELSEWHERE = {
    "demo": "is run by tests/cli/test_demo.py",
    "app": "is run by tests/app, and serves until it is ended",
    "://": "needs a store: tests/storage and tests/protect/test_remote.py have one",
    "--ray": "needs a cluster: tests/cluster has one",
}


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_on_the_page_run(page: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written_here(page)
    left: list[str] = []
    for words in commands(page):
        if words[:2] == ["weights", "fetch"]:
            left.append(f"{' '.join(words)}: needs a network")
            continue
        elsewhere = [
            why for part, why in ELSEWHERE.items() if part == words[0] or (part[0] in ":-" and part in str(words))
        ]
        if elsewhere:
            left.append(f"{' '.join(words)}: {elsewhere[0]}")
            continue
        with monkeypatch.context() as patch:
            if words[0] == "weights":
                # Hashing all that is on this machine takes long.
                (tmp_path / "none").mkdir(exist_ok=True)
                patch.setenv("DEIDLIB_WEIGHTS", str(tmp_path / "none"))
            result = deidlib(*words, *small(words))
        if result.exit_code == 1 and "are not on this machine" in result.stderr:
            left.append(f"{' '.join(words)}: needs weights that are not here")
            continue
        # A verdict may be bad.
        assert result.exit_code in ((0, 2) if "--fail-if" in words else (0,)), (words, result.output)
    if left:
        pytest.skip("all others ran, and these were parsed: " + "; ".join(left))
