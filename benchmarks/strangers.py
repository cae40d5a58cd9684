"""What strangers get out of protected frames: ``python -m benchmarks.strangers [--folder FOLDER] [--clip NAME]``.

It needs the shared weights and media beside the project, all strangers that are to be asked (the extras ``onnx``,
``tflite`` and ``dlib``, ``opencv-python<5`` for the cascade; those that are not here are left out), and about half an
hour of a free core; interrupted, it goes on where it was. Frames are protected once per setting, and kept as they would
be written, since FFV1 loses nothing.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from footage import SHARED, frames
from torch import Tensor
from torch.nn.functional import cosine_similarity

from deidlib.attack.presets import TOLERANCES, recommended
from deidlib.faces import Faces
from deidlib.geometry.boxes import expand, iou
from deidlib.images import from_pixels, to_pixels
from deidlib.keys.key import Key
from deidlib.metrics import OnnxEmbedder, align
from deidlib.metrics.functional import gaze_angle
from deidlib.models import strangers
from deidlib.models.base import FaceModel, TargetModel
from deidlib.models.gaze import GazeResNet
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.models.observe import observe, read_originals
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Pixelate, Solid

CLIPS = {"T002_talk": range(0, 270, 30), "T002_radio": range(0, 150, 15), "talk_video00": range(0, 433, 144)}
TWIN = "retinaface_mobilenet0.25_1mb"
BATCH = 4
# A stranger's own face counts if it lies on one that is hidden, and is found if he finds it with this overlap.
FOUND = 0.5
# Above this cosine, or below this distance, no two people were in the READMEs of the weights.
COSINE, DISTANCE = 0.42, 0.6


@dataclass(frozen=True)
class Setting:
    """One line of the table.

    Args:
        authorised: names of :func:`models`; none: frames are only hidden.
        until: when a frame is done; after 60 steps if not given.
        silence: names of detectors that are to find nothing.
        settings: others of :func:`deidlib.recommended`.
        keyed: whether the models read by a key.
        blocks: of a mosaic in place of the solid colour.
    """

    authorised: tuple[str, ...] = ()
    until: str | None = None
    silence: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    keyed: bool = False
    blocks: int | None = None


RETINAFACE, GAZE, BOTH = ("retinaface",), ("retinaface", "mpiigaze"), ("retinaface", "mtcnn")
SETTINGS = {
    "hidden only": Setting(),
    "RetinaFace": Setting(RETINAFACE),
    "RetinaFace, quick": Setting(RETINAFACE, "quick"),
    "RetinaFace + gaze": Setting(GAZE),
    "RetinaFace + gaze, quick": Setting(GAZE, "quick"),
    "RetinaFace + gaze, quick, twin silent": Setting(GAZE, "quick", ("twin",)),
    "RetinaFace + MTCNN": Setting(BOTH),
    "RetinaFace + MTCNN, quick": Setting(BOTH, "quick"),
    "RetinaFace + MTCNN, quick, twin silent": Setting(BOTH, "quick", ("twin",)),
    "MTCNN": Setting(("mtcnn",)),
    "MTCNN, quick": Setting(("mtcnn",), "quick"),
    "RetinaFace, key": Setting(RETINAFACE, keyed=True),
    "RetinaFace, key, quick": Setting(RETINAFACE, "quick", keyed=True),
    # Levers, on RetinaFace + gaze.
    "RetinaFace + gaze, twin silent": Setting(GAZE, silence=("twin",)),
    "RetinaFace + gaze, quick, epsilon 4": Setting(GAZE, "quick", settings={"epsilon": 4 / 255}),
    "RetinaFace + gaze, quick, epsilon 4, twin silent": Setting(GAZE, "quick", ("twin",), {"epsilon": 4 / 255}),
    "RetinaFace + gaze, quick, twin and MTCNN silent": Setting(GAZE, "quick", ("twin", "mtcnn")),
    "RetinaFace + gaze, quick, 4 blocks": Setting(GAZE, "quick", blocks=4),
}
# dlib's network takes seconds for a frame: it is asked about these.
PATIENT = ("hidden only", "RetinaFace + gaze, quick", "RetinaFace + gaze, quick, twin silent", "RetinaFace, key")


class Clip:
    """Some frames of a clip, what is hidden of them, and who reads the originals.

    Args:
        name: of the clip.
    """

    def __init__(self, name: str) -> None:
        self.originals = frames(SHARED / "media" / f"{name}.mp4", CLIPS[name])
        self.models: dict[str, TargetModel[Any]] = {
            "retinaface": RetinaFace(),
            "mtcnn": MTCNN(),
            "mpiigaze": GazeResNet.mpiigaze(),
            "twin": RetinaFace(TWIN),
        }
        detectors = [self.models["retinaface"], self.models["mtcnn"]]
        self.hidden_faces = [known for part in self.parts() for known in observe(self.originals[part], detectors)]

    def parts(self) -> Iterator[slice]:
        """The frames, some at a time."""
        yield from (slice(first, first + BATCH) for first in range(0, len(self.originals), BATCH))

    def protect(self, setting: Setting) -> tuple[Tensor, list[float]]:
        """Frames protected each on its own, and how many steps each took."""
        hide = Solid() if setting.blocks is None else Pixelate(setting.blocks)
        images, steps = [], [0.0]
        for part in self.parts():
            originals, faces = self.originals[part], self.hidden_faces[part]
            hidden = hide(originals, faces)
            if setting.authorised:
                models = {name: self.models[name] for name in setting.authorised}
                if setting.keyed:
                    key = Key(bytes(range(32)))
                    models = {name: Keyed(model, key, nonce="benchmark") for name, model in models.items()}
                attacker = recommended(
                    models,
                    until=TOLERANCES[setting.until] if setting.until else None,
                    silence=[self.models[name] for name in setting.silence],
                    **setting.settings,
                )
                mask = hide.mask(faces, *originals.shape[2:])
                numbers = range(len(self.originals))[part]
                result = attacker(hidden, read_originals(originals, models), mask=mask, numbers=numbers)
                hidden = result.images
                steps += result.iterations.tolist()
            images.append(hidden)
        return torch.cat(images), steps[1:] or steps


def asked() -> dict[str, FaceModel]:
    """All strangers that are on this machine, detectors first."""
    makers: dict[str, Callable[[], FaceModel]] = {
        "twin": lambda: RetinaFace(TWIN),
        "RetinaFace": RetinaFace,
        "MTCNN": MTCNN,
        "YuNet": strangers.YuNet,
        "CenterFace": strangers.CenterFace,
        "BlazeFace short": lambda: strangers.BlazeFace("short"),
        "BlazeFace full": lambda: strangers.BlazeFace("full"),
        "BlazeFace back": lambda: strangers.BlazeFace("back"),
        "dlib HOG": lambda: strangers.DlibHOG(upsample=0),
        # These two are kept apart: asked last, and no setting was chosen by what they find.
        "dlib CNN": strangers.DlibCNN,
        "Haar": strangers.Cascade,
        "FaceMesh": strangers.FaceMesh,
        "PFLD": strangers.PFLD,
        "dlib 68": strangers.DlibPoints,
    }
    there = {}
    for name, make in makers.items():
        try:
            there[name] = make()
        except (ModuleNotFoundError, FileNotFoundError) as error:
            print(f"{name} is not asked: {error}")
    return there


class Question:
    """What a clip's strangers see on originals and on protected frames."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.readers = clip, asked()
        self.truth = read(self.clip.models["retinaface"], clip.originals)
        self.originals: dict[str, list[Faces]] = {}
        self.gaze = read(clip.models["mpiigaze"], clip.originals, self.truth)
        self.embed = OnnxEmbedder()
        self.clear = self.embed(align(clip.originals, self.truth))
        self.dlib = strangers.DlibRecogniser() if "dlib 68" in self.readers else None
        if self.dlib is not None:
            self.clear_dlib = self.dlib(clip.originals, self.own("dlib 68"))

    def read(self, name: str, images: Tensor) -> list[Faces]:
        """A detector's faces that lie on hidden ones; whoever reads points is told RetinaFace's boxes."""
        reader = self.readers[name]
        if reader.task != "boxes":
            return read(reader, images, self.truth)
        return [on(faces, hidden) for faces, hidden in zip(read(reader, images), self.clip.hidden_faces, strict=True)]

    def own(self, name: str) -> list[Faces]:
        """What a stranger reads on the originals."""
        if name not in self.originals:
            self.originals[name] = self.read(name, self.clip.originals)
        return self.originals[name]

    def answers(self, images: Tensor, *, patient: bool) -> dict[str, Any]:
        """Per stranger: found of how many; the median error of points; how many are recognised."""
        answers: dict[str, Any] = {}
        for name, reader in self.readers.items():
            if isinstance(reader, strangers.DlibCNN) and not patient:
                continue
            seen = self.read(name, images)
            pairs = list(zip(self.own(name), seen, strict=True))
            if reader.task == "boxes":
                total = sum(len(known) for known, _ in pairs)
                found = sum(int(overlaps(known, faces).gt(FOUND).sum()) for known, faces in pairs)
                answers[name] = [found, total]
            else:
                errors = [nme(known, faces) for known, faces in pairs if len(known)]
                answers[name] = float(torch.cat(errors).median())
            if isinstance(reader, strangers.FaceMesh):
                sure = torch.cat(
                    [torch.cat(reader.presence(i[None], [f])) for i, f in zip(images, self.truth, strict=True)]
                )
                answers["FaceMesh believes"] = [int((sure > 0.5).sum()), len(sure)]
        cosine = cosine_similarity(self.embed(align(images, self.truth)), self.clear)
        answers["MobileFaceNet"] = [
            int((cosine > COSINE).sum()),
            len(cosine),
            float(cosine.mean()),
            float(cosine.max()),
        ]
        if self.dlib is not None:
            far = (self.dlib(images, self.own("dlib 68")) - self.clear_dlib).norm(dim=1)
            answers["dlib recogniser"] = [int((far < DISTANCE).sum()), len(far), float(far.mean()), float(far.min())]
        return answers

    def authorised(self, setting: Setting, images: Tensor) -> dict[str, float]:
        """IoU of each authorised detector with its reading of the originals, and degrees of gaze along the chain."""
        answers: dict[str, float] = {}
        for name in setting.authorised:
            model = self.clip.models[name]
            if setting.keyed:
                model = Keyed(model, Key(bytes(range(32))), nonce="benchmark")
            if model.task == "boxes":
                own = [faces for i in range(len(images)) for faces in model.at([i]).predict(images[i : i + 1])]
                known = read(self.clip.models[name], self.clip.originals)
                best = torch.cat([overlaps(one, seen) for one, seen in zip(known, own, strict=True)])
                answers[f"{name} IoU"] = float(best.mean())
                answers[f"{name} found"] = float((best > FOUND).float().mean())
            else:
                seen = read(model, images, read(self.clip.models["retinaface"], images))
                angles = [closest_gaze(one, other) for one, other in zip(self.gaze, seen, strict=True)]
                answers["gaze"] = float(torch.cat(angles).mean())
        return answers


