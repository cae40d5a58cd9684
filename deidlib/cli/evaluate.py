"""``deidlib evaluate``."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deidlib.cli.config import Config
from deidlib.cli.errors import plain_errors
from deidlib.cli.names import Names, device_of, named, readers_for, readers_of, targets
from deidlib.cli.options import READS, Batch, Description, Device
from deidlib.cli.voice import Quiet, Verbose, is_quiet, note, say, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from torch import Tensor

    from deidlib.evaluation import Evaluation
    from deidlib.evaluation.attacks import Attack
    from deidlib.faces import Faces
    from deidlib.keys.key import Key
    from deidlib.keys.record import KeyRecord
    from deidlib.metrics import LPIPS, Embedder
    from deidlib.models.base import FaceModel

Lpips = Literal["alex", "vgg", "squeeze"]


def evaluate(
    original: Annotated[Path, typer.Argument(metavar="ORIGINAL", help="An image, a video, or a folder of them.")],
    protected: Annotated[
        Path, typer.Argument(metavar="PROTECTED", help="The same, protected; a video may be a folder of its frames.")
    ],
    models: Annotated[
        Names | None,
        typer.Option(
            rich_help_panel=READS,
            parser=Names,
            help="Authorised readers, separated by commas; by default all that the key opens, or mtcnn.",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=READS,
            help="The key file, if PROTECTED was protected with a key; --models read by it.",
        ),
    ] = None,
    sidecar: Description = None,
    against: Annotated[
        Names,
        typer.Option(
            rich_help_panel=READS,
            parser=Names,
            help="Readers that are not authorised: any model; of other detectors retinaface-twin, yunet, centerface, "
            "blazeface-short, blazeface-full, blazeface-back, dlib-hog, dlib-cnn, haar; of landmarks pfld, facemesh, "
            "dlib-points.",
        ),
    ] = Names(),
    embedder: Annotated[
        str,
        typer.Option(
            rich_help_panel="Identity",
            help="Who tells whether people are recognised: facenet, mobilefacenet, or FILE.onnx.",
        ),
    ] = "",
    strangers: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Identity",
            help="Clear pictures of people who are not in the files, for the embedder's threshold.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(rich_help_panel="Identity", help="The embedder's cosine above which two faces are one person."),
    ] = None,
    attack: Annotated[
        Names,
        typer.Option(
            rich_help_panel="Identity",
            parser=Names,
            help="What is tried on whole clips, separated by commas: super-resolution, perturbation.",
        ),
    ] = Names(),
    truth: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=READS, help="What there is to be read on the originals: detections as .json, .csv or .xml."
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(rich_help_panel="What is written", help="Write all numbers to this file.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(rich_help_panel="What is written", help="Write a report to this file.")
    ] = None,
    show_originals: Annotated[
        bool,
        typer.Option(
            "--show-originals",
            rich_help_panel="What is written",
            help="Let original frames into the report, faces included.",
        ),
    ] = False,
    hidden: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="What is written",
            help="The file hidden but not attacked: the report shows the perturbation itself.",
        ),
    ] = None,
    worst: Annotated[
        int, typer.Option(rich_help_panel="What is written", min=0, help="Frames shown in the report, at most.")
    ] = 6,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel="What is written",
            help="Exit with 2 if this is true, such as 'found(yunet) > 0' or 'iou(retinaface) < 0.95'; may be given "
            "several times.",
        ),
    ] = None,
    export_detections: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="What is written", help="Write what each reader reads on both files into this folder."
        ),
    ] = None,
    min_iou: Annotated[
        float,
        typer.Option(rich_help_panel=READS, min=0, max=0.999, help="Overlap from which boxes are of one face."),
    ] = 0.5,
    quality: Annotated[bool, typer.Option(rich_help_panel="Quality", help="Measure PSNR, SSIM and flicker.")] = True,
    lpips: Annotated[
        Lpips | None,
        typer.Option(
            rich_help_panel="Quality", help="Measure LPIPS too, by this network, which torchvision downloads."
        ),
    ] = None,
    batch: Batch = 8,
    device: Device = "auto",
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Measure what PROTECTED still shows of ORIGINAL, and to whom."""
    with plain_errors(), _missing_extras():
        from deidlib.evaluation import IdentitySettings, QualitySettings, ReadingSettings, write_evaluation
        from deidlib.evaluation import evaluate as measure
        from deidlib.evaluation.report import write_report
        from deidlib.evaluation.verdict import Condition

        conditions = [Condition.parse(text) for text in fail_if or ()]
        _check_outputs(json, html, export_detections)
        _check_use(html, hidden, show_originals, embedder, strangers, threshold)
        attacks = _attacks_of(attack, embedder)
        if lpips is not None and not quality:
            raise ValueError("--lpips is part of the quality. Leave out --no-quality.")
        record, secret = _opened(protected, key, sidecar)
        # Nobody at all may be authorised, if that is what was said.
        names = models if record is None and models is not None else readers_for(models or (), record)
        where = device_of(device)
        authorised, unauthorised = _authorised(names, where, record, secret), readers_of(against, where, "--against")
        judge = _embedder_of(embedder) if embedder else None
        with _bar() as progress:
            result = measure(
                original,
                protected,
                authorised=authorised,
                unauthorised=unauthorised,
                truth=truth,
                reading=ReadingSettings(min_iou=min_iou),
                quality=QualitySettings(lpips=_lpips_of(lpips)) if quality else None,
                identity=None if judge is None else IdentitySettings(judge, _pictures_of(strangers), threshold),
                attacks=attacks,
                hidden_of=_hidden_of,
                batch_size=batch,
                device=where,
                progress=progress,
            )
        show(result)
        note = _said_of_hiding(protected)
        if note is not None:
            say(note)
        if export_detections is not None:
            _export(result, export_detections)
        if json is not None:
            write_evaluation(json, result)
            say(f"numbers: {json}")
        if html is not None:
            write_report(html, result, show_originals=show_originals, hidden=hidden, worst=worst, note=note)
            shown = "original frames are in it" if show_originals else "protected frames only"
            say(f"report: {html} ({shown})")
        if failed := [f"{wrong} ({wrong.value(result):.4g})" for wrong in conditions if wrong.holds(result)]:
            say(f"verdict: failed, since {'; '.join(failed)}")
            raise typer.Exit(2)
        if conditions:
            say(f"verdict: passed, since none of this is true: {'; '.join(map(str, conditions))}")


