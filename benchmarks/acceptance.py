"""What the default protection achieves on real frames, from the PNGs: ``python -m benchmarks.acceptance``.

Needs the shared weights and media beside the project. Prints the table of docs/results.md.
"""

from __future__ import annotations

import os
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

ITERATIONS = 60


def main() -> None:
    """Print the table."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
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

    print("\n| combine | RetinaFace found, IoU, score, 5-point error | gaze change mean / p95, degrees | hidden only |")
    print("|---|---|---|---|")
    for combine in (Sum(), GradientNorm()):
        with TemporaryDirectory() as folder:
            along, change, blind = chain(frames(*T002), Path(folder), combine, 80)
        print(
            f"| {type(combine).__name__} | {str(along).replace(' | ', ', ')} | {change.mean():.2f} / "
            f"{np.quantile(change, 0.95):.2f} | {blind.mean():.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