def read(model: FaceModel, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
    """Frame by frame, since the large ones take memory."""
    return [
        known
        for i, image in enumerate(images)
        for known in model.predict(image[None], None if faces is None else [faces[i]])
    ]


def on(faces: Faces, hidden: Faces) -> Faces:
    """The faces whose middle lies on a hidden one."""
    middle = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    regions = expand(hidden.boxes, 1.2)
    inside = (middle[:, None] >= regions[None, :, :2]) & (middle[:, None] <= regions[None, :, 2:])
    return faces[inside.all(dim=-1).any(dim=1).nonzero().squeeze(1)]


def overlaps(known: Faces, seen: Faces) -> Tensor:
    """Of each known face the overlap with the nearest that is seen, 0 without one."""
    if not len(known) or not len(seen):
        return torch.zeros(len(known))
    return iou(known.boxes, seen.boxes).amax(dim=1)


def nme(known: Faces, seen: Faces) -> Tensor:
    """Mean distance of 68 points, in units of the distance of the eyes' outer corners, per face."""
    assert known.landmarks is not None
    assert seen.landmarks is not None
    between = (known.landmarks[:, 36] - known.landmarks[:, 45]).norm(dim=-1)
    error: Tensor = (seen.landmarks - known.landmarks).norm(dim=-1).mean(dim=1) / between
    return error


def closest_gaze(known: Faces, seen: Faces) -> Tensor:
    """Degrees between the gazes of faces that overlap; those not found do not count."""
    if not len(known) or not len(seen) or known.gaze is None or seen.gaze is None:
        return torch.zeros(0)
    best, row = iou(known.boxes, seen.boxes).max(dim=1)
    return gaze_angle(known.gaze, seen.gaze[row])[best > FOUND]


def main() -> None:
    """Protect and ask what is missing, then print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("build/strangers"))
    parser.add_argument("--clip", action="append", choices=list(CLIPS))
    parser.add_argument("--setting", action="append", choices=list(SETTINGS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    kept = options.folder / "answers.jsonl"
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    if kept.exists():
        rows = {(clip, name): row for clip, name, row in map(json.loads, kept.read_text().splitlines())}
    for clip_name in options.clip or CLIPS:
        missing = [name for name in options.setting or SETTINGS if (clip_name, name) not in rows]
        if not missing:
            continue
        clip = Clip(clip_name)
        question = Question(clip)
        for name in missing:
            images, steps = protected(clip, clip_name, name, options.folder)
            row = {
                "steps": sum(steps) / len(steps),
                "authorised": question.authorised(SETTINGS[name], images),
                "strangers": question.answers(images, patient=name in PATIENT),
            }
            rows[clip_name, name] = row
            with kept.open("a") as file:
                file.write(json.dumps([clip_name, name, row]) + "\n")
    print_tables(rows)


def protected(clip: Clip, clip_name: str, name: str, folder: Path) -> tuple[Tensor, list[float]]:
    """The frames of a setting, protected once."""
    file = folder / f"{clip_name} {name}.npz"
    if not file.exists():
        images, steps = clip.protect(SETTINGS[name])
        np.savez_compressed(file, images=to_pixels(images), steps=steps)
    with np.load(file) as stored:
        return from_pixels(stored["images"]), stored["steps"].tolist()


def print_tables(rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    """Markdown; a cell has a number for each clip, or a dash where it is not measured."""
    names = [name for name in SETTINGS if any((clip, name) in rows for clip in CLIPS)]

    def each(name: str, say: Callable[[Mapping[str, Any]], Any]) -> str:
        here = [rows.get((clip, name)) for clip in CLIPS]
        return ", ".join(_said(None if row is None else say(row)) for row in here)

    def answer(who: str, part: int | None = None) -> Callable[[Mapping[str, Any]], Any]:
        def say(row: Mapping[str, Any]) -> Any:
            value = row["strangers"].get(who)
            return value if part is None or value is None else value[part]

        return say

    def authorised(ending: str) -> Callable[[Mapping[str, Any]], Any]:
        return lambda row: next((v for name, v in row["authorised"].items() if name.endswith(ending)), None)

    totals = [row["strangers"]["RetinaFace"][1] if (row := rows.get((clip, names[0]))) else "-" for clip in CLIPS]
    print(f"{', '.join(CLIPS)}; of {', '.join(map(str, totals))} faces:\n")
    print(f"| setting | steps | IoU | gaze | {' | '.join(FINDERS)} | took no part |")
    print("|---" * (5 + len(FINDERS)) + "|")
    for name in names:
        apart = [row["strangers"] for clip in CLIPS if (row := rows.get((clip, name)))]
        pairs = [answers[who] for answers in apart for who in APART if answers.get(who)]
        found, total = (sum(pair[i] for pair in pairs) for i in (0, 1))
        cells = [
            each(name, lambda row: round(row["steps"])),
            each(name, authorised("IoU")),
            each(name, authorised("gaze")),
        ]
        cells += [each(name, answer(who, 0)) for who in FINDERS]
        print(f"| {name} | {' | '.join(cells)} | {found} of {total}, {found / max(total, 1):.1%} |")
    print("\nTold the box:\n")
    columns = {
        "FaceMesh believes": answer("FaceMesh believes", 0),
        "FaceMesh": answer("FaceMesh"),
        "PFLD": answer("PFLD"),
        "dlib": answer("dlib 68"),
        "MobileFaceNet: accepted": answer("MobileFaceNet", 0),
        "highest cosine": answer("MobileFaceNet", 3),
        "dlib: accepted": answer("dlib recogniser", 0),
        "least distance": answer("dlib recogniser", 3),
    }
    print(f"| setting | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for name in names:
        print(f"| {name} | {' | '.join(each(name, say) for say in columns.values())} |")


APART = ("YuNet", "CenterFace", "BlazeFace short", "BlazeFace full", "BlazeFace back", "dlib HOG", "dlib CNN", "Haar")
FINDERS = ("RetinaFace", "twin", "MTCNN", *APART)


def _said(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.2f}"


if __name__ == "__main__":
    main()
