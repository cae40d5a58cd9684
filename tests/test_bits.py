"""Our own arithmetic to the last bit, and networks within a tolerance, for any batch, threads and instructions.

``bits.py`` says what is compared. It runs in processes of its own: torch chooses its instructions when it starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).resolve().parent
# docs/conventions.md states these.
PIXELS, SHARE, SHARE_OF_GRADIENT = 0.01, 1e-4, 1e-2


@cache
def runs(capability: str) -> list[dict[str, Any]]:
    """What ``bits.py`` prints on a processor of that capability, one entry for each setting."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
        # Threads that wait for each other do so asleep: there may be fewer cores than threads.
        "OMP_WAIT_POLICY": "passive",
    }
    if capability:
        environment["ATEN_CPU_CAPABILITY"] = capability
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "bits.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("capability", ["", pytest.param("avx2", marks=pytest.mark.slow), "default"])
class TestElsewhere:
    def test_own_arithmetic_gives_the_same_bits(self, capability: str) -> None:
        expected = runs("")[0]["digests"]
        assert len(expected) > 25
        for run in runs(capability):
            differ = [name for name, digest in expected.items() if run["digests"][name] != digest]
            assert not differ, f"{run['threads']} threads, oneDNN {run['onednn']}, {run['capability']}"

    def test_networks_read_the_same_within_the_tolerance_stated(self, capability: str) -> None:
        reference = runs("")[0]["readings"]
        for run in runs(capability):
            assert run["readings"].keys() == reference.keys() >= {"mtcnn, together", "mtcnn, alone"}
            for name, values in run["readings"].items():
                # A frame alone is compared with the same one among others.
                expected = reference[name.replace("alone", "together")]
                here, there = ({key: torch.tensor(part) for key, part in side.items()} for side in (expected, values))
                assert len(here["boxes"]) == 4 * 3
                assert (there["boxes"] - here["boxes"]).abs().max() <= PIXELS
                assert ((there["loss"] - here["loss"]) / here["loss"]).abs().max() <= SHARE
                # Of a mosaic, whose flat cells are full of ties.
                difference = (there["gradient"] - here["gradient"]).abs().sum()
                assert difference <= SHARE_OF_GRADIENT * here["gradient"].abs().sum()

    def test_it_was_run_as_said(self, capability: str) -> None:
        assert {(run["threads"], run["onednn"]) for run in runs(capability)} == {(1, True), (2, False), (3, True)}
        if capability == "default":
            # What torch calls its lowest level differs by processor.
            assert {run["capability"] for run in runs(capability)} <= {"DEFAULT", "NO AVX", "NEON"}
