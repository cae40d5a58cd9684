"""``protect_image``: protect an image file, and read what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from deidlib.faces import Faces
from deidlib.media import read_image, write_image
from deidlib.protect.readback import Readback, ReadbackTally
from deidlib.protect.stream import ProtectedBatch, Stream, lost_beside
from deidlib.protect.summary import Summary, Tally
from deidlib.protect.video import describe


def protect_image(
    stream: Stream,
    source: Path,
    target: Path,
    *,
    faces: Faces | None,
    key: Any,
    verify: bool,
    quality_wanted: float,
    repairs: int,
) -> Summary:
    """Protect an image; where authorised models read it badly, attack it again before it is written.

    Args:
        stream: what happens to it.
        source: any image that Pillow reads.
        target: the ``.png`` to write; it appears when it is complete.
        faces: where faces are, if that is known.
        key: an object whose ``to_dict()`` says with which key the file was authorised.
        verify: read the written file back through the authorised models.
        quality_wanted: the overlap (IoU) that detectors' boxes should have.
        repairs: how often at most the image is attacked again.

    Raises:
        MediaError: a file cannot be read or written.
        NoFaceError: no face, with ``on_missing="error"``.
    """
    images = read_image(source).to(stream.device())
    looked = stream.look(images, 0, faces=None if faces is None else [faces], truth=verify)
    ((sighting, tracked),) = stream.follow([looked])
    batch = stream.protect(sighting, tracked, truth=verify)
    shown, (losses,) = batch.images, batch.losses()
    repaired = 0
    if verify and stream.attacker.max_iterations:
        # A PNG holds these very pixels, so what reads badly need not be written first.
        while repaired < repairs and _read(stream, batch, shown, quality_wanted, repaired).frames_below:
            repaired += 1
            shown, better = stream.repair(sighting, tracked, shown, [0], 2**repaired)
            losses = better.get(0, losses)
    describe(target, key)
    write_image(target, shown.cpu())
    tally = Tally()
    tally.add(batch.treatment[0], lost_beside(tracked[0]), losses)
    if not verify:
        return tally.summary()
    return tally.summary(_read(stream, batch, read_image(target).to(shown), quality_wanted, repaired))


def _read(stream: Stream, batch: ProtectedBatch, images: Tensor, wanted: float, repaired: int) -> Readback:
    """What the authorised models read now."""
    tally = ReadbackTally(stream.attacker.named_models(), wanted)
    tally.update(images, [0], batch.truth)
    return tally.compute(min(repaired, 1))
