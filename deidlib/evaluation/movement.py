"""``MovementResult``: how far what a reader reads over time follows what it reads on the originals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from deidlib.metrics import Fidelity, FollowedFace, fidelities

LABELS = {
    "centre_px": "box centre",
    "size_px": "box size",
    "points_px": "points",
    "mouth_px": "mouth opening",
    "eyes_px": "eye opening",
    "head_pitch_deg": "head pitch",
    "head_yaw_deg": "head yaw",
    "head_roll_deg": "head roll",
    "gaze_pitch_deg": "gaze pitch",
    "gaze_yaw_deg": "gaze yaw",
}
"""What is followed, in words."""

_GAZE = ("gaze_pitch_deg", "gaze_yaw_deg")
_BOX = ("centre_px", "size_px")
_READ_BY = {"gaze": _GAZE, "landmarks": tuple(name for name in LABELS if name not in (*_BOX, *_GAZE))}


@dataclass(frozen=True, eq=False)
class MovementResult:
    """Every face through its clip, as :class:`~deidlib.metrics.TemporalFidelity` has it.

    Args:
        task: of the reader.
        clips: per clip the faces that were followed in it.
        max_lag: frames to either side among which a lag was looked for.
    """

    task: str
    clips: Sequence[Sequence[FollowedFace]]
    max_lag: int

    @property
    def faces(self) -> list[FollowedFace]:
        """The faces of all clips, one after the other."""
        return [face for clip in self.clips for face in clip]

    @cached_property
    def all(self) -> Mapping[str, Fidelity]:
        """Over all faces together, by signal."""
        return fidelities(self.faces, max_lag=self.max_lag)

    def of(self, face: FollowedFace) -> Mapping[str, Fidelity]:
        """Of one face, by signal."""
        return fidelities([face], max_lag=self.max_lag)

    @property
    def own(self) -> dict[str, Fidelity]:
        """Over all faces, the signals that move and that the reader reads itself: one of gaze repeats given boxes."""
        names = _READ_BY.get(self.task, LABELS)
        return {name: self.all[name] for name in names if not math.isnan(self.all[name].values.correlation)}

    @property
    def longest(self) -> tuple[int, FollowedFace] | None:
        """The face that is compared in most frames, and the number of its clip; None if none is compared in two."""
        faces = [(clip, face) for clip, inside in enumerate(self.clips) for face in inside if face.compared > 1]
        return max(faces, key=lambda found: found[1].compared, default=None)
