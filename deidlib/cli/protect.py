"""``deidlib protect``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from deidlib.cli.config import Config
from deidlib.cli.errors import plain_errors
from deidlib.cli.files import live_source
from deidlib.cli.hiding import hiding_of, warning_of
from deidlib.cli.names import (
    Combine,
    Names,
    Steps,
    aggregator_of,
    detectors_of,
    device_of,
    distortion_of,
    models_of,
    silenced_of,
    step_of,
    tolerance_of,
    workers_named,
)
from deidlib.cli.options import (
    FILE,
    HIDDEN,
    RUNNING,
    Attacked,
    Audio,
    Device,
    Hold,
    OnMissing,
    Processes,
    Quality,
    Storage,
    Window,
)
from deidlib.cli.voice import Quiet, Verbose, note, warn
from deidlib.cli.work import Audit, Work, report, run

Start = Literal["auto", "hidden", "predecessor"]
AfterHold = Literal["stay", "drop", "whole-frame"]


def protect(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="An image, a video, a folder of them; the number of a camera; or - for standard input.",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The file to write (.png or .mkv), or a folder.")],
    targets: Annotated[
        Names,
        typer.Option(rich_help_panel="Who may read", parser=Names, help="Authorised models, separated by commas."),
    ] = Names("mtcnn"),
    key: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Who may read",
            help="A key file (deidlib key new): the authorised models read by this key only.",
        ),
    ] = None,
    silence: Annotated[
        Names,
        typer.Option(
            rich_help_panel="Who may read",
            parser=Names,
            help="Detectors that are to find nothing, so that strangers like them find less: retinaface-twin, "
            "retinaface, mtcnn; or none. auto: the twin, where retinaface may read without a key.",
        ),
    ] = Names("auto"),
    hide: Annotated[
        str,
        typer.Option(
            rich_help_panel=HIDDEN,
            help="solid, which takes nothing from the face; pixelate; blur; or swap:FILE, the face of another. "
            "auto: solid, with --paper pixelate.",
        ),
    ] = "auto",
    blocks: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=HIDDEN,
            min=1,
            help="Mosaic cells across the face region, 4 by default, with --hide pixelate.",
        ),
    ] = None,
    hide_only: Annotated[
        bool,
        typer.Option(
            "--hide-only",
            rich_help_panel=HIDDEN,
            help="Hide the faces and attack nothing: fast, and nobody reads them.",
        ),
    ] = False,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            rich_help_panel=HIDDEN,
            help="The paper's setting, for comparison: a mosaic, I-FGSM, and the plain sum of the losses, where "
            "nothing else is said.",
        ),
    ] = False,
    epsilon: Annotated[
        float,
        typer.Option(
            rich_help_panel="The attack",
            min=0,
            max=255,
            help="Largest change of a pixel, in grey levels: 0 or 1 to 255, not a share.",
        ),
    ] = 8,
    iterations: Annotated[
        int, typer.Option(rich_help_panel="The attack", min=0, help="Attack steps per frame at most.")
    ] = 60,
    on_missing: Annotated[
        OnMissing,
        typer.Option(
            rich_help_panel=HIDDEN,
            help="A frame without a face: hold hides where the last face was, then the whole frame; "
            "keep leaves the frame as it is, with any face that was missed.",
        ),
    ] = "hold",
    hold: Hold = 30,
    window: Window = 15,
    after_hold: Annotated[
        AfterHold,
        typer.Option(
            rich_help_panel=HIDDEN,
            help="A face lost for longer than --hold, beside others: its place stays hidden, is dropped, or the whole "
            "frame is hidden.",
        ),
    ] = "stay",
    faces: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=HIDDEN,
            help="Where faces are, frame by frame, instead of detectors: our JSON, or the challenge's csv.",
        ),
    ] = None,
    share: Annotated[
        Names,
        typer.Option(
            rich_help_panel=HIDDEN,
            parser=Names,
            help="What of the readings may flow into the file: boxes, landmarks, gaze.",
        ),
    ] = Names("boxes,landmarks,gaze"),
    grid: Annotated[
        float,
        typer.Option(
            rich_help_panel=HIDDEN,
            min=0,
            help="Pixels that edges and points are rounded to before they flow; edges outwards.",
        ),
    ] = 0,
    degrees: Annotated[
        float,
        typer.Option(rich_help_panel=HIDDEN, min=0, help="Degrees that gaze is rounded to before it flows."),
    ] = 0,
    codec: Storage = "ffv1",
    quality: Quality = None,
    audio: Audio = "drop",
    batch: Attacked = None,
    workers: Processes = None,
    detectors: Annotated[
        Names,
        typer.Option(
            rich_help_panel=HIDDEN,
            parser=Names,
            help="Detectors that say where faces are, separated by commas; whatever one of them finds is hidden. "
            "By default the authorised detectors, mtcnn, and retinaface if its weights are here.",
        ),
    ] = Names(),
    lookout: Annotated[
        int,
        typer.Option(
            rich_help_panel=HIDDEN,
            min=1,
            help="Frames, at most, from one look of detectors that are not authorised, and of all at turned frames, to "
            "the next; 1: at every frame. They also look where faces come, go or are missed.",
        ),
    ] = 8,
    steps: Annotated[
        Steps,
        typer.Option(
            rich_help_panel="The attack", help="The step rule; auto takes mi-fgsm where gaze is among several models."
        ),
    ] = "auto",
    combine: Annotated[
        Combine,
        typer.Option(
            rich_help_panel="The attack",
            help="How the losses of several models are summed; auto: sum with gaze, else balanced.",
        ),
    ] = "auto",
    survive: Annotated[
        Names,
        typer.Option(
            rich_help_panel="The attack",
            parser=Names,
            help="What the file must survive, separated by commas: jpeg:75, h264:23, blur:1.0, chroma.",
        ),
    ] = Names(),
    start: Annotated[
        Start,
        typer.Option(
            rich_help_panel="The attack",
            help="Where the attack on a frame starts: its hidden self, or the protected frame before it, with "
            "20 steps at most, which H.264 keeps better. auto: predecessor for h264 and with --until, unless there is "
            "a key; else hidden.",
        ),
    ] = "auto",
    until: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="The attack",
            help="Frames are done as soon as the models read them well enough: quick, fine, or limits such as "
            "iou:0.97,nme:1%,gaze:2. By default after --iterations steps.",
        ),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=FILE,
            help="Write a contact sheet of the protected file there, for somebody to look through before it is shared: "
            "a folder, or a file of .html. It shows frames in doubt, and every --audit-every'th.",
        ),
    ] = None,
    audit_every: Annotated[int, typer.Option(rich_help_panel=FILE, min=1, help="For --audit.")] = 50,
    verify: Annotated[
        bool,
        typer.Option(
            rich_help_panel=FILE,
            help="Read the written video back through the authorised models, and mend what is bad.",
        ),
    ] = True,
    min_iou: Annotated[
        float,
        typer.Option(
            rich_help_panel=FILE,
            min=0,
            max=1,
            help="Overlap (IoU) of boxes below which a frame is attacked again.",
        ),
    ] = 0.9,
    frames: Annotated[
        int | None, typer.Option(rich_help_panel=RUNNING, min=1, help="Frames after which a camera or pipe ends.")
    ] = None,
    device: Device = "auto",
    config: Config = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Hide the faces in SOURCE and let the authorised models still read them.

    A folder is gone through with all below it; what is finished is left as it is, so an interrupted run is continued by
    the same command.
    """
    from deidlib.attack.aggregation import Sum
    from deidlib.attack.attacker import IFGSMAttacker
    from deidlib.attack.chain import Chain
    from deidlib.attack.presets import recommended, recommended_chain
    from deidlib.attack.steps import SignStep
    from deidlib.keys.key import Key
    from deidlib.media.clip import Clip
    from deidlib.protect.check import Check
    from deidlib.protect.deidentifier import Deidentifier
    from deidlib.protect.inputs import Inputs
    from deidlib.protect.lookout import Lookout
    from deidlib.protect.output import Output
    from deidlib.protect.share import Share
    from deidlib.records.detections import read_detections
    from deidlib.tracking import FaceTracker

    with plain_errors():
        _check_epsilon(epsilon)
        _check_audit(audit, source, target)
        if hide_only:
            _check_hide_only(key=key, until=until, survive=survive, silence=_said(silence))
            iterations, verify = 0, False
        _check_silence(_said(silence), targets, key=key is not None, paper=paper)
        goal = tolerance_of(until)
        shared = Share(share, grid, degrees)
        secret = None if key is None else Key.load(key)
        live = live_source(source)
        # Before models are loaded.
        inputs = None if live is not None else Inputs.below(source, target, codec)
        where = device_of(device)
        models = models_of(targets, where)
        step, aggregate = step_of(steps), aggregator_of(combine)
        survived = [distortion_of(name) for name in survive]
        if paper:
            attacker = IFGSMAttacker(
                models,
                epsilon=epsilon / 255,
                max_iterations=iterations,
                step=step or SignStep(),
                aggregate=aggregate or Sum(),
                distortions=survived,
                until=goal,
            )
        else:
            attacker = recommended(
                models,
                epsilon=epsilon / 255,
                max_iterations=iterations,
                step=step,
                aggregate=aggregate,
                distortions=survived,
                until=goal,
                silence=[] if hide_only or key is not None else silenced_of(silence, models, where),
            )
        obfuscator = hiding_of(("pixelate" if paper else "solid") if hide == "auto" else hide, blocks, where)
        if (warning := warning_of(obfuscator)) is not None:
            warn(f"warning: {warning}")
        warm = {
            "auto": None if paper else recommended_chain(codec, keyed=key is not None, until=goal),
            "predecessor": Chain(),
            "hidden": None,
        }
        deidentifier = Deidentifier(
            attacker,
            obfuscator=obfuscator,
            detectors=detectors_of(detectors, models, where),
            tracker=FaceTracker(window=window, hold=hold, on_missing=on_missing, after_hold=after_hold),
            chain=warm[start],
            lookout=Lookout(lookout),
            share=shared if shared != Share() else None,
        )
        if faces is not None and (live is not None or source.is_dir()):
            raise ValueError(f"--faces belongs to one file, got {source}. Protect the files one by one.")
        if frames is not None and live is None:
            raise ValueError(f"--frames is for a camera or a pipe, got {source}. Cut the file instead.")
        known = None
        if faces is not None:
            # Counted first: a wrong file is told before hours of work, and a csv does not say where its clip ends.
            clip = Clip.open(source)
            known = read_detections(faces, size=clip.size, frames=clip.frames)
        work = Work(
            deidentifier,
            Output(codec, quality, audio),
            Check(min_iou) if verify else None,
            secret,
            batch,
            None if known is None else lambda _: known,
            partial(report, attacked=not hide_only),
            None if audit is None else Audit(audit, audit_every),
            workers_named(workers),
        )
        if live is not None:
            note("a camera or a pipe can be read once only: it is neither continued nor mended")
            work.one(live, target, frames)
        elif inputs is not None:
            run(work, source, target, inputs)


