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
        path: TOML; keys are options without their dashes, ``on-missing = "hold"``; a list is what commas separate.
        options: what may be set, with underscores.

    Raises:
        ValueError: no TOML, or a key that is no option.
        OSError: it cannot be read.
    """
    try:
        content = read_bounded(path, _LARGEST)
    except (FileNotFoundError, IsADirectoryError, BoundsError) as error:
        raise ValueError(
            f"{path} is no file of settings: a regular file in TOML is expected, of at most 1 MiB."
        ) from error
    try:
        told = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f'{path} is no TOML: {error}. Write lines such as: targets = "retinaface"') from None
    settings: dict[str, Any] = {}
    for key, value in told.items():
        name = key.replace("-", "_")
        if name not in options:
            near = difflib.get_close_matches(name, options, n=1)
            hint = f" Did you mean {near[0].replace('_', '-')}?" if near else " --help lists the options."
            raise ValueError(f"{path}: {key[:60]} is no option of this command.{hint}")
        if isinstance(value, dict):
            raise ValueError(f"{path}: {key} is a table, and options are values. Put its lines before any [table].")
        settings[name] = ",".join(map(str, value)) if isinstance(value, list) else value
    return settings


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
        help='Options from a TOML file, such as targets = ["retinaface", "fan"]; what is typed goes before them.',
    ),
]
"""The option itself, for the signature of a command."""
