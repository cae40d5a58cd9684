"""``protect_image``: protect an image file; it is a clip of one frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deidlib.attack.attack_step import AttackStep
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.media import MediaWriteError, check_paths
from deidlib.media.files import exists
from deidlib.protect.check import Check
from deidlib.protect.clip import ClipJob, ClipSource, path_of
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.summary import Summary
from deidlib.records.detections import Detections


def protect_image(
    deidentifier: Deidentifier,
    source: str | Path | ClipSource,
    target: str | Path,
    *,
    check: Check | None = Check(),
    faces: Faces | Detections | None = None,
    key: Key | KeyRecord | None = None,
    on_step: Callable[[AttackStep], object] | None = None,
) -> Summary:
    """Protect an image file; the result is a PNG. All else is as for :func:`~deidlib.protect_video`.

    Args:
        deidentifier: what happens to it.
        source: any image that :func:`~deidlib.media.read_image` reads; or the same, hashed already.
        target: the ``.png`` to write; it appears when it is complete.
        check: what it must show its authorised readers; None: it is not read back.
        faces: where faces are, if that is known; no detector is asked then.
        key: the models read for the holder of this key only.
        on_step: called after every step of the attack, and before its first.

    Returns:
        What happened, in numbers.

    Raises:
        MediaError: a file cannot be read or written, or ``target`` is no ``.png``.
        NoFaceError: no face, with ``on_missing="error"``.
        ValueError: ``faces`` that are not those of this image.

    Example:
        >>> import tempfile, torch
        >>> from deidlib import MTCNN, IFGSMAttacker, write_image
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_image(folder / "a.png", torch.rand(3, 32, 32))
        >>> deidentifier = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=1))
        >>> protect_image(deidentifier, folder / "a.png", folder / "b.png").whole_frame
        1
    """
    target = Path(target)
    _check_png(target)
    check_paths(path_of(source), target)
    clip = source if isinstance(source, ClipSource) else ClipSource.of_file(Path(source))
    known = [faces] if isinstance(faces, Faces) else faces
    return ClipJob(deidentifier, clip, target, None, check, faces=known, key=key, on_step=on_step).run()


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
