"""What strangers get out of protected files: ``python -m benchmarks.strangers [--folder FOLDER] [--clip NAME]``.

It needs the shared weights and media beside the project, all strangers that are to be asked (the extras ``onnx``,
``tflite`` and ``dlib``, ``opencv-python<5`` for the cascade; those that are not here are left out), and about an hour
of a free core; interrupted, it goes on where it was. Every setting is protected once by ``deidlib protect``, from file
to file, frame after frame, since what strangers see of a frame comes from the frames before it, too. With a key, every
frame starts from its hidden self: then every third of the frames that are asked about is protected, as a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from footage import SHARED, frames
from torch import Tensor
from torch.nn.functional import cosine_similarity

from deidlib.faces import Faces
from deidlib.geometry.boxes import expand, iou
from deidlib.keys.key import Key
from deidlib.media import VideoReader, VideoWriter, read_image, write_image
from deidlib.metrics import OnnxEmbedder, align
from deidlib.metrics.functional import gaze_angle
from deidlib.models import strangers
from deidlib.models.base import FaceModel, TargetModel
from deidlib.models.gaze import GazeResNet
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.models.observe import observe
from deidlib.models.retinaface import RetinaFace
from deidlib.protect.sidecar import Sidecar

# Rows of the frames that are asked about.
EVERY, THIRD = slice(None), slice(None, None, 3)
Readers = list[dict[str, TargetModel[Any]]]
# Frames that are protected, and every which of them is asked about.
CLIPS = {"T002_talk": (range(270), 10), "T002_radio": (range(150), 10), "talk_video00": (range(144, 158), 2)}
TWIN = "retinaface_mobilenet0.25_1mb"
# A stranger's own face counts if it lies on one that is hidden, and is found if he finds it with this overlap.
FOUND = 0.5
# Above this cosine, or below this distance, no two people were in the READMEs of the weights.
COSINE, DISTANCE = 0.42, 0.6


@dataclass(frozen=True)
class Setting:
    """One line of the table.

    Args:
        told: what ``deidlib protect`` is told.
        authorised: names of :attr:`Clip.models`.
        keyed: whether they read by a key.
    """

    told: tuple[str, ...] = ()
    authorised: tuple[str, ...] = ()
    keyed: bool = False


GAZE = ("retinaface", "mpiigaze")
_GAZE = ("--targets", "retinaface,mpiigaze")
SETTINGS = {
    "hidden only": Setting(("--hide-only",)),
    "RetinaFace + gaze (default)": Setting(_GAZE, GAZE),
    "RetinaFace": Setting(("--targets", "retinaface"), ("retinaface",)),
    "RetinaFace + gaze, quick": Setting((*_GAZE, "--until", "quick"), GAZE),
    "RetinaFace + gaze, twin not silent": Setting((*_GAZE, "--silence", "none"), GAZE),
    "MTCNN (built in)": Setting((), ("mtcnn",)),
    "RetinaFace + gaze, key": Setting(_GAZE, GAZE, keyed=True),
}
# dlib's network takes seconds for a frame: it is asked about these, and about every third frame.
PATIENCE = "dlib CNN"
PATIENT = ("hidden only", "RetinaFace + gaze (default)", "RetinaFace + gaze, key")


class Clip:
    """A clip, and what is hidden of the frames that are asked about.

    Args:
        name: of the clip.
        folder: where what is made of it is kept.
    """

    def __init__(self, name: str, folder: Path) -> None:
        whole, every = CLIPS[name]
        self.name, self.folder, self.numbers = name, folder, list(whole[::every])
        self.originals = frames(SHARED / "media" / f"{name}.mp4", self.numbers)
        self.models: dict[str, TargetModel[Any]] = {
            "retinaface": RetinaFace(),
            "mtcnn": MTCNN(),
            "mpiigaze": GazeResNet.mpiigaze(),
            "twin": RetinaFace(TWIN),
        }
        detectors = [self.models["retinaface"], self.models["mtcnn"]]
        self.hidden_faces = [known for image in self.originals for known in observe(image[None], detectors)]

    def protected(self, name: str) -> tuple[Tensor, Readers]:
        """The frames of a setting that are asked about, and the authorised models as they read each."""
        setting = SETTINGS[name]
        made = self.folder / name / self.name
        models = {who: self.models[who] for who in setting.authorised}
        if not setting.keyed:
            made = made.with_suffix(".mkv")
            self._run(self._cut(), made, *setting.told)
            first = CLIPS[self.name][0].start
            return frames(made, [number - first for number in self.numbers]), [models] * len(self.numbers)
        key_file = self.folder / "key"
        key = Key.load(key_file) if key_file.exists() else Key.generate()
        if not key_file.exists():
            key.save(key_file)
        self._run(self._pictures(), made, *setting.told, "--key", str(key_file))
        pictures = [made / f"{number:03d}.png" for number in self.numbers[THIRD]]
        readers: Readers = []
        for picture in pictures:
            sidecar = Sidecar.read(picture)
            assert sidecar is not None
            assert sidecar.record is not None
            record = sidecar.record
            readers.append({who: Keyed.from_record(record, model, key).at([0]) for who, model in models.items()})
        return torch.cat([read_image(picture) for picture in pictures]), readers

    def _cut(self) -> Path:
        """The frames that are protected, as a clip."""
        source, whole = SHARED / "media" / f"{self.name}.mp4", CLIPS[self.name][0]
        with VideoReader(source) as reader:
            if len(whole) >= (reader.info.frames or 0):
                return source
        cut = self.folder / f"{self.name}.mkv"
        if not cut.exists():
            taken = frames(source, whole)
            with VideoWriter(cut, Fraction(25), (taken.shape[2], taken.shape[3])) as writer:
                writer.write(taken)
        return cut

    def _pictures(self) -> Path:
        """Every third of the frames, as pictures."""
        made = self.folder / f"{self.name}.pictures"
        made.mkdir(exist_ok=True)
        for number, image in zip(self.numbers[THIRD], self.originals[THIRD], strict=True):
            write_image(made / f"{number:03d}.png", image[None])
        return made

    def _run(self, source: Path, target: Path, *told: str) -> None:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "deidlib.cli", "protect", str(source), str(target), *told]
            subprocess.run(command, check=True)


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
        self.clear = [self.embed(align(i[None], [f])) for i, f in zip(clip.originals, self.truth, strict=True)]
        self.dlib = strangers.DlibRecogniser() if "dlib 68" in self.readers else None
        if self.dlib is not None:
            points = zip(clip.originals, self.own("dlib 68"), strict=True)
            self.clear_dlib = [self.dlib(image[None], [faces]) for image, faces in points]

    def read(self, name: str, images: Tensor, rows: slice) -> list[Faces]:
        """A detector's faces that lie on hidden ones; whoever reads points is told RetinaFace's boxes."""
        reader = self.readers[name]
        if reader.task != "boxes":
            return read(reader, images, self.truth[rows])
        hidden = self.clip.hidden_faces[rows]
        return [on(faces, known) for faces, known in zip(read(reader, images), hidden, strict=True)]

    def own(self, name: str) -> list[Faces]:
        """What a stranger reads on the originals; dlib's network on every third."""
        if name not in self.originals:
            rows = THIRD if name == PATIENCE else EVERY
            self.originals[name] = self.read(name, self.clip.originals[rows], rows)
        return self.originals[name]

    def answers(self, images: Tensor, rows: slice, *, patient: bool) -> dict[str, Any]:
        """Per stranger: found of how many; the median error of points; how many are recognised."""
        answers: dict[str, Any] = {}
        truth = self.truth[rows]
        for name, reader in self.readers.items():
            if name == PATIENCE and not patient:
                continue
            if name == PATIENCE:
                seen = self.read(name, images if rows == THIRD else images[THIRD], THIRD)
                pairs = list(zip(self.own(name), seen, strict=True))
            else:
                pairs = list(zip(self.own(name)[rows], self.read(name, images, rows), strict=True))
            if reader.task == "boxes":
                total = sum(len(known) for known, _ in pairs)
                found = sum(int(overlaps(known, faces).gt(FOUND).sum()) for known, faces in pairs)
                answers[name] = [found, total]
            else:
                errors = [nme(known, faces) for known, faces in pairs if len(known)]
                answers[name] = float(torch.cat(errors).median())
            if isinstance(reader, strangers.FaceMesh):
                sure = torch.cat([torch.cat(reader.presence(i[None], [f])) for i, f in zip(images, truth, strict=True)])
                answers["FaceMesh believes"] = [int((sure > 0.5).sum()), len(sure)]
        cosine = cosine_similarity(self.embed(align(images, truth)), torch.cat(self.clear[rows]))
        answers["MobileFaceNet"] = [
            int((cosine > COSINE).sum()),
            len(cosine),
            float(cosine.mean()),
            float(cosine.max()),
        ]
        if self.dlib is not None:
            far = (self.dlib(images, self.own("dlib 68")[rows]) - torch.cat(self.clear_dlib[rows])).norm(dim=1)
            answers["dlib recogniser"] = [int((far < DISTANCE).sum()), len(far), float(far.mean()), float(far.min())]
        return answers

    def authorised(self, images: Tensor, rows: slice, readers: Readers) -> dict[str, float]:
        """IoU of each authorised detector with its reading of the originals, and degrees of gaze along the chain."""
        found: dict[str, list[Tensor]] = {}
        originals, truth, gaze = self.clip.originals[rows], self.truth[rows], self.gaze[rows]
        for number, (image, models) in enumerate(zip(images[:, None], readers, strict=True)):
            own = known = truth[number]
            for name, model in models.items():
                if model.task == "boxes":
                    own = model.predict(image)[0]
                    if name != "retinaface":
                        known = self.clip.models[name].predict(originals[number][None])[0]
                    found.setdefault(f"{name} IoU", []).append(overlaps(known, own))
                else:
                    seen = model.predict(image, [own])[0]
                    found.setdefault("gaze", []).append(closest_gaze(gaze[number], seen))
        return {name: float(torch.cat(values).mean()) for name, values in found.items()}


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
    answered: dict[tuple[str, str], dict[str, Any]] = {}
    if kept.exists():
        answered = {(clip, name): row for clip, name, row in map(json.loads, kept.read_text().splitlines())}
    for clip_name in options.clip or CLIPS:
        missing = [name for name in options.setting or SETTINGS if (clip_name, name) not in answered]
        if not missing:
            continue
        clip = Clip(clip_name, options.folder)
        question = Question(clip)
        for name in missing:
            images, readers = clip.protected(name)
            rows = THIRD if SETTINGS[name].keyed else EVERY
            row = {
                "authorised": question.authorised(images, rows, readers),
                "strangers": question.answers(images, rows, patient=name in PATIENT),
            }
            answered[clip_name, name] = row
            with kept.open("a") as file:
                file.write(json.dumps([clip_name, name, row]) + "\n")
    print_tables(answered)


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
    print(f"| setting | IoU | gaze | {' | '.join(FINDERS)} | took no part |")
    print("|---" * (4 + len(FINDERS)) + "|")
    for name in names:
        apart = [row["strangers"] for clip in CLIPS if (row := rows.get((clip, name)))]
        pairs = [answers[who] for answers in apart for who in APART if answers.get(who)]
        found, total = (sum(pair[i] for pair in pairs) for i in (0, 1))
        cells = [
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
