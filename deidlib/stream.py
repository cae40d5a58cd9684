"""``Stream``: what happens to consecutive frames, in three steps: look, follow, protect."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from deidlib.attack import AttackResult, IFGSMAttacker
from deidlib.boxes import clip, expand
from deidlib.faces import Faces
from deidlib.images import to_grid
from deidlib.obfuscate import Concealment
from deidlib.targets.base import TargetModel, matched, observe, read_in_turn, united

Treatment = Literal["found", "held", "whole-frame", "kept"]
OnMissing = Literal["hold", "whole-frame", "error", "keep"]

# A face that is not seen may have moved: each side of its last box grows by this factor, once.
_HELD_GROWTH = 1.5


class NoFaceError(ValueError):
    """A frame shows no face that the detectors find, and the user asked for an error."""


@dataclass(frozen=True, eq=False)
class ProtectedBatch:
    """Some consecutive frames, before, between and after.

    Args:
        originals: ``(B, 3, H, W)``, on the uint8 grid.
        hidden: ``(B, 3, H, W)`` after hiding, on the uint8 grid; what the perturbation was added to.
        images: ``(B, 3, H, W)`` protected, on the uint8 grid.
        faces: what was found in each frame, or the places held where nothing was found.
        beside: places hidden besides in ``"found"`` frames: those of faces seen before and not in this frame.
        treatment: for each frame ``"found"``: faces were found, hidden, and the frame attacked; ``"held"``: none was
            found, the last ones' places were hidden; ``"whole-frame"``: the whole frame was hidden; ``"kept"``:
            the frame left as it came, since ``on_missing="keep"`` asked for it.
        attack: the attack on the ``"found"`` frames, in order; ``None`` if there are none.
        truth: what each authorised model reads on each original, by name, where that was asked for.
    """

    originals: Tensor
    hidden: Tensor
    images: Tensor
    faces: list[Faces]
    beside: list[Faces]
    treatment: list[Treatment]
    attack: AttackResult | None
    truth: list[dict[str, Faces]] = field(default_factory=list)

    def losses(self) -> list[dict[str, float]]:
        """Each frame's final losses, by model; nothing for a frame that was not attacked."""
        rows: list[dict[str, float]] = [{} for _ in self.treatment]
        if self.attack is not None:
            found = [i for i, what in enumerate(self.treatment) if what == "found"]
            for name, losses in self.attack.final_losses().items():
                for i, loss in zip(found, losses.tolist(), strict=True):
                    rows[i][name] = loss
        return rows


@dataclass(frozen=True, eq=False)
class Sighting:
    """Some consecutive frames, once detectors have looked at them.

    Args:
        first: the number of the first frame in the clip.
        originals: ``(B, 3, H, W)`` uint8; None if the frames need no protection (any more).
        size: height and width in pixels.
        faces: what the detectors found in each frame.
        read: what each authorised detector reads, by name, where that was asked for.
        pts: their time stamps, if they have some.
    """

    first: int
    originals: Tensor | None
    size: tuple[int, int]
    faces: Sequence[Faces]
    read: dict[str, list[Faces]] = field(default_factory=dict)
    pts: Sequence[int] = ()


@dataclass(frozen=True, eq=False)
class Place:
    """Where a frame is hidden: its faces, or places held; other places beside them; and what that is called."""

    faces: Faces
    beside: Faces
    treatment: Treatment


