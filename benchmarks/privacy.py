"""What adds up: attacks on hidden and protected faces, and controls that must fall to them.

``python -m benchmarks.privacy PEOPLE WORK [PART...]`` prints tables of docs/results.md; PART is clips, photographs,
identity or readings. PEOPLE holds a folder of photographs for each person, two at least, one face in each; WORK keeps
what takes long. Needs the shared weights and media beside the project. dlib's recogniser judges, too, where
``dlib-bin`` and ``face_recognition_models`` are installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from footage import SHARED
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from deidlib.attack.presets import TOLERANCES, recommended
from deidlib.evaluation.attacks.learned import Identified, Learned
from deidlib.evaluation.attacks.shapes import shape_of
from deidlib.evaluation.attacks.sums import as_it_is, reading_of
from deidlib.evaluation.attacks.superresolution import SuperResolution, stretched
from deidlib.evaluation.attacks.suspects import Suspects, ranked
from deidlib.faces import Faces, five_points
from deidlib.geometry.camera import Camera
from deidlib.geometry.proportions import mean_proportions
from deidlib.images import to_grid
from deidlib.media import VideoReader, read_image, write_image
from deidlib.metrics import Embedder, OnnxEmbedder, align, auc
from deidlib.models.retinaface import RetinaFace
from deidlib.models.strangers import PFLD
from deidlib.obfuscate import GaussianBlur, Obfuscator, Pixelate, Solid
from deidlib.protect.share import Share

MEDIA = SHARED / "media"
DRIVER = 0
# Pixels: photographs are cut to so many, their faces as large as the driver's, give or take; how large and where is
# drawn by chance: placed by their boxes, faces would have their form told by where the points lie in the picture.
SIDE, FACE, SHIFT = 224, (75, 115), 20
NOISE = 0.7
# Pictures of a person among the suspects.
MOST = 3
WAYS: dict[str, Obfuscator] = {"8 blocks": Pixelate(8), "4 blocks": Pixelate(4), "blur": GaussianBlur()}


class Dlib:
    """dlib's recogniser (128 dimensions), on the same aligned faces as the others."""

    def __init__(self) -> None:
        import dlib

        # Not imported: it wants a package that Python no longer has, to say where its files are.
        place = find_spec("face_recognition_models")
        if place is None or place.origin is None:
            raise ImportError("face_recognition_models is not installed.")
        models = Path(place.origin).parent / "models"
        self.net: Any = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, crops: Tensor) -> Tensor:
        """``(N, 3, 112, 112)`` to ``(N, 128)``."""
        large = interpolate(crops, size=(150, 150), mode="bilinear").clamp(0, 1).mul(255).round().byte()
        rows = [self.net.compute_face_descriptor(np.ascontiguousarray(chip.permute(1, 2, 0).numpy())) for chip in large]
        return torch.tensor(np.array([np.array(row) for row in rows]), dtype=torch.float32)


@cache
def judges() -> dict[str, Embedder]:
    """Recognisers by name."""
    known: dict[str, Embedder] = {"MobileFaceNet": OnnxEmbedder()}
    try:
        known["dlib"] = Dlib()
    except ImportError:
        print("dlib is not installed, and does not judge", file=sys.stderr)
    return known


@dataclass(frozen=True, eq=False)
class Footage:
    """A clip of one person, and where RetinaFace sees his face."""

    frames: Tensor
    faces: list[Faces]


def footage(name: str, work: Path, model: RetinaFace) -> Footage:
    """Of the driver; what the detector says is kept."""
    with VideoReader(MEDIA / f"{name}.mp4") as reader:
        frames = torch.stack([frame.image for frame in reader])
    kept = work / f"{name}.pt"
    if not kept.exists():
        found = [known[:1] for part in torch.split(frames, 8) for known in model.predict(part)]
        torch.save([(known.boxes, known.scores, known.landmarks) for known in found], kept)
    return Footage(frames, [Faces(*parts) for parts in torch.load(kept, weights_only=True)])


@dataclass(frozen=True, eq=False)
class Photograph:
    """A picture of one person, ``(1, 3, 224, 224)``, and the face in it."""

    image: Tensor
    face: Faces
    person: int


