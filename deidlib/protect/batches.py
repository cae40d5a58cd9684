"""Batches of consecutive frames on their way: once detectors have looked at them, and once they are protected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from deidlib.attack.chain import PreviousFrame, left_by
from deidlib.attack.result import AttackResult
from deidlib.faces import Faces
from deidlib.images import from_uint8
from deidlib.tracking import Treatment
from deidlib.visualize import amplified, picture, sheet

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class FaceCount:
    """How many faces of a frame were found, and by whom.

    Args:
        upright: by each detector that looked at the frame as it is.
        turned: faces besides, which were found in the turned frame only.
    """

    upright: Mapping[str, int] = field(default_factory=dict)
    turned: int = 0

    @property
    def disputed(self) -> bool:
        """Whether detectors disagree about the number."""
        return len(set(self.upright.values())) > 1


@dataclass(frozen=True, eq=False)
class DetectedBatch:
    """Some frames, once detectors have looked at them: consecutive ones, or one each of several chains.

    Args:
        first: the number of the first frame in the clip.
        levels: ``(B, 3, H, W)`` uint8 the frames; None if they need no protection (any more).
        size: height and width in pixels.
        faces: what the hiding detectors found in each frame.
        readings: per frame what authorised models read on it, by name, as far as it is known.
        pts: the frames' time stamps, if they have some.
        counts: per frame how many faces who found.
        complete: whether everybody has looked who is to look.
        apart: the frames' numbers, where they do not follow each other.
    """

    first: int
    levels: Tensor | None
    size: tuple[int, int]
    faces: Sequence[Faces]
    readings: Sequence[Mapping[str, Faces]]
    pts: Sequence[int] = ()
    counts: Sequence[FaceCount] = ()
    complete: bool = True
    apart: Sequence[int] = ()

    @property
    def numbers(self) -> Sequence[int]:
        """The frames' numbers in the clip."""
        return self.apart or range(self.first, self.first + len(self.faces))

    @property
    def times(self) -> Sequence[int]:
        """The frames' time stamps; their numbers where they have none."""
        return self.pts or self.numbers

    @classmethod
    def abreast(cls, frames: Sequence[tuple[DetectedBatch, int]]) -> Self:
        """One frame each of several chains.

        Args:
            frames: batches of frames that are to be protected, and which frame of each.
        """
        first, _ = frames[0]
        return cls(
            first.numbers[frames[0][1]],
            torch.stack([batch.levels[i] for batch, i in frames if batch.levels is not None]),
            first.size,
            [batch.faces[i] for batch, i in frames],
            [batch.readings[i] for batch, i in frames],
            [batch.times[i] for batch, i in frames],
            [batch.counts[i] if batch.counts else FaceCount() for batch, i in frames],
            apart=[batch.numbers[i] for batch, i in frames],
        )

    def to(self, device: torch.device | str) -> Self:
        """The same with every tensor on ``device``."""
        return replace(
            self,
            levels=None if self.levels is None else self.levels.to(device),
            faces=[known.to(device) for known in self.faces],
            readings=[{name: known.to(device) for name, known in read.items()} for read in self.readings],
        )

    def originals(self) -> Tensor:
        """The frames, ``(B, 3, H, W)`` in [0, 1]."""
        assert self.levels is not None
        return from_uint8(self.levels)


@dataclass(frozen=True, eq=False)
class ProtectedBatch:
    """Some consecutive frames, before, between and after.

    Args:
        originals: ``(B, 3, H, W)``, on the uint8 grid.
        hidden: ``(B, 3, H, W)`` after hiding, on the uint8 grid; what the perturbation was added to.
        images: ``(B, 3, H, W)`` protected, on the uint8 grid.
        faces: what was found in each frame, or the places hidden where nothing was found.
        others: places hidden besides in ``"found"`` frames: of faces seen before or after and not in this frame, and
            what keeps the hidden region from trembling.
        treatment: for each frame ``"found"``: faces were found, hidden, and the frame attacked; ``"filled"``: none was
            found, the places of those found before *and* after were hidden; ``"held"``: of those found before or after;
            ``"whole-frame"``: the whole frame was hidden; ``"kept"``: the frame left as it came, since
            ``on_missing="keep"`` asked for it.
        attack: the attack on the ``"found"`` frames, in order; ``None`` if there are none.
        readings: per frame what each authorised model reads on the original of the faces that were hidden, by name;
            nothing for a frame that was not attacked.
        swaps: per frame how many faces were swapped, and how many not, by the reason; nothing if no swapper hides them.
    """

    originals: Tensor
    hidden: Tensor
    images: Tensor
    faces: list[Faces]
    others: list[Faces]
    treatment: list[Treatment]
    attack: AttackResult | None
    readings: list[dict[str, Faces]] = field(default_factory=list)
    swaps: Sequence[Mapping[str, int]] = ()

    def __repr__(self) -> str:
        count, _, height, width = self.images.shape
        done = ", ".join(f"{number} {what}" for what, number in Counter(self.treatment).items())
        return f"ProtectedBatch({count} frame{'s' * (count != 1)} of {width} x {height}: {done})"

    def show(self, most: int = 4) -> Image:
        """A sheet of the frames, original, hidden and protected, and the perturbation, which a notebook shows.

        Args:
            most: frames that are shown, one a row.
        """
        stages = (self.originals, self.hidden, self.images, amplified(self.images, self.hidden))
        rows = [[stage[i] for stage in stages] for i in range(min(most, len(self.images)))]
        captions = [["", "", self.treatment[i], ""] for i in range(len(rows))]
        titles = ("original", "hidden", "protected", "perturbation x 16")
        return picture(sheet(rows, titles, captions=captions))

    def losses(self) -> list[dict[str, float]]:
        """Each frame's final losses, by model; nothing for a frame that was not attacked."""
        rows: list[dict[str, float]] = [{} for _ in self.treatment]
        if self.attack is not None:
            found = [i for i, what in enumerate(self.treatment) if what == "found"]
            for name, losses in self.attack.final_losses().items():
                for i, loss in zip(found, losses.tolist(), strict=True):
                    rows[i][name] = loss
        return rows

    def within(self) -> list[bool | None]:
        """Whether each frame is within tolerance; None for one that was not attacked, or if there is no tolerance."""
        rows: list[bool | None] = [None] * len(self.treatment)
        if self.attack is not None and self.attack.within is not None:
            found = [i for i, what in enumerate(self.treatment) if what == "found"]
            for i, within in zip(found, self.attack.within.tolist(), strict=True):
                rows[i] = within
        return rows

    def last(self) -> PreviousFrame | None:
        """What the frame after these may start from, if the last of them was attacked."""
        if self.attack is None or self.treatment[-1] != "found":
            return None
        return left_by(self.attack, self.faces[-1])
