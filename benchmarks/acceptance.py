"""What the default protection achieves on real frames, from the PNGs: ``python -m benchmarks.acceptance``.

Needs the shared weights and media beside the project. Prints the table of docs/results.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from footage import SHARED, T002, TALK, frames
from protection import chain, compare, facenet_detect, identity, protect

from deidlib.attack.aggregation import GradientNorm, Sum
from deidlib.models.base import TargetModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.models.strangers import YuNet
from deidlib.obfuscate import Obfuscator, Pixelate, Solid

ITERATIONS = 60


# What is left of the face: 4 x 4 colours; nothing, and a perturbation can only brighten; nothing.
HIDING: dict[str, Obfuscator] = {
    "4 blocks": Pixelate(),
    "Solid, black": Solid((0.0, 0.0, 0.0)),
    "Solid, mid-grey": Solid((0.5, 0.5, 0.5)),
}


def main() -> None:
    """Print the tables, or those that are named: ``detectors``, ``hiding``, ``chain``."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    for name, table in (("detectors", print_detectors), ("hiding", print_hiding), ("chain", print_chain)):
        if not sys.argv[1:] or name in sys.argv[1:]:
            table()


def print_detectors() -> None:
    """Who reads what, of both clips."""
    retinaface, mtcnn, yunet = RetinaFace(), MTCNN(), YuNet()
    twin = RetinaFace("retinaface_mobilenet0.25_1mb")
    print("| frames | authorised | read by | found | IoU mean / min | score | 5-point error / sqrt(area) |")
    print("|---|---|---|---|---|---|---|")
    for (video, wanted), smallest in ((T002, 0.0), (TALK, 60.0)):
        originals = frames(video, wanted)
        truth = {
            "RetinaFace": retinaface.predict(originals),
            "MTCNN (facenet-pytorch)": facenet_detect(originals),
            "YuNet": yunet.predict(originals),
            "RetinaFace, twin weights": twin.predict(originals),
        }
        both: dict[str, TargetModel[Any]] = {"retinaface": retinaface, "mtcnn": mtcnn}
        for models in ({"retinaface": both["retinaface"]}, {"mtcnn": both["mtcnn"]}, both):
            with TemporaryDirectory() as folder:
                protection = protect(originals, models, Path(folder), iterations=ITERATIONS)
            images = protection.protected
            seen = {
                "RetinaFace": retinaface.predict(images),
                "MTCNN (facenet-pytorch)": facenet_detect(images),
                "YuNet": yunet.predict(images),
                "RetinaFace, twin weights": twin.predict(images),
            }
            name = f"{video.stem} | {' + '.join(models)}"
            for reader, readings in seen.items():
                print(f"| {name} | {reader} | {compare(truth[reader], readings, smallest)} |")
            # An embedding of a face cut off or behind a hand says nothing about who it is.
            clear = [known[known.scores > 0.99] for known in truth["RetinaFace"]]
            cosine = identity(protection, clear)
            per = 1000 * protection.seconds / len(originals) / ITERATIONS
            print(f"| {name} | identity: cosine | mean {cosine.mean():.3f} | max {cosine.max():.3f} | | |")
            print(f"| {name} | time | {per:.0f} ms per frame and iteration | | | |", flush=True)
        control = compare(truth["RetinaFace"], retinaface.predict(protection.hidden), smallest)
        print(f"| {video.stem} | none (hidden only) | RetinaFace | {control} |")


def print_hiding() -> None:
    """How the authorised detectors read T002, by what hiding leaves."""
    retinaface, mtcnn = RetinaFace(), MTCNN()
    originals = frames(*T002)
    truth = {"RetinaFace": retinaface.predict(originals), "MTCNN (facenet-pytorch)": facenet_detect(originals)}
    both: dict[str, TargetModel[Any]] = {"retinaface": retinaface, "mtcnn": mtcnn}
    print("\n| hiding | authorised | read by | found | IoU mean / min | score | 5-point error / sqrt(area) |")
    print("|---|---|---|---|---|---|---|")
    for hiding, obfuscator in HIDING.items():
        for models in ({"retinaface": both["retinaface"]}, {"mtcnn": both["mtcnn"]}, both):
            with TemporaryDirectory() as folder:
                images = protect(
                    originals, models, Path(folder), iterations=ITERATIONS, obfuscator=obfuscator
                ).protected
            seen = {"RetinaFace": retinaface.predict(images), "MTCNN (facenet-pytorch)": facenet_detect(images)}
            for (reader, readings), name in zip(seen.items(), both, strict=True):
                if name in models:
                    row = compare(truth[reader], readings)
                    print(f"| {hiding} | {' + '.join(models)} | {reader} | {row} |", flush=True)


def print_chain() -> None:
    """RetinaFace and MPIIGaze in one attack on T002."""
    print("\n| hiding | combine | RetinaFace found, IoU, score, 5-point error | gaze change mean / p95 | hidden only |")
    print("|---|---|---|---|---|")
    for hiding, obfuscator in HIDING.items():
        for combine in (Sum(), GradientNorm()):
            with TemporaryDirectory() as folder:
                along, change, blind = chain(frames(*T002), Path(folder), combine, 80, obfuscator)
            print(
                f"| {hiding} | {type(combine).__name__} | {str(along).replace(' | ', ', ')} | {change.mean():.2f} / "
                f"{np.quantile(change, 0.95):.2f} | {blind.mean():.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
