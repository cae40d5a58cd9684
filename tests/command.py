"""The command line, called in this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from deidlib import cli


def deidlib(*arguments: str | Path | int, typed: str | None = None) -> Result:
    """How a command ends, given what the user types at its prompts."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=typed)
    # An error that a user can make ends the program; it is not thrown at them.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def done(result: Result) -> Result:
    """The same, of a command that did what it was told."""
    assert result.exit_code == 0, result.output
    return result


def refused(result: Result, *parts: str, asked: bool = False) -> str:
    """The one line that says what is wrong, which is the last, and has these parts.

    Where something was ``asked``, the prompt, which ends no line, stands before it, and stdout has the runner's blanks.
    """
    assert result.exit_code == 1, result.output
    assert (result.stdout.strip() if asked else result.stdout) == ""
    (line,) = [line for line in result.stderr.splitlines() if ("error: " in line if asked else line[:7] == "error: ")]
    assert result.stderr.rstrip().endswith(line)
    for part in parts:
        assert part in line
    return line
