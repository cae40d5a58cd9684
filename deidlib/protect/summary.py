"""``Summary``: what happened to a file, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deidlib.protect.frame_record import FrameRecord
from deidlib.protect.readback import Readback
from deidlib.records.html_table import html_table


@dataclass(frozen=True)
class Summary:
    """What happened to a file.

    Args:
        frames: frames written.
        found: frames with faces, hidden and attacked.
        filled: frames without a face found, where the places of those found before and after were hidden.
        held: frames without a face found, where the places of those found before or after were hidden.
        partly_held: frames with faces found, where the place of another one, lost, was hidden too.
        whole_frame: frames hidden altogether.
        kept: frames left as they came.
        fewest: faces and places of lost ones hidden in a frame, at least; of frames hidden face by face, None without.
        most: the same, at most.
        turned: frames in which faces were found only when they were turned: those are hidden, and not attacked.
        disputed: frames in which detectors disagree about the number of faces: they deserve a look.
        losses: mean final loss per model over the attacked frames.
        beyond: attacked frames that some model does not read within its tolerance, whatever was tried; None where there
            is no tolerance.
        swaps: how many faces were swapped, under ``"swapped"``, and how many were hidden instead, by the reason;
            empty if no swapper hides them.
        doubtful: the frames that somebody should look at before the file is shared, by number, and why: what is hidden
            there is not what detectors agree to have found.
        readback: how the authorised models read the written file; None where that was not asked for.
    """

    frames: int
    found: int
    filled: int
    held: int
    partly_held: int
    whole_frame: int
    kept: int
    fewest: int | None
    most: int | None
    turned: int
    disputed: int
    losses: dict[str, float]
    beyond: int | None = None
    readback: Readback | None = None
    swaps: Mapping[str, int] = field(default_factory=dict)
    doubtful: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        said = ", ".join(f"{value} {name}" for name, value in self._counts() if name != "frames")
        read = ", ".join(self._read())
        return f"Summary({self.frames} frame{'s' * (self.frames != 1)}: {said}{'; ' if read else ''}{read})"

    def _repr_html_(self) -> str:
        """What a notebook shows: counts that are not zero, and how the file is read."""
        rows: list[tuple[str, object]] = [*self._counts(), *((f"loss of {n}", loss) for n, loss in self.losses.items())]
        rows += [("read back", line) for line in self._read()]
        if doubtful := len(self.doubtful):
            rows.append(("to be looked at", f"{doubtful} frame{'s' * (doubtful != 1)}"))
        return html_table(rows, caption=f"Summary of {self.frames} frame{'s' * (self.frames != 1)}")

    def _counts(self) -> list[tuple[str, int]]:
        names = (
            "frames",
            "found",
            "filled",
            "held",
            "partly_held",
            "whole_frame",
            "kept",
            "turned",
            "disputed",
            "beyond",
        )
        known = {name.replace("_", " "): getattr(self, name) for name in names} | dict(self.swaps)
        return [(name, value) for name, value in known.items() if value]

    def _read(self) -> list[str]:
        """How each model reads the file, in words."""
        lines = []
        for name, read in (self.readback.models if self.readback else {}).items():
            known = {"IoU": read.mean_iou, "NME": read.mean_nme, "degrees off": read.mean_gaze}
            values = [f"{measure} {value:.3g}" for measure, value in known.items() if value is not None]
            lines.append(" ".join([f"{name} finds {read.found:.0%} of {read.faces},", *values]).rstrip(","))
        return lines

    @classmethod
    def of(cls, frames: Iterable[FrameRecord], readback: Readback | None = None) -> Summary:
        """Count what is recorded of the frames.

        Args:
            frames: one record per frame.
            readback: how the written file is read.
        """
        treatments: Counter[str] = Counter()
        partly_held = turned = disputed = 0
        hidden: list[int] = []
        within: list[bool] = []
        swaps: Counter[str] = Counter()
        losses: dict[str, list[float]] = {}
        doubtful: dict[int, tuple[str, ...]] = {}
        before: FrameRecord | None = None
        for number, frame in enumerate(frames):
            if doubts := tuple(_doubts(frame, before)):
                doubtful[number] = doubts
            before = frame
            treatments[frame.treatment] += 1
            partly_held += frame.others > 0
            turned += frame.count.turned > 0
            disputed += frame.count.disputed
            swaps.update(frame.swaps)
            hidden += [frame.hidden] if frame.hidden else []
            within += [] if frame.within is None else [frame.within]
            for name, loss in frame.losses.items():
                losses.setdefault(name, []).append(loss)
        return cls(
            frames=treatments.total(),
            found=treatments["found"],
            filled=treatments["filled"],
            held=treatments["held"],
            partly_held=partly_held,
            whole_frame=treatments["whole-frame"],
            kept=treatments["kept"],
            fewest=min(hidden, default=None),
            most=max(hidden, default=None),
            turned=turned,
            disputed=disputed,
            losses={name: sum(values) / len(values) for name, values in losses.items()},
            beyond=within.count(False) if within else None,
            readback=readback,
            swaps=dict(swaps),
            doubtful=doubtful,
        )


_TREATMENTS = {
    "filled": "no face found: the places of those found before and after are hidden",
    "held": "no face found: the places of those found before or after are hidden",
    "whole-frame": "no face found: the whole frame is hidden",
    "kept": "no face found: the frame is as it came",
}


def _doubts(frame: FrameRecord, before: FrameRecord | None) -> Iterator[str]:
    """Why somebody should look at a frame."""
    if frame.count.disputed:
        said = ", ".join(f"{name} {count}" for name, count in frame.count.upright.items())
        yield f"detectors disagree about the number of faces: {said}"
    if frame.count.turned:
        yield "faces found in the turned frame only"
    if frame.treatment in _TREATMENTS:
        yield _TREATMENTS[frame.treatment]
    if frame.others:
        yield "the place of a lost face is hidden besides"
    if before is not None and len(frame.faces) != len(before.faces):
        yield f"faces found: {len(frame.faces)}, in the frame before {len(before.faces)}"
