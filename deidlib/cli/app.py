"""The commands, put together."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from deidlib.cli.browser import app as browser_app
from deidlib.cli.demo import demo
from deidlib.cli.doctor import doctor
from deidlib.cli.evaluate import evaluate
from deidlib.cli.key import key_app
from deidlib.cli.page import Page, Pages
from deidlib.cli.protect import protect
from deidlib.cli.read import read
from deidlib.cli.remote import ProtectPage
from deidlib.cli.swap import swap
from deidlib.cli.weights import weights_app

app = typer.Typer(
    cls=Pages,
    help="De-identify faces in images and video while authorised models still read them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Lists, not tables: at 80 columns a table leaves the words of an option a fourth of the width.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"deidlib {metadata.version('deidlib')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None: ...


app.command(
    cls=ProtectPage,
    epilog="""\b
Examples:
  deidlib protect drive.mp4 protected.mkv
  deidlib protect drive.mp4 --dry-run
  deidlib protect a.mp4 'clips/*.mp4' protected/
  deidlib protect clips/ protected/ --targets retinaface,mpiigaze
  deidlib protect drive.mp4 protected.mp4 --codec h264 --key our.key
  deidlib protect s3://bucket/clips s3://bucket/protected --ray head:6379""",
)(protect)
app.command(
    cls=Page,
    epilog="""\b
Examples:
  deidlib read protected.mkv --models retinaface --json readings.json
  deidlib read protected.mp4 --key our.key --overlay drawn.mkv""",
)(read)
app.command(
    cls=Page,
    epilog="""\b
Example:
  deidlib swap drive.mp4 swapped.mkv --source nobody.png""",
)(swap)
app.command(
    cls=Page,
    epilog="""\b
Examples:
  deidlib evaluate drive.mp4 protected.mkv --html report.html
  deidlib evaluate drive.mp4 protected.mkv --against yunet --embedder facenet""",
)(evaluate)
app.command("app", cls=Page)(browser_app)
app.command(cls=Page)(demo)
app.command(cls=Page)(doctor)
app.add_typer(key_app, name="key")
app.add_typer(weights_app, name="weights")


def main() -> None:
    """Entry point of the ``deidlib`` command."""
    app()