def _check_audit(audit: Path | None, source: Path, target: Path) -> None:
    """Before the work: the contact sheet replaces nothing that is read or written, and there is one for each file."""
    if audit is None:
        return
    if audit.resolve() in (source.resolve(), target.resolve()):
        raise ValueError(f"--audit {audit} is what is read or written. Name another folder, or a file of .html.")
    if source.is_dir() and audit.suffix.lower() == ".html":
        raise ValueError(f"--audit {audit} is one file, and {source} holds several. Name a folder for their sheets.")


def _check_epsilon(levels: float) -> None:
    """Grey levels, of which there are whole ones only; what was meant as a share would leave the frame as it is."""
    if 0 < levels < 1:
        raise ValueError(
            f"--epsilon counts grey levels of 255, and {levels:g} is less than one: no pixel could change. The Python "
            f"library counts from 0 to 1: epsilon={levels:g} there is --epsilon {levels * 255:.3g} here. The default "
            "is --epsilon 8; 0 hides and attacks nothing."
        )


def _said(silence: Names) -> Names:
    """Whom somebody wants to be silenced."""
    return Names(name for name in silence if name not in ("auto", "none"))


def _check_silence(silence: Names, targets: Names, *, key: bool, paper: bool) -> None:
    """Where nobody is to be silenced, or nobody can be."""
    if silence and key:
        raise ValueError("--key keeps everybody out, also those that --silence knows nothing of. Leave --silence out.")
    if silence and paper:
        raise ValueError("--paper does what the paper did, which silenced nobody. Leave --silence or --paper out.")
    if both := [name for name in silence if name in targets]:
        raise ValueError(
            f"{', '.join(both)} cannot be authorised and silenced. Leave it out of --silence or --targets."
        )


def _check_hide_only(**attack: object) -> None:
    """What tells an attack what to do has no sense without one."""
    if said := [f"--{name}" for name, value in attack.items() if value]:
        raise ValueError(f"--hide-only attacks nothing, so that {', '.join(said)} would do nothing. Leave one out.")
