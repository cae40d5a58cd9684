"""The frames that a report shows: those that were protected worst, with what was read on them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from deidlib.evaluation import Evaluation
from deidlib.evaluation.pairs import Pair
from deidlib.evaluation.reading import ReaderResult
from deidlib.faces import Faces
from deidlib.geometry.boxes import expand
from deidlib.geometry.camera import Camera
from deidlib.images import to_pixels
from deidlib.media.clip import Clip
from deidlib.metrics import pair
from deidlib.visualize import amplified, draw_boxes, draw_faces

# Widths of embedded pictures, pixels.
_WIDTH = 640
_WHITE = (1.0, 1.0, 1.0)
_WINDOW = 9


@dataclass(frozen=True)
class Choice:
    """A frame to be shown.

    Args:
        number: counted through all clips, from 0.
        reader: whose readings are drawn.
        why: it was chosen.
    """

    number: int
    reader: ReaderResult
    why: str


@dataclass(frozen=True)
class Panel:
    """A picture and what it shows.

    Args:
        title: what it is.
        source: a ``data:`` address.
    """

    title: str
    source: str


def choose(evaluation: Evaluation, most: int) -> list[Choice]:
    """The frames that authorised readers read worst, that others read best, and whose people are recognised most.

    The groups take turns, so that none of them hides the others; no frame is chosen twice.
    """
    queues: list[list[Choice]] = []
    for reader in evaluation.of("authorised"):
        scored = [(frame.normalised, number) for number, frame in enumerate(reader.frames)]
        worst = sorted([(score, number) for score, number in scored if score is not None], key=lambda s: (-s[0], s[1]))
        queues.append([
            Choice(number, reader, f"{reader.name}, authorised, reads it among the worst (normalised DiffScore "
                   f"{score:.3f})") for score, number in worst
        ])  # fmt: skip
    for reader in evaluation.of("unauthorised"):
        read = [
            (frame.normalised, number)
            for number, frame in enumerate(reader.frames)
            if frame.normalised is not None and frame.found
        ]
        queues.append([
            Choice(number, reader, f"{reader.name}, not authorised, reads it among the best (normalised DiffScore "
                   f"{score:.3f})") for score, number in sorted(read)
        ])  # fmt: skip
    if evaluation.identity is not None:
        frames = zip(evaluation.identity.cosines, evaluation.identity.beside, strict=True)
        alike = [
            (max(*sure, *beside, -1.0), number, max(beside, default=-1.0) > max(sure, default=-1.0))
            for number, (sure, beside) in enumerate(frames)
            if sure or beside
        ]
        queues.append([
            _alike(evaluation, value, number, other)
            for value, number, other in sorted(alike, key=lambda s: (-s[0], s[1]))
        ])  # fmt: skip
    chosen: dict[int, Choice] = {}
    while len(chosen) < most and any(queues):
        for queue in queues:
            while queue and queue[0].number in chosen:
                queue.pop(0)
            if queue and len(chosen) < most:
                best = queue.pop(0)
                chosen[best.number] = best
    return sorted(chosen.values(), key=lambda choice: choice.number)


def _alike(evaluation: Evaluation, value: float, number: int, beside: bool) -> Choice:
    if not beside:
        first = next(iter(evaluation.readers.values()))
        return Choice(number, first, f"the face resembles its original most (cosine {value:.3f})")
    detectors = [reader for reader in evaluation.of("unauthorised") if reader.task == "boxes"]
    sure = [known.originals[number] for known in evaluation.of("authorised") if known.task == "boxes"]

    def more(reader: ReaderResult) -> int:
        seen = reader.originals[number]
        return min((len(pair(known, seen).spurious) for known in sure), default=len(seen))

    reader = max(detectors, key=more)
    why = f"only {reader.name} or its like see a face that was overlooked, or is none (cosine {value:.3f})"
    return Choice(number, reader, why)


def panels(
    evaluation: Evaluation, choices: Sequence[Choice], *, show_originals: bool, hidden: Sequence[Pair] | None
) -> list[list[Panel]]:
    """The pictures of each choice.

    Args:
        evaluation: what was measured.
        choices: frames to show.
        show_originals: let the originals' pixels into the report.
        hidden: per clip, the frames hidden and not yet perturbed, for the exact perturbation; None if they are not
            known.
    """
    protected = _frames(evaluation, choices, {pair.name: pair.protected for pair in evaluation.pairs})
    # Without leave, the originals' files are not even opened.
    originals = (
        _frames(evaluation, choices, {pair.name: pair.original for pair in evaluation.pairs}) if show_originals else {}
    )
    masked = {}
    if hidden is not None:
        masked = _frames(
            evaluation,
            choices,
            {pair.name: other.protected for pair, other in zip(evaluation.pairs, hidden, strict=True)},
        )
    rows = []
    for choice in choices:
        frame, reader = protected[choice.number], choice.reader
        reference, read = reader.reference[choice.number], reader.protected[choice.number]
        camera = Camera.default(frame.shape[2], frame.shape[1])
        row = []
        if show_originals:
            row.append(Panel("original, with what is to be read", _drawn(originals[choice.number], reference, camera)))
        else:
            row.append(Panel("protected, with what was read on the original", _drawn(frame, reference, camera)))
        row.append(
            Panel(
                f"protected, with what {reader.name} reads on it ({len(read)} found; white: the original's)",
                _drawn(frame, read, camera, reference),
            )
        )
        if hidden is not None:
            detail = _around(amplified(frame, masked[choice.number]), reference)
            row.append(Panel("perturbation around the faces, 16 times", encoded(detail)))
        else:
            detail = _around(fine_structure(frame), reference)
            row.append(Panel("fine structure of the protected frame around the faces, 8 times", encoded(detail)))
        rows.append(row)
    return rows


def fine_structure(image: Tensor, factor: float = 8.0) -> Tensor:
    """What a frame ``(3, H, W)`` has beside its smooth part, made visible: perturbation, and the picture's own detail.

    It is computed from the protected frame alone. The difference to the original would show more, but from it and
    the protected file anybody could compute the original.
    """
    reach = _WINDOW // 2
    smooth = avg_pool2d(image[None], _WINDOW, stride=1, padding=reach, count_include_pad=False)[0]
    return amplified(image, smooth, factor)


def _frames(evaluation: Evaluation, choices: Sequence[Choice], clips: Mapping[str, Clip]) -> dict[int, Tensor]:
    """The chosen frames, by their number; each file is read once."""
    wanted: dict[str, dict[int, int]] = {}
    for choice in choices:
        pair, inside = evaluation.locate(choice.number)
        wanted.setdefault(pair.name, {})[inside] = choice.number
    found = {}
    for name, numbers in wanted.items():
        for inside, image in clips[name].some(set(numbers)).items():
            found[numbers[inside]] = image
    return found


def _drawn(image: Tensor, faces: Faces, camera: Camera, beside: Faces | None = None) -> str:
    if beside is not None:
        image = draw_boxes(image, beside.boxes, _WHITE)
    read = faces
    if faces.landmarks is not None and not bool(faces.landmarks.isfinite().all()):
        read = Faces(faces.boxes, faces.scores, gaze=faces.gaze)
    return encoded(draw_faces(image, read, axes=True, camera=camera))


def _around(image: Tensor, faces: Faces) -> Tensor:
    """The part of the picture that holds all faces, and half a face beside them."""
    if not len(faces):
        return image
    boxes = expand(faces.boxes, 2.0)
    left, top = boxes[:, :2].amin(dim=0).floor().clamp(min=0).long().tolist()
    right, bottom = boxes[:, 2:].amax(dim=0).ceil().long().tolist()
    part = image[:, top:bottom, left:right]
    return part if part.numel() else image


def encoded(image: Tensor) -> str:
    """A JPEG as a ``data:`` address, no wider than the page."""
    from PIL import Image

    if image.shape[2] > _WIDTH:
        height = max(1, round(image.shape[1] * _WIDTH / image.shape[2]))
        image = interpolate(image[None], size=(height, _WIDTH), mode="area")[0]
    file = io.BytesIO()
    Image.fromarray(to_pixels(image.clamp(0, 1))).save(file, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