def show(result: Evaluation) -> None:
    """Print an evaluation as tables."""
    if silent():
        return
    from rich.console import Console
    from rich.table import Table

    from deidlib.media.tree import passed_over_in_words

    # In a pipe there is no width to fit.
    console = Console() if sys.stdout.isatty() else Console(width=140)
    table = Table("reader", "", "found", "extra", "IoU mean/least", "landmarks off", "gaze off", "head pose off",
                  "DiffScore", "normalised", title=f"{len(result)} frames")  # fmt: skip
    for reader in result.readers.values():
        table.add_row(
            reader.name,
            reader.role,
            f"{reader.found}/{reader.faces}",
            str(reader.extra),
            _iou(reader.all("iou")),
            _mean(reader.all("nme_box"), 100, " %"),
            _mean(reader.all("gaze_deg"), 1, "°"),
            _mean(reader.all("head_pose_deg"), 1, "°"),
            f"{reader.score['score']:.3f}",
            f"{reader.normalised['score']:.3f}",
        )
    console.print(table)
    if result.passed_over:
        say(f"passed over: {passed_over_in_words(result.passed_over, result.original)}")
    say("landmarks: mean distance as a share of the face's size; a face not read counts as the worst reading")
    _show_movements(result, console)
    identity = result.identity
    if identity is not None and identity.mean is not None:
        say(f"identity: cosine to the original {identity.mean:.3f} on average, {identity.greatest:.3f} at most")
        if identity.accepted is None:
            say(f"identity: no threshold, since {identity.threshold_from}")
        else:
            say(
                f"identity: {identity.accepted:.1%} of {identity.faces} faces above the threshold "
                f"{identity.threshold:.3f} ({identity.threshold_from})"
            )
    elif identity is not None:
        say("identity: no face could be compared")
    beside = [] if identity is None else [value for frame in identity.beside for value in frame]
    if beside:
        say(
            f"identity: unauthorised detectors take {len(beside)} more places of the originals for faces, which were "
            f"overlooked or are none: cosine {max(beside):.3f} at most"
        )
    for tried in result.attacks:
        on = "control, 8 blocks on the original" if tried.control else tried.attack
        place = tried.ranking
        others = "no strangers" if place.other is None else f"{place.other:.2f} the most alike stranger"
        say(
            f"{on}, read as {tried.read_as}: the person is number {place.place} of {place.of} (a grey picture: "
            f"{place.blank}), cosine {place.cosine:.2f}, {others}"
        )
    if result.quality is not None:
        words = [
            f"{label} {_number(result.quality.mean(name))}"
            for name, label in (("psnr_inside", "PSNR inside"), ("psnr_outside", "outside"),
                                ("ssim_inside", "SSIM inside"), ("ssim_outside", "outside"),
                                ("flicker_inside", "flicker inside"), ("lpips", "LPIPS"), ("lpips_inside", "inside"))
            if name in result.quality.frames
        ]  # fmt: skip
        what = "what was hidden" if result.quality.known else "an estimate, 1.2 times the faces' boxes"
        say(f"picture: {', '.join(words)} (inside: {what})")


