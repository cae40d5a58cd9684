"""What a GPU makes of it: ``benchmarks/gpu.sh``, or ``python -m benchmarks.gpu [--quick] [--device cpu]``.

An iteration of the attack against the floor (the bare network, forward and backward), frames side by side; chains side
by side, as a clip is protected; bfloat16 and peak memory. Networks have seeded weights of nobody, so no file is needed;
nothing is said about what is read. On a GPU by its events, elsewhere CPU time. Writes ``gpu.json`` and ``gpu.md``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import resnet18

from benchmarks.__main__ import described
from benchmarks.floor import bare
from benchmarks.measure import Table, interleaved
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.attack.tolerance import Tolerance
from deidlib.faces import Faces
from deidlib.geometry.face_model import face_model
from deidlib.models.base import TargetModel
from deidlib.models.fan import FAN
from deidlib.models.gaze import GazeResNet
from deidlib.models.retinaface import RetinaFace
from deidlib.protect.batches import DetectedBatch
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.side_by_side import SideBySide
from deidlib.tracking import TrackedFrame

# Steps of two attacks, whose difference is what iterations take: to measure, and to see that it works.
_STEPS, _QUICK = (1, 5), (0, 1)


def models(device: str, *, quick: bool) -> dict[str, TargetModel[Any]]:
    """The three of the paper, with seeded weights of nobody."""
    from face_alignment.detection.retinaface.net_retinaface import RetinaFace as Net

    torch.manual_seed(0)
    made: dict[str, TargetModel[Any]] = {
        "RetinaFace": RetinaFace(Net().state_dict(), score_threshold=0.99),
        "FAN": FAN("random", modules=1 if quick else 4),
        "ETH-XGaze": GazeResNet(resnet18(num_classes=2), "eth-xgaze"),
    }
    return {name: model.to(device) for name, model in made.items()}


def scene(count: int, side: int, device: str) -> tuple[Tensor, list[Faces]]:
    """Grey frames of that side, and a face in the middle of each, with 68 points and a gaze."""
    points = face_model(68).float()[:, :2]
    points = (points - points.mean(dim=0)) * (0.4 * side / float(points[:, 0].max() - points[:, 0].min())) + side / 2
    box = torch.tensor([[0.25, 0.2, 0.75, 0.8]]) * side
    face = Faces(box, torch.ones(1), points[None], torch.tensor([[0.0, 0.0, -1.0]])).to(device)
    return torch.full((count, 3, side, side), 128 / 255, device=device), [face] * count


def iterations(quick: bool, device: str) -> Table:
    """Milliseconds a frame of an iteration: of each model and of all, by how many frames lie side by side."""
    side = 96 if quick else 480
    table = Table(
        f"An iteration, ms per frame of {side} x {side}",
        [
            "authorised",
            "frames side by side",
            "ms: median (10th to 90th percentile)",
            "of the floor",
            "peak MB",
        ],
    )
    known = models(device, quick=quick)
    for count in (2,) if quick else (1, 16, 64):
        hidden, faces = scene(count, side, device)
        floor = interleaved({"floor": bare(hidden)}, turns=_turns(quick), device=device)["floor"].times(1 / count)
        table.rows.append(["floor: bare RetinaFace, channels last", count, floor, 1.0, ""])
        for name, chosen in {**{name: [name] for name in known}, "all three": list(known)}.items():
            _start_of_memory(device)
            steps = _QUICK if quick else _STEPS
            works = _attacks([known[one] for one in chosen], hidden, faces, steps)
            spent = interleaved(works, turns=_turns(quick), device=device)
            took = (spent["many"].median - spent["few"].median) / (steps[1] - steps[0]) / count
            table.rows.append([name, count, took, took / floor.median, _peak(device)])
    return table


def chains(quick: bool, device: str) -> Table:
    """Milliseconds a frame of hiding and attacking with a tolerance, by how many chains lie side by side."""
    side, length, steps = (96, 2, 1) if quick else (480, 4, 5)
    known = models(device, quick=quick)
    if quick:
        del known["FAN"]
    table = Table(
        f"Chains of {length} frames of {side} x {side}, {', '.join(known)}, with a tolerance, {steps} steps a frame",
        ["chains side by side", "ms per frame: median (10th to 90th percentile)", "passes", "peak MB"],
    )
    protector = Deidentifier(
        # Nothing is read within it by weights of nobody, so that every frame takes all of its steps.
        IFGSMAttacker(list(known.values()), max_iterations=steps, until=Tolerance(iou=0.999, nme=0.001, gaze=0.1)),
        chain=Chain(iterations=steps, newcomers=steps, length=length),
    )
    for count in (1, 2) if quick else (1, 16, 64):
        images, faces = scene(count * length, side, device)
        images = (images + 0.1 * torch.rand_like(images)).clamp(0, 1)
        followed = list(protector.follow([protector.detect(images, 0, faces=faces)]))
        beside = SideBySide(protector, count)
        passes = sum(1 for _ in beside.over(followed))
        _start_of_memory(device)
        work = partial(_through, beside, followed)
        spent = interleaved({"chains": work}, turns=_turns(quick), device=device)["chains"]
        table.rows.append([count, spent.times(1 / (count * length)), passes, _peak(device)])
    return table


def _through(beside: SideBySide, followed: Sequence[tuple[DetectedBatch, list[TrackedFrame]]]) -> None:
    for _ in beside.over(followed):
        pass


def precision(quick: bool, device: str) -> Table:
    """The bare network's gradient in bfloat16 against float32: time, and how many of its signs are the same."""
    count, side = (1, 96) if quick else (16, 480)
    hidden, _ = scene(count, side, device)
    hidden = (hidden + 0.1 * torch.rand_like(hidden)).clamp(0, 1)
    work = bare(hidden)

    def half() -> object:
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            return work()

    spent = interleaved({"float32": work, "bfloat16": half}, turns=_turns(quick), device=device)
    results: list[Any] = [work(), half()]
    full, less = (gradients[0].float() for gradients in results)
    same = float((full.sign() == less.sign()).float().mean())
    table = Table(
        f"Bare RetinaFace, {count} frames of {side} x {side}", ["precision", "ms per frame", "signs as float32"]
    )
    table.rows.append(["float32", spent["float32"].times(1 / count), 1.0])
    table.rows.append(["bfloat16 (autocast)", spent["bfloat16"].times(1 / count), same])
    return table


