"""``Deidentifier``: frames in, protected frames out; no frame leaves with a face unhidden by accident."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deidlib.attack.arithmetic import plain_arithmetic
from deidlib.attack.attack_step import AttackStep
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain, PreviousFrame, left_by
from deidlib.attack.result import AttackResult
from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle
from deidlib.images import check_images
from deidlib.models.base import TargetModel
from deidlib.obfuscate import Concealment, Solid
from deidlib.protect.batches import DetectedBatch, ProtectedBatch
from deidlib.protect.cover import Cover
from deidlib.protect.found_frames import FoundFrames
from deidlib.protect.lookout import Lookout
from deidlib.protect.readers import Readers
from deidlib.protect.share import Share
from deidlib.tracking import FaceTracker, TrackedFrame, TrackerState

# Frames in a part of a clip that is not cut into chains.
_PART = 64


class NoFaceError(ValueError):
    """A frame shows no face that the detectors find, and the user asked for an error."""


@dataclass(frozen=True)
class Deidentifier:
    """Hide faces and let the attacker's models still read them.

    It fails closed. Faces are followed through the clip: where one is missed between two sightings, its place is filled
    in from both sides; before and after, its place is held, growing; and a frame in which nothing is found, filled or
    held is hidden altogether. See :class:`~deidlib.tracking.FaceTracker`.

    It works on frames, in three steps: :meth:`detect`, :meth:`follow`, :meth:`protect`; :meth:`frames` takes them all.
    For files there are :func:`~deidlib.protect_video`, :func:`~deidlib.protect_image` and
    :func:`~deidlib.protect.folder.protect_folder`.

    Args:
        attacker: its models are the authorised ones.
        obfuscator: how faces are hidden; its region also confines the perturbation. By default :class:`~deidlib.Solid`,
            which takes nothing from the face.
        detectors: those that say where faces are. If not given, those among the authorised models, and nobody else:
            :func:`~deidlib.protect.recommended_deidentifier`, as ``deidlib protect``, adds MTCNN, and RetinaFace where
            its weights are.
        lookout: when those of them that are not authorised look, and when all of them look at turned frames; None: all
            of them look at every frame, upright.
        tracker: how faces are followed, and what becomes of a frame without one.
        chain: how a frame starts from the one before it; every frame starts from its hidden self if not given.
        share: what of the readings may flow into the file, the hidden region included; everything if not given.

    Raises:
        ValueError: no detector.

    Example:
        >>> from deidlib.models.mtcnn import MTCNN
        >>> deidentifier = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=1))
        >>> (batch,) = deidentifier.frames([torch.rand(1, 3, 64, 64)])
        >>> batch.treatment
        ['whole-frame']
    """

    attacker: IFGSMAttacker
    obfuscator: Concealment = field(default_factory=Solid)
    detectors: Sequence[TargetModel[Any]] | None = None
    tracker: FaceTracker = field(default_factory=FaceTracker)
    chain: Chain | None = None
    share: Share | None = None
    lookout: Lookout | None = field(default_factory=Lookout)

    def __post_init__(self) -> None:
        if not self._readers().hiders:
            raise ValueError(
                "Deidentifier needs a detector to find faces by: none among the authorised models "
                f"{list(self.attacker.named_models())} or in detectors. Add detectors=[MTCNN()]."
            )
        models = self.attacker.named_models()
        if self.share is not None and (lost := self.share.missing([model.task for model in models.values()])):
            readers = [name for name, model in models.items() if model.task in lost]
            raise ValueError(
                f"{', '.join(readers)} read {' and '.join(lost)}, and only {','.join(self.share.parts)} are shared. "
                "Share what they read, or do not authorise them."
            )

    def frames(
        self,
        batches: Iterable[Tensor],
        *,
        faces: Sequence[Faces] | None = None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> Iterator[ProtectedBatch]:
        """Protect consecutive frames, batch by batch, as a stream: memory does not grow.

        Args:
            batches: each ``(B, 3, H, W)`` RGB in [0, 1]; rounded to the uint8 grid.
            faces: one entry per frame of the clip: where faces are, if that is known; no detector is asked then.
            on_step: told how the attacks go, step by step; frames are numbered from the clip's first.

        Raises:
            NoFaceError: a frame without a face, with ``on_missing="error"``.
            ValueError: not as many ``faces`` as frames, or boxes that hide no face.
        """

        def detected() -> Iterator[DetectedBatch]:
            first = 0
            for images in batches:
                known = None if faces is None else faces[first : first + len(images)]
                if known is not None and len(known) < len(images):
                    raise ValueError(f"faces must hold one entry per frame, got {len(faces or ())} for more frames.")
                yield self.detect(images, first, faces=known)
                first += len(images)
            if faces is not None and len(faces) > first:
                raise ValueError(f"faces are given for {len(faces)} frames, and there are {first}. Give one for each.")

        previous = None
        for batch, tracked in self.follow(detected()):
            protected = self.protect(batch, tracked, previous=previous, on_step=on_step)
            previous = protected.last()
            yield protected

    # The three steps

    def detect(self, images: Tensor, first: int, *, faces: Sequence[Faces] | None = None) -> DetectedBatch:
        """Let the detectors look at some frames, once each; those that look at times only do so in :meth:`follow`.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1].
            first: the number of the first of them.
            faces: where faces are, if that is known already; they then are what every detector reads. So are 68
                landmarks and gaze, where all faces have them: a frame of which everything is known is read by nobody.
        """
        check_images(images)
        # What is kept of them has 8 bits.
        images = images.float()
        readers = self._readers()
        with plain_arithmetic(images.device):
            return readers.detect(images, first) if faces is None else readers.told(images, first, faces)

    def follow(self, batches: Iterable[DetectedBatch]) -> Iterator[tuple[DetectedBatch, list[TrackedFrame]]]:
        """Let those look that look at times, follow the faces, and say for every frame what is to be hidden.

        Frames come out late, by as many as the tracker and the lookout look ahead; until then they wait in 8 bits.

        Raises:
            NoFaceError: a frame without a face, with ``on_missing="error"``.
            ValueError: frames of different sizes.
        """
        waiting: deque[DetectedBatch] = deque()
        tracked: list[TrackedFrame] = []
        state: TrackerState | None = None
        for batch in self.looked_over(batches):
            if state is None:
                state = self.tracker.start(*batch.size)
            if batch.size != (state.height, state.width):
                raise ValueError(
                    f"all frames of a clip must have one size: got {batch.size} (height, width) at frame "
                    f"{batch.first}, {(state.height, state.width)} before. Protect the parts one by one."
                )
            batch = self._shared(batch)
            waiting.append(batch)
            for faces in batch.faces:
                tracked += state.push(faces)
            while waiting and len(tracked) >= len(waiting[0].faces):
                yield self._ready(waiting, tracked)
        if state is not None:
            tracked += state.flush()
        while waiting:
            yield self._ready(waiting, tracked)

    def looked_over(self, batches: Iterable[DetectedBatch]) -> Iterable[DetectedBatch]:
        """Let those look that look at times; :meth:`follow` does that, unless it was done before.

        Args:
            batches: consecutive ones; where they are whole parts of a clip, it does not matter which.
        """
        if self.lookout is None:
            return batches
        readers = self._readers()
        looks = self.lookout.looks(readers.hiders, *readers.watching)
        return self.lookout.over(batches, looks, part=self.part)

    def protect(
        self,
        batch: DetectedBatch,
        tracked: Sequence[TrackedFrame],
        *,
        previous: PreviousFrame | None = None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> ProtectedBatch:
        """Hide what is to be hidden, and attack the frames in which faces were found.

        Args:
            batch: the frames.
            tracked: where they are hidden.
            previous: the frame before the first of them, for a warm start.
            on_step: told how the attack goes, step by step.
        """
        with plain_arithmetic(self.device()):
            protected, _ = self._protect(batch, tracked, [previous], on_step, abreast=False)
        return protected

    def protect_abreast(
        self,
        batch: DetectedBatch,
        tracked: Sequence[TrackedFrame],
        previous: Sequence[PreviousFrame | None],
        *,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> tuple[ProtectedBatch, list[PreviousFrame | None]]:
        """Hide and attack frames of as many chains side by side; each is what it would be alone.

        Args:
            batch: the frames, one of each chain, with their numbers.
            tracked: where they are hidden.
            previous: the frame before each, if it was attacked.
            on_step: told how the attacks go, step by step.

        Returns:
            The frames, and for the frame after each what it may start from.
        """
        with plain_arithmetic(self.device()):
            return self._protect(batch, tracked, previous, on_step, abreast=True)

    def _protect(
        self,
        batch: DetectedBatch,
        tracked: Sequence[TrackedFrame],
        previous: Sequence[PreviousFrame | None],
        on_step: Callable[[AttackStep], object] | None,
        *,
        abreast: bool,
    ) -> tuple[ProtectedBatch, list[PreviousFrame | None]]:
        originals = batch.originals()
        treatment = [frame.treatment for frame in tracked]
        faces = [frame.found if frame.treatment == "found" else frame.others for frame in tracked]
        hidden, swaps = Cover(self.obfuscator)(originals, tracked)
        images, attack = hidden, None
        readings: list[dict[str, Faces]] = [{} for _ in tracked]
        found = [i for i, what in enumerate(treatment) if what == "found"]
        last: list[PreviousFrame | None] = [None] * len(tracked)
        if found:
            frames = self._found(batch, tracked, found, originals, hidden)
            for i, known in zip(found, frames.readings, strict=True):
                readings[i] = dict(known)
            if self.chain is None:
                attack = frames.attacked(self.attacker, on_step=on_step)
            else:
                if abreast:
                    attacks = frames.abreast(self.attacker, self.chain, [previous[i] for i in found], on_step)
                else:
                    before = previous[0] if found[0] == 0 else None
                    attacks = frames.in_turn(self.attacker, self.chain, before, on_step)
                for i, one in zip(found, attacks, strict=True):
                    last[i] = left_by(one, tracked[i].found)
                attack = AttackResult.joined(attacks)
            images = hidden.clone()
            images[found] = attack.images
        others = [frame.others if frame.treatment == "found" else frame.found[:0] for frame in tracked]
        return ProtectedBatch(originals, hidden, images, faces, others, treatment, attack, readings, swaps), last

    def repair(
        self,
        batch: DetectedBatch,
        tracked: Sequence[TrackedFrame],
        images: Tensor,
        bad: Sequence[int],
        effort: int,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> tuple[Tensor, dict[int, dict[str, float]]]:
        """Attack some frames again, from where they are, with more steps.

        Args:
            batch: the frames.
            tracked: where they are hidden.
            images: ``(B, 3, H, W)`` the frames as they were protected before.
            bad: which of them, by their place in the batch.
            effort: how many times the attacker's number of steps.
            on_step: told how the attack goes, step by step.

        Returns:
            The frames, and the final losses of those attacked, by their place in the batch.
        """
        bad = [i for i in bad if tracked[i].treatment == "found"]
        if not bad:
            return images, {}
        originals = batch.originals()
        if self.chain is None:
            attacker = replace(self.attacker, max_iterations=effort * self.attacker.max_iterations)
        else:
            # Steps as small as those that led here, so that the frame stays like its neighbours.
            attacker = self.chain.attacker(self.attacker, effort=effort)
        # What the file loses is not seen here: all steps are taken.
        attacker = replace(attacker, threshold=None, until=None)
        hidden = self.hide(originals, tracked)
        init = images.to(hidden)
        frames = self._found(batch, tracked, bad, originals, hidden)
        attack = frames.attacked(attacker, init=init[bad], on_step=on_step)
        better = init.clone()
        # Outside the mask a frame stays what it was protected as, whatever the originals are by now.
        better[bad] = torch.where(frames.mask.to(init.device) > 0, attack.images, init[bad])
        losses = attack.final_losses()
        return better, {i: {name: float(loss[k]) for name, loss in losses.items()} for k, i in enumerate(bad)}

    @property
    def part(self) -> int:
        """Frames in a part of a clip: what becomes of one part, but for the tracker, depends on none of the others."""
        return _PART if self.chain is None else self.chain.length

    def device(self) -> torch.device:
        """Where the models are."""
        for model in self.attacker.named_models().values():
            for tensor in (*model.parameters(), *model.buffers()):
                return tensor.device
        return torch.device("cpu")

    def _readers(self) -> Readers:
        """Who reads the originals."""
        return Readers.of(self.attacker.named_models(), self.detectors, at_times=self.lookout is not None)

    def _ready(
        self, waiting: deque[DetectedBatch], tracked: list[TrackedFrame]
    ) -> tuple[DetectedBatch, list[TrackedFrame]]:
        """Take the first frames that wait, with what is known of them."""
        batch = waiting.popleft()
        mine = tracked[: len(batch.faces)]
        del tracked[: len(batch.faces)]
        for number, frame in enumerate(mine, batch.first):
            if frame.treatment == "missing":
                raise NoFaceError(
                    f"frame {number} shows no face that {[model.name for model in self._readers().hiders]} find. "
                    "Choose on_missing='hold' to hide where the last face was, or 'whole-frame'."
                )
        return batch, mine

    def hide(self, originals: Tensor, tracked: Sequence[TrackedFrame]) -> Tensor:
        """Hide what is to be hidden, without an attack.

        Args:
            originals: ``(B, 3, H, W)`` in [0, 1].
            tracked: where faces are hidden in each.

        Returns:
            ``(B, 3, H, W)`` on the uint8 grid.
        """
        with plain_arithmetic(self.device()):
            return Cover(self.obfuscator)(originals, tracked)[0]

    def regions(self, frame: TrackedFrame, size: tuple[int, int]) -> list[Rectangle] | None:
        """The pixels that are hidden in a frame, at most: outside of them nothing changes. None if it is not known.

        Args:
            frame: where its faces are.
            size: its height and width.

        Returns:
            Rectangles, which may overlap; the frame if it is hidden altogether, nothing if it is kept as it is.
        """
        return Cover(self.obfuscator).regions(frame, size)

    def _shared(self, batch: DetectedBatch) -> DetectedBatch:
        """What of a batch's readings may flow: the region, too, tells the box that it was made from."""
        if self.share is None:
            return batch
        faces = [self.share(known) for known in batch.faces]
        return replace(batch, faces=faces, readings=self._what_flows(batch.readings))

    def _what_flows(self, readings: Sequence[Mapping[str, Faces]]) -> Sequence[Mapping[str, Faces]]:
        """The same of readings, frame by frame."""
        if self.share is None:
            return readings
        return [{name: self.share(known) for name, known in read.items()} for read in readings]

    def _found(
        self,
        batch: DetectedBatch,
        tracked: Sequence[TrackedFrame],
        rows: Sequence[int],
        originals: Tensor,
        hidden: Tensor,
    ) -> FoundFrames:
        """Some frames of a batch, with what is read of the faces that were found in them."""
        readings = self._what_flows(self._readers().read(batch, tracked, rows, originals))
        faces = [tracked[i].found for i in rows]
        mask = self.obfuscator.mask(faces, *batch.size)
        return FoundFrames(hidden[list(rows)], mask, faces, readings, [batch.numbers[i] for i in rows])