def photographs(people: Path, model: RetinaFace, first: int = 1) -> list[Photograph]:
    """All pictures, cut to the face's surroundings."""
    found = []
    chance = torch.Generator().manual_seed(0)
    for person, folder in enumerate(sorted(path for path in people.iterdir() if path.is_dir()), first):
        for path in sorted(folder.iterdir()):
            image = _scaled(read_image(path), 640)
            known = model.predict(image)[0]
            if not len(known):
                continue
            face = float(torch.empty(1).uniform_(*FACE, generator=chance))
            image = _scaled(image, face / float((known.boxes[0, 2:] - known.boxes[0, :2]).min()) * max(image.shape[2:]))
            known = model.predict(image)[0]
            if not len(known):
                continue
            shift = torch.empty(2).uniform_(-SHIFT, SHIFT, generator=chance)
            middle = (known.boxes[0, :2] + known.boxes[0, 2:]) / 2
            left, top = (middle + shift - SIDE / 2).round().int().tolist()
            pad = torch.nn.functional.pad(image, (SIDE, SIDE, SIDE, SIDE), mode="constant", value=0.5)
            cut = to_grid(pad[:, :, top + SIDE : top + 2 * SIDE, left + SIDE : left + 2 * SIDE].clamp(0, 1))
            known = model.predict(cut)[0][:1]
            if len(known):
                found.append(Photograph(cut, known, person))
    return found


def few(pictures: Sequence[Photograph]) -> list[Photograph]:
    """The first pictures of each person, as many of one as of another."""
    kept: list[Photograph] = []
    for picture in pictures:
        if sum(other.person == picture.person for other in kept) < MOST:
            kept.append(picture)
    return kept


def _scaled(image: Tensor, longest: float) -> Tensor:
    factor = longest / max(image.shape[2:])
    return interpolate(image, scale_factor=factor, mode="bilinear", antialias=True).clamp(0, 1)


def protected_clip(name: str, work: Path) -> Path:
    """The clip as the command line protects it: nothing of the face, RetinaFace authorised."""
    path = work / f"{name}.mkv"
    if not path.exists():
        told = ["--targets", "retinaface", "--until", "quick", "--no-verify"]
        subprocess.run(["deidlib", "protect", str(MEDIA / f"{name}.mp4"), str(path), *told], check=True)
    return path


def clips(pictures: Sequence[Photograph], work: Path, model: RetinaFace) -> None:
    """The driver's clips, hidden and protected, put together and looked for among suspects."""
    known = {name: footage(name, work, model) for name in ("T002_talk", "T002_radio")}
    others = sum((Suspects.of(p.image, [p.face], [p.person]) for p in pictures), Suspects.none())
    print(
        "| clip | hidden by | read as | judge | place of the driver | of a grey picture | cosine: he, nearest other |"
    )
    print("|---|---|---|---|---|---|---|")
    shown: list[Tensor] = []
    for name, other in (("T002_talk", "T002_radio"), ("T002_radio", "T002_talk")):
        clear = known[other]
        # As many pictures as of anybody else.
        rows = range(10, 10 + 40 * MOST, 40)
        suspects = others + Suspects.of(clear.frames[rows], [clear.faces[k] for k in rows], [DRIVER] * MOST)
        clip = known[name]
        with VideoReader(protected_clip(name, work)) as reader:
            written = torch.stack([frame.image for frame in reader])
        default = "nothing of the face (default)"
        cases = [(way, way, hide, hide(clip.frames, clip.faces)) for way, hide in WAYS.items()]
        cases += [(default, way, hide, written) for way, hide in WAYS.items()]
        cases += [(f"{default}, perturbation alone", "as it is, averaged", Solid(), written)]
        for hidden, way, hide, frames in cases:
            solver = put_together(clip, hide, frames)
            picture, parroted = solver.picture(), solver.parroted(suspects.canvases)
            if isinstance(hide, Solid):
                picture = stretched(picture)
            shown.append(picture)
            for judge, embedder in judges().items():
                place = ranked(embedder, picture, parroted, suspects.people, DRIVER)
                print(
                    f"| {name}, {solver.frames} frames | {hidden} | {way} | {judge} | {place.place} of {place.of} "
                    f"| {place.blank} | {place.cosine:.2f}, {place.other or 0:.2f} |",
                    flush=True,
                )
    write_image(work / "clips.png", torch.cat(shown, dim=3))


