"""``Stream``: what happens to consecutive frames, in three steps: look, follow, protect."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deidlib.attack.attacker import AttackResult, IFGSMAttacker
from deidlib.attack.warm_start import PreviousFrame, WarmStart
from deidlib.faces import Faces
from deidlib.images import to_grid
from deidlib.models.base import TargetModel, matched, observe, observe_each, united
from deidlib.obfuscate import Concealment, Obfuscator
from deidlib.tracking import FaceTracker, FaceTracking, Tracked, Treatment


class NoFaceError(ValueError):
    """A frame shows no face that the detectors find, and the user asked for an error."""


@dataclass(frozen=True, eq=False)
class ProtectedBatch:
    """Some consecutive frames, before, between and after.

    Args:
        originals: ``(B, 3, H, W)``, on the uint8 grid.
        hidden: ``(B, 3, H, W)`` after hiding, on the uint8 grid; what the perturbation was added to.
        images: ``(B, 3, H, W)`` protected, on the uint8 grid.
        faces: what was found in each frame, or the places hidden where nothing was found.
        beside: places hidden besides in ``"found"`` frames: of faces seen before or after and not in this frame, and
            what keeps the hidden region from trembling.
        treatment: for each frame ``"found"``: faces were found, hidden, and the frame attacked; ``"filled"``: none was
            found, the places of those found before *and* after were hidden; ``"held"``: of those found before or after;
            ``"whole-frame"``: the whole frame was hidden; ``"kept"``: the frame left as it came, since
            ``on_missing="keep"`` asked for it.
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

    def last(self) -> PreviousFrame | None:
        """What the frame after these may start from, if the last of them was attacked."""
        if self.treatment[-1] != "found":
            return None
        return PreviousFrame(self.images[-1:], self.faces[-1].boxes)


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


