"""``ProtectedFrames``: frames on their way to be stored, with what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from deidlib.attack.attack_step import AttackStep
from deidlib.images import from_uint8, to_uint8
from deidlib.protect.batches import DetectedBatch, FaceCount, ProtectedBatch
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.frame_record import FrameRecord
from deidlib.protect.side_by_side import SideBySide
from deidlib.tracking import TrackedFrame

# Treatments of frames in which faces are hidden one by one.
_ONE_BY_ONE = ("found", "filled", "held")
Look = Callable[[DetectedBatch, Sequence[TrackedFrame], Tensor], object]


class ProtectedFrames(NamedTuple):
    """Some consecutive frames, to be stored.

    Args:
        first: the number of the first of them.
        images: ``(B, 3, H, W)`` on the uint8 grid and the CPU.
        records: what is known of each.
    """

    first: int
    images: Tensor
    records: list[FrameRecord]

    @classmethod
    def of(
        cls,
        deidentifier: Deidentifier,
        followed: Iterable[tuple[DetectedBatch, list[TrackedFrame]]],
        chains: int,
        *,
        look: Look | None = None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> Iterator[ProtectedFrames]:
        """Protect frames batch by batch; or chain beside chain, where a frame waits for the one before it.

        Args:
            deidentifier: what happens to them.
            followed: what :meth:`Deidentifier.follow` gives.
            chains: so many at a time.
            look: shown the originals, where faces are hidden in them, and what they became.
            on_step: told how the attacks go, step by step.
        """
        for batch, tracked, protected in _protected(deidentifier, followed, chains, on_step):
            if look is not None:
                look(batch, tracked, protected.images)
            records = _records(deidentifier, batch, tracked, protected)
            # Eight bits travel faster.
            images = from_uint8(to_uint8(protected.images).cpu())
            if not batch.apart:
                yield cls(batch.first, images, records)
                continue
            for i, number in enumerate(batch.numbers):
                yield cls(number, images[i : i + 1], records[i : i + 1])


def _protected(
    deidentifier: Deidentifier,
    followed: Iterable[tuple[DetectedBatch, list[TrackedFrame]]],
    chains: int,
    on_step: Callable[[AttackStep], object] | None,
) -> Iterator[tuple[DetectedBatch, list[TrackedFrame], ProtectedBatch]]:
    if deidentifier.chain is not None:
        yield from SideBySide(deidentifier, chains, on_step).over(followed)
        return
    for batch, tracked in followed:
        yield batch, tracked, deidentifier.protect(batch, tracked, on_step=on_step)


def _records(
    deidentifier: Deidentifier, batch: DetectedBatch, tracked: Sequence[TrackedFrame], protected: ProtectedBatch
) -> list[FrameRecord]:
    return [
        FrameRecord(
            tick,
            faces.to("cpu"),
            frame.treatment,
            # Lost faces that are hidden in a frame in which others are found.
            len(frame.filled) + len(frame.held) if frame.treatment == "found" else 0,
            {name: known.to("cpu") for name, known in readings.items()},
            losses,
            within,
            len(frame.found) + len(frame.filled) + len(frame.held) if frame.treatment in _ONE_BY_ONE else 0,
            count,
            dict(swaps),
            deidentifier.regions(frame, batch.size),
        )
        for tick, faces, frame, readings, losses, within, count, swaps in zip(
            batch.times,
            batch.faces,
            tracked,
            protected.readings,
            protected.losses(),
            protected.within(),
            batch.counts or [FaceCount()] * len(tracked),
            protected.swaps or [{}] * len(tracked),
            strict=True,
        )
    ]
