"""``evaluate``: two files, and the readers that they are shown to."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from deidlib.evaluation.identity import IdentityTally
from deidlib.evaluation.pairs import EvaluationError, Pair, pairs
from deidlib.evaluation.reading import ReaderTally, Role
from deidlib.evaluation.result import Evaluation, QualityResult
from deidlib.faces import Faces
from deidlib.geometry.camera import Camera
from deidlib.geometry.region import FaceRegion
from deidlib.media.files import input_sha256
from deidlib.metrics import Embedder, ImageQuality, Miss, align
from deidlib.models.base import TargetModel, observe_each, united
from deidlib.models.strangers.reader import Reader
from deidlib.records.detections import Detections, read_detections
from deidlib.records.fingerprint import described, fingerprint
from deidlib.records.versions import versions

# Re-identification compares all faces with all.
_MOST_FRAMES = 200

_PACKAGES = (
    "torch", "torchvision", "torchmetrics", "numpy", "scipy", "kornia", "av", "pillow", "opencv-python",
    "facenet-pytorch", "face-alignment", "onnxruntime",
)  # fmt: skip


def evaluate(
    original: str | Path,
    protected: str | Path,
    *,
    authorised: Mapping[str, Reader],
    unauthorised: Mapping[str, Reader] | None = None,
    truth: Detections | str | Path | None = None,
    embedder: Embedder | None = None,
    strangers: Sequence[Tensor] = (),
    threshold: float | None = None,
    identities: Sequence[Sequence[int]] | None = None,
    quality: bool = True,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    min_iou: float = 0.5,
    miss: Miss | None = None,
    region: FaceRegion | None = None,
    camera: Camera | None = None,
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
        embedder: a recogniser of people; without one, identity is left out.
        strangers: clear pictures ``(1, 3, H, W)`` of people who are not in the files, for the embedder's threshold.
        threshold: the cosine above which two faces are one person, instead of one found by pairs of different people.
        identities: who each face of ``truth`` is, by a number, frame by frame: for re-identification among several
            people.
        quality: measure PSNR, SSIM and flicker too.
        lpips: measure it too, by :class:`deidlib.metrics.LPIPS` or any ``(images, images) -> (B,)``.
        min_iou: boxes must overlap by more than this to be of one face.
        miss: what a face counts that is not read.
        region: what is inside, for quality; ``FaceRegion()`` by default.
        camera: that took the frames, for head poses; by default :meth:`Camera.default`.
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
        >>> import tempfile
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
    groups: dict[Role, dict[str, Reader]] = {"authorised": dict(authorised), "unauthorised": dict(unauthorised or {})}
    _check_readers(groups, truth is not None)
    if lpips is not None and not quality:
        raise EvaluationError("LPIPS is part of the quality, which is switched off. Leave one of them out.")
    if batch_size < 1:
        raise EvaluationError(f"batch_size must be at least 1 frame, got {batch_size}.")
    clips = pairs(original, protected)
    frames = sum(pair.original.frames for pair in clips)
    if progress is not None:
        progress(0, frames)
    if isinstance(truth, str | Path):
        truth = read_detections(truth, frames=frames)
    _check_truth(truth, identities, clips, frames, original)
    region = FaceRegion() if region is None else region
    limit = Miss() if miss is None else miss
    about = {name: _about(reader) for group in groups.values() for name, reader in group.items()}
    tallies = {
        name: ReaderTally(name, role, reader.task, about[name], limit, min_iou)
        for role, group in groups.items()
        for name, reader in group.items()
    }
    identity = None
    if embedder is not None:
        faces = _aligned_strangers(strangers, groups, device)
        every = max(1, math.ceil(frames / _MOST_FRAMES))
        identity = IdentityTally(embedder, faces, threshold, every, identities, len(clips) == 1)
    rows: dict[str, list[float]] = {}
    covered: list[float] = []
    done = 0
    for pair in clips:
        seen_by = camera or Camera.default(pair.original.size[1], pair.original.size[0])
        picture = ImageQuality(region, lpips=lpips) if quality else None
        start = 0
        for before, after in pair.batches(batch_size):
            before, after = before.to(device), after.to(device)
            given = None if truth is None else [known.to(device) for known in truth.frames[done : done + len(before)]]
            here, there, places, beside = _read(before, after, range(start, start + len(before)), groups, given)
            for name, tally in tallies.items():
                own = tally.role == "unauthorised" or truth is None
                for i in range(len(before)):
                    a, b = _kept(here[name][i]), _kept(there[name][i])
                    tally.add(a, b, a if own or truth is None else truth.frames[done + i], seen_by)
            if picture is not None:
                picture.update(before, after, places)
            inside = region.mask(places, *before.shape[-2:]) > 0
            covered += inside.float().mean(dim=(1, 2, 3)).tolist()
            if identity is not None:
                for i in range(len(before)):
                    identity.add(before[i : i + 1], after[i : i + 1], places[i], beside[i])
            start, done = start + len(before), done + len(before)
            if progress is not None:
                progress(done, frames)
        if picture is not None:
            for name, values in picture.per_frame().items():
                if lpips is not None or not name.startswith("lpips"):
                    rows.setdefault(name, []).extend(values.tolist())
    settings = {
        "min_iou": min_iou,
        "miss": {"box": limit.box, "landmarks_in_face_sizes": limit.landmarks, "gaze_deg": limit.gaze},
        "region": {"factor": region.factor, "shape": region.shape, "feather": region.feather},
        "camera": "default" if camera is None else {"focal": [camera.fx, camera.fy], "centre": [camera.cx, camera.cy]},
        "truth": None if truth is None else {"readers": list(truth.readers), "sha256_of_its_source": truth.sha256},
        "embedder": None if embedder is None else _about(embedder),
        "strangers": len(strangers),
        "batch_size": batch_size,
        "device": str(device),
    }
    return Evaluation(
        original=original,
        protected=protected,
        sha256={"original": input_sha256(original), "protected": input_sha256(protected)},
        pairs=clips,
        readers={name: tally.result() for name, tally in tallies.items()},
        identity=None if identity is None else identity.result(),
        quality=QualityResult(rows) if quality else None,
        covered=covered,
        settings=settings,
        versions={"python": platform.python_version()} | versions(*_PACKAGES),
    )


Readings = dict[str, list[Faces]]


def _read(
    before: Tensor,
    after: Tensor,
    numbers: range,
    groups: Mapping[Role, Mapping[str, Reader]],
    truth: Sequence[Faces] | None,
) -> tuple[Readings, Readings, list[Faces], list[Faces]]:
    """What everybody reads on the originals and on the protected frames, where the faces are, and where else."""
    clear = {role: {name: _for_originals(reader) for name, reader in group.items()} for role, group in groups.items()}
    told = {role: {name: _at(reader, numbers) for name, reader in group.items()} for role, group in groups.items()}
    here = _in_turn(before, clear, truth)
    found = {
        role: [here[name] for name, reader in group.items() if reader.task == "boxes"] for role, group in groups.items()
    }
    if truth is not None:
        places, beside = list(truth), [Faces.empty(device=before.device)] * len(before)
    else:
        places = united(found["authorised"] or found["unauthorised"])
        everything = united([places, *found["unauthorised"]])
        beside = [known[len(sure) :] for known, sure in zip(everything, places, strict=True)]
    # Where nobody authorised looks for faces, their places are known from elsewhere.
    there = _in_turn(after, told, [Faces(known.boxes, known.scores) for known in places])
    return here, there, places, beside


def _in_turn(images: Tensor, groups: Mapping[Role, Mapping[str, Reader]], places: Sequence[Faces] | None) -> Readings:
    """Each group on its own; a group without a detector is told where faces are."""
    read: Readings = {}
    for group in groups.values():
        known = [read[name] for name in read if _of(groups, name).task == "boxes"]
        if group:
            # Only name, task and predict are used, which every reader has.
            models = cast(Mapping[str, TargetModel[Any]], group)
            read |= observe_each(images, models, united(known) if known else places)
    return read


def _kept(faces: Faces) -> Faces:
    """On the CPU, each field by itself: a slice of all that a detector considered would keep all of that."""

    return faces.map(lambda values: values.detach().cpu().clone())


def _of(groups: Mapping[Role, Mapping[str, Reader]], name: str) -> Reader:
    return next(group[name] for group in groups.values() if name in group)


def _for_originals(reader: Reader) -> Reader:
    return reader.for_originals if isinstance(reader, TargetModel) else reader


def _at(reader: Reader, numbers: Sequence[int]) -> Reader:
    return reader.at(numbers) if isinstance(reader, TargetModel) else reader


def _check_readers(groups: Mapping[Role, Mapping[str, Reader]], told: bool) -> None:
    twice = sorted(groups["authorised"].keys() & groups["unauthorised"].keys())
    if twice:
        raise EvaluationError(
            f"{', '.join(twice)}: authorised and unauthorised at once. Give each reader its own name."
        )
    if not groups["authorised"] and not groups["unauthorised"]:
        raise EvaluationError("there is nobody to read the files: name at least one authorised or unauthorised reader.")
    for group in groups.values():
        for name, reader in group.items():
            if not isinstance(reader, Reader):
                raise EvaluationError(
                    f"{name} must have `task`, `name` and `predict`, as a TargetModel has; got {type(reader).__name__}."
                )
    first = groups["authorised"] or groups["unauthorised"]
    if not told and not any(reader.task == "boxes" for reader in first.values()):
        raise EvaluationError(
            f"{', '.join(first)} must be told where faces are: add a detector (MTCNN, RetinaFace, YuNet), or give the "
            "truth."
        )


def _check_truth(
    truth: Detections | None,
    identities: Sequence[Sequence[int]] | None,
    clips: Sequence[Pair],
    frames: int,
    original: Path,
) -> None:
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
    if identities is not None and [len(people) for people in identities] != [len(known) for known in truth.frames]:
        raise EvaluationError("identities must name every face of every frame of the truth.")


def _aligned_strangers(strangers: Sequence[Tensor], groups: Mapping[Role, Mapping[str, Reader]], device: str) -> Tensor:
    """Aligned faces of the strangers, as the first detector that finds some with points finds them; on the CPU."""
    crops = [torch.zeros(0, 3, 112, 112)]
    detectors = [_for_originals(reader) for group in groups.values() for reader in group.values()]
    for image in strangers:
        image = image.to(device)
        for detector in detectors:
            if detector.task != "boxes":
                continue
            (found,) = detector.predict(image)
            if len(found) and found.landmarks is not None:
                crops.append(align(image, [found]).cpu())
                break
        else:
            raise EvaluationError(
                "one of the strangers' pictures shows no face that a detector here finds. Leave it out."
            )
    return torch.cat(crops)


def _about(thing: Any) -> dict[str, Any]:
    """What a reader is; its weights as a hash where they can be seen."""
    kind = type(thing)
    about: dict[str, Any] = {"class": f"{kind.__module__}.{kind.__qualname__}"}
    return about | ({"fingerprint": fingerprint(described(thing))} if isinstance(thing, nn.Module) else {})