@dataclass(frozen=True)
class Stream:
    """What happens to consecutive frames; see :class:`~deidlib.Deidentifier` for the settings."""

    attacker: IFGSMAttacker
    obfuscator: Concealment
    hide_with: Sequence[TargetModel[Any]] | None
    on_missing: OnMissing
    hold: int

    def look(
        self, images: Tensor, first: int, *, faces: Sequence[Faces] | None = None, truth: bool = False
    ) -> Sighting:
        """Let the detectors look at some frames, once each.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1].
            first: the number of the first of them.
            faces: where faces are, if that is known already; hiding then needs no detector.
            truth: keep what the authorised detectors read.
        """
        hiders = self.detectors() if faces is None else []
        authorised = {
            name: model.for_originals
            for name, model in self.attacker.named_models().items()
            if truth and model.reads == "boxes"
        }
        # One network may serve both.
        seen = {id(model): observe(images, [model]) for model in {id(m): m for m in hiders}.values()}
        seen |= {
            id(model): observe(images, [model])
            for model in {id(m): m for m in authorised.values() if id(m) not in seen}.values()
        }
        if faces is not None:
            faces = [known.to(images.device) for known in faces]
        else:
            faces = united([seen[id(model)] for model in hiders])
        waiting = images.mul(255).round_().to(torch.uint8)
        size = (images.shape[2], images.shape[3])
        return Sighting(first, waiting, size, faces, {name: seen[id(model)] for name, model in authorised.items()})

    def follow(self, sightings: Iterable[Sighting]) -> Iterator[tuple[Sighting, list[Place]]]:
        """Follow the faces through the clip, and say for every frame what is to be hidden.

        Raises:
            NoFaceError: a frame without a face, with ``on_missing="error"``.
        """
        lost, number = _LostFaces(self.hold), 0
        waiting: deque[Sighting] = deque()
        places: list[Place] = []
        for sighting in sightings:
            waiting.append(sighting)
            for known in sighting.faces:
                held = _grown(lost.after(known), *sighting.size)
                places.append(self._place(number, known, held))
                number += 1
            while waiting and len(places) >= len(waiting[0].faces):
                count = len(waiting[0].faces)
                yield waiting.popleft(), places[:count]
                del places[:count]

    def protect(self, sighting: Sighting, places: Sequence[Place], *, truth: bool = False) -> ProtectedBatch:
        """Hide what is to be hidden, and attack the frames in which faces were found."""
        originals = self._originals(sighting)
        faces, treatment = [place.faces for place in places], [place.treatment for place in places]
        hidden = self._hide(originals, places)
        images, attack = hidden, None
        readings: list[dict[str, Faces]] = [{} for _ in places] if truth else []
        found = [i for i, what in enumerate(treatment) if what == "found"]
        if found:
            own = self._own(originals[found], [faces[i] for i in found])
            attack = self._attack(self.attacker, sighting, found, hidden, originals, own)
            images = hidden.clone()
            images[found] = attack.images
            for i, known in zip(found, own, strict=True):
                faces[i] = known
            if truth:
                for i, row in zip(found, self._truth(sighting, found, originals, own), strict=True):
                    readings[i] = row
        beside = [place.beside for place in places]
        return ProtectedBatch(originals, hidden, images, faces, beside, treatment, attack, readings)

    def repair(
        self, sighting: Sighting, places: Sequence[Place], images: Tensor, bad: Sequence[int], effort: int
    ) -> tuple[Tensor, dict[int, dict[str, float]]]:
        """Attack some frames again, from where they are, with more steps.

        Args:
            sighting: the frames.
            places: where they are hidden.
            images: ``(B, 3, H, W)`` the frames as they were protected before.
            bad: which of them, by their place in the batch.
            effort: how many times the attacker's number of steps.

        Returns:
            The frames, and the final losses of those attacked, by their place in the batch.
        """
        originals = self._originals(sighting)
        bad = [i for i in bad if places[i].treatment == "found"]
        if not bad:
            return images, {}
        own = self._own(originals[bad], [places[i].faces for i in bad])
        steps = effort * self.attacker.max_iterations
        attacker = replace(self.attacker, max_iterations=steps, threshold=None)
        hidden = self._hide(originals, places)
        attack = self._attack(attacker, sighting, bad, hidden, originals, own, init=images.to(hidden)[bad])
        better = images.to(hidden).clone()
        better[bad] = attack.images
        losses = attack.final_losses()
        return better, {i: {name: float(loss[k]) for name, loss in losses.items()} for k, i in enumerate(bad)}

    def detectors(self) -> list[TargetModel[Any]]:
        """Those that say where faces are."""
        models = self.attacker.named_models().values() if self.hide_with is None else self.hide_with
        return [model.for_originals for model in models if model.reads == "boxes"]

    def device(self) -> torch.device:
        """Where the models are."""
        for model in self.attacker.named_models().values():
            for tensor in (*model.parameters(), *model.buffers()):
                return tensor.device
        return torch.device("cpu")

    def _originals(self, sighting: Sighting) -> Tensor:
        assert sighting.originals is not None
        return sighting.originals.float().div_(255)

    def _place(self, number: int, known: Faces, held: Faces) -> Place:
        """What happens to a frame."""
        holds = self.on_missing in ("hold", "whole-frame")
        if len(known):
            return Place(known, held if holds else known[:0], "found")
        treatment: Treatment = "held" if self.on_missing == "hold" and len(held) else "whole-frame"
        if self.on_missing == "error":
            raise NoFaceError(
                f"frame {number} shows no face that {[model.name for model in self.detectors()]} find. "
                "Choose on_missing='hold' to hide where the last face was, or 'whole-frame'."
            )
        if self.on_missing == "keep":
            treatment = "kept"
        return Place(held if treatment == "held" else known, known, treatment)

    def _hide(self, originals: Tensor, places: Sequence[Place]) -> Tensor:
        hidden = to_grid(self.obfuscator(originals, [_both(place.beside, place.faces) for place in places]))
        covered = [i for i, place in enumerate(places) if place.treatment == "whole-frame"]
        if covered:
            hidden[covered] = to_grid(self.obfuscator.hide_frame(originals[covered]))
        return hidden

    def _own(self, originals: Tensor, faces: Sequence[Faces]) -> list[Faces]:
        """The faces, with what the other authorised models read of them."""
        models = [model.for_originals for model in self.attacker.named_models().values()]
        return observe(originals, [model for model in models if model.reads != "boxes"], faces)

    def _attack(
        self,
        attacker: IFGSMAttacker,
        sighting: Sighting,
        rows: Sequence[int],
        hidden: Tensor,
        originals: Tensor,
        own: Sequence[Faces],
        init: Tensor | None = None,
    ) -> AttackResult:
        mask = self.obfuscator.mask(own, *sighting.size)
        numbers = [sighting.first + i for i in rows]
        rows = list(rows)
        return attacker(hidden[rows], originals[rows], faces=own, mask=mask, init=init, numbers=numbers)

    def _truth(
        self, sighting: Sighting, rows: Sequence[int], originals: Tensor, own: Sequence[Faces]
    ) -> list[dict[str, Faces]]:
        """What each authorised model reads on the originals, of the faces that were hidden."""
        models = {name: model.for_originals for name, model in self.attacker.named_models().items()}
        read = {
            name: [_among(known[i], mine) for i, mine in zip(rows, own, strict=True)]
            for name, known in sighting.read.items()
        }
        seen = read_in_turn(originals[list(rows)], models, None if read else own, read=read)
        return [{name: seen[name][k].to("cpu") for name in models} for k in range(len(rows))]


