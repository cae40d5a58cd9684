"""``Keyed``: a model that reads only for the holder of a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.images import check_image_shape, check_images
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.keys.scramble import CellPermutation, Scramble, scramble_of
from deidlib.models.base import Around, Reading, Target, TargetModel, with_network


@dataclass(frozen=True, eq=False)
class KeyedTarget(Target):
    """What the model must read once the frame is scrambled; one row per frame.

    Args:
        frame: ``(B,)`` the frames, 0 .. B - 1 in this order.
        plan: ``(B, ...)`` how each frame is scrambled.
        inner: the model's own target.
    """

    plan: Tensor
    inner: Target

    def select(self, frames: Tensor) -> Self:
        """Keep some frames, renumbered in the order given: row i is again how frame i is scrambled."""
        kept = super().select(frames)
        order = kept.frame.argsort()
        return replace(kept, frame=kept.frame[order], plan=kept.plan[order])


class Keyed(Around[KeyedTarget]):
    r"""Any target model, behind a key: the frame is scrambled by the key before the model looks at it.

    The attack is optimised *through* the scramble S_k,

    .. math::
        L(X) = L_{model}(S_k(X)), \quad S_k\ \text{a rearrangement of pixels drawn by key}\ k,

    so that the face-like structure exists only in S_k(X). The same public weights find nothing in X itself, nor in
    X scrambled by another key. What is read on originals is read without the key. See docs/keys.md for what this gives
    and what it does not.

    It is a ``TargetModel`` like any other: several of them, with one key or several, and models without a key beside
    them, may be attacked together.

    Args:
        model: the model that the holder of the key runs.
        key: the secret; derive sub-keys for parties that are to read different things.
        scramble: what the key decides; the default was chosen by measurement (docs/keys.md).
        nonce: public text that makes every frame of this clip scrambled in its own way; a new one for every clip.
            ``None``: all frames alike, and some dozens of them show the order to whoever compares cells (docs/keys.md);
            for one picture only.

    Raises:
        TypeError: ``key`` is no :class:`Key`.

    Example:
        >>> from deidlib.keys.record import new_nonce
        >>> from deidlib.models.mtcnn import MTCNN
        >>> reader = Keyed(MTCNN(), Key.generate(), nonce=new_nonce())
        >>> reader.at([0, 1]).predict(torch.rand(2, 3, 64, 64))
        [Faces(n=0), Faces(n=0)]
    """

    def __init__(
        self, model: TargetModel[Any], key: Key, *, scramble: Scramble | None = None, nonce: str | None = None
    ) -> None:
        super().__init__(model)
        if not isinstance(key, Key):
            raise TypeError(f"key must be a Key, got {type(key).__name__}. Use Key.generate() or Key.load(path).")
        self.key = key
        self.scramble: Scramble = CellPermutation() if scramble is None else scramble
        self.nonce = nonce
        self._numbers: tuple[int, ...] | None = None

    @classmethod
    def from_record(cls, record: KeyRecord, model: TargetModel[Any], key: Key) -> Self:
        """The model as a protection was made for it.

        Raises:
            ValueError: another key than the one of the record.
        """
        if not record.opened_by(key):
            raise ValueError(
                f"nothing is readable with this key (id {key.id}): the file was protected with key {record.key_id}."
            )
        return cls(model, key, scramble=scramble_of(record.scramble), nonce=record.nonce)

    @property
    def name(self) -> str:
        """``"keyed-"`` and the model's name."""
        return f"keyed-{self.model.name}"

    def at(self, numbers: Sequence[int]) -> Self:
        """This model for the frames of those numbers, counted from 0 in the clip.

        Raises:
            ValueError: a negative number.
        """
        if any(number < 0 for number in numbers):
            raise ValueError(f"frames are numbered from 0, got {min(numbers)}.")
        told = with_network(self, "model", self.model.at(numbers))
        told._numbers = tuple(int(number) for number in numbers)
        return told

    @torch.no_grad()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """Read protected frames: scramble, then the model.

        Raises:
            ValueError: there is a nonce, and :meth:`at` has not said which frames these are.
        """
        check_images(images)
        plans = self._plans(len(images), (images.shape[2], images.shape[3]), images.device)
        return self.model.predict(self.scramble(images, plans), faces)

    @torch.no_grad()
    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> KeyedTarget:
        """What the model is to read, and how the frames will be scrambled."""
        device = reading[0].boxes.device
        frame = torch.arange(len(reading), device=device)
        return KeyedTarget(frame, self._plans(len(reading), size, device), self.model.target(reading, size))

    def loss(self, images: Tensor, target: KeyedTarget) -> Tensor:
        """The model's loss on the scrambled frames, ``(B,)``."""
        check_image_shape(images)
        return self.model.loss(self.scramble(images, target.plan), target.inner)

    def loss_and_reading(self, images: Tensor, target: KeyedTarget) -> tuple[Tensor, Reading | None]:
        """The model's, on the scrambled frames."""
        check_image_shape(images)
        return self.model.loss_and_reading(self.scramble(images, target.plan), target.inner)

    def extra_repr(self) -> str:
        """The public name of the key, and how it is used."""
        return f"key={self.key!r}, scramble={self.scramble!r}, nonce={self.nonce!r}"

    def _plans(self, count: int, size: tuple[int, int], device: torch.device) -> Tensor:
        """How each of that many frames is scrambled, ``(B, ...)``."""
        if self.nonce is None:
            plan = self.scramble.plan(self.key, "every frame", *size)
            return plan.to(device).expand(count, *plan.shape)
        labels = [f"{self.nonce}/frame {number}" for number in self._numbers_of(count)]
        return torch.stack([self.scramble.plan(self.key, label, *size) for label in labels]).to(device)

    def _numbers_of(self, count: int) -> tuple[int, ...]:
        if self._numbers is None:
            raise ValueError(
                "with a nonce every frame is scrambled in its own way: say which frames of the clip these are, "
                "model.at(range(first, first + len(images))).predict(images)."
            )
        if len(self._numbers) != count:
            raise ValueError(f"at() was told {len(self._numbers)} frame numbers, and {count} frames came.")
        return self._numbers
