"""``deidlib app``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deidlib.cli.errors import plain_errors
from deidlib.cli.names import Entry, device_of, readers, targets
from deidlib.cli.options import RUNNING, Device

if TYPE_CHECKING:
    from deidlib.app.menu import Menu

# How the targets are made in Python; all of them are names of deidlib.
_CALLS = {
    "mtcnn": "MTCNN()",
    "retinaface": "RetinaFace()",
    "retinaface-resnet50": 'RetinaFace(backbone="resnet50")',
    "fan": "FAN()",
    "mpiigaze": "GazeResNet.mpiigaze()",
    "mpiifacegaze": "GazeResNet.mpiifacegaze()",
    "eth-xgaze": "GazeResNet.eth_xgaze()",
}
# Readers whose package or weights are small and who differ from each other, to be asked what strangers see.
_STRANGERS = ("yunet", "centerface", "blazeface-short", "retinaface", "mtcnn")
_JUDGE = "mobilefacenet"


def app(
    port: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=RUNNING, min=1, max=65535, help="Of 127.0.0.1; a free one from 7860 if not given."
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(rich_help_panel=RUNNING, help="Open the page in the browser.")] = True,
    device: Device = "auto",
) -> None:
    """Open a page in the browser: see the faces, hide them, watch the attack, and see who reads the result.

    It is served to this machine alone, sends nothing anywhere and keeps nothing: what is not downloaded is gone when
    the page is closed. It needs the extra: pip install "deidlib[app]".
    """
    from deidlib.app.server import serve

    with plain_errors():
        try:
            menu = menu_on(device_of(device))
            serve(
                menu, port=port, browser=browser, said=lambda address: typer.echo(f"the page: {address} (Ctrl-C ends)")
            )
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from error


def menu_on(device: str) -> Menu:
    """What the page offers: whoever can be had without a download.

    Args:
        device: where models run.
    """
    from collections.abc import Callable
    from typing import Any

    from torch import nn

    from deidlib import weights
    from deidlib.app.menu import Menu
    from deidlib.metrics import OnnxEmbedder

    def there(entry: Entry[Any]) -> bool:
        return entry.checkpoint is None or weights.locate(entry.checkpoint) is not None

    def maker(entry: Entry[Any]) -> Callable[[], Any]:
        def make() -> Any:
            model = entry.make()
            return model.to(device) if isinstance(model, nn.Module) else model

        return make

    known, others = targets(), readers()
    return Menu(
        {name: maker(entry) for name, entry in known.items() if there(entry)},
        {name: maker(others[name]) for name in _STRANGERS if there(others[name])},
        OnnxEmbedder if weights.locate(_JUDGE) is not None else None,
        calls=_CALLS,
        absent=[name for name, entry in known.items() if not there(entry)],
        device=device,
    )