@dataclass(frozen=True)
class Stream:
    """What happens to consecutive frames; see :class:`~deidlib.Deidentifier` for the settings."""

    attacker: IFGSMAttacker
    obfuscator: Concealment
    hiders: Sequence[TargetModel[Any]] | None
    tracker: FaceTracker
    warm_start: WarmStart | None = None

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
            if truth and model.task == "boxes"
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

    def follow(self, sightings: Iterable[Sighting]) -> Iterator[tuple[Sighting, list[Tracked]]]:
        """Follow the faces through the clip, and say for every frame what is to be hidden.

        Frames come out late, by as many as the tracker looks ahead; until then they wait in 8 bits.

        Raises:
            NoFaceError: a frame without a face, with ``on_missing="error"``.
            ValueError: frames of different sizes.
        """
        waiting: deque[Sighting] = deque()
        tracked: list[Tracked] = []
        tracking: FaceTracking | None = None
        for sighting in sightings:
            if tracking is None:
                tracking = self.tracker.start(*sighting.size)
            if sighting.size != (tracking.height, tracking.width):
                raise ValueError(
                    f"all frames of a clip must have one size: got {sighting.size} (height, width) at frame "
                    f"{sighting.first}, {(tracking.height, tracking.width)} before. Protect the parts one by one."
                )
            waiting.append(sighting)
            for faces in sighting.faces:
                tracked += tracking.push(faces)
            while waiting and len(tracked) >= len(waiting[0].faces):
                yield self._ready(waiting, tracked)
        if tracking is not None:
            tracked += tracking.flush()
        while waiting:
            yield self._ready(waiting, tracked)

    def _ready(self, waiting: deque[Sighting], tracked: list[Tracked]) -> tuple[Sighting, list[Tracked]]:
        """Take the first frames that wait, with what is known of them."""
        sighting = waiting.popleft()
        mine = tracked[: len(sighting.faces)]
        del tracked[: len(sighting.faces)]
        for number, frame in enumerate(mine, sighting.first):
            if frame.treatment == "missing":
                raise NoFaceError(
                    f"frame {number} shows no face that {[model.name for model in self.detectors()]} find. "
                    "Choose on_missing='hold' to hide where the last face was, or 'whole-frame'."
                )
        return sighting, mine

    def protect(
        self,
        sighting: Sighting,
        tracked: Sequence[Tracked],
        *,
        truth: bool = False,
        before: PreviousFrame | None = None,
    ) -> ProtectedBatch:
        """Hide what is to be hidden, and attack the frames in which faces were found.

        Args:
            sighting: the frames.
            tracked: where they are hidden.
            truth: keep what the authorised models read on the originals.
            before: the frame before the first of them, for a warm start.
        """
        originals = self._originals(sighting)
        treatment = [frame.treatment for frame in tracked]
        faces = [frame.found if frame.treatment == "found" else frame.beside for frame in tracked]
        hidden = self._hide(originals, tracked)
        images, attack = hidden, None
        readings: list[dict[str, Faces]] = [{} for _ in tracked] if truth else []
        found = [i for i, what in enumerate(treatment) if what == "found"]
        if found:
            own = self._own(originals[found], [faces[i] for i in found])
            attack = self._attack_found(sighting, found, hidden, originals, own, before)
            images = hidden.clone()
            images[found] = attack.images
            for i, known in zip(found, own, strict=True):
                faces[i] = known
            if truth:
                for i, row in zip(found, self._truth(sighting, found, originals, own), strict=True):
                    readings[i] = row
        beside = [frame.beside if frame.treatment == "found" else frame.found[:0] for frame in tracked]
        return ProtectedBatch(originals, hidden, images, faces, beside, treatment, attack, readings)

    def repair(
        self, sighting: Sighting, tracked: Sequence[Tracked], images: Tensor, bad: Sequence[int], effort: int
    ) -> tuple[Tensor, dict[int, dict[str, float]]]:
        """Attack some frames again, from where they are, with more steps.

        Args:
            sighting: the frames.
            tracked: where they are hidden.
            images: ``(B, 3, H, W)`` the frames as they were protected before.
            bad: which of them, by their place in the batch.
            effort: how many times the attacker's number of steps.

        Returns:
            The frames, and the final losses of those attacked, by their place in the batch.
        """
        originals = self._originals(sighting)
        bad = [i for i in bad if tracked[i].treatment == "found"]
        if not bad:
            return images, {}
        own = self._own(originals[bad], [tracked[i].found for i in bad])
        if self.warm_start is None:
            attacker = replace(self.attacker, max_iterations=effort * self.attacker.max_iterations)
        else:
            # Steps as small as those that led here, so that the frame stays like its neighbours.
            attacker = self.warm_start.attacker(self.attacker, effort=effort)
        attacker = replace(attacker, threshold=None)
        hidden = self._hide(originals, tracked)
        attack = self._attack(attacker, sighting, bad, hidden, originals, own, init=images.to(hidden)[bad])
        better = images.to(hidden).clone()
        better[bad] = attack.images
        losses = attack.final_losses()
        return better, {i: {name: float(loss[k]) for name, loss in losses.items()} for k, i in enumerate(bad)}

    def detectors(self) -> list[TargetModel[Any]]:
        """Those that say where faces are."""
        models = self.attacker.named_models().values() if self.hiders is None else self.hiders
        return [model.for_originals for model in models if model.task == "boxes"]

    def device(self) -> torch.device:
        """Where the models are."""
        for model in self.attacker.named_models().values():
            for tensor in (*model.parameters(), *model.buffers()):
                return tensor.device
        return torch.device("cpu")

    def _originals(self, sighting: Sighting) -> Tensor:
        assert sighting.originals is not None
        return sighting.originals.float().div_(255)

    def _hide(self, originals: Tensor, tracked: Sequence[Tracked]) -> Tensor:
        hidden = to_grid(self.obfuscator(originals, [self._places(frame) for frame in tracked]))
        covered = [i for i, frame in enumerate(tracked) if frame.treatment == "whole-frame"]
        if covered:
            hidden[covered] = to_grid(self.obfuscator.hide_frame(originals[covered]))
        return hidden

    def _places(self, frame: Tracked) -> Faces:
        """What is hidden in a frame: the faces last, so that they lie on top."""
        if isinstance(self.obfuscator, Obfuscator):
            # A mosaic trembles as the box does, so the smoothed box around a face stands for it.
            found = frame.found[~_held_by(frame.found.boxes, frame.smoothed.boxes)]
            return _joined(frame.beside, found)
        # What is put in a face's place follows the face itself; the smoothed box around it shows no other.
        return _joined(frame.held, _joined(frame.filled, frame.found))

    def _own(self, originals: Tensor, faces: Sequence[Faces]) -> list[Faces]:
        """The faces, with what the other authorised models read of them."""
        models = [model.for_originals for model in self.attacker.named_models().values()]
        return observe(originals, [model for model in models if model.task != "boxes"], faces)

    def _attack_found(
        self,
        sighting: Sighting,
        rows: Sequence[int],
        hidden: Tensor,
        originals: Tensor,
        own: Sequence[Faces],
        before: PreviousFrame | None,
    ) -> AttackResult:
        """All at once, or each from the one before it."""
        if self.warm_start is None:
            return self._attack(self.attacker, sighting, rows, hidden, originals, own)
        parts: list[AttackResult] = []
        last = -1
        for i, faces in zip(rows, own, strict=True):
            if i != last + 1:
                before = None
            attacker, init = self.attacker, None
            if before is not None and bool((known := self.warm_start.known(before, faces)).any()):
                attacker = self.warm_start.attacker(attacker, new_faces=not bool(known.all()))
                init = before.image.to(hidden)
            parts.append(self._attack(attacker, sighting, [i], hidden, originals, [faces], init))
            before, last = PreviousFrame(parts[-1].images, faces.boxes), i
        return AttackResult.joined(parts)

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
        seen = observe_each(originals[list(rows)], models, None if read else own, read=read)
        return [{name: seen[name][k].to("cpu") for name in models} for k in range(len(rows))]


def lost_beside(frame: Tracked) -> int:
    """How many lost faces are hidden in a frame in which others are found."""
    return len(frame.filled) + len(frame.held) if frame.treatment == "found" else 0


def _among(seen: Faces, wanted: Faces) -> Faces:
    """Those of the faces seen that show one of the wanted."""
    return seen[matched(seen.boxes, wanted)]


def _held_by(boxes: Tensor, larger: Tensor) -> Tensor:
    """Which boxes lie within one of the larger ones, as a mask ``(N,)``."""
    inside = (boxes[:, None, :2] >= larger[None, :, :2]) & (boxes[:, None, 2:] <= larger[None, :, 2:])
    return inside.all(dim=2).any(dim=1)


def _joined(places: Faces, faces: Faces) -> Faces:
    """Places of which only the box is known, and faces; landmarks are NaN where nobody has seen any."""
    landmarks = None
    if faces.landmarks is not None:
        unknown = faces.landmarks.new_full((len(places), *faces.landmarks.shape[1:]), torch.nan)
        landmarks = torch.cat([unknown, faces.landmarks])
    return Faces(torch.cat([places.boxes, faces.boxes]), torch.cat([places.scores, faces.scores]), landmarks)
