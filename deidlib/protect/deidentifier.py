"""``Deidentifier``: frames in, protected frames out; no frame leaves with a face unhidden by accident."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.warm_start import WarmStart
from deidlib.faces import Faces
from deidlib.media import MediaWriteError, VideoReader, check_paths
from deidlib.media.codecs import check_quality
from deidlib.models.base import TargetModel
from deidlib.obfuscate import Concealment, Pixelate
from deidlib.protect.image import protect_image
from deidlib.protect.live import record
from deidlib.protect.settings import VideoSettings, check_checks
from deidlib.protect.stream import NoFaceError as NoFaceError
from deidlib.protect.stream import ProtectedBatch as ProtectedBatch
from deidlib.protect.stream import Sighting, Stream
from deidlib.protect.summary import Summary as Summary
from deidlib.protect.video import VideoJob, describe
from deidlib.tracking import FaceTracker


@dataclass(frozen=True)
class Deidentifier:
    """Hide faces and let the attacker's models still read them.

    It fails closed. Faces are followed through the clip: where one is missed between two sightings, its place is filled
    in from both sides; before and after, its place is held, growing; and a frame in which nothing is found, filled or
    held is hidden altogether. See :class:`~deidlib.tracking.FaceTracker`.

    Args:
        attacker: its models are the authorised ones.
        obfuscator: how faces are hidden; its region also confines the perturbation.
        detectors: the detectors that say where faces are; those among the authorised models if not given.
        on_missing: what to do without a face: ``"hold"`` as above, ``"whole-frame"`` at once, ``"error"``, or
            ``"keep"``: leave the frame as it is, *with any face that the detectors missed*.
        hold: frames for which the place of a face that is lost stays hidden.
        window: frames to look ahead, by which the output is late.
        after_hold: what becomes of a face lost for longer while others are found: ``"stay"`` hidden where it was,
            ``"drop"``, or ``"whole-frame"``.
        smoothing: frames over which the hidden region is kept from trembling; it never gets smaller than the face.
        warm_start: how a frame starts from the one before it; every frame starts from its hidden self if not given.

    Raises:
        ValueError: no detector, or a setting that makes no sense.

    Example:
        >>> import torch
        >>> from deidlib.models.mtcnn import MTCNN
        >>> deidentifier = Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=1))
        >>> (batch,) = deidentifier.frames([torch.rand(1, 3, 64, 64)])
        >>> batch.treatment
        ['whole-frame']
    """

    attacker: IFGSMAttacker
    obfuscator: Concealment = field(default_factory=Pixelate)
    detectors: Sequence[TargetModel[Any]] | None = None
    on_missing: Literal["hold", "whole-frame", "error", "keep"] = "hold"
    hold: int = 30
    window: int = 15
    after_hold: Literal["stay", "drop", "whole-frame"] = "stay"
    smoothing: int = 2
    warm_start: WarmStart | None = None

    def __post_init__(self) -> None:
        if not self._stream().detectors():
            raise ValueError(
                "Deidentifier needs a detector to find faces by: none among the authorised models "
                f"{list(self.attacker.named_models())} or in detectors. Add detectors=[MTCNN()]."
            )

    def frames(self, batches: Iterable[Tensor], *, faces: Sequence[Faces] | None = None) -> Iterator[ProtectedBatch]:
        """Protect consecutive frames, batch by batch, as a stream: memory does not grow.

        Args:
            batches: each ``(B, 3, H, W)`` RGB in [0, 1]; rounded to the uint8 grid.
            faces: one entry per frame of the clip: where faces are, if that is known; no detector is asked then.

        Raises:
            NoFaceError: a frame without a face, with ``on_missing="error"``.
            ValueError: fewer ``faces`` than frames.
        """
        stream = self._stream()

        def sightings() -> Iterator[Sighting]:
            first = 0
            for images in batches:
                known = None if faces is None else faces[first : first + len(images)]
                if known is not None and len(known) < len(images):
                    raise ValueError(f"faces must hold one entry per frame, got {len(faces or ())} for more frames.")
                yield stream.look(images, first, faces=known)
                first += len(images)

        before = None
        for sighting, tracked in stream.follow(sightings()):
            batch = stream.protect(sighting, tracked, before=before)
            before = batch.last()
            yield batch

    def image(
        self,
        source: str | Path,
        target: str | Path,
        *,
        faces: Faces | None = None,
        verify: bool = True,
        quality_wanted: float = 0.9,
        repairs: int = 2,
        key: Any = None,
    ) -> Summary:
        """Protect an image file; the result is a PNG.

        Args:
            source: any image that Pillow reads.
            target: the ``.png`` to write; it appears when it is complete.
            faces: where faces are, if that is known; no detector is asked then.
            verify: as for :meth:`video`.
            quality_wanted: as for :meth:`video`.
            repairs: as for :meth:`video`.
            key: as for :meth:`video`.

        Raises:
            MediaError: a file cannot be read or written, or ``target`` is no ``.png``.
            NoFaceError: no face, with ``on_missing="error"``.
            ValueError: a setting that makes no sense.
        """
        check_paths(source, target)
        _check_png(Path(target))
        check_checks(quality_wanted, repairs)
        return protect_image(
            self._stream(),
            Path(source),
            Path(target),
            faces=faces,
            key=key,
            verify=verify,
            quality_wanted=quality_wanted,
            repairs=repairs,
        )

    def video(
        self,
        source: str | Path | int,
        target: str | Path,
        *,
        codec: str = "ffv1",
        quality: int | None = None,
        batch_size: int = 8,
        audio: Literal["drop", "copy"] = "drop",
        faces: Sequence[Faces] | None = None,
        verify: bool = True,
        quality_wanted: float = 0.9,
        repairs: int = 2,
        limit: int | None = None,
        key: Any = None,
        progress: Callable[[int], object] | None = None,
        stage: Callable[[str], object] | None = None,
    ) -> Summary:
        """Protect a video, frame by frame with its time stamps. Of the input's metadata nothing is taken over.

        Beside the output, ``<name>.json`` says how it was made and what can be read from it. What is protected is kept
        in a work folder, ``.<name>.deidlib-work``, until the output is complete: called again with the same settings
        and input, a job that was interrupted goes on after its last complete segment, and gives the same result.

        Args:
            source: any video that FFmpeg reads; or the number of a camera; or ``"-"``, a video from standard input.
                Those two can be read once only, so they are neither continued nor checked.
            target: the file to write; it appears when it is complete.
            codec: one of ``deidlib.media.CODECS``.
            quality: of ``"h264"`` and ``"mjpeg"``.
            batch_size: frames attacked at a time; memory grows with it.
            audio: ``"drop"``, since a voice identifies, or ``"copy"``.
            faces: one entry per frame: where faces are, if that is known; no detector decides what is hidden then.
            verify: read the written file back through the authorised models.
            quality_wanted: the overlap (IoU) that authorised detectors' boxes should have; where the written file gives
                less, frames are attacked again, with more steps.
            repairs: how often at most.
            limit: frames after which a live source ends.
            key: an object whose ``to_dict()`` says which key the file is authorised by, for the file beside it.
            progress: called with the number of frames protected since the last call.
            stage: called with what begins: ``"protecting"``, ``"writing"``, ``"checking"``, ``"repairing"``.

        Raises:
            MediaError: a file cannot be read or written, or another process is writing ``target``.
            NoFaceError: a frame without a face, with ``on_missing="error"``.
            ValueError: a setting that makes no sense.
        """
        settings = VideoSettings(codec, quality, batch_size, audio, verify, quality_wanted, repairs)
        check_quality(codec, quality)
        tell, name = progress or _ignore, stage or _ignore
        if isinstance(source, int) or source == "-":
            check_paths(str(source), target, codec=codec)
            if audio == "copy" or faces is not None:
                raise ValueError(f"audio='copy' and faces need a file that can be read twice, got source {source!r}.")
            name("protecting")
            with VideoReader(source) as reader:
                describe(Path(target), key)
                return record(self._stream(), reader, Path(target), settings, limit, tell)
        check_paths(source, target, codec=codec)
        if limit is not None:
            raise ValueError("limit is for live sources; cut the file instead.")
        job = VideoJob(
            self._stream(), Path(source), Path(target), settings, faces=faces, key=key, progress=tell, stage=name
        )
        return job.run()

    def _stream(self) -> Stream:
        # Shorter looks ahead allow less smoothing.
        smoothing = min(self.smoothing, self.window // 2)
        tracker = FaceTracker(self.window, self.hold, self.on_missing, self.after_hold, smoothing)
        return Stream(self.attacker, self.obfuscator, self.detectors, tracker, self.warm_start)


def _ignore(_: object) -> None:
    pass


def _check_png(target: Path) -> None:
    """Refuse before the attack what ``write_image`` would refuse, or spoil, after it."""
    if target.suffix.lower() != ".png":
        raise MediaWriteError(
            f"{target}: a protected image is written as .png, not {target.suffix!r}, which changes pixels and with "
            f"them what authorised models read. Write {target.with_suffix('.png').name}."
        )
    if target.is_dir():
        raise MediaWriteError(f"{target} is a folder. Name the .png file to be written.")
