from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer
from command import deidlib, refused

from deidlib import cli, weights
from deidlib.cli.doctor import Finding, examine


def _commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, *path, name)


COMMANDS = dict(_commands(typer.main.get_command(cli.app)))


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_whole_at_80_columns(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    page = deidlib(*path, "--help").stdout
    assert max(map(len, page.splitlines())) <= 80
    assert deidlib(*path, "-h").stdout == page
    # A line may end behind a hyphen that is written.
    said = re.sub(r"-\n\s+", "-", page).split()
    for parameter in command.params:
        text = getattr(parameter, "help", None) or ""
        # Each word stands there as it was written: none is cut by a hyphen or the end of a line.
        for word in text.split():
            assert word in said, (path, parameter.name, word)
    if command.callback is not None:
        for hint in get_type_hints(command.callback).values():
            for choice in get_args(hint) if get_origin(hint) is Literal else ():
                assert choice in re.split(r"[<>|\[\]\s]+", page)


def test_options_stand_in_groups_and_none_is_lost() -> None:
    page = deidlib("protect", "--help").stdout
    groups = re.findall(r"^(\S.*):$", page, flags=re.M)
    assert groups[0] == "Arguments"
    assert groups[-1] == "Other options"
    assert len(groups) == len(set(groups)) >= 5
    for parameter in COMMANDS[("protect",)].params:
        names = ", ".join(sorted(parameter.opts, key=len))
        assert len(re.findall(rf"\n  {names}(?=\s)", page)) == 1 or parameter.param_type_name == "argument"


def test_a_group_of_commands_says_a_whole_sentence_about_each() -> None:
    page = " ".join(deidlib("--help").stdout.split())
    assert "Hide the faces in SOURCE and let the authorised models still read them." in page
    assert "..." not in page.replace("[ARGS]...", "")


def test_the_version_is_the_installed_one() -> None:
    from importlib import metadata

    assert deidlib("--version").stdout == f"deidlib {metadata.version('deidlib')}\n"


def test_fetch_wants_one_name_or_all() -> None:
    for said in ((), ("fan", "--all")):
        refused(deidlib("weights", "fetch", *said), "NAME", "--all")


# The doctor


def test_the_doctor_finds_that_the_main_job_can_run_here() -> None:
    result = deidlib("doctor")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("the main job can run: deidlib demo\n")
    for topic in ("torch", "ffv1", "cpu", "weights", "temporary"):
        assert re.search(rf"^(ok|without) +{topic} ", result.stdout, flags=re.M)


def test_the_doctor_says_what_is_broken_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    monkeypatch.setattr(av, "codecs_available", frozenset(av.codecs_available) - {"ffv1", "libx264"})
    found = {finding.topic: finding for finding in examine()}
    assert found["ffv1"] == Finding(
        "ffv1",
        "broken",
        "av has no such encoder: no --codec ffv1, the default",
        "pip install --force-reinstall av",
    )
    # H.264 can be done without.
    assert found["libx264"].verdict == "without"
    result = deidlib("doctor")
    assert result.exit_code == 1
    assert result.stdout.endswith("cannot run: ffv1\n")


def test_the_doctor_knows_a_checkpoint_from_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("deidlib.weights.store.cache_folder", lambda: tmp_path / "empty")
    name = "retinaface_mobilenet0.25"
    wrong = tmp_path / weights.checkpoint(name).file
    wrong.write_bytes(b"another file")
    page = deidlib("doctor").stdout
    assert f"{len(weights.CHECKPOINTS)} are not" in page
    assert f"{wrong} is another file than {name}" in page
