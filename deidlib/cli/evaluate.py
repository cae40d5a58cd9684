"""``deidlib evaluate``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deidlib.cli.config import Config
from deidlib.cli.errors import plain_errors
from deidlib.cli.ledger import check_json, is_stdout, write_json
from deidlib.cli.names import Names, device_of, named, readers_for, readers_of, targets
from deidlib.cli.options import READS, Batch, Description, Device
from deidlib.cli.tables import show
from deidlib.cli.voice import Quiet, Verbose, is_quiet, note, say

if TYPE_CHECKING:
    from collections.abc import Sequence

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
            "blazeface-short, blazeface-full, blazeface-back, dlib-hog, dlib-cnn, haar, lbp; of landmarks pfld, "
            "facemesh, dlib-points.",
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
        Path | None,
        typer.Option(
            rich_help_panel="What is written",
            help="Write all numbers to this .json, or with - to standard output, and nothing else there.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(rich_help_panel="What is written", help="Write a report to this file.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="What is written",
            help="Write a row for every reader to this .csv, or as LaTeX to this .tex.",
        ),
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
        from deidlib.evaluation.tables import write_table
        from deidlib.evaluation.verdict import Condition

        conditions = [Condition.parse(text) for text in fail_if or ()]
        _check_outputs(json, html, table, export_detections)
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
            if is_stdout(json):
                write_json(json, result.to_json())
            else:
                write_evaluation(json, result)
            say(f"numbers: {json}")
        if table is not None:
            write_table(table, result)
            say(f"table: {table}")
        if html is not None:
            write_report(html, result, show_originals=show_originals, hidden=hidden, worst=worst, note=note)
            shown = "original frames are in it" if show_originals else "protected frames only"
            say(f"report: {html} ({shown})")
        if failed := [f"{wrong} ({wrong.value(result):.4g})" for wrong in conditions if wrong.holds(result)]:
            say(f"verdict: failed, since {'; '.join(failed)}")
            raise typer.Exit(2)
        if conditions:
            say(f"verdict: passed, since none of this is true: {'; '.join(map(str, conditions))}")


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


def _check_outputs(json: Path | None, html: Path | None, table: Path | None, detections: Path | None) -> None:
    """Before hours of work: the names cannot be those of recordings, and the places can be written."""
    from deidlib.evaluation.tables import SUFFIXES
    from deidlib.media.files import check_writable, make_folder

    check_json(json)
    for option, path, suffixes in (("--html", html, (".html", ".htm")), ("--table", table, SUFFIXES)):
        if path is None:
            continue
        if path.suffix.lower() not in suffixes:
            raise ValueError(f"{option} must name a file that ends in {' or '.join(suffixes)}, got {path}.")
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
