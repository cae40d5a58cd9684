"""All that is said about speed, in one command: ``python -m benchmarks [PART ...] [--quick] [--folder FOLDER]``.

Parts: ``floor`` (a gradient and an iteration of each model against the bare network), ``rules`` (steps to tolerance by
step rule), ``scaling`` (size, faces, batch, length), ``clips`` (whole files, split by what is done), ``memory`` (a clip
of 60 s against one of 10 s), ``workers`` (several processes). Every speed stands beside what was read in the same run.
Into the folder go
``results.json``, ``results.md`` and, where matplotlib is installed, a picture for each part that has curves.

Needs the shared weights and media beside the project. CPU time, on one thread; on a GPU (``--device cuda``) the time
between events.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from footage import SHARED

from benchmarks import clips, floor, memory, rules, scaling, workers
from benchmarks.measure import Table

PARTS: Mapping[str, Callable[[bool, str], Table]] = {
    "floor": floor.table,
    "rules": rules.table,
    "scaling": scaling.table,
    "clips": clips.table,
    "memory": memory.table,
    "workers": workers.table,
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--quick", action="store_true", help="fewer frames and turns: a minute or two in all")
    parser.add_argument("--folder", type=Path, default=Path("build/benchmarks"), help="where the results go")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"unknown part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    about = described(options.device, options.quick)
    print(*(f"{name}: {value}" for name, value in about.items()), sep="\n", end="\n\n")
    tables: dict[str, Table] = {}
    for name in options.parts or PARTS:
        began = time.process_time()
        tables[name] = PARTS[name](options.quick, options.device)
        print(tables[name].markdown(), flush=True)
        print(f"({time.process_time() - began:.0f} s of CPU time)\n", flush=True)
        # After each part: an interrupted run has what it has measured.
        write(options.folder, about, tables)


def described(device: str, quick: bool) -> dict[str, Any]:
    """When, on what and with what it was measured."""
    gpu = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "none"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "quick": quick,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def write(folder: Path, about: Mapping[str, Any], tables: Mapping[str, Table]) -> None:
    """JSON, Markdown and pictures."""
    data = {"about": about, "tables": {name: table.to_json() for name, table in tables.items()}}
    (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    head = ", ".join(f"{name} {value}" for name, value in about.items())
    (folder / "results.md").write_text("\n".join([f"Measured: {head}.\n", *(t.markdown() for t in tables.values())]))
    for name, table in tables.items():
        if table.curves:
            draw(folder / f"{name}.png", table)


def draw(path: Path, table: Table) -> None:
    """A picture of the curves; nothing where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for (name, (x, y)), style in zip(table.curves.items(), _styles(len(table.curves)), strict=True):
        axes.plot(x, y, style, label=name, markevery=-(-len(x) // 12))
    axes.set_xlabel(table.axes[0])
    axes.set_ylabel(table.axes[1])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def _styles(count: int) -> Sequence[str]:
    """Lines that can be told apart without colour."""
    return [("-", "--", ":", "-.", "-o", "-s", "-^", "-x")[k % 8] for k in range(count)]


if __name__ == "__main__":
    main()
