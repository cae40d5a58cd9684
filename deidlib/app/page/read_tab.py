"""``ReadTab``: read a protected file, by its key where there is one."""

from __future__ import annotations

from typing import Any

import gradio as gr

from deidlib.app import words
from deidlib.app.mendable import MENDABLE
from deidlib.app.picture import Picture
from deidlib.app.session import Session
from deidlib.app.sessions import Sessions
from deidlib.faces import Faces
from deidlib.visualize import draw_faces

_ABOUT = """What do those who may read see in a protected file? Drop it, with the `.json` that was written beside it,
and the key file if it was protected with a key."""


class ReadTab:
    """The components, and what happens when they are used.

    Args:
        sessions: of the page's users.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        gr.Markdown(_ABOUT)
        self.files = gr.File(
            label="Protected file, description, key", file_count="multiple", height=140, elem_id="read-files"
        )
        self.status = gr.HTML(words.said("plain", "No file yet."), padding=False, elem_id="read-status")
        self.frame = gr.Slider(0, 1, 0, step=1, label="Frame", visible=False, elem_id="read-frame")
        self.picture = gr.Image(
            label="What is read", interactive=False, buttons=["fullscreen"], visible=False, elem_id="read-picture"
        )
        self.files.upload(
            self.open,
            self.files,
            [self.files, self.status, self.frame, self.picture],
            api_name="read",
            concurrency_id="look",
            concurrency_limit=2,
        )
        self.frame.release(
            self.show, self.frame, [self.status, self.picture], api_name="read_frame", show_progress="hidden"
        )

    def open(self, uploads: list[str], request: gr.Request) -> tuple[Any, ...]:
        """Take the files, and read the first frame."""
        session = self.sessions.of(request.session_hash or "")
        try:
            clip = session.open(uploads).clip
            status, picture = self._read(session, 0)
        except MENDABLE as error:
            hidden = gr.update(visible=False)
            return None, words.said("bad", session.folder.in_words(error)), hidden, hidden
        slider = gr.update(maximum=max(clip.frames - 1, 1), value=0, visible=clip.frames > 1)
        return None, status, slider, picture

    def show(self, number: int, request: gr.Request) -> tuple[Any, ...]:
        """Read another frame."""
        session = self.sessions.of(request.session_hash or "")
        try:
            return self._read(session, int(number))
        except MENDABLE as error:
            return words.said("bad", session.folder.in_words(error)), gr.update(visible=False)

    def _read(self, session: Session, number: int) -> tuple[str, Any]:
        opened = session.opened_file
        if opened is None:
            raise ValueError("there is no protected file yet.")
        image, faces = opened.read(number)
        path = Picture(draw_faces(image, faces)).save(session.folder.place("read.png"))
        by = f"{', '.join(opened.models)}{', by the key' if opened.keyed else ''}"
        kind: words.Kind = "good" if len(faces) else "note"
        found = words.said(kind, f"{by}: {len(faces)} face{'s' * (len(faces) != 1)} in frame {number}", _told(faces))
        return found, gr.update(value=str(path), visible=True)


def _told(faces: Faces) -> str:
    """The boxes in words."""
    return "; ".join(
        f"box {', '.join(f'{value:.0f}' for value in box)}, score {score:.2f}"
        for box, score in zip(faces.boxes.tolist(), faces.scores.tolist(), strict=True)
    )
