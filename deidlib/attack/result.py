"""``AttackResult``: what an attack produced and how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from deidlib.attack.loop import Trace
from deidlib.attack.reading_step import Slopes
from deidlib.attack.tolerance import ReadingError
from deidlib.faces import Faces


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack produced and how it went.

    Args:
        images: ``(B, 3, H, W)`` the best iterate of each frame, exactly representable in uint8.
        losses: per model ``(T + 1, B)``, not weighted; row n after n steps, NaN once a frame has finished.
        objective: ``(T + 1, B)`` the combined loss, by which the best iterate is chosen.
        iterations: ``(B,)`` long, steps taken.
        best: ``(B,)`` long, the step whose iterate was returned: ``losses[m][best[i], i]`` are the losses of
            ``images[i]`` as it would be saved.
        converged: ``(B,)`` bool, whether the threshold was reached.
        readings: per model what it was to read, one entry per frame.
        within: ``(B,)`` bool, which frames every model reads within its tolerance, by ``predict`` on the images
            returned; None if the attack was told none.
        errors: per model how far its reading of the images returned is from what it was to be: least IoU, largest NME,
            gaze and fall of the score, ``(B,)`` each; empty if the attack was told no tolerance.
        excess: ``(B,)`` the same in units of the tolerance, by the worst model and measure: 1 at its edge; None
            likewise.
        slopes: per frame what fine steps know of it: the frame after it may begin with that.

    Example:
        >>> from deidlib import MTCNN, IFGSMAttacker
        >>> attack = IFGSMAttacker([MTCNN()], max_iterations=2)
        >>> result = attack(torch.rand(1, 3, 32, 32), [Faces.empty()])
        >>> result.losses["mtcnn"].shape, result.final_losses()["mtcnn"]  # without a face there is nothing to reach
        (torch.Size([3, 1]), tensor([0.]))
    """

    images: Tensor
    losses: dict[str, Tensor]
    objective: Tensor
    iterations: Tensor
    best: Tensor
    converged: Tensor
    readings: dict[str, list[Faces]]
    within: Tensor | None = None
    errors: Mapping[str, ReadingError] = field(default_factory=dict)
    excess: Tensor | None = None
    slopes: Sequence[Slopes | None] = ()

    def __repr__(self) -> str:
        frames, _, height, width = self.images.shape
        few, many = int(self.iterations.min()), int(self.iterations.max())
        steps = f"{few} to {many} steps" if few < many else f"{many} steps"
        losses = ", ".join(f"{name} {float(loss.mean()):.3g}" for name, loss in self.final_losses().items())
        within = "" if self.within is None else f"; {int(self.within.sum())} within tolerance"
        return f"AttackResult({frames} frames of {width} x {height}, {steps}; final loss {losses}{within})"

    def final_losses(self) -> dict[str, Tensor]:
        """Per model ``(B,)``: the losses of the returned images."""
        return {name: rows.gather(0, self.best[None])[0] for name, rows in self.losses.items()}

    def retried(self, again: AttackResult) -> AttackResult:
        """This attack and another one on the same frames, after which each frame is as the better one left it.

        Better is what is within tolerance, or nearer to it. The other attack's losses come after those of this one: as
        many rows more as it took steps, and one for where it began.

        Args:
            again: the other one, by the same models, told a tolerance as this one was.

        Raises:
            ValueError: one of them was told no tolerance.
        """
        if self.within is None or again.within is None or self.excess is None or again.excess is None:
            raise ValueError("only attacks with a tolerance can be compared: IFGSMAttacker(until=Tolerance(...)).")
        better = (again.within & ~self.within) | ((again.within == self.within) & (again.excess < self.excess))

        def chosen(mine: Tensor, other: Tensor) -> Tensor:
            return torch.where(better.view(-1, *[1] * (mine.ndim - 1)), other, mine)

        return replace(
            self,
            images=chosen(self.images, again.images),
            losses={name: torch.cat([rows, again.losses[name]]) for name, rows in self.losses.items()},
            objective=torch.cat([self.objective, again.objective]),
            iterations=self.iterations + again.iterations,
            best=chosen(self.best, again.best + len(self.objective)),
            converged=chosen(self.converged, again.converged),
            within=chosen(self.within, again.within),
            errors={name: error.chosen(again.errors[name], better) for name, error in self.errors.items()},
            excess=chosen(self.excess, again.excess),
            slopes=again.slopes,
        )

    @classmethod
    def of(cls, trace: Trace, readings: dict[str, list[Faces]]) -> AttackResult:
        """What a loop kept.

        Args:
            trace: of the loop.
            readings: per model what it was to read.
        """
        device = trace.images.device
        losses, objective = trace.history()
        return cls(
            images=trace.images,
            losses=losses,
            objective=objective,
            iterations=torch.tensor(trace.iterations, device=device),
            best=trace.best,
            converged=torch.tensor(trace.converged, device=device),
            readings=readings,
            slopes=trace.slopes,
        )

    @classmethod
    def joined(cls, results: Sequence[AttackResult]) -> AttackResult:
        """Attacks on some frames and on those after them, as one.

        Args:
            results: at least one, by the same models on frames of one size.
        """
        length = max(len(result.objective) for result in results)

        judged = [result.within for result in results if result.within is not None]
        excess = [result.excess for result in results if result.excess is not None]

        def rows(values: Sequence[Tensor]) -> Tensor:
            return torch.cat([pad(value, (0, 0, 0, length - len(value)), value=torch.nan) for value in values], dim=1)

        return cls(
            images=torch.cat([result.images for result in results]),
            losses={name: rows([result.losses[name] for result in results]) for name in results[0].losses},
            objective=rows([result.objective for result in results]),
            iterations=torch.cat([result.iterations for result in results]),
            best=torch.cat([result.best for result in results]),
            converged=torch.cat([result.converged for result in results]),
            readings={
                name: [faces for result in results for faces in result.readings[name]] for name in results[0].readings
            },
            within=torch.cat(judged) if len(judged) == len(results) else None,
            excess=torch.cat(excess) if len(excess) == len(results) else None,
            errors={name: ReadingError.cat([result.errors[name] for result in results]) for name in results[0].errors},
            # Those of the last frame alone: each is as large as many frames, and nobody goes on from the others.
            slopes=[*[None] * (sum(len(result.images) for result in results) - 1), *results[-1].slopes[-1:]],
        )
