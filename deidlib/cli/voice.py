"""What a command says, and how much of it: ``say``, ``note``, ``warn``; ``-q`` and ``-v``."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
from contextvars import ContextVar
from typing import Annotated

import typer

from deidlib.cli.options import RUNNING

_quiet = ContextVar("quiet", default=False)
_muted = ContextVar("muted", default=False)


def say(text: str = "", *, hang: int | None = None) -> None:
    """Print a result, above the bars; with ``-q``, or where standard output is for JSON, it is left out.

    Args:
        text: one line or several.
        hang: see :func:`wrapped`.
    """
    if not silent():
        _print(text, err=False, hang=hang)


def note(text: str) -> None:
    """Print what is good to know; with ``-q`` it is left out."""
    if not is_quiet():
        _print(text, err=True)


def warn(text: str) -> None:
    """Print a warning or an error, always."""
    _print(text, err=True)


def is_quiet() -> bool:
    """Whether the command that runs was told to say no more than what is wrong."""
    return _quiet.get()


def silent() -> bool:
    """Whether nothing is to be said on standard output."""
    return _quiet.get() or _muted.get()


def mute() -> None:
    """From here on, the command that runs leaves standard output to what it writes there."""
    _muted.set(True)


def wrapped(text: str, width: int, hang: int | None = None) -> str:
    """Lines that are too long for a terminal, ended between words; the others stay as they are.

    Args:
        text: one line or several.
        width: of the terminal.
        hang: spaces before what goes on in the next line; by default two more than before the line.

    Example:
        >>> print(wrapped("out.mkv: 4 frames\\n  faces: 1 in 4 of 4 frames", 20))
        out.mkv: 4 frames
          faces: 1 in 4 of 4
            frames
    """
    return "\n".join(_ended(line, width, hang) for line in text.split("\n"))


def _ended(line: str, width: int, hang: int | None) -> str:
    if len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 2 if hang is None else hang)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _print(text: str, *, err: bool, hang: int | None = None) -> None:
    # What goes to a file or a program keeps a line a line.
    if (sys.stderr if err else sys.stdout).isatty():
        text = wrapped(text, shutil.get_terminal_size().columns, hang)
    if "tqdm" not in sys.modules:
        # No bar is there; and the doctor speaks where little is installed.
        typer.echo(text, err=err)
        return
    from tqdm.auto import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        typer.echo(text, err=err)


class _Teller(logging.Handler):
    """Writes what the library logs above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        _print(self.format(record), err=True)


def _log(context: typer.Context, count: int) -> int:
    if count:
        logger, teller = logging.getLogger("deidlib"), _Teller()
        teller.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
        before = logger.level
        logger.addHandler(teller)
        logger.setLevel(logging.INFO if count == 1 else logging.DEBUG)

        def end() -> None:
            logger.removeHandler(teller)
            logger.setLevel(before)

        context.call_on_close(end)
    return count


def _lower(context: typer.Context, wanted: bool) -> bool:
    if wanted and context.params.get("verbose"):
        raise typer.BadParameter("--quiet and --verbose say the contrary. Leave one out.")

    def end() -> None:
        _quiet.set(False)
        _muted.set(False)

    context.call_on_close(end)
    _quiet.set(wanted)
    return wanted


Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        is_eager=True,
        callback=_log,
        rich_help_panel=RUNNING,
        help="Say what is done while it is done; -vv says more. In Python: logging, under the logger deidlib.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", callback=_lower, rich_help_panel=RUNNING, help="Say nothing but warnings and errors: no bar."
    ),
]
