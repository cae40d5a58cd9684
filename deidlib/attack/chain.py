"""``Chain``: attack a frame from where the frame before it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from deidlib.attack.attack_step import AttackStep
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.reading_step import Slopes
from deidlib.attack.result import AttackResult
from deidlib.attack.steps import MomentumSignStep, StepRule
from deidlib.faces import Faces
from deidlib.geometry.matching import same_face


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
    the attacker's own settings, if the frame before it was not attacked, or none of its faces is where one was. Frames
    are attacked one by one: what becomes of a frame depends on those before it in the clip, and not on the batch.

    Args:
        iterations: steps at most for a frame that starts from the one before it.
        newcomers: steps at most if some of its faces were not in the frame before. Neither is ever more than the
            attacker's own.
        step: the step rule for both.
        overlap: IoU with a face of the frame before from which on a face is taken for the same.
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
        faces: Faces,
        *,
        mask: Tensor,
        number: int,
        previous: PreviousFrame | None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> AttackResult:
        """Attack a frame of a chain.

        Args:
            attacker: that of a frame that starts afresh.
            hidden: ``(1, 3, H, W)`` the hidden frame.
            readings: per model what it is to read, one entry.
            faces: those of the frame.
            mask: ``(1, 1, H, W)`` where the perturbation may be.
            number: the frame's in its clip.
            previous: the frame before it in the chain, if there is one.
            on_step: told how it goes, attempt by attempt, each from step 0.

        Returns:
            The best of the attempts, with the iterations of them all.
        """
        fresh: tuple[IFGSMAttacker, Tensor | None] = (attacker, None)
        attempts = [fresh]
        if previous is not None and bool((same := self.same_faces(previous, faces)).any()):
            warm = self.attacker(attacker, new_faces=not bool(same.all()))
            attempts = [(warm, previous.image.to(hidden)), fresh]
        result = None
        slopes = () if previous is None else previous.slopes
        for each, init in attempts:
            for effort in (1, 2):
                # Once more from where it ended, with twice the steps, before anything is begun afresh.
                more = replace(each, max_iterations=effort * each.max_iterations)
                now = more(hidden, readings, mask=mask, init=init, numbers=[number], slopes=[slopes], on_step=on_step)
                result = now if result is None else result.retried(now)
                if now.within is None or bool(now.within.all()) or not more.max_iterations:
                    return result
                init, slopes = now.images, now.slopes[0]
        assert result is not None
        return result

    def same_faces(self, previous: PreviousFrame, faces: Faces) -> Tensor:
        """Which faces of a frame are where one was in the frame before: ``(N,)`` bool."""
        return same_face(faces.boxes, previous.boxes, min_iou=self.overlap)
