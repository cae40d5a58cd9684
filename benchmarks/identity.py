"""Who is recognised by what a file holds of a face: by the hidden region alone, and by the readings alone.

``python -m benchmarks.identity PEOPLE WORK [PART...]`` prints tables of docs/results.md and docs/privacy.md; PART is
region or readings. PEOPLE holds a folder of photographs for each person, two at least, one face in each; WORK keeps
what was protected. Beside every number stands what comes out when names are shuffled among the photographs: where a
file is a function of the readings, that is what comes out when people exchange their readings.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from footage import SHARED
from torch import Tensor
from torch.nn.functional import interpolate, normalize, pad

from benchmarks.people import SIDE, Photograph, pairs, photographs
from deidlib.attack.presets import recommended, recommended_silence, recommended_until
from deidlib.evaluation.attacks.learned import Identified, Learned
from deidlib.evaluation.attacks.shapes import shape_of
from deidlib.evaluation.attacks.superresolution import stretched
from deidlib.faces import Faces
from deidlib.images import to_grid
from deidlib.metrics import OnnxEmbedder, align
from deidlib.models.retinaface import RetinaFace
from deidlib.models.strangers import PFLD
from deidlib.obfuscate import GaussianBlur, Obfuscator, Pixelate, Solid
from deidlib.protect.share import Share, mean_face

# How often names are shuffled, and the folds of those who learn.
SHUFFLED, FOLDS = 10, 3
# An attacker's eye on the region: so many pixels a side.
EYE = 16
# Steps that a photograph is attacked for, as a frame of a clip that starts from the one before it; and how many are of
# each person.
STEPS, MOST = 20, 5

Told = Callable[[Tensor], tuple[float, float]]
"""Rank 1 and AUC of an attack, told who the photographs show."""


@dataclass(frozen=True)
class Against:
    """What an attack comes to, and what it comes to by chance.

    Args:
        rank1: share of photographs whose most likely person is the right one.
        auc: how often the right person fits better than a wrong one.
        chance: mean and standard deviation of both, names shuffled.
    """

    rank1: float
    auc: float
    chance: Tensor

    @classmethod
    def of(cls, attack: Told, people: Tensor) -> Against:
        """Run the attack, and run it on names that mean nothing."""
        draw = torch.Generator().manual_seed(0)
        null = [attack(people[torch.randperm(len(people), generator=draw)]) for _ in range(SHUFFLED)]
        values = torch.tensor(null)
        return cls(*attack(people), torch.stack([values.mean(dim=0), values.std(dim=0)]))

    def __str__(self) -> str:
        mean, spread = self.chance.tolist()
        return (
            f"{self.rank1:.0%} ({mean[0]:.0%}), {self.auc:.2f} ({mean[1] - 2 * spread[1]:.2f} to "
            f"{mean[1] + 2 * spread[1]:.2f})"
        )


def learned(classifier: Learned, vectors: Tensor) -> Told:
    """Every third photograph of each person is asked about; the classifier knows the others."""

    def attack(people: Tensor) -> tuple[float, float]:
        order = torch.zeros(len(people), dtype=torch.long)
        for person in set(people.tolist()):
            mine = (people == person).nonzero().flatten()
            order[mine] = torch.arange(len(mine)) % FOLDS
        parts = []
        for fold in range(FOLDS):
            known, asked = order != fold, order == fold
            scores = classifier.scores(vectors[known], people[known], vectors[asked])
            scores = pad(scores, (0, int(people.max()) + 1 - scores.shape[1]), value=-99)
            parts.append(Identified.of(scores, people[asked]))
        count = sum(part.probes for part in parts)
        rank1, area = (sum(getattr(part, name) * part.probes for part in parts) / count for name in ("rank1", "auc"))
        return rank1, area

    return attack


@cache
def networks() -> tuple[RetinaFace, list[RetinaFace]]:
    """The authorised detector, and who is to find nothing."""
    model = RetinaFace()
    return model, [other for other in recommended_silence([model]) if isinstance(other, RetinaFace)]


def hidden(hide: Obfuscator, picture: Photograph, face: Faces, *, attack: bool) -> Tensor:
    """The region alone, all around it grey, aligned by the points that are known of it."""
    model, silent = networks()
    image, mask = to_grid(hide(picture.image, [face])), hide.mask([face], SIDE, SIDE)
    if attack:
        attacker = recommended([model], until=recommended_until(model), silence=silent, max_iterations=STEPS)
        image = attacker(image, [face], mask=mask).images
    return align(image * mask + 0.5 * (1 - mask), [face])


def region(pictures: list[Photograph], people: Tensor, work: Path) -> None:
    """Photographs protected one by one, as ``deidlib protect`` does: who is recognised by what lies in the region."""
    kept = [row for row in range(len(people)) if int((people[:row] == people[row]).sum()) < MOST]
    pictures, people = [pictures[row] for row in kept], people[kept]
    print(f"\n{len(people)} photographs of {int(people.max()) + 1} people")
    embedder = OnnxEmbedder()
    clear = normalize(embedder(torch.cat([align(p.image, [p.face]) for p in pictures])), dim=1)
    own = [p.face for p in pictures]
    generic = [mean_face([face], (SIDE, SIDE))[0] for face in own]
    cases: dict[str, tuple[Obfuscator, list[Faces], bool]] = {
        "8 blocks, not attacked": (Pixelate(8), own, False),
        "4 blocks, not attacked": (Pixelate(4), own, False),
        "blur, not attacked": (GaussianBlur(), own, False),
        "nothing of the face (default)": (Solid(), own, True),
        "the same, contrast stretched": (Solid(), own, True),
        "nothing of the face, readings with generic proportions": (Solid(), generic, True),
    }
    print("\nRank 1 (by chance), AUC (by chance)\n")
    print("| hidden by | naive | linkage | parrot, linear on pixels | network on pixels | linear on MobileFaceNet |")
    print("|---|---|---|---|---|---|")
    crops = torch.zeros(0)
    for name, (hide, faces, attack) in cases.items():
        file = work / f"{name}.pt"
        if name.startswith("the same"):
            crops = torch.cat([stretched(one[None]) for one in crops])
        elif file.exists():
            crops = torch.load(file, weights_only=True)
        else:
            crops = torch.cat([hidden(hide, p, face, attack=attack) for p, face in zip(pictures, faces, strict=True)])
            torch.save(crops, file)
        vectors = normalize(embedder(crops), dim=1)
        eye = interpolate(crops, size=(EYE, EYE), mode="area").flatten(1)
        attacks: list[Told] = [
            partial(pairs, vectors @ clear.T),
            partial(pairs, vectors @ vectors.T),
            learned(Learned(), eye),
            learned(Learned(64), eye),
            learned(Learned(), vectors),
        ]
        print(f"| {name} | " + " | ".join(str(Against.of(attack, people)) for attack in attacks) + " |", flush=True)


def readings(pictures: list[Photograph], people: Tensor) -> None:
    """Photographs told apart by what is read of them: as read, on a grid, and with the generic face's proportions."""
    pfld = PFLD()
    ways: dict[str, Callable[[Faces], Faces]] = {
        "as read": Share(),
        "grid of 8 pixels": Share(pixels=8),
        "generic proportions": lambda known: mean_face([known], (SIDE, SIDE))[0],
    }
    print("\n| shared | linear: rank 1 (by chance), AUC (by chance) | network |")
    print("|---|---|---|")
    for points in (5, 68):
        read = [p.face if points == 5 else pfld.predict(p.image, [p.face])[0] for p in pictures]
        for way, change in ways.items():
            shapes = torch.stack([shape_of([change(known)]) for known in read])
            cells = [Against.of(learned(by, shapes), people) for by in (Learned(), Learned(32))]
            print(f"| {points} points, {way} | {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    """Print the tables."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("people", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("parts", nargs="*", default=["region", "readings"])
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    # What is learnt to the last picture has moments that no longer count, and take ten times as long.
    torch.set_flush_denormal(True)
    pictures = photographs(options.people, RetinaFace(), 0)
    people = torch.tensor([p.person for p in pictures])
    print(f"{len(people)} photographs of {int(people.max()) + 1} people")
    if "readings" in options.parts:
        readings(pictures, people)
    if "region" in options.parts:
        region(pictures, people, options.work)


if __name__ == "__main__":
    main()
