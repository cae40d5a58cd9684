"""How the command line calls the ways to hide a face."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from deidlib.models.base import TargetModel
    from deidlib.obfuscate import Concealment

MOSAIC_BLOCKS = 4
Shape = Literal["box", "ellipse"]


def hiding_of(text: str, blocks: int | None = None, device: str = "cpu", *, shape: Shape = "box") -> Concealment:
    """The obfuscator that ``--hide`` names.

    Args:
        text: ``solid``, ``pixelate``, ``blur``, or ``swap:FILE``, the face of another.
        blocks: cells of the mosaic across the face, of ``pixelate``, 4 if None; with ``swap``, of a mosaic
            over what cannot be swapped, which is mid-grey if None.
        device: where the models of a swapper run.
        shape: ``"box"``, or ``"ellipse"``, one around the rectangle that would be hidden else, so that nothing of it is
            left open.

    Raises:
        ValueError: another name; a file whose face cannot be shown; blocks where there is no mosaic.
    """
    from deidlib.cli.swap import swapper_of
    from deidlib.geometry.region import FaceRegion
    from deidlib.obfuscate import GaussianBlur, Pixelate, Solid

    region = FaceRegion()
    if shape == "ellipse":
        # The tracker and the lookout count on all of that rectangle being hidden, its corners too.
        region = FaceRegion(region.factor * math.sqrt(2), "ellipse")
    kind, _, file = text.partition(":")
    cells = MOSAIC_BLOCKS if blocks is None else blocks
    if kind == "swap" and file:
        if shape != "box":
            raise ValueError(f"--shape {shape} is of a cover, and --hide {text} shows a face in its own outline.")
        return swapper_of(file, device, blocks=blocks)
    if text == "pixelate":
        return Pixelate(blocks=cells, region=region)
    if text not in ("blur", "solid"):
        raise ValueError(f"--hide must be solid, pixelate, blur or swap:FILE, got {text!r}. Try --hide solid.")
    if blocks is not None:
        raise ValueError(f"--blocks counts the cells of a mosaic, and --hide {text} has none. Add --hide pixelate.")
    return GaussianBlur(region=region) if text == "blur" else Solid(region=region)


def warning_of(concealment: Concealment) -> str | None:
    """What a user of a way of hiding should know before the file is shared; None if it takes nothing from the face."""
    from deidlib.obfuscate import GaussianBlur, Pixelate, takes_from_face

    if not takes_from_face(concealment):
        return None
    if isinstance(concealment, Pixelate | GaussianBlur):
        name = "a mosaic" if isinstance(concealment, Pixelate) else "a blur"
        return (
            f"{name} leaves sums over the face in every frame, and over a clip they add up to a picture that is "
            "recognised (docs/privacy.md); --hide solid takes nothing from the face"
        )
    return "this way of hiding may carry something of the face into the file; --hide solid takes nothing from it"


def seen_besides(models: Iterable[TargetModel[Any]]) -> str | None:
    """What a user without a key should know of who else sees that there is a face; None if strangers found none."""
    from deidlib.models.mtcnn import MTCNN

    if not any(isinstance(model, MTCNN) for model in models):
        return None
    return (
        "what MTCNN reads, two in three of other detectors find too (docs/results.md, strangers): that there is a "
        "face, not whose; a --key, or --targets retinaface, keeps them out"
    )
