"""``KeyPart``: whether the file is read by a key, and by which."""

from __future__ import annotations

from typing import Any

import gradio as gr

from deidlib.app import words
from deidlib.app.mendable import MENDABLE
from deidlib.app.session import Session
from deidlib.app.sessions import Sessions

_KEYS = [("none: whoever has such a model may read", "none"), ("a new one", "new"), ("the one in a file", "file")]


class KeyPart:
    """The components, and what happens when they are used.

    Args:
        sessions: of the page's users.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.how = gr.Radio(_KEYS, value="none", label="A key without which nobody reads", elem_id="keyed")
        self.file = gr.File(label="The key file", height=120, visible=False, elem_id="key-file")
        self.said = gr.HTML(padding=False, elem_id="key-said")
        self.new = gr.DownloadButton("Download the new key, and keep it", visible=False, elem_id="key-new")
        quietly: dict[str, Any] = {"show_progress": "hidden"}
        self.how.input(self.chosen, self.how, [self.file, self.new, self.said], api_name="key", **quietly)
        self.file.upload(self.taken, self.file, [self.file, self.said], api_name="key_file", **quietly)

    def chosen(self, how: str, request: gr.Request) -> dict[Any, Any]:
        """No key, a new one, or one in a file."""
        session = self.sessions.of(request.session_hash or "")
        session.key, session.wants_key = None, how != "none"
        path = session.new_key() if how == "new" else None
        return {
            self.file: gr.update(visible=how == "file"),
            self.new: gr.update(visible=path is not None, value=None if path is None else str(path)),
            self.said: _told(session),
        }

    def taken(self, upload: str | None, request: gr.Request) -> dict[Any, Any]:
        """A key file was dropped."""
        session = self.sessions.of(request.session_hash or "")
        if upload is None:
            return {self.said: _told(session)}
        try:
            session.take_key(upload)
        except MENDABLE as error:
            return {self.file: None, self.said: words.said("bad", session.folder.in_words(error))}
        return {self.file: None, self.said: _told(session)}


def _told(session: Session) -> str:
    if session.key is None:
        return ""
    return words.said("good", f"Read by the key {session.key.id} alone.", "Without it nobody reads the file, nor you.")
