"""``FoundFrames``: frames in which faces were found, and the attacks on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from deidlib.attack.attack_step import AttackStep
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain, PreviousFrame, left_by
from deidlib.attack.result import AttackResult
from deidlib.faces import Faces
from deidlib.images import read_together


@dataclass(frozen=True, eq=False)
class FoundFrames:
    """What an attack on frames is told of them: nothing of the originals' pixels.

    Args:
        hidden: ``(F, 3, H, W)`` the frames, after hiding.
        mask: ``(F, 1, H, W)`` where the perturbation may be.
        faces: those of each.
        readings: what each authorised model is to read of them, by name.
        numbers: the frames' in their clip.
    """

    hidden: Tensor
    mask: Tensor
    faces: Sequence[Faces]
    readings: Sequence[Mapping[str, Faces]]
    numbers: Sequence[int]

    def __getitem__(self, rows: slice) -> FoundFrames:
        """Some of them."""
        return FoundFrames(
            self.hidden[rows], self.mask[rows], self.faces[rows], self.readings[rows], self.numbers[rows]
        )

    def by_model(self, attacker: IFGSMAttacker) -> dict[str, list[Faces]]:
        """What each of the attacker's models is to read."""
        return {name: [read[name] for read in self.readings] for name in attacker.named_models()}

    def attacked(
        self,
        attacker: IFGSMAttacker,
        *,
        init: Tensor | None = None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> AttackResult:
        """Attack each by itself.

        Args:
            attacker: how.
            init: ``(F, 3, H, W)`` where to start from; by default the hidden frames.
            on_step: told how it goes, step by step.
        """
        results = []
        for part in read_together(len(self.faces), self.hidden.device):
            mine = self[part]
            results.append(
                attacker(
                    mine.hidden,
                    mine.by_model(attacker),
                    mask=mine.mask,
                    init=None if init is None else init[part],
                    numbers=mine.numbers,
                    on_step=on_step,
                )
            )
        return results[0] if len(results) == 1 else AttackResult.joined(results)

    def abreast(
        self,
        attacker: IFGSMAttacker,
        chain: Chain,
        previous: Sequence[PreviousFrame | None],
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> list[AttackResult]:
        """Attack frames of as many chains, each from the one before it.

        Args:
            attacker: that of a frame that starts afresh.
            chain: how the others start.
            previous: the frame before each, if it was attacked.
            on_step: told how it goes, step by step.
        """
        return chain.attack(
            attacker,
            self.hidden,
            self.by_model(attacker),
            self.faces,
            mask=self.mask,
            numbers=self.numbers,
            previous=[
                None if chain.begins(number) else before for number, before in zip(self.numbers, previous, strict=True)
            ],
            on_step=on_step,
        )

    def in_turn(
        self,
        attacker: IFGSMAttacker,
        chain: Chain,
        previous: PreviousFrame | None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> list[AttackResult]:
        """Attack frames of one clip, each from the one before it.

        Args:
            attacker: that of a frame that starts afresh.
            chain: how the others start.
            previous: the frame before the first, if it was attacked.
            on_step: told how it goes, step by step.
        """
        results = list[AttackResult]()
        for i, number in enumerate(self.numbers):
            if i and number != self.numbers[i - 1] + 1:
                previous = None
            results += self[i : i + 1].abreast(attacker, chain, [previous], on_step)
            previous = left_by(results[-1], self.faces[i])
        return results
