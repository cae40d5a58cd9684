"""``deidlib weights``."""

from __future__ import annotations

from typing import Annotated

import typer

from deidlib.cli.errors import plain_errors
from deidlib.cli.page import Pages
from deidlib.cli.voice import say

weights_app = typer.Typer(cls=Pages, help="The checkpoints that the models need.", no_args_is_help=True)


@weights_app.command("list")
def weights_list() -> None:
    """All checkpoints: state, size of what is here, licence, origin."""
    from deidlib import weights

    for name, checkpoint in weights.CHECKPOINTS.items():
        status = weights.status(name)
        size = "" if status.path is None else f"{status.path.stat().st_size / 1e6:.1f} MB"
        say(f"{name:<32}{status.state:<10}{size:>9}  {checkpoint.licence}", hang=53)
        say(f"  {checkpoint.origin}")


@weights_app.command("fetch")
def weights_fetch(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="As in `deidlib weights list`.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every checkpoint that can be downloaded, one after the other.")
    ] = False,
) -> None:
    """Download a checkpoint into the cache, unless it is there, and show its licence."""
    from deidlib import weights

    with plain_errors():
        if (name is None) != everything:
            raise ValueError("say one NAME, or --all for every checkpoint; deidlib weights list shows the names.")
        # By hand only, where no address is known.
        open_ones = [known.name for known in weights.CHECKPOINTS.values() if known.url is not None]
        for wanted in open_ones if name is None else [name]:
            checkpoint = weights.checkpoint(wanted)
            typer.echo(f"{wanted}: licence {checkpoint.licence}; {checkpoint.paper}", err=True)
            typer.echo(str(weights.find(wanted)))


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
