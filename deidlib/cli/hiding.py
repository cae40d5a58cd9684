"""How the command line calls the ways to hide a face."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deidlib.obfuscate import Concealment

MOSAIC_BLOCKS = 4


def hiding_of(text: str, blocks: int | None = None, device: str = "cpu") -> Concealment:
    """The obfuscator that ``--hide`` names.

    Args:
        text: ``solid``, ``pixelate``, ``blur``, or ``swap:FILE``, the face of another.
        blocks: cells of the mosaic across the face, of ``pixelate``, 4 if None; with ``swap``, of a mosaic
            over what cannot be swapped, which is mid-grey if None.
        device: where the models of a swapper run.

    Raises:
        ValueError: another name; a file whose face cannot be shown; blocks where there is no mosaic.
    """
    from deidlib.cli.swap import swapper_of
    from deidlib.obfuscate import GaussianBlur, Pixelate, Solid

    kind, _, file = text.partition(":")
    cells = MOSAIC_BLOCKS if blocks is None else blocks
    if kind == "swap" and file:
        return swapper_of(file, device, blocks=blocks)
    if text == "pixelate":
        return Pixelate(blocks=cells)
    if text not in ("blur", "solid"):
        raise ValueError(f"--hide must be solid, pixelate, blur or swap:FILE, got {text!r}. Try --hide solid.")
    if blocks is not None:
        raise ValueError(f"--blocks counts the cells of a mosaic, and --hide {text} has none. Add --hide pixelate.")
    return GaussianBlur() if text == "blur" else Solid()


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
