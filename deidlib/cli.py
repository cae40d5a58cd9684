"""The command line: names become objects, and what happens is printed. The only place that prints."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    help="De-identify faces in images and video while authorised models still read them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
weights_app = typer.Typer(help="The checkpoints that the models need.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg")

OnMissing = Literal["hold", "whole-frame", "error", "keep"]
Combine = Literal["gradient-norm", "sum"]
Codec = Literal["ffv1", "h264", "h264-lossless", "png-folder"]


def _targets() -> dict[str, tuple[Callable[[], Any], str | None]]:
    """What the shell can name: how to make the model, and its checkpoint in the table of weights if it has one."""
    from deidlib.targets.fan import FAN
    from deidlib.targets.gaze import GazeResNet
    from deidlib.targets.mtcnn import MTCNN
    from deidlib.targets.retinaface import RetinaFace

    return {
        "mtcnn": (MTCNN, None),
        "retinaface": (RetinaFace, "retinaface_mobilenet0.25"),
        "retinaface-resnet50": (lambda: RetinaFace(backbone="resnet50"), "retinaface_resnet50"),
        "fan": (FAN, "2dfan4"),
        "mpiigaze": (GazeResNet.mpiigaze, "mpiigaze"),
        "mpiifacegaze": (GazeResNet.mpiifacegaze, "mpiifacegaze"),
        "eth-xgaze": (GazeResNet.eth_xgaze, "eth_xgaze"),
    }


def _models(names: str, device: str) -> dict[str, Any]:
    """The authorised models of a comma list, at least one of them a detector."""
    models = _named(names, device, "--targets")
    if not any(model.reads == "boxes" for model in models.values()):
        raise ValueError(
            f"--targets must name a detector, which says where faces are; got {names}, which need one. "
            f"Try --targets mtcnn,{names}."
        )
    return models


def _hiders(names: str, models: dict[str, Any], device: str) -> list[Any]:
    """The detectors that faces are hidden by; MTCNN's weights are always at hand, so by default it helps."""
    detectors = {name: model for name, model in models.items() if model.reads == "boxes"}
    if not names.strip():
        names = ",".join([*detectors, "mtcnn"])
    wanted = [part.strip().lower() for part in names.split(",") if part.strip()]
    missing = ",".join(name for name in dict.fromkeys(wanted) if name not in detectors)
    others = _named(missing, device, "--hide-with") if missing else {}
    for name, model in others.items():
        if model.reads != "boxes":
            raise ValueError(f"--hide-with must name detectors, got {name}, which reads {model.reads}. Try mtcnn.")
    return [(detectors | others)[name] for name in dict.fromkeys(wanted)]