def _show_movements(result: Evaluation, console: Console) -> None:
    """Print how far what moves on the originals is followed by those who are authorised."""
    from rich.table import Table

    from deidlib.evaluation.movement import LABELS

    table = Table("reader", "what moves", "follows", "its changes", "off by", "late", "frames")
    for reader in result.of("authorised"):
        for name, found in reader.movement.own.items():
            unit = "°" if name.endswith("_deg") else " px"
            table.add_row(
                reader.name,
                LABELS[name],
                f"{found.values.correlation:.3f}",
                _or_dash(found.changes.correlation, ".3f"),
                f"{found.values.rmse:.2f}{unit}",
                _or_dash(round(found.values.lag, 1) + 0.0, ".1f"),
                str(found.values.compared),
            )
    if table.row_count:
        console.print(table)
        say("follows: correlation with the original over time, 1 every movement, 0 none; late: by frames")


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """How far the measurement is: takes the frames that are done, and how many there are."""
    from tqdm.auto import tqdm

    with tqdm(unit="frame", desc="reading both", file=sys.stderr, disable=is_quiet()) as bar:

        def progress(done: int, frames: int) -> None:
            if bar.total is None:
                bar.reset(frames)
            bar.update(done - bar.n)

        yield progress


@contextmanager
def _missing_extras() -> Iterator[None]:
    """A package that is not installed is something that a user can mend."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from error


def _check_outputs(json: Path | None, html: Path | None, detections: Path | None) -> None:
    """Before hours of work: the names cannot be those of recordings, and the places can be written."""
    from deidlib.media.files import check_writable
    from deidlib.protect.folder import make_folder

    for option, path, suffixes in (("--json", json, (".json",)), ("--html", html, (".html", ".htm"))):
        if path is None:
            continue
        if path.suffix.lower() not in suffixes:
            raise ValueError(f"{option} must name a {suffixes[0]} file, got {path}.")
        make_folder(path.parent)
        check_writable(path)
    if detections is not None:
        make_folder(detections)


def _check_use(
    html: Path | None,
    hidden: Path | None,
    show_originals: bool,
    embedder: str,
    strangers: Path | None,
    threshold: float | None,
) -> None:
    if html is None and (hidden is not None or show_originals):
        raise ValueError("--hidden and --show-originals are about the report. Add --html FILE.")
    if not embedder and (strangers is not None or threshold is not None):
        raise ValueError("--strangers and --threshold are about an embedder. Add --embedder facenet.")


def _attacks_of(names: Names, embedder: str) -> list[Attack]:
    """The attacks of that name."""
    from deidlib.evaluation.attacks import ATTACKS

    if names and not embedder:
        raise ValueError("--attack needs somebody who tells whether it succeeds. Add --embedder mobilefacenet.")
    if unknown := [name for name in names if name not in ATTACKS]:
        raise ValueError(f"unknown attack {unknown[0]!r} in --attack; choose from {', '.join(ATTACKS)}.")
    return [name for name in ATTACKS if name in names]


def _said_of_hiding(protected: Path) -> str | None:
    """What the file's description says of the pixels of faces, in a sentence; None without one that says so."""
    from deidlib.protect.sidecar import Sidecar

    if protected.is_dir():
        return None
    try:
        said = Sidecar.read(protected)
    except ValueError:
        # Damaged: whoever needs it says so.
        return None
    if said is None or said.proved is None:
        return None
    if said.proved:
        return (
            "By construction, nothing in the file hangs on the pixels of a face that was found, the readings being "
            "equal (docs/privacy.md); what was read of it is in the file."
        )
    return f"Not proved to hold nothing of the faces: {said.why_not}."