def put_together(clip: Footage, hide: Obfuscator, frames: Tensor) -> SuperResolution:
    """All frames, read as if they had been hidden that way."""
    solver = SuperResolution(as_it_is(hide.region) if isinstance(hide, Solid) else reading_of(hide))
    for frame, face in zip(frames, clip.faces, strict=True):
        solver.add(frame, face, face.boxes[0])
    return solver


def moving(pictures: Sequence[Photograph], work: Path, model: RetinaFace) -> None:
    """Every photograph as if it moved like the driver, hidden, put together with points that are a little off."""
    clip = footage("T002_talk", work, model)
    suspects = sum((Suspects.of(p.image, [p.face], [p.person]) for p in pictures), Suspects.none())
    print(f"\n{len(suspects)} photographs of {len(set(suspects.people.tolist()))} people\n")
    print("| hidden by | frames | judge | rank 1 (chance) | AUC |")
    print("|---|---|---|---|---|")
    for blocks, count in ((8, 270), (4, 270), (4, 1), (2, 270)):
        true, told = (SuperResolution(reading_of(Pixelate(blocks))) for _ in range(2))
        chance = torch.Generator().manual_seed(0)
        blank = torch.full((3, *clip.frames.shape[2:]), 0.5)
        for face in clip.faces[:count]:
            assert face.landmarks is not None
            off = five_points(face.landmarks) + NOISE * torch.randn(1, 5, 2, generator=chance)
            true.add(blank, face, face.boxes[0])
            told.add(blank, face.replace(landmarks=off), face.boxes[0])
        restored = told.put_together(true.sums_of(suspects.canvases))
        gallery = told.parroted(suspects.canvases)
        for judge, embedder in judges().items():
            scores = normalize(embedder(restored), dim=1) @ normalize(embedder(gallery), dim=1).T
            print(f"| {blocks} blocks | {count} | {judge} | {_pairs(scores, suspects.people)} |", flush=True)


def _pairs(scores: Tensor, people: Tensor) -> str:
    """Rank 1, chance and AUC of all pairs but each picture with itself."""
    self_ = torch.eye(len(people), dtype=torch.bool)
    same = people[:, None] == people[None]
    best = scores.masked_fill(self_, -2).argmax(dim=1)
    chance = ((same & ~self_).sum(dim=1) / (len(people) - 1)).mean()
    share = (people[best] == people).float().mean()
    return f"{share:.0%} ({chance:.0%}) | {float(auc(scores[same & ~self_], scores[~same])):.2f}"


def identity(pictures: Sequence[Photograph], model: RetinaFace) -> None:
    """Photographs protected one by one: who is recognised by what lies in the region."""
    attacker = recommended([model], max_iterations=8, until=TOLERANCES["quick"])
    people = torch.tensor([p.person for p in pictures])
    people -= people.min()
    embedder = OnnxEmbedder()
    clear = embedder(torch.cat([align(p.image, [p.face]) for p in pictures]))

    def hidden(hide: Obfuscator, picture: Photograph, attack: bool) -> Tensor:
        image = to_grid(hide(picture.image, [picture.face]))
        mask = hide.mask([picture.face], SIDE, SIDE)
        if attack:
            image = attacker(image, [picture.face], mask=mask).images
        alone = image * mask + 0.5 * (1 - mask)
        return align(alone, [picture.face])

    chance = torch.Generator().manual_seed(0)

    def moved(picture: Photograph) -> Photograph:
        """The attacker's own picture, shifted a little: he does not know how the cells will lie."""
        x, y = torch.randint(-6, 7, (2,), generator=chance).tolist()
        shift = torch.tensor([x, y]).float()
        points = picture.face.landmarks
        assert points is not None
        face = picture.face.replace(boxes=picture.face.boxes + shift.repeat(2), landmarks=points + shift)
        return Photograph(picture.image.roll((y, x), (2, 3)), face, picture.person)

    print("\nRank 1 (chance), AUC\n")
    print("| hidden by | naive | linkage | parrot, linear on pixels | network on pixels | linear on MobileFaceNet |")
    print("|---|---|---|---|---|---|")
    cases: list[tuple[str, Obfuscator, bool]] = [
        *((f"{way}, not attacked", hide, False) for way, hide in WAYS.items()),
        ("nothing of the face, RetinaFace authorised (default)", Solid(), True),
        ("the same, perturbation alone", Solid(), True),
    ]
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    for name, hide, attack in cases:
        key = "default" if attack else name
        if key not in kept:
            kept[key] = (
                torch.cat([hidden(hide, p, attack) for p in pictures]),
                torch.cat([hidden(hide, moved(p), attack) for p in pictures]),
            )
        probes, own = kept[key]
        if "alone" in name:
            probes, own = (torch.cat([stretched(one[None]) for one in crops]) for crops in (probes, own))
        vectors, learnt = embedder(probes), embedder(own)
        alike = normalize(vectors, dim=1) @ normalize(clear, dim=1).T
        same, itself = people[:, None] == people[None], torch.eye(len(people), dtype=torch.bool)
        naive = float(auc(alike[same & ~itself], alike[~same]))
        linkage = _pairs(normalize(vectors, dim=1) @ normalize(vectors, dim=1).T, people).replace(" | ", ", ")
        test, train = (interpolate(crops, size=(28, 28), mode="area").flatten(1) for crops in (probes, own))
        cells = [_learned(Learned(width), train, people, test) for width in (None, 64)]
        cells.append(_learned(Learned(), learnt, people, vectors))
        print(f"| {name} | {naive:.2f} | {linkage} | " + " | ".join(cells) + " |", flush=True)


