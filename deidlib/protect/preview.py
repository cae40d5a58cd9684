"""``preview``: the first frame with a face as it is, hidden, and protected, before hours of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from deidlib.attack.attack_step import AttackStep
from deidlib.faces import Faces
from deidlib.media.clip import open_frames
from deidlib.models.observe import observe_each
from deidlib.protect.batches import ProtectedBatch
from deidlib.protect.deidentifier import Deidentifier
from deidlib.visualize import amplified, draw_faces, sheet

# Frames in which a face is looked for.
_MOST = 300


class Preview(NamedTuple):
    """A page of panels.

    Args:
        number: of the frame in its clip.
        page: ``(3, H, W)`` in [0, 1]: the original, hidden, protected, and the perturbation 16 times as strong; on the
            first and third what the authorised models read. **It shows the face as it was.**
        protected: ``(3, H, W)`` the protected frame alone.
    """

    number: int
    page: Tensor
    protected: Tensor


def preview(
    deidentifier: Deidentifier,
    path: Path,
    *,
    faces: Sequence[Faces] | None = None,
    on_step: Callable[[AttackStep], object] | None = None,
) -> Preview | None:
    """Protect the first frame of a clip that shows a face, alone; nothing is written.

    The frame is attacked as one that starts afresh, as the first of a clip is; in the clip it may start from the frame
    before it, and faces are followed.

    Args:
        deidentifier: what happens to it.
        path: an image, a video, or a folder of frames.
        faces: per frame where they are, if that is known.
        on_step: told how the attack goes.

    Returns:
        The page; None if none of the first 300 frames shows a face.

    Raises:
        MediaReadError: it cannot be read.
    """
    for number, image in _first(path):
        batch = _protected(deidentifier, image, None if faces is None else faces[number : number + 1], on_step)
        if batch is None:
            continue
        # Attacked alone, it is the first of its clip.
        models = {name: model.at([0]) for name, model in deidentifier.attacker.named_models().items()}
        finds = any(model.task == "boxes" for model in models.values())
        read = observe_each(batch.images, models, None if finds else batch.faces)
        panels = [
            _drawn(batch.originals[0], batch.readings[0].values()),
            batch.hidden[0],
            _drawn(batch.images[0], [known[0] for known in read.values()]),
            amplified(batch.images[0], batch.hidden[0]),
        ]
        titles = ["original", "hidden", "protected", "perturbation x 16"]
        return Preview(number, sheet([panels], titles=titles, labels=[f"frame {number}"]), batch.images[0])
    return None


def _drawn(image: Tensor, readings: Iterable[Faces]) -> Tensor:
    for known in readings:
        image = draw_faces(image, known)
    return image


def _first(path: Path) -> Iterator[tuple[int, Tensor]]:
    """Frames ``(1, 3, H, W)`` and their numbers."""
    with open_frames(path) as reader:
        for number, (images, _) in enumerate(reader.batches(1)):
            if number == _MOST:
                return
            yield number, images


def _protected(
    deidentifier: Deidentifier,
    image: Tensor,
    faces: Sequence[Faces] | None,
    on_step: Callable[[AttackStep], object] | None,
) -> ProtectedBatch | None:
    """The frame protected, None if no face is found in it."""
    detected = deidentifier.detect(image.to(deidentifier.device()), 0, faces=faces)
    if not len(detected.faces[0]):
        return None
    ((batch, tracked),) = deidentifier.follow([detected])
    return deidentifier.protect(batch, tracked, on_step=on_step)
