"""``Reader``: whatever reads faces. Every ``TargetModel`` is one; a reader need not be differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from deidlib.faces import Faces


@runtime_checkable
class Reader(Protocol):
    """A model as a stranger has it: frames in, faces out.

    Example:
        >>> class Everywhere:
        ...     task, name = "boxes", "everywhere"
        ...     def predict(self, images, faces=None):
        ...         height, width = images.shape[-2:]
        ...         return [Faces(images.new_tensor([[0, 0, width, height]]), images.new_ones(1)) for _ in images]
        >>> isinstance(Everywhere(), Reader)
        True
    """

    @property
    def task(self) -> Literal["boxes", "landmarks", "gaze"]:
        """The field of :class:`~deidlib.Faces` that ``predict`` fills in."""
        ...

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Read the frames.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].
            faces: B entries, what others have read; a detector needs none.

        Returns:
            B entries. A detector returns the faces that it finds; any other reader returns ``faces`` with its own
            field filled in.
        """
        ...
