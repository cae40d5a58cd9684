"""``SideBySide``: several chains of a clip at a time, since within one a frame waits for the frame before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from deidlib.attack.attack_step import AttackStep
from deidlib.attack.chain import PreviousFrame
from deidlib.protect.batches import DetectedBatch, ProtectedBatch
from deidlib.protect.deidentifier import Deidentifier
from deidlib.tracking import TrackedFrame


@dataclass(eq=False)
class _Lane:
    """A chain that has been begun."""

    left: int
    waiting: deque[tuple[DetectedBatch, int, TrackedFrame]] = field(default_factory=deque)
    previous: PreviousFrame | None = None


@dataclass(frozen=True)
class SideBySide:
    """Protect a clip's frames, of several chains at a time one each.

    On a device that works on many pixels at once, one frame alone leaves most of it idle. Frames of other chains do not
    wait for it, so they go with it; those that come before their turn wait in 8 bits. What becomes of a frame depends
    on its chain alone (:meth:`Deidentifier.protect_abreast`), and not on how many there are.

    With one chain at a time, which is for sources that come live, every frame leaves as soon as it has come.

    Args:
        deidentifier: what happens to the frames.
        count: chains at a time, at least 1. So many times :attr:`Deidentifier.part` frames wait at most.
        on_step: told how the attacks go, step by step.

    Example:
        >>> import torch
        >>> from deidlib import MTCNN, Chain, Deidentifier, IFGSMAttacker
        >>> deidentifier = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=1), chain=Chain(length=2))
        >>> seen = deidentifier.follow([deidentifier.detect(torch.rand(4, 3, 64, 64), 0)])
        >>> [list(batch.numbers) for batch, _, _ in SideBySide(deidentifier, 2).over(seen)]
        [[0, 2], [1, 3]]
    """

    deidentifier: Deidentifier
    count: int
    on_step: Callable[[AttackStep], object] | None = None

    def over(
        self, followed: Iterable[tuple[DetectedBatch, Sequence[TrackedFrame]]]
    ) -> Iterator[tuple[DetectedBatch, list[TrackedFrame], ProtectedBatch]]:
        """Protect frames as they come from :meth:`Deidentifier.follow`.

        Args:
            followed: batches in the order of the clip; whole chains may be left out.

        Yields:
            Batches of one frame each of several chains; the frames of a chain come in order.
        """
        lanes: dict[int, _Lane] = {}
        for batch, tracked in followed:
            for i, frame in enumerate(tracked):
                chain, place = divmod(batch.numbers[i], self.deidentifier.part)
                lane = lanes.setdefault(chain, _Lane(self.deidentifier.part - place))
                lane.waiting.append((batch, i, frame))
            while sum(1 for lane in lanes.values() if lane.waiting) >= self.count:
                yield self._wave(lanes)
        while any(lane.waiting for lane in lanes.values()):
            yield self._wave(lanes)

    def _wave(self, lanes: dict[int, _Lane]) -> tuple[DetectedBatch, list[TrackedFrame], ProtectedBatch]:
        """The next frame of every chain that has one."""
        mine = [lane for lane in lanes.values() if lane.waiting][: self.count]
        frames = [lane.waiting.popleft() for lane in mine]
        batch, tracked = DetectedBatch.abreast([(seen, i) for seen, i, _ in frames]), [frame for _, _, frame in frames]
        protected, last = self.deidentifier.protect_abreast(
            batch, tracked, [lane.previous for lane in mine], on_step=self.on_step
        )
        for lane, previous in zip(mine, last, strict=True):
            lane.previous, lane.left = previous, lane.left - 1
        for chain in [chain for chain, lane in lanes.items() if not lane.left]:
            del lanes[chain]
        return batch, tracked, protected
