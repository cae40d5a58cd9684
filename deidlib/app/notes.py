"""``notes``: what the user should know of a file before anything is made of it."""

from __future__ import annotations

from deidlib.app import words
from deidlib.app.session import Session


def about(session: Session) -> tuple[str, str]:
    """The file in words."""
    clip = session.opened
    size = f"{clip.size[1]} x {clip.size[0]} pixels"
    what = size if clip.frames == 1 else f"{clip.frames} frames of {size}"
    return f"{clip.path.name}: {what}", ""


def notes(session: Session, frame: int, treatment: str) -> str:
    """What the user should know of the faces."""
    told = []
    if not session.marking.faces:
        told.append(words.said("note", "No face was found. Look for yourself: draw one that was missed."))
    if left := session.marking.unchecked:
        numbers = ", ".join(str(number + 1) for number in left)
        told.append(words.said("bad", f"Unchecked, and left as in the original, for everybody to see: {numbers}."))
    if treatment in ("whole-frame", "held", "filled"):
        what = "the whole frame is hidden" if treatment == "whole-frame" else "places of faces seen nearby are hidden"
        told.append(
            words.said("note", f"No checked face is known in frame {frame}: {what}.", "More, below, has other ways.")
        )
    if treatment == "kept":
        told.append(words.said("bad", f"Nothing is hidden in frame {frame}, since you chose so under More."))
    if session.marking.disputed:
        some = ", ".join(map(str, session.marking.disputed[:8])) + (" ..." if len(session.marking.disputed) > 8 else "")
        where = "" if session.opened.frames == 1 else f" in frame {some}"
        told.append(words.said("note", f"Detectors disagree about the number of faces{where}: look there."))
    return "".join(told)
