"""What a user can mend is one line, not a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

from deidlib.cli.signals import ending, exit_code
from deidlib.cli.voice import warn


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
        warn(f"error: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt as interrupt:
        warn("interrupted; nothing was left under the output's name")
        raise typer.Exit(exit_code(interrupt)) from None
