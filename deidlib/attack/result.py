"""``AttackResult``: what an attack produced and how it went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from deidlib.attack.loop import Trace
from deidlib.attack.reading_step import Slopes
from deidlib.attack.tolerance import ReadingError
from deidlib.faces import Faces
from deidlib.records.html_table import html_table
from deidlib.visualize import amplified, figure, picture, sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack produced and how it went.

    Args:
        images: ``(B, 3, H, W)`` the best iterate of each frame, exactly representable in uint8.
        losses: per model ``(T + 1, B)``, not weighted; row n after n steps, NaN once a frame has finished.
        objective: ``(T + 1, B)`` the combined loss, by which the best iterate is chosen.
        iterations: ``(B,)`` long, steps taken.
        gradients: ``(B,)`` long, backward passes that these needed, of the model that needed most at each: fine steps
            often go by what is known, and sometimes take one for every number that is read.
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
    gradients: Tensor
    best: Tensor
    converged: Tensor
    readings: dict[str, list[Faces]]
    within: Tensor | None = None
    errors: Mapping[str, ReadingError] = field(default_factory=dict)
    excess: Tensor | None = None
    slopes: Sequence[Sequence[Slopes]] = ()

    def __repr__(self) -> str:
        frames, _, height, width = self.images.shape
        few, many = int(self.iterations.min()), int(self.iterations.max())
        steps = f"{few} to {many} steps" if few < many else f"{many} steps"
        losses = ", ".join(f"{name} {float(loss.mean()):.3g}" for name, loss in self.final_losses().items())
        within = "" if self.within is None else f"; {int(self.within.sum())} within tolerance"
        count = f"{frames} frame{'s' * (frames != 1)} of {width} x {height}"
        return f"AttackResult({count}, {steps}; final loss {losses}{within})"

    def _repr_html_(self) -> str:
        """What a notebook shows: a row per frame."""
        losses = {f"loss {name}": loss.tolist() for name, loss in self.final_losses().items()}
        columns: dict[str, list[Any]] = {
            "frame": list(range(len(self.images))),
            "steps": self.iterations.tolist(),
            "best": self.best.tolist(),
            **({} if self.within is None else {"within tolerance": self.within.tolist()}),
            **losses,
        }
        return html_table(zip(*columns.values(), strict=True), head=list(columns), caption=repr(self))

    def show(self, *before: Tensor, titles: Sequence[str] | None = None, most: int = 4) -> Image:
        """A sheet of the frames as they are now, beside what they were before, which a notebook shows.

        Args:
            before: ``(B, 3, H, W)`` each: the originals, the hidden frames. With any, the perturbation is shown as
                well: 16 times the difference from the last of them, on grey.
            titles: of the columns.
            most: frames that are shown, one a row.

        Returns:
            The sheet; ``.save("sheet.png")`` keeps it.

        Raises:
            ValueError: not as many frames as there are here, or of another size; a wrong number of titles.
        """
        stages = [*before, self.images]
        if any(stage.shape != self.images.shape for stage in stages):
            raise ValueError(
                f"show takes batches of {tuple(self.images.shape)}, got {[tuple(stage.shape) for stage in before]}."
            )
        if before:
            stages.append(amplified(self.images, before[-1].to(self.images)))
        if titles is None and len(before) in (1, 2):
            titles = ["original", "hidden", "attacked", "perturbation x 16"][2 - len(before) :]
        losses, captions = self.final_losses(), []
        for i in range(min(most, len(self.images))):
            reached = ", ".join(f"{name} {float(loss[i]):.3g}" for name, loss in losses.items())
            caption = f"step {int(self.best[i])}: loss {reached}"
            captions.append([caption if stage is self.images else "" for stage in stages])
        rows = [[stage[i] for stage in stages] for i in range(len(captions))]
        return picture(sheet(rows, titles, captions=captions))

    def plot(self) -> Figure:
        """Each model's loss over the steps: the mean over the frames, and thin every frame; the best step is marked.

        Returns:
            A figure of matplotlib (extra ``[notebook]``), which a notebook shows; ``.savefig("loss.png")`` keeps it.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        drawing = figure(6.4, 3.6)
        axes = drawing.add_subplot()
        best = self.best.cpu()
        for number, (name, rows) in enumerate(self.losses.items()):
            table, colour = rows.detach().cpu().double(), f"C{number}"
            if table.shape[1] > 1:
                axes.plot(table, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(table.nanmean(dim=1), color=colour, linewidth=1.8, label=name)
            axes.plot(best, table.gather(0, best[None])[0], "o", color=colour, markersize=4)
        known = [value for rows in self.losses.values() for value in rows.flatten().tolist() if math.isfinite(value)]
        if known and min(known) > 0:
            axes.set_yscale("log", subs=(2, 5))
            # Without powers of ten, whose letters not every machine has.
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}" if max(known) < 100 * min(known) else "")
        axes.set(title="Loss of each model (dots: the step returned)", xlabel="steps", ylabel="loss (no unit)")
        axes.grid(alpha=0.3)
        axes.legend()
        return drawing

    def final_losses(self) -> dict[str, Tensor]:
        """Per model ``(B,)``: the losses of the returned images."""
        return {name: rows.gather(0, self.best[None])[0] for name, rows in self.losses.items()}

    def frames(self) -> list[AttackResult]:
        """Each frame's, as if it had been attacked alone."""
        if len(self.images) == 1:
            return [self]
        return [self._frame(i, looks) for i, looks in enumerate((self.iterations + 1).tolist())]

    def _frame(self, i: int, looks: int) -> AttackResult:
        row = slice(i, i + 1)
        at = torch.tensor([i], device=self.images.device)
        return replace(
            self,
            images=self.images[row],
            losses={name: rows[:looks, row] for name, rows in self.losses.items()},
            objective=self.objective[:looks, row],
            iterations=self.iterations[row],
            gradients=self.gradients[row],
            best=self.best[row],
            converged=self.converged[row],
            readings={name: list(read[row]) for name, read in self.readings.items()},
            within=None if self.within is None else self.within[row],
            errors={name: error.select(at) for name, error in self.errors.items()},
            excess=None if self.excess is None else self.excess[row],
            slopes=self.slopes[row],
        )

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
            gradients=self.gradients + again.gradients,
            best=chosen(self.best, again.best + len(self.objective)),
            converged=chosen(self.converged, again.converged),
            within=chosen(self.within, again.within),
            errors={name: error.chosen(again.errors[name], better) for name, error in self.errors.items()},
            excess=chosen(self.excess, again.excess),
            slopes=again.slopes,
        )

    @classmethod
    def of(cls, trace: Trace, images: Tensor, readings: dict[str, list[Faces]]) -> AttackResult:
        """What a loop kept.

        Args:
            trace: of the loop.
            images: ``(B, 3, H, W)`` the frames, of which the loop saw the part that may change.
            readings: per model what it was to read.
        """
        device = images.device
        losses, objective = trace.history()
        return cls(
            images=images,
            losses=losses,
            objective=objective,
            iterations=torch.tensor(trace.iterations, device=device),
            gradients=torch.tensor(trace.gradients, device=device),
            best=trace.best,
            converged=torch.tensor(trace.converged, device=device),
            readings=readings,
            slopes=[()] * len(images),
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
            gradients=torch.cat([result.gradients for result in results]),
            best=torch.cat([result.best for result in results]),
            converged=torch.cat([result.converged for result in results]),
            readings={
                name: [faces for result in results for faces in result.readings[name]] for name in results[0].readings
            },
            within=torch.cat(judged) if len(judged) == len(results) else None,
            excess=torch.cat(excess) if len(excess) == len(results) else None,
            errors={name: ReadingError.cat([result.errors[name] for result in results]) for name in results[0].errors},
            # Those of the last frame alone: each is as large as many frames, and nobody goes on from the others.
            slopes=[*[()] * (sum(len(result.images) for result in results) - 1), *results[-1].slopes[-1:]],
        )
