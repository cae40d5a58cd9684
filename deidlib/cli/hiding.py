"""How the command line calls the ways to hide a face."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deidlib.obfuscate import Concealment


def hiding_of(text: str, blocks: int, device: str = "cpu") -> Concealment:
    """The obfuscator that ``--hide`` names.

    Args:
        text: ``pixelate``, ``blur``, ``solid``, or ``swap:FILE``, the face of another.
        blocks: cells of the mosaic across the face.
        device: where the models of a swapper run.

    Raises:
        ValueError: another name; a file whose face cannot be shown.
    """
    from deidlib.cli.swap import swapper_of
    from deidlib.obfuscate import GaussianBlur, Pixelate, Solid

    kind, _, file = text.partition(":")
    if kind == "swap" and file:
        return swapper_of(file, device, blocks=blocks)
    if text == "pixelate":
        return Pixelate(blocks=blocks)
    if text == "blur":
        return GaussianBlur()
    if text == "solid":
        return Solid()
    raise ValueError(f"--hide must be pixelate, blur, solid or swap:FILE, got {text!r}. Try --hide pixelate.")
