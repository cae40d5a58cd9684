"""The commands, put together."""

from __future__ import annotations

import typer

from deidlib.cli.demo import demo
from deidlib.cli.evaluate import evaluate
from deidlib.cli.key import key_app
from deidlib.cli.protect import protect
from deidlib.cli.read import read
from deidlib.cli.swap import swap
from deidlib.cli.weights import weights_app

app = typer.Typer(
    help="De-identify faces in images and video while authorised models still read them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(protect)
app.command()(read)
app.command()(swap)
app.command()(evaluate)
app.command()(demo)
app.add_typer(key_app, name="key")
app.add_typer(weights_app, name="weights")


def main() -> None:
    """Entry point of the ``deidlib`` command."""
    app()