def _attacks(
    models: Sequence[TargetModel[Any]], hidden: Tensor, faces: list[Faces], steps: tuple[int, int]
) -> dict[str, Callable[[], object]]:
    few, many = (IFGSMAttacker(list(models), max_iterations=count) for count in steps)
    readings = {model.name: faces for model in models}
    return {"few": lambda: few(hidden, readings), "many": lambda: many(hidden, readings)}


def _turns(quick: bool) -> int:
    return 1 if quick else 5


def _start_of_memory(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> float | str:
    return torch.cuda.max_memory_allocated(device) / 1e6 if torch.device(device).type == "cuda" else ""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny frames, one turn: to see that it works")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", type=Path, default=Path("build/gpu"), help="where the results go")
    options = parser.parse_args()
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use. Try --device cpu --quick, which measures nothing of one.")
    options.folder.mkdir(parents=True, exist_ok=True)
    about = described(options.device, options.quick)
    tables: dict[str, Table] = {}
    for name, part in {"iterations": iterations, "chains": chains, "precision": precision}.items():
        tables[name] = part(options.quick, options.device)
        print(tables[name].markdown(), flush=True)
        # After each part: an interrupted run has what it has measured.
        data = {"about": about, "tables": {key: table.to_json() for key, table in tables.items()}}
        (options.folder / "gpu.json").write_text(json.dumps(data, indent=1) + "\n")
        head = ", ".join(f"{key} {value}" for key, value in about.items())
        text = "\n".join([f"Measured: {head}.\n", *(table.markdown() for table in tables.values())])
        (options.folder / "gpu.md").write_text(text)


if __name__ == "__main__":
    main()
