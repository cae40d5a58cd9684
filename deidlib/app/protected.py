"""``Protected``: a file that a session has made, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deidlib.app.settings import Settings
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.protect.sidecar import Sidecar
from deidlib.protect.summary import Summary


@dataclass(frozen=True, eq=False)
class Protected:
    """A file that was protected.

    Args:
        path: where it lies.
        summary: what happened.
        faces: the file that says where faces are.
        given: the same, frame by frame.
        settings: how it was protected.
        key: by which it is read; None: by none.
        seconds: that it took.
        unchecked: how many faces were left as they are, since the user said so.
        left: these, frame by frame.
        curves: per model the losses by step of the frames attacked last.
    """

    path: Path
    summary: Summary
    faces: Path
    given: Sequence[Faces]
    settings: Settings
    key: Key | None
    seconds: float
    unchecked: int
    left: Sequence[Faces]
    curves: Mapping[str, Sequence[float]]

    @property
    def sidecar(self) -> Path:
        """What describes it."""
        return Sidecar.path_of(self.path)

    @property
    def audit(self) -> Path | None:
        """The contact sheet of a clip."""
        return None if self.path.suffix == ".png" else self.path.with_name("frames.html")

    @property
    def report(self) -> Path:
        """Where the report is, once it is evaluated."""
        return self.path.with_name("report.html")
