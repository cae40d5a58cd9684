"""``--config FILE``: options of a command, kept in a file."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from deidlib.bounded import BoundsError, read_bounded
from deidlib.cli.errors import plain_errors
from deidlib.cli.options import RUNNING

# A file of settings is small; another one was meant to be something else.
_LARGEST = 1 << 20


def settings_of(path: Path, options: set[str]) -> dict[str, Any]:
    """The settings that a file holds, as the command line would be given them.

    Args:
        path: TOML; keys are options without their dashes, ``on-missing = "hold"``; a list is what commas separate. Or
            the description beside a protected file, ``out.mkv.json``.
        options: what may be set, with underscores.

    Raises:
        ValueError: no TOML, or a key that is no option.
        OSError: it cannot be read.
    """
    settings: dict[str, Any] = {}
    for key, value in _told(path).items():
        name = key.replace("-", "_")
        if name not in options:
            near = difflib.get_close_matches(name, options, n=1)
            hint = f" Did you mean {near[0].replace('_', '-')}?" if near else " --help lists the options."
            raise ValueError(f"{path}: {key[:60]} is no option of this command.{hint}")
        if isinstance(value, dict):
            raise ValueError(f"{path}: {key} is a table, and options are values. Put its lines before any [table].")
        settings[name] = ",".join(map(str, value)) if isinstance(value, list) else value
    return settings


def _told(path: Path) -> dict[str, Any]:
    """What is written there."""
    from deidlib.protect.sidecar import Sidecar

    if path.is_file() and path.suffix.lower() == ".json":
        return Sidecar.options(path)
    try:
        content = read_bounded(path, _LARGEST)
    except (FileNotFoundError, IsADirectoryError, BoundsError) as error:
        raise ValueError(
            f"{path} is no file of settings: a regular file in TOML is expected, of at most 1 MiB."
        ) from error
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f'{path} is no TOML: {error}. Write lines such as: targets = "retinaface"') from None


def options_of(context: typer.Context) -> dict[str, Any]:
    """What a command was told about a file, so that it can be told again: no places, and nothing about the run itself.

    Args:
        context: of the command.

    Returns:
        By name what :func:`settings_of` would give.
    """
    panels = {
        parameter.name: getattr(parameter, "rich_help_panel", None)
        for parameter in context.command.params
        if parameter.param_type_name == "option"
    }
    return {
        name: str(value) if isinstance(value, tuple) else value
        for name, value in sorted(context.params.items())
        # A swap names the file of a face.
        if panels.get(name) not in (None, RUNNING) and value is not None and not isinstance(value, Path)
        if isinstance(value, str | bool | int | float | tuple) and not str(value).startswith("swap:")
    }


def _load(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        with plain_errors():
            options = {p.name for p in context.command.params if p.param_type_name == "option" and p.name is not None}
            # Defaults, which what is typed overrides.
            context.default_map = {**(context.default_map or {}), **settings_of(path, options - {"config"})}
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_load,
        rich_help_panel=RUNNING,
        help='Options from a TOML file, such as targets = ["retinaface", "fan"], or from the description beside a '
        "protected file; what is typed goes before them.",
    ),
]
"""The option itself, for the signature of a command."""
