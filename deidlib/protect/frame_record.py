"""``FrameRecord``: what is known about a frame of a clip, as it is kept beside its segment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from deidlib.bounded import (
    SHA256,
    fields,
    listed,
    mapped,
    maybe,
    number,
    text,
    truth,
    whole,
)
from deidlib.faces import Faces
from deidlib.protect.batches import FaceCount
from deidlib.records.faces_json import faces_from_json, faces_to_json
from deidlib.tracking import Treatment


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """What is known about a frame of a clip, and is needed to go on or to check the result.

    Args:
        pts: its time stamp, in ticks of the clip's time base.
        faces: that the hiding detectors found in the original.
        treatment: what happened to it; see :class:`~deidlib.protect.batches.ProtectedBatch`.
        others: how many lost faces were hidden besides.
        readings: what each authorised model reads on the original of the faces that were hidden, by name.
        losses: each model's final loss, by name.
        within: whether every model reads it within its tolerance, before it is stored; None if there is none.
        hidden: faces hidden one by one, and places of lost ones; 0 in a frame that was hidden altogether or kept.
        count: how many faces were found in the original, by whom.
        regions: rectangles outside of which nothing was changed, left, top, right, bottom; None if that is not known.
        swaps: how many of them were swapped, and how many not, by the reason.
    """

    pts: int
    faces: Faces
    treatment: str
    others: int
    readings: Mapping[str, Faces]
    losses: Mapping[str, float]
    within: bool | None = None
    hidden: int = 0
    count: FaceCount = field(default_factory=FaceCount)
    swaps: Mapping[str, int] = field(default_factory=dict)
    regions: Sequence[Sequence[int]] | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON; floats come back bit for bit, a loss that is not finite as NaN."""
        return {
            "pts": self.pts,
            "faces": faces_to_json(self.faces),
            "treatment": self.treatment,
            "others": self.others,
            "readings": {name: faces_to_json(faces) for name, faces in self.readings.items()},
            "losses": {name: loss if math.isfinite(loss) else None for name, loss in self.losses.items()},
            "within": self.within,
            "hidden": self.hidden,
            "count": asdict(self.count),
            "swaps": dict(self.swaps),
            "regions": None if self.regions is None else [list(region) for region in self.regions],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FrameRecord:
        """The record that :meth:`to_json` gave."""
        readings = {name: faces_from_json(faces) for name, faces in data["readings"].items()}
        return cls(
            data["pts"],
            faces_from_json(data["faces"]),
            data["treatment"],
            data["others"],
            readings,
            {name: math.nan if loss is None else loss for name, loss in data["losses"].items()},
            data["within"],
            data["hidden"],
            FaceCount(**data["count"]),
            data["swaps"],
            data["regions"],
        )


_FACES = fields({})
REGIONS = listed(listed(whole(0, 1 << 20), 4, 4), 10_000)
"""Of a frame: rectangles outside of which nothing was changed."""
_FRAME = fields(
    {
        "pts": whole(-(2**62), 2**62),
        "faces": _FACES,
        "treatment": text(20, "|".join(get_args(Treatment))),
        "others": whole(0, 1_000_000),
        "readings": mapped(_FACES),
        "losses": mapped(maybe(number)),
        "within": maybe(truth),
        "hidden": whole(0, 1_000_000),
        "count": fields({"upright": mapped(whole(0, 1_000_000)), "turned": whole(0, 1_000_000)}),
        "swaps": mapped(whole(0, 1_000_000)),
        "regions": maybe(REGIONS),
    }
)
RECORD = fields({"sha256": SHA256, "frames": listed(_FRAME, 100_000)})
"""Of a segment: the hash of its video, and :meth:`FrameRecord.to_json` of its frames."""
