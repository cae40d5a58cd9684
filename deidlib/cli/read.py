"""``deidlib read``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deidlib.cli.config import Config
from deidlib.cli.errors import plain_errors
from deidlib.cli.ledger import check_json, is_stdout, write_json
from deidlib.cli.names import Names, device_of, models_of, readers_for
from deidlib.cli.options import READS, Batch, Description, Device
from deidlib.cli.voice import Quiet, Verbose, is_quiet, say, warn

if TYPE_CHECKING:
    from torch import Tensor

    from deidlib.faces import Faces
    from deidlib.media.clip import Clip
    from deidlib.media.kind import Kind
    from deidlib.media.presentation import Presentation
    from deidlib.models.base import TargetModel
    from deidlib.protect.sidecar import Sidecar

_OVERLAY_CODECS = {".mkv": "ffv1", ".mp4": "h264", ".mov": "h264", ".avi": "mjpeg"}


def read(
    protected: Annotated[
        Path, typer.Argument(metavar="PROTECTED", help="An image, a video, or a folder of frames as png-folder writes.")
    ],
    key: Annotated[
        Path | None,
        typer.Option(rich_help_panel=READS, help="The key file, if PROTECTED was protected with a key."),
    ] = None,
    models: Annotated[
        Names,
        typer.Option(
            rich_help_panel=READS,
            parser=Names,
            help="Who reads, separated by commas; by default all that the key opens, or mtcnn.",
        ),
    ] = Names(),
    sidecar: Description = None,
    json: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="What is written",
            help="Write what is read to this .json, or with - to standard output, and nothing else there.",
        ),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="What is written",
            help="Draw it on the protected frames: .mkv loses nothing, .mp4 and .avi do; .png of an image.",
        ),
    ] = None,
    share: Annotated[
        Names,
        typer.Option(
            rich_help_panel="What is written",
            parser=Names,
            help="What of the readings is written to --json: boxes, landmarks, gaze.",
        ),
    ] = Names("boxes,landmarks,gaze"),
    grid: Annotated[
        float,
        typer.Option(rich_help_panel="What is written", min=0, help="Pixels that edges and points are rounded to."),
    ] = 0,
    degrees: Annotated[
        float, typer.Option(rich_help_panel="What is written", min=0, help="Degrees that gaze is rounded to.")
    ] = 0,
    every: Annotated[
        int, typer.Option(rich_help_panel="What is written", min=1, help="Frames for which a reading is held.")
    ] = 1,
    mean_face: Annotated[
        bool,
        typer.Option(
            "--mean-face",
            rich_help_panel="What is written",
            help="Keep turns, nods and expression, and write the average face's proportions instead of the person's.",
        ),
    ] = False,
    first: Annotated[
        int,
        typer.Option(
            rich_help_panel=READS,
            min=0,
            help="The number of the first frame in the protected clip, if some were cut off.",
        ),
    ] = 0,
    batch: Batch = 8,
    device: Device = "auto",
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Read boxes, landmarks and gaze from PROTECTED, as an authorised party does."""
    from deidlib.keys.key import Key
    from deidlib.media.clip import Clip
    from deidlib.models.keyed import Keyed
    from deidlib.protect.share import Share
    from deidlib.protect.share import every as held
    from deidlib.protect.share import mean_face as generic
    from deidlib.protect.sidecar import Sidecar, opened
    from deidlib.records.detections import Detections, detections_json, write_detections
    from deidlib.records.files import sha256_of

    with plain_errors():
        parts = Share(share, grid, degrees)
        secret = None if key is None else Key.load(key)
        described = Sidecar.read(protected, sidecar, wanted=secret is not None)
        record = opened(described, secret, protected)
        names = readers_for(models, record)
        _check_outputs(json, overlay, protected, [protected, key, None if described is None else described.path])
        clip = Clip.open(protected)
        content = sha256_of(protected)
        for warning in _doubts(described, clip.frames, content, first):
            warn(f"warning: {warning}")
        where = device_of(device)
        readers = models_of(names, where, "--models")
        if record is not None:
            assert secret is not None
            readers = {name: Keyed.from_record(record, model, secret) for name, model in readers.items()}
        times = _times(clip)
        with _canvas(overlay, clip, times) as draw:
            frames = _read(clip, list(readers.values()), first, batch, where, draw)
        faces, found = sum(map(len, frames)), sum(len(known) > 0 for known in frames)
        say(f"{protected}: {len(frames)} frames, {found} with faces; {faces} faces read by {', '.join(readers)}")
        if not faces:
            warn(f"warning: nothing could be read from {protected}")
        if json is not None:
            shared = [parts(known) for known in held(generic(frames, clip.size) if mean_face else frames, every)]
            detections = Detections(shared, clip.size, content, tuple(readers), times.pts, times.base)
            if is_stdout(json):
                write_json(json, detections_json(detections))
            else:
                write_detections(json, detections)
            say(f"detections: {json}")
        if overlay is not None:
            say(f"overlay: {overlay}")