def _hidden_of(protected: Path) -> Sequence[Faces] | None:
    """Where a file was hidden, if what lies beside it describes just this file and says so."""
    from deidlib.protect.sidecar import Sidecar
    from deidlib.records.files import sha256_of

    try:
        described = Sidecar.read(protected)
    except ValueError:
        return None
    return described.hidden if described is not None and described.sha256 == sha256_of(protected) else None


def _opened(protected: Path, key: Path | None, sidecar: Path | None) -> tuple[KeyRecord | None, Key | None]:
    """What is said about the key that a file was protected with, and that key; nothing without ``--key``."""
    from deidlib.keys.key import Key
    from deidlib.protect.sidecar import Sidecar, opened

    if key is None:
        if sidecar is not None:
            raise ValueError("--sidecar says how a key is used. Add --key FILE.")
        return None, None
    if protected.is_dir():
        raise ValueError(f"--key belongs to one file, got the folder {protected}. Evaluate the files one by one.")
    secret = Key.load(key)
    return opened(Sidecar.read(protected, sidecar, wanted=True), secret, protected), secret


def _authorised(names: Names, device: str, record: KeyRecord | None, key: Key | None) -> dict[str, FaceModel]:
    """The authorised readers; by a key under names of their own: the same without it may be asked, too."""
    from deidlib.models.keyed import Keyed

    if record is None or key is None:
        return readers_of(names, device, "--models")
    models = named(names, device, "--models", targets())
    return {f"{name}+key": Keyed.from_record(record, model, key) for name, model in models.items()}


def _lpips_of(net: Lpips | None) -> LPIPS | None:
    from deidlib.metrics import LPIPS

    return None if net is None else LPIPS(net)


def _embedder_of(name: str) -> Embedder:
    from deidlib.metrics import FacenetEmbedder, OnnxEmbedder
    from deidlib.weights import checkpoint_of

    if name == "facenet":
        return FacenetEmbedder()
    if name == "mobilefacenet":
        return OnnxEmbedder()
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"--embedder must be facenet, mobilefacenet or an ONNX file, and {name} is no file.")
    if checkpoint_of(path) is not None:
        return OnnxEmbedder(path)
    note(f"{path.name} is not known: given RGB from -1 to 1, as InsightFace's models take it")
    return OnnxEmbedder(path, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _pictures_of(source: Path | None) -> list[Tensor]:
    from deidlib.media import read_image
    from deidlib.media.tree import is_picture

    if source is None:
        return []
    if not source.is_dir():
        return [read_image(source)]
    shown = [path for path in sorted(source.iterdir()) if not path.name.startswith(".")]
    paths = [path for path in shown if is_picture(path)]
    if not paths:
        raise ValueError(f"--strangers {source} holds no picture.")
    if len(paths) < len(shown):
        others = ", ".join(path.name for path in shown if path not in paths)
        note(f"--strangers passes over what is no picture: {others}")
    return [read_image(path) for path in paths]


def _export(result: Evaluation, folder: Path) -> None:
    from deidlib.records.detections import write_detections

    for name in result.readers:
        for side, detections in result.detections(name).items():
            write_detections(folder / f"{side}.{name}.json", detections)
    say(f"detections: {folder}")


def _mean(values: list[float], factor: float, unit: str) -> str:
    return f"{factor * sum(values) / len(values):.2f}{unit}" if values else "-"


def _iou(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f}/{min(values):.3f}" if values else "-"


def _or_dash(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
