"""``protect_video``: protect a video, a folder of frames, or what a camera or a pipe gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from deidlib.attack.attack_step import AttackStep
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.media import check_paths
from deidlib.protect.check import Check
from deidlib.protect.clip import ClipJob
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.given import Given
from deidlib.protect.live import Recording
from deidlib.protect.output import Output
from deidlib.protect.sidecar import Sidecar
from deidlib.protect.source import ClipSource, path_of
from deidlib.protect.summary import Summary
from deidlib.protect.work_folder import discard


def protect_video(
    deidentifier: Deidentifier,
    source: str | Path | int | ClipSource,
    target: str | Path,
    *,
    output: Output = Output(),
    check: Check | None = Check(),
    faces: Given | None = None,
    key: Key | KeyRecord | None = None,
    batch_size: int | None = None,
    workers: int | Literal["auto"] | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    progress: Callable[[int], object] | None = None,
    stage: Callable[[str], object] | None = None,
    on_step: Callable[[AttackStep], object] | None = None,
) -> Summary:
    """Protect a video, frame by frame with its time stamps. Of the input's metadata nothing is taken over.

    Beside the output, ``<name>.json`` says how it was made and what can be read from it. What is protected is kept in a
    work folder, ``.<name>.deidlib-work``, until the output is complete: called again with the same settings and input,
    a job that was interrupted goes on after its last complete segment, and gives the same result.

    Args:
        deidentifier: what happens to the frames.
        source: any video that FFmpeg reads; a folder of frames, as the codec ``png-folder`` writes it; the number of a
            camera; or ``"-"``, a video from standard input. Those last two can be read once only, so they are neither
            continued nor mended, and an interrupt ends them. Or a file that was hashed already.
        target: the file to write; it appears when it is complete.
        output: how it is written.
        check: what it must show its authorised readers; None: it is not read back.
        faces: one entry per frame: where faces are, if that is known; no detector is asked then. As
            :class:`~deidlib.records.detections.Detections` they are also checked against size and hash of the file.
        key: the models read for the holder of this key only; the file beside the output says how. Or the record of the
            key, where the models have been wrapped in :class:`~deidlib.Keyed` by hand.
        batch_size: frames attacked at a time, with a :class:`~deidlib.Chain` as many chains side by side. Memory grows
            with it; on a CPU nothing depends on it. None: on a CPU frames are attacked one at a time, which is as fast
            there; elsewhere 16 if they fit into memory. A live source has one chain at a time.
        workers: processes that do the work, on a CPU on one thread each, and what they give does not depend on how many
            they are; ``"auto"``: one for every core or GPU. None: this process, on as many threads as torch has.
        options: of a command, noted in the file beside the output, so that it serves as ``--config``. JSON must hold
            them; nothing depends on them.
        limit: frames after which a live source ends.
        progress: called with the number of frames protected since the last call.
        stage: called with what begins: ``"protecting"``, ``"writing"``, ``"checking"``, ``"repairing"``.
        on_step: called after every step of an attack, and before its first, with an
            :class:`~deidlib.attack.AttackStep`, whose frames are numbered from the clip's first; what it raises ends
            the work, which can be continued.

    Returns:
        What happened, in numbers.

    Raises:
        MediaError: a file cannot be read or written, or another process is writing ``target``.
        NoFaceError: a frame without a face, with ``on_missing="error"``.
        ValueError: a setting that makes no sense, or ``faces`` that are not those of this clip: of another number of
            frames, size or file, or boxes that hide no face, as those in shares of the frame.

    Example:
        >>> import tempfile, torch
        >>> from fractions import Fraction
        >>> from deidlib import MTCNN, IFGSMAttacker
        >>> from deidlib.media import VideoWriter
        >>> folder = Path(tempfile.mkdtemp())
        >>> with VideoWriter(folder / "drive.mkv", Fraction(25), (32, 32)) as writer:
        ...     writer.write(torch.rand(2, 3, 32, 32))
        >>> deidentifier = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=1))
        >>> protect_video(deidentifier, folder / "drive.mkv", folder / "protected.mkv").whole_frame
        2
    """
    target = Path(target)
    if output.codec == "png-folder" and target.is_dir() and Sidecar.describes(target):
        # Finished, by a process that was killed before it could clear up.
        discard(target)
    if isinstance(source, int) or source == "-":
        check_paths(str(source), target, codec=output.codec)
        if workers is not None:
            raise ValueError(f"workers need a file that each of them can read, got source {source!r}. Leave them out.")
        if output.audio == "copy" or faces is not None:
            raise ValueError(f"audio='copy' and faces need a file that can be read twice, got source {source!r}.")
        recording = Recording(source, limit)
        clip = ClipSource(lambda: recording, None)
    else:
        check_paths(path_of(source), target, codec=output.codec)
        if limit is not None:
            raise ValueError("limit is for live sources; cut the file instead.")
        clip = source if isinstance(source, ClipSource) else ClipSource.of_file(Path(source))
    return ClipJob(
        deidentifier,
        clip,
        target,
        output,
        check,
        batch_size=batch_size,
        workers=workers,
        faces=faces,
        key=key,
        options=options,
        progress=progress,
        stage=stage,
        on_step=on_step,
    ).run()
