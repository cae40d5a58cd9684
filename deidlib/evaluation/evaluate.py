"""``evaluate``: two files, and the readers that they are shown to."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from deidlib.evaluation.about import about
from deidlib.evaluation.attacks.clip import ATTACKS, Attack, ClipAttacks
from deidlib.evaluation.attacks.suspects import Suspects
from deidlib.evaluation.identity import IdentityComparison, IdentitySettings, strangers_faces
from deidlib.evaluation.paired_frames import Groups, PairedFrames, detectors, for_originals
from deidlib.evaluation.pairs import EvaluationError, Pair, pairs
from deidlib.evaluation.quality import QualityComparison, QualitySettings
from deidlib.evaluation.reading import ReaderComparison, ReadingSettings
from deidlib.evaluation.result import Evaluation
from deidlib.faces import Faces
from deidlib.geometry.camera import Camera
from deidlib.models.base import FaceModel
from deidlib.nets.precision import full_precision
from deidlib.records.detections import Detections, read_detections
from deidlib.records.versions import versions

_PACKAGES = (
    "torchmetrics", "numpy", "scipy", "kornia", "pillow", "opencv-python", "facenet-pytorch", "face-alignment",
    "onnxruntime",
)  # fmt: skip

_READING, _QUALITY = ReadingSettings(), QualitySettings()


@full_precision()
def evaluate(
    original: str | Path,
    protected: str | Path,
    *,
    authorised: Mapping[str, FaceModel],
    unauthorised: Mapping[str, FaceModel] | None = None,
    truth: Detections | str | Path | None = None,
    reading: ReadingSettings = _READING,
    quality: QualitySettings | None = _QUALITY,
    identity: IdentitySettings | None = None,
    attacks: Sequence[Attack] = (),
    hidden_of: Callable[[Path], Sequence[Faces] | None] | None = None,
    batch_size: int = 8,
    device: str = "cpu",
    progress: Callable[[int, int], object] | None = None,
) -> Evaluation:
    """Measure what a protected file still shows, and to whom, from the files as they are stored.

    Each reader is compared with what it reads on the original itself, so that its own habits cancel out; a face that
    it does not find counts as the worst reading there is. Readers of landmarks or gaze are given the faces that the
    detectors of their group find in the same frame, and get the blame for those that are not found: a row of
    the results is what the chain up to that reader reads. A group without a detector is given the places that the
    authorised detectors find (unauthorised readers), or those of the truth (authorised ones).

    Everything that concerns the picture (quality inside and outside, identity) goes by the faces that the authorised
    detectors find on the original, or by the truth. What only unauthorised detectors take for a face on the original
    is compared by the embedder too, and reported beside: a face that the protection has overlooked, or no face.

    Memory does not grow with the frames' pixels: frames are read in step and let go; numbers and readings are kept.

    Args:
        original: an image, a video, a folder of numbered frames, or a folder of such files.
        protected: the same, protected; folders go together by the names of their files, without suffix.
        authorised: by name, who is meant to read the protected file. :class:`~deidlib.TargetModel` objects, or
            anything with ``task`` and ``predict``.
        unauthorised: by name, who is not.
        truth: what there is to be read on the originals, frame by frame, or a file of it (see
            :func:`deidlib.records.detections.read_detections`); authorised readers are then compared with it instead of
            with their own reading.
        reading: how readings are compared.
        quality: how the picture is measured (PSNR, SSIM, flicker, LPIPS); None leaves it out.
        identity: by which recogniser people are compared; None leaves it out.
        attacks: what is tried on each clip as a whole, see :data:`~deidlib.evaluation.attacks.clip.Attack`; the
            recogniser of ``identity`` judges, among its strangers.
        hidden_of: told a protected file, where it was hidden, frame by frame, as faces without a margin; None if
            that is not known: then quality "inside" is the region of ``quality`` about the faces, an estimate.
        batch_size: frames read at a time.
        device: where frames are put; readers are moved by the caller.
        progress: called with the number of frames done and that of all frames, at the start and after each batch.

    Returns:
        The evaluation, per frame and in all.

    Raises:
        EvaluationError: files that do not go together, names used twice, no way to know where faces are, or a truth
            that does not fit.
        MediaReadError: a file is missing or damaged.
        DetectionsError: the file of the truth cannot be used.

    Example:
        >>> import tempfile, torch
        >>> from deidlib.media import write_image
        >>> class Bright:
        ...     task, name = "boxes", "bright"
        ...     def predict(self, images, faces=None):
        ...         box = images.new_tensor([[8.0, 8.0, 24.0, 24.0]])
        ...         return [Faces(box, torch.ones(1)) if image.mean() > 0.5 else Faces.empty() for image in images]
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_image(folder / "a.png", torch.ones(3, 32, 32))
        >>> write_image(folder / "b.png", torch.zeros(3, 32, 32))
        >>> result = evaluate(folder / "a.png", folder / "b.png", authorised={"bright": Bright()})
        >>> result.readers["bright"].faces, result.readers["bright"].found
        (1, 0)
    """
    original, protected = Path(original), Path(protected)
    groups: Groups = {"authorised": dict(authorised), "unauthorised": dict(unauthorised or {})}
    _check_readers(groups, truth is not None)
    if batch_size < 1:
        raise EvaluationError(f"batch_size must be at least 1 frame, got {batch_size}.")
    if unknown := [name for name in attacks if name not in ATTACKS]:
        raise EvaluationError(f"attacks must be among {', '.join(ATTACKS)}, got {', '.join(unknown)}.")
    if attacks and identity is None:
        raise EvaluationError("whether an attack succeeds is judged by a recogniser: give identity too.")
    found = pairs(original, protected)
    clips = found.pairs
    frames = sum(pair.original.frames for pair in clips)
    report = progress or (lambda done, all_of_them: None)
    report(0, frames)
    if isinstance(truth, str | Path):
        truth = read_detections(truth, frames=frames)
    hashes = found.sha256()
    _check_truth(truth, identity, clips, frames, original, hashes)

    comparisons = _Comparisons.of(groups, reading, quality, identity, attacks, clips, device)
    done = 0
    for pair in clips:
        hidden = None if hidden_of is None else hidden_of(pair.protected.path)
        if hidden is not None and len(hidden) != pair.original.frames:
            hidden = None
        comparisons.begin_clip(pair.original.frames, known=hidden is not None)
        height, width = pair.original.size
        camera, start = reading.camera or Camera.default(width, height), done
        for before, after in pair.batches(batch_size):
            before, after = before.to(device), after.to(device)
            known = None if truth is None else truth.frames[done : done + len(before)]
            numbers = range(done - start, done - start + len(before))
            read = PairedFrames.read(before, after, numbers, groups, known)
            places = None
            if hidden is not None:
                places = [one.to(device) for one in hidden[done - start : done - start + len(before)]]
            comparisons.update(read, camera, known, places)
            done += len(before)
            report(done, frames)
    if comparisons.attacks is not None:
        comparisons.attacks.end()

    return Evaluation(
        original=original,
        protected=protected,
        sha256=hashes,
        pairs=clips,
        readers={name: comparison.compute() for name, comparison in comparisons.readers.items()},
        identity=None if comparisons.identity is None else comparisons.identity.compute(),
        quality=None if comparisons.quality is None else comparisons.quality.compute(),
        attacks=() if comparisons.attacks is None else tuple(comparisons.attacks.results),
        settings=_settings(reading, quality, identity, truth) | {"batch_size": batch_size, "device": str(device)},
        versions={"python": platform.python_version()} | versions(*_PACKAGES),
        passed_over=found.passed_over,
    )


@dataclass
class _Comparisons:
    """Everything that is compared: the readers, the picture, the people."""

    readers: Mapping[str, ReaderComparison]
    quality: QualityComparison | None
    identity: IdentityComparison | None
    attacks: ClipAttacks | None

    @classmethod
    def of(
        cls,
        groups: Groups,
        reading: ReadingSettings,
        quality: QualitySettings | None,
        identity: IdentitySettings | None,
        attacks: Sequence[Attack],
        clips: Sequence[Pair],
        device: str,
    ) -> _Comparisons:
        """As the settings say."""
        people, attacked = None, None
        if identity is not None:
            finders = [for_originals(group[name]) for group in groups.values() for name in detectors(group)]
            strangers = _suspects(strangers_faces(identity.strangers, finders, device))
            frames = sum(pair.original.frames for pair in clips)
            people = IdentityComparison(identity, strangers.crops, frames=frames, clips=len(clips))
            if attacks:
                attacked = ClipAttacks(attacks, identity.embedder, strangers)
        return cls(
            {
                name: ReaderComparison(name, role, reader.task, about(reader), reading)
                for role, group in groups.items()
                for name, reader in group.items()
            },
            None if quality is None else QualityComparison(quality),
            people,
            attacked,
        )

    def begin_clip(self, frames: int, *, known: bool) -> None:
        """What follows is another clip, of so many frames; whether it is known what is hidden in them."""
        if self.attacks is not None:
            self.attacks.begin(frames)
        for reader in self.readers.values():
            reader.begin()
        if self.quality is not None:
            self.quality.begin(known=known)

    def update(
        self, frames: PairedFrames, camera: Camera, truth: Sequence[Faces] | None, hidden: Sequence[Faces] | None
    ) -> None:
        """Add frames of the clip."""
        for name, reader in self.readers.items():
            # Others are compared with themselves always: what they would have read is what is to be hidden from them.
            known = truth if reader.role == "authorised" else None
            reader.update(frames.here[name], frames.there[name], camera, truth=known)
        if self.quality is not None:
            self.quality.update(frames.originals, frames.protected, frames.places if hidden is None else hidden)
        if self.identity is not None:
            self.identity.update(frames.originals, frames.protected, frames.places, frames.beside)
        if self.attacks is not None:
            self.attacks.update(frames.originals, frames.protected, frames.places)


def _suspects(strangers: Sequence[tuple[Tensor, Faces]]) -> Suspects:
    """Each face of the strangers' pictures is another person."""
    suspects, first = Suspects.none(), 1
    for image, faces in strangers:
        suspects += Suspects.of(image, [faces], range(first, first + len(faces)))
        first += len(faces)
    return suspects