def _named(names: str, device: str, option: str) -> dict[str, Any]:
    """The models of a comma list, on the device, with their licences shown."""
    from deidlib import weights

    table = _targets()
    models = {}
    for name in [part.strip().lower() for part in names.split(",") if part.strip()]:
        if name not in table:
            raise ValueError(f"unknown model {name!r} in {option}; choose from {', '.join(table)}.")
        make, checkpoint = table[name]
        models[name] = make().to(device)
        if checkpoint is not None:
            known = weights.checkpoint(checkpoint)
            typer.echo(f"{name}: weights from {known.origin}, licence {known.licence}", err=True)
    if not models:
        raise ValueError(f"{option} must name at least one model, got {names!r}. Try {option} mtcnn.")
    return models


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda", "mps") or not (index.isdigit() or wanted == kind):
        raise ValueError(f"--device must be auto, cpu, cuda, cuda:N or mps, got {wanted!r}. Try --device auto.")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= there:
        raise ValueError(f"--device {wanted}, but this machine has {there} usable {kind} devices. Use --device cpu.")
    typer.echo(f"device: {wanted}", err=True)
    return wanted


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """What a user can mend is one line and exit code 1, not a traceback."""
    from deidlib.pipeline import NoFaceError
    from deidlib.video import MediaError
    from deidlib.weights import CorruptWeights, WeightsNotFound

    try:
        yield
    except (MediaError, NoFaceError, WeightsNotFound, CorruptWeights, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; nothing was left under the output's name", err=True)
        raise typer.Exit(130) from None


@app.command()
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
    with _plain_errors():
        jobs = _jobs(source, target, codec)
        where = _device(device)
        models = _models(targets, where)
        deidentifier = _deidentifier(
            models, _hiders(hide_with, models, where), blocks, epsilon, iterations, on_missing, combine
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


def _jobs(source: Path, target: Path, codec: Codec) -> list[tuple[Path, Path]]:
    """Pairs of input and output; a folder keeps its tree, images become .png, videos what the codec needs."""
    from deidlib.video import MediaReadError, MediaWriteError

    if not source.exists():
        raise MediaReadError(f"{source} does not exist. Expected an image, a video or a folder; check the path.")
    if not source.is_dir():
        if target.is_dir() and (codec != "png-folder" or source.suffix.lower() in IMAGE_SUFFIXES):
            raise MediaWriteError(
                f"{source} is a file, so the output must be one too; {target} is a folder. "
                f"Name the file: {target / source.with_suffix(_suffix(source, codec)).name}."
            )
        return [(source, target)]
    if target.exists() and not target.is_dir():
        raise MediaWriteError(
            f"{source} is a folder, so the output must be one too; {target} is a file. Name a folder."
        )
    if target.resolve() == source.resolve() or source.resolve() in target.resolve().parents:
        raise MediaWriteError(
            f"the output folder {target} must not be the input folder or lie inside it. Choose another place."
        )
    jobs: dict[Path, Path] = {}
    for path in sorted(source.rglob("*")):
        kind = path.suffix.lower()
        if path.is_file() and kind in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
            out = (target / path.relative_to(source)).with_suffix(_suffix(path, codec))
            if out in jobs:
                raise MediaWriteError(f"{jobs[out]} and {path} would both be written to {out}. Rename one.")
            jobs[out] = path
    if not jobs:
        raise MediaReadError(f"{source} holds no image or video ({', '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)}).")
    return [(path, out) for out, path in jobs.items()]


def _suffix(source: Path, codec: Codec) -> str:
    """How the output for a file is called."""
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return ".png"
    return {"ffv1": ".mkv", "h264": ".mp4", "h264-lossless": ".mp4", "png-folder": ""}[codec]


def _make_folder(folder: Path) -> None:
    from deidlib.video import MediaWriteError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaWriteError(
            f"the output folder {folder} cannot be created ({error.strerror}). Choose another."
        ) from error


def _protect_one(
    deidentifier: Any, source: Path, target: Path, codec: Codec, quality: int | None, batch: int, label: str
) -> None:
    from tqdm.auto import tqdm

    _make_folder(target.parent)
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


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the clip, the sheet and the numbers go.")] = Path("demo-output"),
    frames: Annotated[int, typer.Option(min=3, help="Length of the clip.")] = 12,
) -> None:
    """Run the main job on the embedded default: MTCNN authorised, a clip of the astronaut, no download."""
    from tqdm.auto import tqdm

    from deidlib.demo import run

    with _plain_errors():
        _make_folder(folder)
        with tqdm(total=frames, unit="frame", desc="protecting", file=sys.stderr) as bar:
            report = run(folder, frames=frames, progress=bar.update)
        typer.echo(f"{'MTCNN reads from':<20}{'faces found':>14}{'mean IoU':>11}")
        for stage, row in report["stages"].items():
            typer.echo(f"{stage:<20}{row['found']:>14.0%}{row['iou']:>11.3f}")
        change = report["perturbation"]
        typer.echo(
            f"perturbation: {change['mean_inside']:.1f} grey levels on average inside the face region, "
            f"{change['largest']:.0f} at most, {change['outside']:.0f} outside it"
        )
        typer.echo(f"{report['seconds']} s for {report['frames']['all']} frames")
        typer.echo(f"see {folder / 'sheet.png'}, {folder / 'protected.mkv'}, {folder / 'demo.json'}")


@weights_app.command("list")
def weights_list() -> None:
    """All checkpoints: state, licence, origin."""
    from deidlib import weights

    for name, checkpoint in weights.CHECKPOINTS.items():
        state = weights.status(name).state
        typer.echo(f"{name:<32}{state:<11}{checkpoint.licence:<45}{checkpoint.origin}")


@weights_app.command("fetch")
def weights_fetch(name: Annotated[str, typer.Argument(help="As in `deidlib weights list`.")]) -> None:
    """Download a checkpoint into the cache, unless it is there, and show its licence."""
    from deidlib import weights

    with _plain_errors():
        checkpoint = weights.checkpoint(name)
        typer.echo(f"{name}: licence {checkpoint.licence}; {checkpoint.paper}", err=True)
        typer.echo(str(weights.find(name)))


@weights_app.command("verify")
def weights_verify() -> None:
    """Check the hash of every checkpoint that is here; exit code 1 if one is another file."""
    from deidlib import weights

    bad = 0
    for name in weights.CHECKPOINTS:
        status = weights.status(name)
        if status.path is not None:
            typer.echo(f"{name:<32}{status.state:<11}{status.path}")
            bad += status.state == "mismatch"
    if bad:
        raise typer.Exit(1)


@weights_app.command("where")
def weights_where() -> None:
    """The folders in which checkpoints are looked for, in order."""
    from deidlib import weights

    typer.echo(f"DEIDLIB_WEIGHTS: {weights.weights_folder() or 'not set'}")
    typer.echo(f"cache: {weights.cache_folder()}")


def main() -> None:
    """Entry point of the ``deidlib`` command."""
    app()


if __name__ == "__main__":
    main()
