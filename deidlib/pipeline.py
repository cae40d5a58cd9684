"""``Deidentifier``: frames in, protected frames out; no frame leaves with a face unhidden by accident."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from deidlib.attack import AttackResult, IFGSMAttacker
from deidlib.boxes import clip, expand
from deidlib.faces import Faces
from deidlib.images import to_grid
from deidlib.obfuscate import Obfuscator, Pixelate
from deidlib.targets.base import TargetModel, matched, observe
from deidlib.video import MediaWriteError, VideoReader, VideoWriter, check_paths, read_image, write_image

Treatment = Literal["found", "held", "whole-frame", "kept"]

# A face that is not seen may have moved: each side of its last box grows by this factor, once.
_HELD_GROWTH = 1.5


class NoFaceError(ValueError):
    """A frame shows no face that the detectors find, and the user asked for an error."""


@dataclass(frozen=True, eq=False)
class ProtectedBatch:
    """Some consecutive frames, before, between and after.

    Args:
        originals: ``(B, 3, H, W)``.
        hidden: ``(B, 3, H, W)`` after hiding, on the uint8 grid; what the perturbation was added to.
        images: ``(B, 3, H, W)`` protected, on the uint8 grid.
        faces: what was found in each frame, or the places held where nothing was found.
        beside: places hidden besides in ``"found"`` frames: those of faces seen before and not in this frame.
        treatment: for each frame ``"found"``: faces were found, hidden, and the frame attacked; ``"held"``: none was
            found, the last ones' places were hidden; ``"whole-frame"``: the whole frame was hidden; ``"kept"``:
            the frame left as it came, since ``on_missing="keep"`` asked for it.
        attack: the attack on the ``"found"`` frames, in order; ``None`` if there are none.
    """

    originals: Tensor
    hidden: Tensor
    images: Tensor
    faces: list[Faces]
    beside: list[Faces]
    treatment: list[Treatment]
    attack: AttackResult | None


@dataclass(frozen=True)
class Summary:
    """What happened to a file.

    Args:
        frames: frames written.
        found: frames with faces, hidden and attacked.
        held: frames without a face found, where the places of the last ones were hidden.
        partly_held: frames with faces found, where the place of another one, lost, was hidden too.
        whole_frame: frames hidden altogether.
        kept: frames left as they came.
        losses: mean final loss per model over the attacked frames.
    """

    frames: int
    found: int
    held: int
    partly_held: int
    whole_frame: int
    kept: int
    losses: dict[str, float]


@dataclass(frozen=True)
class Deidentifier:
    """Hide faces and let the attacker's models still read them.

    It fails closed. A face that was seen and is not found any more keeps its place hidden, enlarged, for ``hold``
    frames, whether or not others are found. A frame in which nothing is found or held is hidden altogether.

    Args:
        attacker: its models are the authorised ones.
        obfuscator: how faces are hidden; its region also confines the perturbation.
        hide_with: the detectors that say where faces are; those among the authorised models if not given.
        on_missing: what to do without a face: ``"hold"`` as above, ``"whole-frame"`` at once, ``"error"``, or
            ``"keep"``: leave the frame as it is, *with any face that the detectors missed*.
        hold: frames for which the place of a face that is lost stays hidden.

    Raises:
        ValueError: no detector, an unknown ``on_missing``, a negative ``hold``.

    Example:
        >>> from deidlib.targets.mtcnn import MTCNN
        >>> deidentifier = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=1))
        >>> (batch,) = deidentifier.frames([torch.rand(1, 3, 64, 64)])
        >>> batch.treatment
        ['whole-frame']
    """

    attacker: IFGSMAttacker
    obfuscator: Obfuscator = field(default_factory=Pixelate)
    hide_with: Sequence[TargetModel[Any]] | None = None
    on_missing: Literal["hold", "whole-frame", "error", "keep"] = "hold"
    hold: int = 30

    def __post_init__(self) -> None:
        if not self._detectors():
            raise ValueError(
                "Deidentifier needs a detector to find faces by: none among the authorised models "
                f"{list(self.attacker.named_models())} or in hide_with. Add hide_with=[MTCNN()]."
            )
        if self.on_missing not in ("hold", "whole-frame", "error", "keep"):
            raise ValueError(f"on_missing must be 'hold', 'whole-frame', 'error' or 'keep', got {self.on_missing!r}.")
        if self.hold < 0:
            raise ValueError(f"hold must be >= 0 frames, got {self.hold}.")

    def frames(self, batches: Iterable[Tensor]) -> Iterator[ProtectedBatch]:
        """Protect consecutive frames, batch by batch, as a stream: memory does not grow.

        Args:
            batches: each ``(B, 3, H, W)`` RGB in [0, 1].

        Raises:
            NoFaceError: a frame without a face, with ``on_missing="error"``.
        """
        lost, number = _LostFaces(self.hold), 0
        holds = self.on_missing in ("hold", "whole-frame")
        for originals in batches:
            faces: list[Faces] = []
            beside: list[Faces] = []
            treatment: list[Treatment] = []
            for known in observe(originals, self._detectors()):
                places = _grown(lost.after(known), *originals.shape[-2:])
                what = "found" if len(known) else self._without_face(number, len(places) > 0)
                treatment.append(what)
                faces.append(places if what == "held" else known)
                beside.append(places if what == "found" and holds else known[:0])
                number += 1
            yield self._protect(originals, faces, beside, treatment)

    def image(self, source: str | Path, target: str | Path) -> Summary:
        """Protect an image file; the result is a PNG.

        Raises:
            MediaError: a file cannot be read or written, or ``target`` is no ``.png``.
            NoFaceError: no face, with ``on_missing="error"``.
        """
        check_paths(source, target)
        _check_png(Path(target))
        tally = _Tally()
        (batch,) = self.frames([read_image(source).to(self._device())])
        tally.add(batch)
        write_image(target, batch.images.cpu())
        return tally.summary()

    def video(
        self,
        source: str | Path,
        target: str | Path,
        *,
        codec: str = "ffv1",
        quality: int | None = None,
        batch_size: int = 8,
        progress: Callable[[int], object] | None = None,
    ) -> Summary:
        """Protect a video file, frame by frame with its time stamps; without sound.

        Args:
            source: any video that FFmpeg reads.
            target: the file to write; it appears when it is complete.
            codec: one of ``deidlib.video.CODECS``.
            quality: of ``"h264"``.
            batch_size: frames attacked at a time; memory grows with it.
            progress: called with the number of frames written since the last call.

        Raises:
            MediaError: a file cannot be read or written.
            NoFaceError: a frame without a face, with ``on_missing="error"``.
        """
        check_paths(source, target, codec=codec)
        tally = _Tally()
        with VideoReader(source) as reader:
            info = reader.info
            size = (info.height, info.width)
            with VideoWriter(target, info.fps, size, codec=codec, quality=quality, time_base=info.time_base) as writer:
                stamps: list[tuple[int, ...]] = []

                def frames() -> Iterator[Tensor]:
                    for images, pts in reader.batches(batch_size):
                        stamps.append(pts)
                        yield images.to(self._device())

                for batch in self.frames(frames()):
                    writer.write(batch.images.cpu(), stamps.pop(0))
                    tally.add(batch)
                    if progress is not None:
                        progress(len(batch.images))
        return tally.summary()

    def _detectors(self) -> list[TargetModel[Any]]:
        models = self.attacker.named_models().values() if self.hide_with is None else self.hide_with
        return [model.for_originals for model in models if model.reads == "boxes"]

    def _device(self) -> torch.device:
        for model in self.attacker.named_models().values():
            for tensor in (*model.parameters(), *model.buffers()):
                return tensor.device
        return torch.device("cpu")

    def _without_face(self, number: int, can_hold: bool) -> Treatment:
        """What happens to frame ``number``, in which no face was found."""
        if self.on_missing == "error":
            raise NoFaceError(
                f"frame {number} shows no face that {[model.name for model in self._detectors()]} find. "
                "Choose on_missing='hold' to hide where the last face was, or 'whole-frame'."
            )
        if self.on_missing == "keep":
            return "kept"
        return "held" if self.on_missing == "hold" and can_hold else "whole-frame"

    def _protect(
        self, originals: Tensor, faces: list[Faces], beside: list[Faces], treatment: list[Treatment]
    ) -> ProtectedBatch:
        hidden = to_grid(self.obfuscator(originals, [_both(*pair) for pair in zip(beside, faces, strict=True)]))
        covered = [i for i, what in enumerate(treatment) if what == "whole-frame"]
        if covered:
            hidden[covered] = to_grid(self.obfuscator.hide_frame(originals[covered]))
        images = hidden
        found = [i for i, what in enumerate(treatment) if what == "found"]
        attack = None
        if found:
            models = [model.for_originals for model in self.attacker.named_models().values()]
            readers = [model for model in models if model.reads != "boxes"]
            own = observe(originals[found], readers, [faces[i] for i in found])
            mask = self.obfuscator.mask(own, *originals.shape[-2:])
            attack = self.attacker(hidden[found], originals[found], faces=own, mask=mask)
            images = hidden.clone()
            images[found] = attack.images
            faces = list(faces)
            for i, known in zip(found, own, strict=True):
                faces[i] = known
        return ProtectedBatch(originals, hidden, images, faces, beside, treatment, attack)


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


def _both(first: Faces, second: Faces) -> Faces:
    """Boxes and scores of both."""
    return Faces(torch.cat([first.boxes, second.boxes]), torch.cat([first.scores, second.scores]))


def _grown(faces: Faces, height: int, width: int) -> Faces:
    """Where the faces may be by now."""
    return Faces(clip(expand(faces.boxes, _HELD_GROWTH), height, width), faces.scores)


def _check_png(target: Path) -> None:
    """Refuse before the attack what ``write_image`` would refuse, or spoil, after it."""
    if target.suffix.lower() != ".png":
        raise MediaWriteError(
            f"{target}: a protected image is written as .png, not {target.suffix!r}, which changes pixels and with "
            f"them what authorised models read. Write {target.with_suffix('.png').name}."
        )
    if target.is_dir():
        raise MediaWriteError(f"{target} is a folder. Name the .png file to be written.")


class _Tally:
    """Counts over the batches of a file."""

    def __init__(self) -> None:
        self.treatment: list[Treatment] = []
        self.partly_held = 0
        self.losses: dict[str, list[Tensor]] = {}

    def add(self, batch: ProtectedBatch) -> None:
        self.treatment += batch.treatment
        self.partly_held += sum(len(places) > 0 for places in batch.beside)
        if batch.attack is not None:
            for name, loss in batch.attack.final_losses().items():
                self.losses.setdefault(name, []).append(loss.cpu())

    def summary(self) -> Summary:
        count = self.treatment.count
        return Summary(
            frames=len(self.treatment),
            found=count("found"),
            held=count("held"),
            partly_held=self.partly_held,
            whole_frame=count("whole-frame"),
            kept=count("kept"),
            losses={name: float(torch.cat(parts).mean()) for name, parts in self.losses.items()},
        )
