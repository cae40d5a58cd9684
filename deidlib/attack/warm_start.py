"""``WarmStart``: attack a frame from where the frame before it ended."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import MomentumSignStep, StepRule
from deidlib.faces import Faces
from deidlib.geometry.boxes import grid_window
from deidlib.geometry.matching import match, same_face

# The surroundings of a face that its perturbation may cover, in units of its longer side.
_AROUND = 0.5


@dataclass(frozen=True, eq=False)
class PreviousFrame:
    """The frame before one.

    Args:
        image: ``(1, 3, H, W)`` as it was protected.
        boxes: ``(N, 4)`` of the faces that were attacked in it.
        hidden: ``(1, 3, H, W)`` before it was attacked; None if that is not known any more.
    """

    image: Tensor
    boxes: Tensor
    hidden: Tensor | None = None


@dataclass(frozen=True)
class WarmStart:
    """Attack a frame from where the frame before it ended, with few and small steps.

    Neighbouring frames of a clip look alike, and so do the perturbations they need. A frame that starts from the
    protected frame before it, projected into its own ball, needs a third of the steps; and as the perturbation stands
    still where it can, a codec that predicts frames from each other (H.264) keeps it, rather than throw new noise away
    in every frame.

    A face that was not there before is given more of these steps. A frame starts afresh, from its hidden self and with
    the attacker's own settings, if the frame before it was not attacked, or none of its faces is where one was. Frames
    are attacked one by one: what becomes of a frame depends on those before it in the clip, and not on the batch.

    Args:
        iterations: steps at most for a frame that starts from the one before it.
        newcomers: steps at most if some of its faces were not in the frame before. Neither is ever more than the
            attacker's own.
        step: the step rule for both.
        overlap: IoU with a face of the frame before from which on a face is taken for the same.
        follow: whether the perturbation goes along with each face, by whole pixels, rather than stand still.
        chain: frames after which one starts afresh: the clip is cut into chains of so many, each of which depends on
            none of the others.

    Raises:
        ValueError: a negative number of steps, an overlap outside [0, 1], or a chain of less than a frame.

    Example:
        >>> WarmStart().iterations
        20
    """

    iterations: int = 20
    newcomers: int = 60
    step: StepRule[Any] = field(default_factory=lambda: MomentumSignStep(0.5 / 255))
    overlap: float = 0.5
    follow: bool = False
    chain: int = 64

    def __post_init__(self) -> None:
        for name, steps in (("iterations", self.iterations), ("newcomers", self.newcomers)):
            if steps < 0:
                raise ValueError(f"{name} must be >= 0 steps, got {steps}.")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap is an IoU in [0, 1], got {self.overlap}.")
        if self.chain < 1:
            raise ValueError(f"chain must be at least 1 frame, got {self.chain}.")

    def begins_chain(self, number: int) -> bool:
        """Whether the frame of that number in its clip is the first of a chain."""
        return number % self.chain == 0

    def attacker(self, attacker: IFGSMAttacker, *, new_faces: bool = False, effort: int = 1) -> IFGSMAttacker:
        """The attacker of a frame that starts from the one before it.

        Args:
            attacker: that of a frame that starts afresh.
            new_faces: some of the frame's faces were not in the frame before.
            effort: how many times the number of steps.
        """
        steps = effort * min(self.newcomers if new_faces else self.iterations, attacker.max_iterations)
        return replace(attacker, max_iterations=steps, step=self.step)

    def start(self, previous: PreviousFrame, hidden: Tensor, faces: Faces) -> Tensor:
        """Where the attack on a frame begins.

        Args:
            previous: the frame before it.
            hidden: ``(1, 3, H, W)`` the frame.
            faces: those of the frame.

        Returns:
            ``(1, 3, H, W)``, not yet projected into the frame's ball: the frame before it, or, with ``follow``, the
            hidden frame with that one's perturbation, which goes along with each face by whole pixels.
        """
        if not self.follow or previous.hidden is None:
            return previous.image.to(hidden)
        perturbation = previous.image.to(hidden) - previous.hidden.to(hidden)
        moved = torch.zeros_like(perturbation)
        height, width = hidden.shape[-2:]
        # The first face is the likeliest: it is drawn last.
        for mine, theirs in sorted(match(faces.boxes, previous.boxes, min_iou=self.overlap).items(), reverse=True):
            then, now = previous.boxes[theirs].tolist(), faces.boxes[mine].tolist()
            dx, dy = (round((now[k] + now[k + 2] - then[k] - then[k + 2]) / 2) for k in (0, 1))
            x1, y1, x2, y2 = grid_window(then, _AROUND * max(then[2] - then[0], then[3] - then[1]), 1, height, width)
            # What would leave the frame is cut off.
            x1, y1 = max(x1, -dx), max(y1, -dy)
            x2, y2 = min(x2, width - dx), min(y2, height - dy)
            if x1 < x2 and y1 < y2:
                moved[..., y1 + dy : y2 + dy, x1 + dx : x2 + dx] = perturbation[..., y1:y2, x1:x2]
        return (hidden + moved).clamp(0, 1)

    def same_faces(self, previous: PreviousFrame, faces: Faces) -> Tensor:
        """Which faces of a frame are where one was in the frame before: ``(N,)`` bool."""
        return same_face(faces.boxes, previous.boxes, min_iou=self.overlap)