def _learned(learned: Learned, own: Tensor, people: Tensor, probes: Tensor) -> str:
    """Every third photograph of each person is asked, the classifier knows the others."""
    order = torch.zeros(len(people), dtype=torch.long)
    for person in set(people.tolist()):
        mine = (people == person).nonzero().flatten()
        order[mine] = torch.arange(len(mine)) % 3
    # A person of two pictures has none to learn from in no fold, as there are three.
    copies = len(own) // len(people)
    scores, asked = [], []
    for fold in range(3):
        test, train = order == fold, (order != fold).repeat_interleave(copies)
        scores.append(learned.scores(own[train], people.repeat_interleave(copies)[train], probes[test]))
        asked.append(people[test])
    count = int(people.max()) + 1
    table = torch.cat([torch.nn.functional.pad(part, (0, count - part.shape[1]), value=-99) for part in scores])
    found = Identified.of(table, torch.cat(asked))
    return f"{found.rank1:.0%} ({found.chance:.0%}), {found.auc:.2f}"


def readings(pictures: Sequence[Photograph]) -> None:
    """Photographs told apart by what is read of them: as read, on a grid, and with the generic face's proportions."""
    people = torch.tensor([p.person for p in pictures])
    people -= people.min()
    shuffled = people[torch.randperm(len(people), generator=torch.Generator().manual_seed(3))]
    pfld, camera = PFLD(), Camera.default(SIDE, SIDE)

    def generic(known: Faces) -> Faces:
        assert known.landmarks is not None
        points, boxes = mean_proportions(known.landmarks, camera)
        return known.replace(boxes=boxes.float(), landmarks=points.float())

    print("\n| shared | linear: rank 1 (chance), AUC | network |")
    print("|---|---|---|")
    ways: dict[str, Callable[[Faces], Faces]] = {
        "as read": Share(),
        "grid of 8 pixels": Share(pixels=8),
        "generic proportions": generic,
    }
    for points in (5, 68):
        read = [p.face if points == 5 else pfld.predict(p.image, [p.face])[0] for p in pictures]
        for way, change in ways.items():
            shapes = torch.stack([shape_of([change(known)]) for known in read])
            cells = [_learned(learned, shapes, people, shapes) for learned in (Learned(), Learned(32))]
            print(f"| {points} points, {way} | {' | '.join(cells)} |", flush=True)
            if way == "as read":
                cells = [_learned(learned, shapes, shuffled, shapes) for learned in (Learned(), Learned(32))]
                print(f"| {points} points, names shuffled | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the tables."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("people", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("parts", nargs="*", default=["clips", "photographs", "identity", "readings"])
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    model = RetinaFace()
    pictures = photographs(options.people, model)
    if "clips" in options.parts:
        clips(few(pictures), options.work, model)
    if "photographs" in options.parts:
        moving(pictures, options.work, model)
    if "identity" in options.parts:
        identity(pictures, model)
    if "readings" in options.parts:
        readings(pictures)


if __name__ == "__main__":
    main()
