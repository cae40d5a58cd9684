"""``deidlib weights``."""

from __future__ import annotations

from typing import Annotated

import typer

from deidlib.cli.errors import plain_errors

weights_app = typer.Typer(help="The checkpoints that the models need.", no_args_is_help=True)


@weights_app.command("list")
def weights_list() -> None:
    """All checkpoints: state, licence, origin."""
    from deidlib import weights

    for name, checkpoint in weights.CHECKPOINTS.items():
        state = weights.status(name).state
        typer.echo(f"{name:<32}{state:<11}{checkpoint.licence:<45}{checkpoint.origin}")


@weights_app.command("fetch")
def weights_fetch(name: Annotated[str, typer.Argument(help="As in `deidlib weights list`.")]) -> None:
    """Download a checkpoint into the cache, unless it is there, and show its licence."""
    from deidlib import weights

    with plain_errors():
        checkpoint = weights.checkpoint(name)
        typer.echo(f"{name}: licence {checkpoint.licence}; {checkpoint.paper}", err=True)
        typer.echo(str(weights.find(name)))


@weights_app.command("verify")
def weights_verify() -> None:
    """Check the hash of every checkpoint that is here; exit code 1 if one is another file."""
    from deidlib import weights

    bad = 0
    for name in weights.CHECKPOINTS:
        status = weights.status(name)
        if status.path is not None:
            typer.echo(f"{name:<32}{status.state:<11}{status.path}")
            bad += status.state == "mismatch"
    if bad:
        raise typer.Exit(1)


@weights_app.command("where")
def weights_where() -> None:
    """The folders in which checkpoints are looked for, in order."""
    from deidlib import weights

    typer.echo(f"DEIDLIB_WEIGHTS: {weights.weights_folder() or 'not set'}")
    typer.echo(f"cache: {weights.cache_folder()}")
