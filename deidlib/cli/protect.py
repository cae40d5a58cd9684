"""``deidlib protect``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from deidlib.cli.beforehand import check_preview, foresee, show_preview
from deidlib.cli.checks import check_audit, check_epsilon, check_hide_only, check_silence, said
from deidlib.cli.config import Config, options_of
from deidlib.cli.errors import plain_errors
from deidlib.cli.hiding import Shape, hiding_of, seen_besides, warning_of
from deidlib.cli.ledger import check_json
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
    until_of,
    workers_named,
)
from deidlib.cli.options import (
    FILE,
    HIDDEN,
    RUNNING,
    Attacked,
    Audio,
    Device,
    Force,
    Hold,
    Json,
    OnMissing,
    Processes,
    Quality,
    Storage,
    Window,
)
from deidlib.cli.paths import Paths
from deidlib.cli.remote import Elsewhere, Ray, Resources, ScratchFolder, is_url
from deidlib.cli.voice import Quiet, Verbose, note, warn
from deidlib.cli.work import Audit, Work, report, run

Start = Literal["auto", "hidden", "predecessor"]
AfterHold = Literal["stay", "drop", "whole-frame"]


def protect(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [TARGET]",
            help="SOURCE: an image, a video, a folder of them, or a pattern such as '*.mp4'; the URL of one (s3://, "
            "gs://); the number of a camera; "
            "or - for standard input. TARGET: the file to write (.png or .mkv), or a folder, or a URL; without one, "
            "drive.protected.mkv beside drive.mp4.",
        ),
    ],
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
    shape: Annotated[
        Shape,
        typer.Option(
            rich_help_panel=HIDDEN,
            help="Of what is hidden: the box around a face, with a margin; or an ellipse around all of that.",
        ),
    ] = "box",
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
        int | None,
        typer.Option(
            rich_help_panel="The attack",
            min=0,
            help="Attack steps per frame at most; as many as serve if not given: 60, or 18 for --survive with a key.",
        ),
    ] = None,
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
            help="Where faces are, frame by frame, instead of detectors: our JSON, COCO's, the XML of CVAT, or "
            "the challenge's csv.",
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
            "20 steps at most, which H.264 keeps better. auto: hidden with a key, --paper, or "
            "--until never; else predecessor, and for h264.",
        ),
    ] = "auto",
    until: Annotated[
        str,
        typer.Option(
            rich_help_panel="The attack",
            help="Frames are done as soon as the models read them well enough: quick, standard, fine, or limits such "
            "as iou:0.97,nme:1%,gaze:2; never: after --iterations steps. auto: standard, but never with a key, "
            "--survive, --paper, or a codec that loses something.",
        ),
    ] = "auto",
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
    json: Json = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel=RUNNING,
            help="Say how many frames and faces there are, how long it will take, and what would be written; write "
            "nothing.",
        ),
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=RUNNING,
            help="First write a .png there: the first frame with a face, original, hidden and protected. It shows the "
            "face as it was.",
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(rich_help_panel=RUNNING, min=1, help="Frames after which a camera or pipe ends.")
    ] = None,
    force: Force = False,
    ray: Ray = None,
    resources: Resources = None,
    scratch: ScratchFolder = None,
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
    from deidlib.protect.lookout import Lookout
    from deidlib.protect.output import Output
    from deidlib.protect.share import Share
    from deidlib.records.detections import read_detections
    from deidlib.tracking import FaceTracker

    with plain_errors():
        remote = ray is not None or any(map(is_url, words))
        if remote and ray is None and workers is not None:
            raise ValueError("--workers: files by URL are done one after the other. Add --ray, or leave --workers out.")
        elsewhere = Elsewhere(ray, resources, workers_named(workers), scratch, key)
        if remote:
            elsewhere.check(
                words, faces=faces, frames=frames, audit=audit, dry_run=dry_run, preview=preview, json=json, force=force
            )
        check_epsilon(epsilon)
        check_json(json)
        if hide_only:
            check_hide_only(key=key, until=None if until == "auto" else until, survive=survive, silence=said(silence))
            iterations, verify = 0, False
        check_silence(said(silence), targets, key=key is not None, paper=paper)
        if until not in ("auto", "never"):
            tolerance_of(until)
        shared = Share(share, grid, degrees)
        secret = None if key is None else Key.load(key)
        # Before models are loaded.
        paths = Paths.elsewhere(words) if remote else Paths.of(words, codec, force=force)
        source, live = paths.source, paths.live
        check_audit(audit, paths)
        if dry_run and live is not None:
            raise ValueError("--dry-run looks at some frames first, and a camera or a pipe can be read once only.")
        if preview is not None:
            check_preview(preview, paths)
        where = device_of(device)
        models = models_of(targets, where)
        step, aggregate = step_of(steps), aggregator_of(combine)
        survived = [distortion_of(name) for name in survive]
        goal = None
        if not (hide_only or (paper and until == "auto")):
            goal = until_of(until, models, codec=codec, keyed=key is not None, distortions=survived)
        if paper:
            attacker = IFGSMAttacker(
                models,
                epsilon=epsilon / 255,
                max_iterations=60 if iterations is None else iterations,
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
                keyed=key is not None,
            )
        obfuscator = hiding_of(
            ("pixelate" if paper else "solid") if hide == "auto" else hide, blocks, where, shape=shape
        )
        if (warning := warning_of(obfuscator)) is not None:
            warn(f"warning: {warning}")
        if secret is None and not hide_only and (others := seen_besides(models.values())) is not None:
            note(others)
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
            workers=workers_named(workers),
            options=options_of(context),
        )
        if preview is not None and paths.inputs is not None:
            show_preview(work, preview, paths.inputs)
        if dry_run:
            foresee(work, paths, json)
            return
        if remote:
            elsewhere.run(work, *words)
            return
        with work.ledger.written(json):
            if live is not None:
                note("a camera or a pipe can be read once only: it is neither continued nor mended")
                assert paths.target is not None
                work.one(live, paths.target, frames)
            else:
                run(work, paths)
