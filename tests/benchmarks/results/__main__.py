"""Measure what is missing, then print the tables.

``python -m tests.benchmarks.results [--clip NAME] [--folder build/results]``. It needs the shared weights and media
beside the project, and about two hours of a core; interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .cases import CLIPS, MEDIA, STORED, cases

parser = argparse.ArgumentParser()
parser.add_argument("--clip", choices=list(CLIPS), action="append")
parser.add_argument("--folder", type=Path, default=Path("build/results"))
parser.add_argument("--measure-only", action="store_true")
options = parser.parse_args()
os.environ.setdefault("DEIDLIB_WEIGHTS", str(MEDIA.parent / "weights"))
options.folder.mkdir(parents=True, exist_ok=True)

from .work import Readings, measure  # noqa: E402

readings = Readings()
for clip in options.clip or CLIPS:
    for case in cases(clip):
        for stored in STORED:
            result = measure(case, stored, options.folder, readings)
            own = result["RetinaFace"]
            print(f"{case.folder} {stored}: IoU {1 - own['box']:.3f}, found {own['coverage']:.0%}", flush=True)
