"""Measure what is missing, then print the tables.

``python -m benchmarks.results [--clip NAME] [--folder build/results]``. It needs the shared weights and media
beside the project, and about two hours of a core; interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from .cases import CLIPS, DEFAULT, EVERYBODY, HIDING, MEDIA, cases
from .identity import measure_identity
from .tables import codec_table, default_table, hiding_table, identity_table
from .work import Readings, measure


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clip", choices=list(CLIPS), action="append")
    parser.add_argument("--folder", type=Path, default=Path("build/results"))
    parser.add_argument("--measure-only", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(MEDIA.parent / "weights"))
    options.folder.mkdir(parents=True, exist_ok=True)

    readings = Readings()
    results: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for clip in options.clip or CLIPS:
        for case, stored in cases(clip):
            result = measure(case, stored, options.folder, readings)
            results[clip, case.hiding, case.authorised, stored] = result
            own = result["RetinaFace"]
            line = f"{case.folder} {stored}: IoU {1 - own['box']:.3f}, found {own['coverage']:.0%}"
            print(line, file=sys.stderr, flush=True)
    if options.measure_only:
        return
    identities = [
        measure_identity(hiding, authorised, options.folder)
        for hiding in HIDING
        for authorised in ("none", EVERYBODY)
        if authorised == "none" or hiding in (DEFAULT, "8 blocks")
    ]
    for title, table in (
        ("The default setting", default_table(results)),
        ("Ways of hiding", hiding_table(results)),
        ("Ways of storing", codec_table(results)),
        ("Identity", identity_table(identities)),
    ):
        print(f"\n## {title}\n\n{table}")


if __name__ == "__main__":
    main()