class _LostFaces:
    """Faces of the frames before that the latest frame does not show."""

    def __init__(self, hold: int) -> None:
        self.hold = hold
        self.known = Faces.empty()
        self.age: list[int] = []

    def after(self, seen: Faces) -> Faces:
        """Take the next frame's faces; return those lost, for ``hold`` frames at most."""
        again = matched(self.known.boxes, seen).tolist()
        left = [
            (i, age + 1)
            for i, (age, found) in enumerate(zip(self.age, again, strict=True))
            if not found and age < self.hold
        ]
        lost = self.known[[i for i, _ in left]]
        plain = Faces(seen.boxes, seen.scores)
        self.known = _both(lost.to(seen.boxes.device), plain)
        self.age = [age for _, age in left] + [0] * len(seen)
        return lost


def _among(seen: Faces, wanted: Faces) -> Faces:
    """Those of the faces seen that show one of the wanted."""
    return seen[matched(seen.boxes, wanted)]


def _both(first: Faces, second: Faces) -> Faces:
    """Boxes and scores of both."""
    return Faces(torch.cat([first.boxes, second.boxes]), torch.cat([first.scores, second.scores]))


def _grown(faces: Faces, height: int, width: int) -> Faces:
    """Where the faces may be by now."""
    return Faces(clip(expand(faces.boxes, _HELD_GROWTH), height, width), faces.scores)
