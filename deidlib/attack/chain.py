"""``Chain``: attack a frame from where the frame before it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deidlib.attack.attack_step import AttackStep
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.reading_step import Slopes
from deidlib.attack.result import AttackResult
from deidlib.attack.steps import MomentumSignStep, StepRule
from deidlib.faces import Faces
from deidlib.geometry.boxes import held
from deidlib.geometry.matching import same_face
from deidlib.images import read_together

# The share of a box that lies in a larger one of the same face.
_HELD = 0.9


@dataclass(frozen=True, eq=False)
class PreviousFrame:
    """The frame before one.

    Args:
        image: ``(1, 3, H, W)`` as it was protected.
        boxes: ``(N, 4)`` of the faces that were attacked in it.
        slopes: what fine steps know of it.
    """

    image: Tensor
    boxes: Tensor
    slopes: Sequence[Slopes] = ()


def left_by(attack: AttackResult, faces: Faces) -> PreviousFrame:
    """What the last frame of an attack leaves to the frame after it.

    Args:
        attack: what became of it.
        faces: those that were attacked in that frame.
    """
    return PreviousFrame(attack.images[-1:], faces.boxes, attack.slopes[-1] if attack.slopes else ())


@dataclass(frozen=True)
class Chain:
    """Attack a frame from where the frame before it ended, with few and small steps.

    Neighbouring frames of a clip look alike, and so do the perturbations they need. A frame that starts from the
    protected frame before it, projected into its own ball, needs a third of the steps; and as the perturbation stands
    still where it can, a codec that predicts frames from each other (H.264) keeps it, rather than throw new noise away
    in every frame. That it does not go along with the face is on purpose: a network that strides over the frame reads a
    perturbation moved by other than its stride as another one, and moving it costs more steps than it saves
    (docs/benchmarks.md).

    Told a tolerance (``IFGSMAttacker(until=...)``), a frame takes as many steps as that asks for, often none. One that
    is not within it by then is not given up: it goes on with twice the steps, then starts afresh, as the first of a
    chain does, and goes on with twice the steps again; the best of these is kept.

    A face that was not there before is given more of these steps. A frame starts afresh, from its hidden self and with
    the attacker's own settings, if the frame before it was not attacked, or none of its faces is where one was. Within
    a chain, frames are attacked one by one; chains, side by side: what becomes of a frame depends on those before it in
    its chain, and not on the batch.

    Args:
        iterations: steps at most for a frame that starts from the one before it.
        newcomers: steps at most if some of its faces were not in the frame before. Neither is ever more than the
            attacker's own.
        step: the step rule for both.
        overlap: IoU with a face of the frame before from which on a face is taken for the same; one that holds nearly
            all of that face, or lies in it, is so in any case.
        length: frames after which one starts afresh: the clip is cut into chains of so many, each of which depends on
            none of the others.

    Raises:
        ValueError: a negative number of steps, an overlap outside [0, 1], or a chain of less than a frame.

    Example:
        >>> Chain().iterations
        20
    """

    iterations: int = 20
    newcomers: int = 60
    step: StepRule[Any] = field(default_factory=lambda: MomentumSignStep(0.5 / 255))
    overlap: float = 0.5
    length: int = 64

    def __post_init__(self) -> None:
        for name, steps in (("iterations", self.iterations), ("newcomers", self.newcomers)):
            if steps < 0:
                raise ValueError(f"{name} must be >= 0 steps, got {steps}.")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap is an IoU in [0, 1], got {self.overlap}.")
        if self.length < 1:
            raise ValueError(f"a chain must be of at least 1 frame, got {self.length}.")

    def begins(self, number: int) -> bool:
        """Whether the frame of that number in its clip is the first of a chain."""
        return number % self.length == 0

    def attacker(self, attacker: IFGSMAttacker, *, new_faces: bool = False, effort: int = 1) -> IFGSMAttacker:
        """The attacker of a frame that starts from the one before it.

        Args:
            attacker: that of a frame that starts afresh.
            new_faces: some of the frame's faces were not in the frame before.
            effort: how many times the number of steps.
        """
        steps = effort * min(self.newcomers if new_faces else self.iterations, attacker.max_iterations)
        return replace(attacker, max_iterations=steps, step=self.step)

    def attack(
        self,
        attacker: IFGSMAttacker,
        hidden: Tensor,
        readings: Mapping[str, Sequence[Faces]],
        faces: Sequence[Faces],
        *,
        mask: Tensor,
        numbers: Sequence[int],
        previous: Sequence[PreviousFrame | None],
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> list[AttackResult]:
        """Attack frames of as many chains side by side: what becomes of each does not depend on the others.

        Args:
            attacker: that of a frame that starts afresh.
            hidden: ``(K, 3, H, W)`` the hidden frames.
            readings: per model what it is to read, K entries.
            faces: those of each frame.
            mask: ``(K, 1, H, W)`` where the perturbation may be.
            numbers: the frames' in their clip.
            previous: the frame before each in its chain, if there is one.
            on_step: told how it goes, attempt by attempt, each from step 0.

        Returns:
            Of each frame the best of its attempts, with the iterations of them all.
        """
        kinds = {
            _FRESH: attacker,
            _FOLLOWS: self.attacker(attacker),
            _NEWCOMERS: self.attacker(attacker, new_faces=True),
        }
        ways = [_Way(self._kind(before, known), before) for before, known in zip(previous, faces, strict=True)]
        while left := [i for i, way in enumerate(ways) if way.left]:
            now = ways[left[0]].left[0]
            # Those that are as far are attacked at once.
            rows = [i for i in left if ways[i].left[0] == now]
            kind, effort = now
            more = replace(kinds[kind], max_iterations=effort * kinds[kind].max_iterations)
            begun = [ways[i].image for i in rows]
            for part in read_together(len(rows), hidden.device):
                mine = rows[part]
                images = [image.to(hidden) for image in begun[part] if image is not None]
                result = more(
                    hidden[mine],
                    {name: [read[i] for i in mine] for name, read in readings.items()},
                    mask=mask[mine],
                    init=torch.cat(images) if images else None,
                    numbers=[numbers[i] for i in mine],
                    slopes=[ways[i].slopes for i in mine],
                    on_step=on_step,
                )
                for i, frame in zip(mine, result.frames(), strict=True):
                    ways[i].went(frame, more.max_iterations)
        return [way.best() for way in ways]

    def _kind(self, previous: PreviousFrame | None, faces: Faces) -> str:
        """How a frame begins."""
        if previous is None or not bool((same := self.same_faces(previous, faces)).any()):
            return _FRESH
        return _FOLLOWS if bool(same.all()) else _NEWCOMERS

    def same_faces(self, previous: PreviousFrame, faces: Faces) -> Tensor:
        """Which faces of a frame are where one was in the frame before: ``(N,)`` bool.

        One of which another detector now sees more, or no more, is where it was: one of its boxes holds the other.
        """
        before = previous.boxes.to(faces.boxes)
        inside = (held(faces.boxes, before) >= _HELD).any(dim=1)
        return same_face(faces.boxes, before, min_iou=self.overlap) | inside


_FRESH, _FOLLOWS, _NEWCOMERS = "fresh", "follows", "newcomers"


class _Way:
    """A frame on its way through its attempts.

    Args:
        kind: of the first.
        previous: the frame before it.
    """

    def __init__(self, kind: str, previous: PreviousFrame | None) -> None:
        kinds = [_FRESH] if kind == _FRESH else [kind, _FRESH]
        # Once more from where it ended, with twice the steps, before anything is begun afresh.
        self.left = [(kind, effort) for kind in kinds for effort in (1, 2)]
        self.image = None if previous is None or kind == _FRESH else previous.image
        self.slopes: Sequence[Slopes] = () if previous is None else previous.slopes
        self._result: AttackResult | None = None

    def went(self, now: AttackResult, steps: int) -> None:
        """Note an attempt of so many steps at most."""
        self._result = now if self._result is None else self._result.retried(now)
        if now.within is None or bool(now.within.all()) or not steps:
            self.left = []
            return
        (kind, _), *self.left = self.left
        self.slopes = now.slopes[0]
        self.image = now.images if self.left and self.left[0][0] == kind else None

    def best(self) -> AttackResult:
        """The best of the attempts."""
        assert self._result is not None
        return self._result
