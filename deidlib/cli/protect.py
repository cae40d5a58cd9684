"""``deidlib protect``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from deidlib.cli.errors import plain_errors
from deidlib.cli.files import IMAGE_SUFFIXES, Codec, jobs_of, make_folder
from deidlib.cli.names import device_of, hiders_of, models_of

OnMissing = Literal["hold", "whole-frame", "error", "keep"]
Combine = Literal["gradient-norm", "sum"]


def protect(
    source: Annotated[Path, typer.Argument(help="An image, a video, or a folder of them.")],
    target: Annotated[Path, typer.Argument(help="The file to write (.png or .mkv), or a folder.")],
    targets: Annotated[str, typer.Option(help="Authorised models, separated by commas.")] = "mtcnn",
    blocks: Annotated[int, typer.Option(min=1, help="Mosaic cells across the face region.")] = 4,
    epsilon: Annotated[float, typer.Option(min=0, max=255, help="Largest change of a pixel, in grey levels.")] = 8,
    iterations: Annotated[int, typer.Option(min=0, help="Attack steps per frame at most.")] = 60,
    on_missing: Annotated[
        OnMissing,
        typer.Option(
            help="A frame without a face: hold hides where the last face was, then the whole frame; "
            "keep leaves the frame as it is, with any face that was missed."
        ),
    ] = "hold",
    codec: Annotated[Codec, typer.Option(help="How video is stored; ffv1 loses nothing.")] = "ffv1",
    quality: Annotated[int | None, typer.Option(help="Constant rate factor of h264: 0 best to 51.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Frames attacked at a time.")] = 8,
    hide_with: Annotated[
        str,
        typer.Option(
            help="Detectors that say where faces are, separated by commas; whatever one of them finds is hidden. "
            "By default the authorised detectors and mtcnn."
        ),
    ] = "",
    combine: Annotated[Combine, typer.Option(help="How the losses of several models are summed.")] = "gradient-norm",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Hide the faces in SOURCE and let the authorised models still read them."""
    with plain_errors():
        jobs = jobs_of(source, target, codec)
        where = device_of(device)
        models = models_of(targets, where)
        deidentifier = _deidentifier(
            models, hiders_of(hide_with, models, where), blocks, epsilon, iterations, on_missing, combine
        )
        failed = 0
        for number, (one, out) in enumerate(jobs):
            try:
                _protect_one(deidentifier, one, out, codec, quality, batch, f"{number + 1}/{len(jobs)} {one.name}")
            except ValueError as error:
                message = str(error) if str(one) in str(error) else f"{one}: {error}"
                # In a folder one broken file does not stop the others; the exit code tells.
                if len(jobs) == 1:
                    raise ValueError(message) from error
                typer.echo(f"error: {message}", err=True)
                failed += 1
        if failed:
            typer.echo(f"{failed} of {len(jobs)} files failed", err=True)
            raise typer.Exit(1)


def _deidentifier(
    models: dict[str, Any],
    hiders: list[Any],
    blocks: int,
    epsilon: float,
    iterations: int,
    on_missing: OnMissing,
    combine: Combine,
) -> Any:
    from deidlib.attack import IFGSMAttacker
    from deidlib.combinations import GradientNorm, Sum
    from deidlib.obfuscate import Pixelate
    from deidlib.pipeline import Deidentifier
    from deidlib.steps import AutoStep

    attacker = IFGSMAttacker(
        models,
        epsilon=epsilon / 255,
        max_iterations=iterations,
        step=AutoStep(),
        # Alone, a model's loss needs no balance; together, the largest would drown the others.
        combine=Sum() if combine == "sum" or len(models) == 1 else GradientNorm(),
    )
    return Deidentifier(attacker, obfuscator=Pixelate(blocks=blocks), hide_with=hiders, on_missing=on_missing)


def _protect_one(
    deidentifier: Any, source: Path, target: Path, codec: Codec, quality: int | None, batch: int, label: str
) -> None:
    from tqdm.auto import tqdm

    make_folder(target.parent)
    if source.suffix.lower() in IMAGE_SUFFIXES:
        summary = deidentifier.image(source, target)
    else:
        from deidlib.video import VideoReader

        with VideoReader(source) as reader:
            frames, sound = reader.info.frames, reader.info.has_audio
        if sound:
            typer.echo(f"{source}: its sound is left out, since a voice identifies", err=True)
        # The header's count may be wrong: it only scales the bar.
        with tqdm(total=frames, unit="frame", desc=label, file=sys.stderr) as bar:
            summary = deidentifier.video(
                source, target, codec=codec, quality=quality, batch_size=batch, progress=bar.update
            )
    losses = ", ".join(f"{name} {value:.3f}" for name, value in summary.losses.items()) or "none"
    typer.echo(
        f"{target}: {summary.frames} frames, {summary.found} with faces hidden and attacked, {summary.held} held, "
        f"{summary.partly_held} with a lost face held besides, "
        f"{summary.whole_frame} wholly hidden, {summary.kept} kept as they were; final loss: {losses}"
    )
    if not summary.found:
        typer.echo(f"warning: no face was found in {source}; nothing can be read from {target}", err=True)
