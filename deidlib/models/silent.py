"""``Silent``: a detector that is told to find nothing where a face is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.boxes import expand
from deidlib.models.base import Target, TargetModel, frame_of, rows_of


@runtime_checkable
class Proposing(Protocol):
    """A detector that says of every place how much it speaks for a face there."""

    def proposals(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Every place at which a face could be reported.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].

        Returns:
            ``(B, A)`` the log-odds of a face less those of the detector's threshold, so that a face is reported above
            0, differentiable in ``images``; and ``(A, 4)`` the places, xyxy pixels.
        """
        ...


@dataclass(frozen=True, eq=False)
class SilentTarget(Target):
    """One row per face.

    Args:
        frame: ``(F,)`` the frame of the row.
        region: ``(F, 4)`` where nothing is to be found, xyxy pixels.
    """

    region: Tensor


class Silent(TargetModel[SilentTarget]):
    r"""A detector that nobody authorised, to be told to find nothing: a surrogate for strangers like it.

    With :math:`m_a` the log-odds of a face at place a less those of its threshold, the loss of a frame is a hinge, over
    the places whose centres lie in the region around a hidden face:

    .. math::
        L = \sum_{a\ inside} max(0, m_a + slack)

    It is 0, and leaves the pixels to the authorised models, as soon as nothing comes near the threshold. The
    other way to repel a model, a negative weight, maximises a loss without limit: boxes may be wrong by as much as they
    like and new faces elsewhere count as well, and that costs the authorised reading (docs/results.md).

    It is no protection: it blinds the weights that take part, and others as far as they are alike. A
    :class:`~deidlib.keys.key.Key` keeps out those that nobody has thought of.

    Args:
        model: a detector with ``proposals``: RetinaFace or MTCNN.
        factor: how much larger than the face's box the region is.
        slack: how far below its threshold the detector is to stay, in log-odds; at 2 its score is below 0.12 where the
            threshold is 0.5.

    Raises:
        TypeError: the model is no detector that tells its proposals.

    Example:
        >>> from deidlib.models.mtcnn import MTCNN
        >>> silent = Silent(MTCNN())
        >>> silent.name
        'silent-mtcnn'
        >>> target = silent.target([Faces(torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.ones(1))], (48, 48))
        >>> silent.loss(torch.zeros(1, 3, 48, 48), target)  # black: nothing comes near the threshold
        tensor([0.])
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def __init__(self, model: TargetModel[Any], *, factor: float = 1.2, slack: float = 2.0) -> None:
        super().__init__()
        if not isinstance(model, Proposing):
            raise TypeError(
                f"Silent needs a detector with proposals(images), which {type(model).__name__} has not. "
                "RetinaFace and MTCNN have."
            )
        self.model, self.factor, self.slack = model, factor, slack

    @property
    def name(self) -> str:
        """``"silent-"`` and the detector's."""
        return f"silent-{self.model.name}"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """What the detector finds."""
        return self.model.predict(images, faces)

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> SilentTarget:
        """The regions around the faces of anybody's reading."""
        return SilentTarget(frame_of(reading), expand(rows_of(reading), self.factor))

    def loss(self, images: Tensor, target: SilentTarget) -> Tensor:
        """The hinge of each frame, ``(B,)``: 0 where nothing comes near the threshold in any region."""
        margin, places = self.model.proposals(images)
        centre = (places[:, :2] + places[:, 2:]) / 2
        low, high = target.region[:, None, :2], target.region[:, None, 2:]
        inside = ((centre >= low) & (centre < high)).all(dim=-1)
        # A place in two regions of a frame counts once.
        within = torch.zeros_like(margin).index_add(0, target.frame, inside.to(margin)).clamp(max=1)
        return ((margin + self.slack).clamp(min=0) * within).sum(dim=1)
