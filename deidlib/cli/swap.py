"""``deidlib swap``, and the swapper that ``--hide swap:FILE`` means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from deidlib.cli.config import Config
from deidlib.cli.errors import plain_errors
from deidlib.cli.ledger import check_json
from deidlib.cli.names import Names, detectors_of, device_of, named, readers
from deidlib.cli.options import HIDDEN, Audio, Batch, Device, Force, Hold, Json, OnMissing, Quality, Storage, Window
from deidlib.cli.paths import Paths
from deidlib.cli.voice import Quiet, Verbose, warn
from deidlib.cli.work import Work, report_frames, report_swaps, run

if TYPE_CHECKING:
    from deidlib.protect.summary import Summary
    from deidlib.swap.base import FaceSwapper
    from deidlib.swap.warp import Part

Method = Literal["warp", "cosegmentation"]


def swap(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... [OUT]",
            help="IN: an image, a video, a folder of them, or a pattern such as '*.mp4'. OUT: the file to write (.png "
            "or .mkv), or a folder; without one, drive.swapped.mkv beside drive.mp4.",
        ),
    ],
    source: Annotated[
        Path, typer.Option(rich_help_panel="The face to show", help="An image of the face to show instead.")
    ],
    method: Annotated[
        Method,
        typer.Option(
            rich_help_panel="The face to show",
            help="warp needs no weights; cosegmentation needs some that are not free.",
        ),
    ] = "warp",
    landmarks: Annotated[
        Names,
        typer.Option(
            rich_help_panel="The face to show",
            parser=Names,
            help="Who reads landmarks for warp, in turn: mtcnn (five points), or retinaface,fan (68).",
        ),
    ] = Names("mtcnn"),
    keep: Annotated[
        Names,
        typer.Option(
            rich_help_panel="The face to show",
            parser=Names,
            help="Parts of each face to leave, for warp: eyes, mouth. They identify.",
        ),
    ] = Names(),
    which: Annotated[
        int | None,
        typer.Option(
            rich_help_panel="The face to show", min=0, help="The number of the source's face, if it has several."
        ),
    ] = None,
    blocks: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=HIDDEN,
            min=1,
            help="Hide a face that cannot be swapped by a mosaic of so many cells across, rather than by mid-grey, "
            "which takes nothing from it.",
        ),
    ] = None,
    detectors: Annotated[
        Names,
        typer.Option(rich_help_panel=HIDDEN, parser=Names, help="Detectors that say where faces are."),
    ] = Names("mtcnn"),
    on_missing: Annotated[
        OnMissing,
        typer.Option(rich_help_panel=HIDDEN, help="A frame without a face; as for deidlib protect."),
    ] = "hold",
    hold: Hold = 30,
    window: Window = 15,
    steady: Annotated[
        bool,
        typer.Option(
            rich_help_panel=HIDDEN,
            help="Look through a video first, and smooth over time where its faces are.",
        ),
    ] = True,
    codec: Storage = "ffv1",
    quality: Quality = None,
    audio: Audio = "drop",
    batch: Batch = 8,
    json: Json = None,
    force: Force = False,
    device: Device = "auto",
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Show another face in place of every face in IN; nothing is attacked.

    A face that cannot be swapped is hidden by mid-grey, and it is said why. As with deidlib protect, no output appears
    before it is complete, and the same command continues what was interrupted. To let authorised models read the
    result as the original, use deidlib protect --hide swap:FILE.
    """
    import torch

    from deidlib.attack.attacker import IFGSMAttacker
    from deidlib.protect.deidentifier import Deidentifier
    from deidlib.protect.lookout import Lookout
    from deidlib.protect.output import Output
    from deidlib.swap.clip import SteadyFaces
    from deidlib.tracking import FaceTracker

    with plain_errors():
        # Before models are loaded.
        check_json(json)
        paths = Paths.of(words, codec, force=force, done="swapped")
        if paths.live is not None:
            raise ValueError(f"{words[0]}: what comes live is not swapped. Record it first, and swap the file.")
        where = device_of(device)
        swapper = swapper_of(source, where, method=method, landmarks=landmarks, keep=keep, which=which, blocks=blocks)
        finders = detectors_of(detectors, {}, where)
        # No step of an attack: the frames come out as they were hidden.
        attacker = IFGSMAttacker(finders, max_iterations=0)
        deidentifier = Deidentifier(
            attacker,
            obfuscator=swapper,
            tracker=FaceTracker(window=window, hold=hold, on_missing=on_missing),
        )
        landmarkers = [model for model in getattr(swapper, "models", ()) if model.task == "landmarks"]
        # Each at every frame, turned too: what is smoothed over time is looked at once.
        looks = [*finders, *Lookout().looks(finders, *finders), *landmarkers]
        faces_of = SteadyFaces(looks, batch, torch.device(where)) if steady else None
        work = Work(deidentifier, Output(codec, quality, audio), None, None, batch, faces_of, _report)
        with work.ledger.written(json):
            run(work, paths)


def _report(source: Path | str | int, target: Path | str, summary: Summary) -> None:
    """Print what happened to a file."""
    report_frames(target, summary, "with faces")
    report_swaps(summary)
    if not summary.found:
        warn(f"warning: no face was found in {source}")


def swapper_of(
    file: str | Path,
    device: str,
    *,
    method: Method = "warp",
    landmarks: Names = Names("mtcnn"),
    keep: Names = Names(),
    which: int | None = None,
    blocks: int | None = None,
) -> FaceSwapper:
    """The swapper that shows the face in a file.

    Args:
        file: an image.
        device: where models run.
        method: ``"warp"`` or ``"cosegmentation"``.
        landmarks: names of models, in turn; the first must be a detector.
        keep: parts to leave, ``"eyes"`` and ``"mouth"``.
        which: number of the face in the file.
        blocks: cells of the mosaic over faces that cannot be swapped; None: they are hidden by mid-grey.

    Raises:
        ValueError: no face in the file, or several and none chosen; an unknown name.
        MediaReadError: it is no image.
    """
    from deidlib.media import read_image
    from deidlib.obfuscate import Pixelate, Solid
    from deidlib.swap.cosegmentation import CoSegmentationSwapper, CropSwapper
    from deidlib.swap.warp import WarpSwapper

    image, fallback = read_image(file), Solid() if blocks is None else Pixelate(blocks=blocks)
    models = list(named(landmarks, device, "--landmarks", readers()).values())
    if models[0].task != "boxes":
        raise ValueError(f"--landmarks must begin with a detector, got {landmarks}. Try retinaface,{landmarks}.")
    try:
        if method == "warp":
            # The swapper says which parts there are.
            parts = cast("tuple[Part, ...]", keep)
            swapper = WarpSwapper(image.to(device), models, which=which, keep=parts, fallback=fallback)
            if swapper.doubt is not None:
                warn(f"warning: {file}: {swapper.doubt}")
            return swapper
        if keep:
            raise ValueError("--keep is for --method warp.")
        (faces,) = models[0].predict(image.to(device))
        chosen = faces if which is None else faces[which : which + 1]
        net = CropSwapper.load().to(device)
        return CoSegmentationSwapper(image.to(device), source_faces=chosen, net=net, fallback=fallback)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
