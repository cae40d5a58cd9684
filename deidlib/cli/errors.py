"""What a user can mend is one line, not a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

from deidlib.cli.signals import ending, exit_code


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """What a user can mend is one line and exit code 1, not a traceback."""
    from deidlib.media import MediaError
    from deidlib.protect.deidentifier import NoFaceError
    from deidlib.weights import CorruptWeights, WeightsNotFound

    try:
        with ending():
            yield
    except (MediaError, NoFaceError, WeightsNotFound, CorruptWeights, ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt as interrupt:
        typer.echo("interrupted; nothing was left under the output's name", err=True)
        raise typer.Exit(exit_code(interrupt)) from None
