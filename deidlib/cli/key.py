"""``deidlib key``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deidlib.cli.errors import plain_errors
from deidlib.cli.page import Pages

key_app = typer.Typer(cls=Pages, help="Secret keys, by which protected files are read.", no_args_is_help=True)


@key_app.command("new")
def key_new(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The key file to write; one that is there is never replaced.")
    ],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase, and make the key that belongs to it and --salt.")
    ] = False,
    salt: Annotated[
        str | None, typer.Option(help="At least 8 characters that are not secret: the name of the project, say.")
    ] = None,
) -> None:
    """Make a key, and print its public name.

    Whoever has the file can read what is protected with the key, and without it nobody can, so keep a copy. The same
    passphrase and salt give the same key anywhere.
    """
    from deidlib.keys.key import Key, KeyFileError

    with plain_errors():
        if passphrase != (salt is not None):
            raise ValueError("--passphrase and --salt belong together: give both, or neither for a random key.")
        if file.exists():
            # Not only after the passphrase has been typed twice.
            raise KeyFileError(f"{file} exists. A key is never overwritten: choose another name.")
        if salt is None:
            key = Key.generate()
        else:
            # A passphrase on the command line would be in the shell's history and in the list of processes.
            words = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
            key = Key.from_passphrase(words, salt=salt)
        key.save(file)
        typer.echo(key.id)


@key_app.command("show-id")
def key_show_id(file: Annotated[Path, typer.Argument(metavar="FILE", help="A key file.")]) -> None:
    """Print the public name of a key."""
    from deidlib.keys.key import Key

    with plain_errors():
        typer.echo(Key.load(file).id)