def _doubts(described: Sidecar | None, frames: int, content: str, first: int) -> Iterator[str]:
    """Why readings may be worse than they were."""
    if described is None:
        return
    if described.sha256 is not None and described.sha256 != content:
        yield f"this is not the file that {described.path} describes, but another one, or it has been changed"
    if described.frames is not None and frames != described.frames and not first:
        yield (
            f"{described.frames} frames were protected, and here are {frames}; if some were cut off at the beginning, "
            "say how many: --first N"
        )


def _read(
    clip: Clip,
    models: Sequence[TargetModel[Any]],
    first: int,
    batch: int,
    device: str,
    draw: Callable[[Tensor, Sequence[Faces]], object],
) -> list[Faces]:
    """What the models read on every frame; of the pixels nothing is kept."""
    from tqdm.auto import tqdm

    from deidlib.models.observe import observe

    frames: list[Faces] = []
    with tqdm(total=clip.frames, unit="frame", desc="reading", file=sys.stderr, disable=is_quiet()) as bar:
        for images in clip.batches(batch):
            number = first + len(frames)
            told = [model.at(range(number, number + len(images))) for model in models]
            seen = [faces.to("cpu") for faces in observe(images.to(device), told)]
            draw(images, seen)
            frames += seen
            bar.update(len(images))
    return frames


# What is written


@dataclass(frozen=True)
class _Times:
    """When the frames of a clip are shown, where that is known."""

    fps: Fraction
    base: Fraction | None = None
    pts: tuple[int, ...] | None = None
    shown: Presentation | None = None


def _times(clip: Clip) -> _Times:
    from deidlib.media.clip import open_frames

    with open_frames(clip.path) as reader:
        info = reader.info
        if clip.kind == "video":
            return _Times(info.fps, info.time_base, clip.pts, info.shown)
        pts = getattr(reader, "pts", None)
        return _Times(info.fps, info.time_base, pts, info.shown)


@contextlib.contextmanager
def _canvas(overlay: Path | None, clip: Clip, times: _Times) -> Iterator[Callable[[Tensor, Sequence[Faces]], object]]:
    """Takes frames and what was read on them, and draws both into a file that appears when it is complete."""
    from deidlib.media import VideoWriter, write_image
    from deidlib.media.presentation import Presentation
    from deidlib.visualize import draw_faces

    if overlay is None:
        yield lambda images, faces: None
    elif clip.kind == "image":
        yield lambda images, faces: write_image(overlay, draw_faces(images, faces))
    else:
        codec = _OVERLAY_CODECS[overlay.suffix.lower()]
        with VideoWriter(
            overlay, times.fps, clip.size, codec=codec, time_base=times.base, shown=times.shown or Presentation()
        ) as writer:
            pts = iter(times.pts or ())

            def draw(images: Tensor, faces: Sequence[Faces]) -> None:
                ticks = None if times.pts is None else [next(pts) for _ in faces]
                writer.write(draw_faces(images, faces), ticks)

            yield draw


def _kind(path: Path) -> Kind:
    from deidlib.media import MediaReadError
    from deidlib.media.kind import kind_of

    if not path.exists():
        raise MediaReadError(f"{path} does not exist. Expected a protected image or video; check the path.")
    return kind_of(path)


def _check_outputs(json: Path | None, overlay: Path | None, protected: Path, inputs: Sequence[Path | None]) -> None:
    """Before the work: outputs can be written, and replace nothing that is needed to read the file again."""
    from deidlib.media.files import check_writable

    of_image = _kind(protected) == "image"
    suffixes = (".png",) if of_image else tuple(_OVERLAY_CODECS)
    check_json(json)
    for option, path, fitting in (("--json", json, (".json",)), ("--overlay", overlay, suffixes)):
        if path is None or is_stdout(path):
            continue
        if path.suffix.lower() not in fitting:
            raise ValueError(f"{option} must name a file that ends in {' or '.join(fitting)}, got {path}.")
        for known in inputs:
            if known is not None and path.resolve() == known.resolve():
                raise ValueError(f"{option} {path} would replace {known}, which is read. Choose another name.")
        if path.is_dir():
            raise ValueError(f"{option} {path} is a folder. Name the file to be written.")
        check_writable(path)
