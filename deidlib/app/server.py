"""``serve``: the page on this machine's own address, without a word to anybody else."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deidlib.app.guard import Guard
from deidlib.app.menu import Menu
from deidlib.app.sessions import Sessions
from deidlib.app.workplace import Workplace
from deidlib.evaluation.report.palette import DARK

_ADDRESS = "127.0.0.1"
# Bytes of an upload.
_LARGEST = 8 << 30
# Seconds: files are removed with the session; this is for what nobody took.
_LOOK_EVERY, _OLD = 60, 86_400


class Server:
    """The page, served until it is closed.

    Args:
        menu: what its users choose from.
        port: of 127.0.0.1; a free one from 7860 on if None.
        browser: whether to open the page there.

    Raises:
        ModuleNotFoundError: Gradio is not installed.
        OSError: the port is taken.
    """

    def __init__(self, menu: Menu, *, port: int | None = None, browser: bool = False) -> None:
        self.place = Workplace()
        try:
            self.sessions = Sessions(self.place, menu)
            self.blocks, self.address = self._launch(port, browser)
        except BaseException:
            self.place.close()
            raise

    def _launch(self, port: int | None, browser: bool) -> tuple[Any, str]:
        # Before Gradio is imported: it looks then.
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": str(self.place.path),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DISABLE_TELEMETRY": "1",
        }
        try:
            import gradio as gr
            from starlette.middleware import Middleware
        except ImportError as error:
            raise ModuleNotFoundError(
                'the page is made with Gradio, which is not installed. Install it with `pip install "deidlib[app]"`.'
            ) from error
        from deidlib.app.page.blocks import page

        blocks = page(self.sessions)
        blocks.delete_cache = (_LOOK_EVERY, _OLD)
        blocks.queue(default_concurrency_limit=8)
        # Fonts of the system: others would come from elsewhere.
        theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        _, address, _ = blocks.launch(
            server_name=_ADDRESS,
            server_port=port,
            share=False,
            inbrowser=browser,
            quiet=True,
            prevent_thread_lock=True,
            show_error=True,
            max_file_size=_LARGEST,
            footer_links=[],
            # Else inputs are kept in the browser.
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=theme,
            css="".join(f".dark .c{k} {{ stroke: {colour}; }}" for k, colour in enumerate(DARK)),
            css_paths=[Path(__file__).with_name("style.css")],
            app_kwargs={"middleware": [Middleware(Guard)], "docs_url": None, "redoc_url": None, "openapi_url": None},
        )
        return blocks, address

    def close(self) -> None:
        """End, and leave nothing."""
        self.blocks.close(verbose=False)
        self.place.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def serve(menu: Menu, *, port: int | None = None, browser: bool = True, said: Callable[[str], object]) -> None:
    """Serve the page until the program is interrupted.

    Args:
        menu: what its users choose from.
        port: as for :class:`Server`.
        browser: as for :class:`Server`.
        said: told the address.

    Raises:
        ModuleNotFoundError: Gradio is not installed.
        OSError: the port is taken.
    """
    # Ctrl-C is how it is meant to end, from when the address is known.
    with Server(menu, port=port, browser=browser) as server, contextlib.suppress(KeyboardInterrupt):
        said(server.address)
        threading.Event().wait()
