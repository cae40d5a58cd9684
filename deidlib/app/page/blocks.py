"""``page``: the tabs, put together; what happens on them happens in sessions."""

from __future__ import annotations

import gradio as gr

from deidlib.app.page.protect_tab import ProtectTab
from deidlib.app.page.read_tab import ReadTab
from deidlib.app.sessions import Sessions

_WELCOME = """# deidlib
Hide the faces in a picture or a clip, and let only those read them whom you choose. Everything happens on this machine:
nothing is sent anywhere, and when you close this page nothing of it is kept. Download what you want to have."""


def page(sessions: Sessions) -> gr.Blocks:
    """The page.

    Args:
        sessions: of its users.
    """
    with gr.Blocks(title="deidlib", analytics_enabled=False) as blocks:
        gr.Markdown(_WELCOME)
        with gr.Tab("Protect", id="protect"):
            ProtectTab(sessions)
        with gr.Tab("Read a protected file", id="read"):
            ReadTab(sessions)

        def leave(request: gr.Request) -> None:
            sessions.end(request.session_hash or "")

        blocks.unload(leave)
    return blocks
