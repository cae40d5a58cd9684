"""``protect_file``: an image or a video, whichever it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from deidlib.attack.attack_step import AttackStep
from deidlib.keys.key import Key
from deidlib.media.kind import kind_of
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.given import Given
from deidlib.protect.image import protect_image
from deidlib.protect.output import Output
from deidlib.protect.source import ClipSource, path_of
from deidlib.protect.summary import Summary
from deidlib.protect.video import protect_video
from deidlib.protect.workers import one_thread
from deidlib.records.detections import Detections


def protect_file(
    deidentifier: Deidentifier,
    source: str | Path | int | ClipSource,
    target: str | Path,
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    faces: Given | None = None,
    key: Key | None = None,
    batch_size: int | None = None,
    workers: int | Literal["auto"] | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    progress: Callable[[int], object] | None = None,
    stage: Callable[[str], object] | None = None,
    on_step: Callable[[AttackStep], object] | None = None,
) -> Summary:
    """Protect an image or a video, whichever it is; the arguments are those of :func:`~deidlib.protect_video`.

    Raises:
        MediaError: a file cannot be read or written.
        ValueError: ``faces`` of several frames for an image, or a setting that makes no sense.
    """
    if not isinstance(source, int) and source != "-" and kind_of(path_of(source)) == "image":
        if faces is not None and len(faces) != 1:
            raise ValueError(f"{path_of(source)} is one image; faces are given for {len(faces)} frames.")
        known = faces if faces is None or isinstance(faces, Detections) else faces[0]
        with one_thread(deidentifier.device()) if workers is not None else contextlib.nullcontext():
            summary = protect_image(
                deidentifier, source, target, check=check, faces=known, key=key, options=options, on_step=on_step
            )
        if progress is not None:
            progress(1)
        return summary
    return protect_video(
        deidentifier, source, target, output=output, check=check, faces=faces, key=key,
        batch_size=batch_size, workers=workers, options=options, limit=limit,
        progress=progress, stage=stage, on_step=on_step,
    )  # fmt: skip