def _settings(
    reading: ReadingSettings,
    quality: QualitySettings | None,
    identity: IdentitySettings | None,
    truth: Detections | None,
) -> dict[str, Any]:
    """What the numbers depend on, as JSON; None for what is left out."""
    return {
        **reading.to_json(),
        **({"region": None, "lpips": None} if quality is None else quality.to_json()),
        **({"embedder": None, "strangers": 0} if identity is None else identity.to_json()),
        "truth": None if truth is None else {"readers": list(truth.readers)},
    }


def _check_readers(groups: Groups, told: bool) -> None:
    twice = sorted(groups["authorised"].keys() & groups["unauthorised"].keys())
    if twice:
        raise EvaluationError(
            f"{', '.join(twice)}: authorised and unauthorised at once. Give each reader its own name."
        )
    if not groups["authorised"] and not groups["unauthorised"]:
        raise EvaluationError("there is nobody to read the files: name at least one authorised or unauthorised reader.")
    for group in groups.values():
        for name, reader in group.items():
            if not isinstance(reader, FaceModel):
                raise EvaluationError(
                    f"{name} must have `task`, `name` and `predict`, as a TargetModel has; got {type(reader).__name__}."
                )
    first = groups["authorised"] or groups["unauthorised"]
    if not told and not detectors(first):
        raise EvaluationError(
            f"{', '.join(first)} must be told where faces are: add a detector (MTCNN, RetinaFace, YuNet), or give the "
            "truth."
        )


