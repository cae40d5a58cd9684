"""``protect_image``: protect an image, a file or an array; it is a clip of one frame."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, overload

import numpy as np

from deidlib.attack.attack_step import AttackStep
from deidlib.faces import Faces
from deidlib.images import Pixels, from_pixels, to_pixels
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.media import MediaWriteError, check_paths, read_image
from deidlib.media.clip import MemoryReader
from deidlib.media.files import exists
from deidlib.protect.check import Check
from deidlib.protect.clip import ClipJob
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.source import ClipSource, path_of
from deidlib.protect.summary import Summary
from deidlib.records.detections import Detections


@overload
def protect_image(
    deidentifier: Deidentifier,
    source: str | Path | ClipSource | Pixels,
    target: str | Path,
    *,
    check: Check | None = ...,
    faces: Faces | Detections | None = ...,
    key: Key | KeyRecord | None = ...,
    options: Mapping[str, Any] | None = ...,
    on_step: Callable[[AttackStep], object] | None = ...,
) -> Summary: ...


@overload
def protect_image(
    deidentifier: Deidentifier,
    source: str | Path | ClipSource | Pixels,
    target: None = None,
    *,
    check: Check | None = ...,
    faces: Faces | Detections | None = ...,
    on_step: Callable[[AttackStep], object] | None = ...,
) -> Pixels: ...


def protect_image(
    deidentifier: Deidentifier,
    source: str | Path | ClipSource | Pixels,
    target: str | Path | None = None,
    *,
    check: Check | None = Check(),
    faces: Faces | Detections | None = None,
    key: Key | KeyRecord | None = None,
    options: Mapping[str, Any] | None = None,
    on_step: Callable[[AttackStep], object] | None = None,
) -> Summary | Pixels:
    """Protect an image, a file or an array; the result is a PNG, or an array. All else is as for ``protect_video``.

    Args:
        deidentifier: what happens to it.
        source: any image that :func:`~deidlib.media.read_image` reads; or the same, hashed already; or the pixels
            themselves, numpy ``(H, W, 3)`` uint8, RGB, which are written nowhere.
        target: the ``.png`` to write; it appears when it is complete. None: the pixels are returned.
        check: what it must show its authorised readers; None: it is not read back.
        faces: where faces are, if that is known; no detector is asked then.
        key: the models read for the holder of this key only. What a reader must be told beside it lies in the file
            beside ``target``.
        options: noted there, as for :func:`~deidlib.protect_video`.
        on_step: called after every step of the attack, and before its first.

    Returns:
        With ``target``, what happened, in numbers; without, the protected pixels, ``(H, W, 3)`` uint8.

    Raises:
        MediaError: a file cannot be read or written, or ``target`` is no ``.png``.
        NoFaceError: no face, with ``on_missing="error"``.
        TypeError: an array that is not of uint8.
        ValueError: ``faces`` that are not those of this image; a key or options without ``target``; an array of
            another shape.

    Example:
        >>> import numpy as np
        >>> from deidlib import MTCNN, IFGSMAttacker
        >>> deidentifier = Deidentifier(IFGSMAttacker(MTCNN(), max_iterations=1))
        >>> protected = protect_image(deidentifier, np.zeros((32, 32, 3), np.uint8))
        >>> protected.shape, protected[0, 0].tolist()  # no face is found: all is hidden
        ((32, 32, 3), [128, 128, 128])
    """
    if isinstance(target, str | Path):
        target = Path(target)
        _check_png(target)
    elif key is not None:
        raise ValueError(
            "key needs a target: what a reader must be told beside the key is written beside it. Name a .png."
        )
    elif options is not None:
        raise ValueError("options need a target: they are written beside it. Name a .png.")
    if isinstance(source, np.ndarray):
        clip = _in_memory(source)
    else:
        clip = source if isinstance(source, ClipSource) else ClipSource.of_file(Path(source))
        if target is not None:
            check_paths(path_of(source), target)
    known = [faces] if isinstance(faces, Faces) else faces
    if target is not None:
        return ClipJob(
            deidentifier, clip, target, None, check, faces=known, key=key, options=options, on_step=on_step
        ).run()
    with tempfile.TemporaryDirectory(prefix="deidlib-") as folder:
        # For its owner's eyes only, and nothing but what is protected lies there.
        file = Path(folder, "protected.png")
        ClipJob(deidentifier, clip, file, None, check, faces=known, on_step=on_step).run()
        pixels: Pixels = to_pixels(read_image(file))[0]
        return pixels


def _in_memory(pixels: Pixels) -> ClipSource:
    """A picture as a clip of one frame."""
    if pixels.ndim != 3:
        raise ValueError(f"an image is an array (H, W, 3), got {pixels.shape}. Protect frames by protect_video.")
    image = from_pixels(pixels)[None]
    return ClipSource(lambda: MemoryReader(image), hashlib.sha256(pixels.tobytes()).hexdigest())


def _check_png(target: Path) -> None:
    """Refuse before the attack what ``write_image`` would refuse, or spoil, after it."""
    if target.suffix.lower() != ".png":
        spoils = "which changes pixels and with them what authorised models read"
        why = f", {spoils}" if target.suffix.lower() in (".jpg", ".jpeg") else ""
        raise MediaWriteError(
            f"{target}: a protected image is written as .png, not {target.suffix!r}{why}. "
            f"Write {target.with_suffix('.png').name}."
        )
    if exists(target, MediaWriteError) and target.is_dir():
        raise MediaWriteError(f"{target} is a folder. Name the .png file to be written.")