def _check_truth(
    truth: Detections | None,
    identity: IdentitySettings | None,
    clips: Sequence[Pair],
    frames: int,
    original: Path,
    hashes: Mapping[str, str],
) -> None:
    identities = None if identity is None else identity.identities
    if truth is None:
        if identities is not None:
            raise EvaluationError("identities say who the faces of the truth are; give the truth too.")
        return
    if len(truth) != frames:
        raise EvaluationError(
            f"the truth holds {len(truth)} frames and {original} {frames}. Give one entry per frame, in the order of "
            "the files' names."
        )
    sizes = {pair.original.size for pair in clips}
    if truth.size is not None and sizes != {tuple(truth.size)}:
        seen = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise EvaluationError(
            f"the truth is of frames of {truth.size[1]}x{truth.size[0]} pixels, {original} has {seen}."
        )
    # What was read on either of the two may be the truth.
    if truth.sha256 is not None and truth.sha256 not in hashes.values():
        raise EvaluationError(
            f"the truth was read from another file: sha256 {truth.sha256[:12]}..., {original} has "
            f"{hashes['original'][:12]}.... "
            'Take the truth of this file; if the frames are the same, stored otherwise, set "sha256" to null in it.'
        )
    if identities is not None and [len(people) for people in identities] != [len(known) for known in truth.frames]:
        raise EvaluationError("identities must name every face of every frame of the truth.")
