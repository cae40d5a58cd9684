"""What a key gives and costs: secrecy against survival, over scrambles and codecs; the tables of docs/keys.md.

``python -m benchmarks.keys [--folder build/keys] [--only GROUP]``. It needs the shared weights and media beside
the project, and about an hour of a free core; interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from footage import SHARED, T002, frames
from protection import Reading, compare, gaze_change
from torch import Tensor
from torch.nn.functional import interpolate

from deidlib.attack.aggregation import Aggregator, Sum
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.distortion import Distortion
from deidlib.attack.distortions import H264
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.images import to_grid
from deidlib.keys.key import Key
from deidlib.keys.scramble import CellPermutation, Scramble
from deidlib.media import VideoReader, VideoWriter
from deidlib.metrics import gaze_angle
from deidlib.models.base import TargetModel
from deidlib.models.gaze import GazeResNet
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.models.observe import observe, read_originals
from deidlib.models.retinaface import RetinaFace
from deidlib.models.strangers import YuNet
from deidlib.obfuscate import Obfuscator, Pixelate

KEY = Key(bytes(range(32)))
NEIGHBOUR = Key(bytes([1, *range(1, 32)]))
NONCE = "0123456789abcdef0123456789abcdef"
ITERATIONS = 60
STORES: dict[str, tuple[str, int | None]] = {
    "FFV1": ("ffv1", None),
    "crf 18": ("h264", 18),
    "crf 23": ("h264", 23),
    "crf 28": ("h264", 28),
    "MJPG": ("mjpeg", 3),
}


@dataclass(frozen=True)
class SameOrder(CellPermutation):
    """One order for all tiles."""

    def _cells(self, key: Key, label: str, down: int, across: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        side = self.tile // self.cell
        (order,) = key.permutations(label, 1, side * side)
        y, x = np.divmod(np.arange(down * across), across)
        place = order[(y % side) * side + x % side]
        comes_y, comes_x = y - y % side + place // side, x - x % side + place % side
        there = (comes_y < down) & (comes_x < across)
        assert there.all(), "whole tiles only"
        comes: np.ndarray[Any, np.dtype[np.int64]] = comes_y * across + comes_x
        return comes


@dataclass(frozen=True)
class CellColours(Scramble):
    """In every cell, red, green and blue change places."""

    cell: int = 4

    def plan(self, key: Key, label: str, height: int, width: int) -> Tensor:
        """``(3, H, W)``: the channel that comes."""
        down, across = -(-height // self.cell), -(-width // self.cell)
        order = torch.from_numpy(key.permutations(f"{label}/colours", down * across, 3)).T.reshape(3, down, across)
        return order.repeat_interleave(self.cell, 1).repeat_interleave(self.cell, 2)[:, :height, :width]

    def __call__(self, images: Tensor, plans: Tensor) -> Tensor:
        """Scramble frames."""
        return images.gather(1, plans)


@dataclass(frozen=True)
class CellInversion(Scramble):
    """Cells whose colours are inverted, half of them: 0 becomes 255."""

    cell: int = 4

    def plan(self, key: Key, label: str, height: int, width: int) -> Tensor:
        """``(H, W)``: 1 where colours are kept, -1 where they are inverted."""
        down, across = -(-height // self.cell), -(-width // self.cell)
        bits = key.words(f"{label}/inversion", down * across) >> np.uint64(63)
        sign = torch.from_numpy(1 - 2 * bits.astype(np.float32)).view(down, across)
        return sign.repeat_interleave(self.cell, 0).repeat_interleave(self.cell, 1)[:height, :width].contiguous()

    def __call__(self, images: Tensor, plans: Tensor) -> Tensor:
        """Scramble frames."""
        sign = plans[:, None]
        return images * sign + (1 - sign) / 2


@dataclass(frozen=True)
class BlockSigns(Scramble):
    """Half of the middle frequencies of every 8x8 block change their sign."""

    def plan(self, key: Key, label: str, height: int, width: int) -> Tensor:
        """``(H, W)`` of -1 and 1."""
        bits = key.words(f"{label}/signs", height * width) >> np.uint64(63)
        sign = torch.from_numpy(1 - 2 * bits.astype(np.float32)).view(height, width)
        order = torch.arange(height)[:, None] % 8 + torch.arange(width) % 8
        return torch.where((order >= 1) & (order <= 8), sign, 1.0)

    def __call__(self, images: Tensor, plans: Tensor) -> Tensor:
        """Scramble frames of a height and width that 8 divides."""
        place = torch.arange(8.0)
        basis = torch.cos(torch.pi / 8 * (place + 0.5) * place[:, None]) / 2
        basis[0] /= 2**0.5
        height, width = images.shape[2] // 8, images.shape[3] // 8
        blocks = images.reshape(-1, 3, height, 8, width, 8)
        signs = plans.view(-1, 1, height, 8, width, 8)
        turned = torch.einsum("ki,bcyixj,lj->bcykxl", basis, blocks, basis) * signs
        back = torch.einsum("ki,bcykxl,lj->bcyixj", basis, turned, basis)
        return back.flatten(4, 5).flatten(2, 3).clamp(0, 1)


@dataclass(frozen=True)
class Both(Scramble):
    """One scramble after another."""

    first: Scramble
    second: Scramble

    def plan(self, key: Key, label: str, height: int, width: int) -> Tensor:
        """Both plans, as rows of one float tensor (exact below 2^24)."""
        plans = [scramble.plan(key, label, height, width) for scramble in (self.first, self.second)]
        return torch.cat([plan.double().flatten() for plan in plans])

    def __call__(self, images: Tensor, plans: Tensor) -> Tensor:
        """Scramble frames."""
        height, width = images.shape[2:]
        for scramble in (self.first, self.second):
            example = scramble.plan(KEY, "", height, width)
            own, plans = plans[:, : example.numel()], plans[:, example.numel() :]
            images = scramble(images, own.to(example.dtype).view(-1, *example.shape))
        return images


@dataclass(frozen=True)
class Case:
    """One protection: what is authorised by key, how, and how strongly.

    Args:
        scramble: ``None``: no key.
        epsilon: in grey levels.
        channels: compression in the loop.
        models: of the attack; ``"b/retinaface"`` reads with the key of party b.
        frames: how many of T002's eight.
        hide: the obfuscator.
        combine: of the gradients.
        static: without a nonce.
        wrong_keys: to read with.
        iterations: of the attack.
        strangers: whether other models look at it too.
        cut: only 320 x 320 pixels around the face, which costs less than half.
        scale: how many times larger the frames are made first, whose face is 130 pixels wide.
        stores: what it is read back from.
    """

    scramble: Scramble | None
    epsilon: int = 8
    channels: Sequence[Distortion] = ()
    models: tuple[str, ...] = ("retinaface",)
    frames: int = 8
    hide: Obfuscator = field(default_factory=Pixelate)
    aggregate: Aggregator = field(default_factory=Sum)
    static: bool = False
    wrong_keys: int = 20
    iterations: int = ITERATIONS
    strangers: bool = True
    cut: bool = True
    scale: int = 1
    stores: tuple[str, ...] = tuple(STORES)


P = CellPermutation
SEARCH: dict[str, Case] = {
    name: Case(
        scramble, frames=4, iterations=40, wrong_keys=4, strangers=False, stores=("FFV1", "crf 18", "crf 23", "MJPG")
    )
    for name, scramble in {
        "cells 4 in 32": P(4, 32),
        "cells 1 in 16": P(1, 16),
        "cells 8 in 64": P(8, 64),
        "signs of block frequencies": BlockSigns(),
        "inversion of cells of 4": CellInversion(4),
        "colours of cells of 4": CellColours(4),
        "cells 2 in 32": P(2, 32),
        "cells 4 in 64": P(4, 64),
        "cells 1 in 32": P(1, 32),
        "cells 4 in 32, one order for all tiles": SameOrder(4, 32),
        "cells 8 in 64, inverted": Both(P(8, 64), CellInversion(8)),
        "cells 4 in 32, colours": Both(P(4, 32), CellColours(4)),
        "cells 16 in 128": P(16, 128),
    }.items()
}
LOOP: dict[str, Case] = {
    f"{name}, eps {epsilon}, {f'crf {crf} in the loop' if crf else 'nothing in the loop'}": Case(
        scramble,
        epsilon,
        (H264(crf),) if crf else (),
        frames=4,
        iterations=40,
        wrong_keys=4,
        strangers=False,
    )
    for epsilon, crf, name, scramble in (
        (16, 0, "cells 4 in 32", P(4, 32)),
        (16, 23, "cells 4 in 32", P(4, 32)),
        (8, 23, "no key", None),
        (8, 18, "cells 4 in 32", P(4, 32)),
        (16, 28, "cells 4 in 32", P(4, 32)),
        (8, 23, "cells 2 in 32", P(2, 32)),
        (16, 28, "cells 8 in 64", P(8, 64)),
        (8, 0, "no key", None),
        (8, 23, "cells 4 in 32", P(4, 32)),
        (8, 23, "cells 1 in 16", P(1, 16)),
        (8, 23, "cells 8 in 64", P(8, 64)),
        (8, 23, "signs of block frequencies", BlockSigns()),
    )
}
# Tiles must be large for the face: what survives of a tile under any key is its mean.
SIZE: dict[str, Case] = {
    f"face {130 * scale} pixels wide, {name}, {'crf 23 in the loop' if looped else 'nothing in the loop'}": Case(
        scramble,
        channels=(H264(23),) if looped else (),
        frames=2,
        iterations=40,
        wrong_keys=8,
        strangers=False,
        scale=scale,
        stores=("FFV1", "crf 18", "crf 23"),
    )
    for scale, looped, name, scramble in (
        (2, False, "cells 4 in 32", P(4, 32)),
        (2, True, "cells 4 in 32", P(4, 32)),
        (2, True, "cells 8 in 64", P(8, 64)),
        (2, True, "cells 4 in 64", P(4, 64)),
    )
}
_THREE = ("retinaface", "mtcnn", "mpiigaze")
SEVERAL: dict[str, Case] = {
    "three models, no key": Case(None, models=_THREE, strangers=False, stores=("FFV1", "crf 18")),
    "three models, one key": Case(P(4, 32), models=_THREE, stores=("FFV1", "crf 18"), wrong_keys=8),
    "party a: box; party b: box and gaze": Case(
        P(4, 32), models=("a/retinaface", "b/retinaface", "b/mpiigaze"), stores=("FFV1",), wrong_keys=4, strangers=False
    ),
}
MAIN: dict[str, Case] = {
    "eps 8, whole frames": Case(P(4, 32), cut=False, stores=("FFV1",)),
    "eps 16, crf 23 in the loop": Case(P(4, 32), 16, (H264(23),)),
    "eps 8, crf 18 in the loop": Case(P(4, 32), 8, (H264(18),), stores=("FFV1", "crf 18", "MJPG")),
    "eps 8, crf 23 in the loop": Case(P(4, 32), 8, (H264(23),)),
}
GROUPS: dict[str, dict[str, Case]] = {"main": MAIN, "search": SEARCH, "loop": LOOP, "size": SIZE, "several": SEVERAL}

MODELS: dict[str, Callable[[], TargetModel[Any]]] = {
    "retinaface": RetinaFace,
    "mtcnn": MTCNN,
    "mpiigaze": GazeResNet.mpiigaze,
}


def stored(images: Tensor, store: str) -> Tensor:
    """The frames after they have been in a file."""
    codec, quality = STORES[store]
    with TemporaryDirectory() as folder:
        path = Path(folder, "clip.mkv")
        with VideoWriter(
            path, Fraction(30), (images.shape[2], images.shape[3]), codec=codec, quality=quality
        ) as writer:
            writer.write(images)
        with VideoReader(path) as reader:
            return torch.stack([frame.image for frame in reader])


def summary(reading: Reading) -> list[float]:
    """Found, IoU mean, NME in percent of those that are found."""
    seen = reading.iou >= 0.5
    return [reading.found, float(reading.iou.mean()), 100 * float(reading.nme[seen].mean()) if seen.any() else 100.0]


def strangers(truth: Sequence[Faces], readings: Sequence[Sequence[Faces]]) -> list[float]:
    """Found, mean and greatest IoU of what scores above one half, and the greatest score of a box over the face."""
    sure = [compare(truth, [faces[faces.scores > 0.5] for faces in reading]) for reading in readings]
    unsure = [compare(truth, reading) for reading in readings]
    return [
        float(np.mean([reading.found for reading in sure])),
        float(np.mean([reading.iou.mean() for reading in sure])),
        float(np.max([reading.iou.max() for reading in sure])),
        float(np.max([reading.score.max() for reading in unsure])),
    ]


class Bench:
    """Models, frames and what they read, made once."""

    def __init__(self) -> None:
        self.originals = frames(*T002)
        self.models = {name: make() for name, make in MODELS.items()}
        self.doubtful = RetinaFace(score_threshold=0.02)
        self.strangers: dict[str, Any] = {
            "twin": RetinaFace("retinaface_mobilenet0.25_1mb"),
            "yunet": YuNet(),
            "mtcnn": self.models["mtcnn"],
        }

    def measure(self, case: Case) -> dict[str, Any]:
        """Protect, store, read with the key, without, and with wrong keys."""
        step = len(self.originals) // case.frames
        originals = self.originals[::step]
        if case.cut:
            originals = originals[:, :, :320, 96:416].contiguous()
        if case.scale > 1:
            originals = to_grid(interpolate(originals, scale_factor=case.scale, mode="bicubic").clamp(0, 1))
        truth = {name: model.predict(originals) for name, model in self.strangers.items()}
        truth["retinaface"] = self.models["retinaface"].predict(originals)
        nonce = None if case.static else NONCE
        numbers = range(len(originals))

        def reader(name: str, key: Key, model: TargetModel[Any] | None = None) -> TargetModel[Any]:
            party, _, kind = name.rpartition("/")
            model = model or self.models[kind]
            if case.scramble is None:
                return model
            own = key.derive(party) if party else key
            return Keyed(model, own, scramble=case.scramble, nonce=nonce).at(numbers)

        faces = observe(originals, [self.models["retinaface"]])
        height, width = originals.shape[2:]
        mask = case.hide.mask(faces, height, width)
        attacker = IFGSMAttacker(
            {name: reader(name, KEY) for name in case.models},
            epsilon=case.epsilon / 255,
            max_iterations=case.iterations,
            step=APGDStep(),
            aggregate=case.aggregate,
            distortions=case.channels,
        )
        began = time.process_time()
        result = attacker(
            case.hide(originals, faces), read_originals(originals, attacker.named_models(), faces), mask=mask
        )
        row: dict[str, Any] = {
            "cpu ms": round(1000 * (time.process_time() - began) / len(originals) / case.iterations, 1),
            "loss": float(sum(v.mean() for v in result.final_losses().values())),
        }
        wrong = [KEY.derive(f"wrong {i}") for i in range(case.wrong_keys if case.scramble else 0)]
        if "mpiigaze" in {name.rpartition("/")[2] for name in case.models}:
            row["gaze"] = self.chance(originals, case.hide(originals, faces))
        for store in case.stores:
            images = stored(result.images, store)
            seen: dict[str, Any] = {}
            for name in case.models:
                kind = name.rpartition("/")[2]
                if kind == "mpiigaze":
                    seen |= self.gazes(originals, images, reader, name, wrong)
                    continue
                seen[f"{name}: right"] = summary(compare(truth[kind], reader(name, KEY).predict(images)))
                others = {"none": [self.keen(kind)]}
                if case.scramble is not None:
                    others["neighbour"] = [reader(name, NEIGHBOUR, self.keen(kind))]
                    others["wrong"] = [reader(name, key, self.keen(kind)) for key in wrong]
                for who, readers in others.items():
                    seen[f"{name}: {who}"] = strangers(truth[kind], [other.predict(images) for other in readers])
            for name, model in self.strangers.items() if case.strangers else ():
                seen[name] = summary(compare(truth[name], model.predict(images)))
            row[store] = {name: [round(v, 4) for v in values] for name, values in seen.items()}
        return row

    def keen(self, kind: str) -> TargetModel[Any]:
        """The model, or one that says even what it hardly believes."""
        return self.doubtful if kind == "retinaface" else self.models[kind]

    def gazes(
        self,
        originals: Tensor,
        images: Tensor,
        reader: Callable[[str, Key], TargetModel[Any]],
        name: str,
        wrong: Sequence[Key],
    ) -> dict[str, list[float]]:
        """Changes of gaze: along the chain with the key; without and with wrong ones given the original's points."""
        detector = name.replace("mpiigaze", "retinaface")
        truth = observe(originals, [self.models["retinaface"], self.models["mpiigaze"]])
        chain = observe(images, [reader(detector, KEY), reader(name, KEY)])
        result = {"gaze: right": degrees(gaze_change(truth, chain))}
        result["gaze: none"] = degrees(gaze_change(truth, self.models["mpiigaze"].predict(images, truth)))
        if wrong:
            changes = [gaze_change(truth, reader(name, key).predict(images, truth)) for key in wrong]
            result["gaze: wrong"] = degrees(np.concatenate(changes))
        return result

    def chance(self, originals: Tensor, hidden: Tensor) -> dict[str, list[float]]:
        """What the change of gaze is if nothing is read: on hidden frames, and from one original to all others."""
        truth = observe(originals, [self.models["retinaface"], self.models["mpiigaze"]])
        blind = gaze_change(truth, self.models["mpiigaze"].predict(hidden, truth))
        gaze = torch.cat([known.gaze for known in truth if known.gaze is not None])
        first, second = torch.triu_indices(len(gaze), len(gaze), 1)
        return {"hidden": degrees(blind), "other frames": degrees(gaze_angle(gaze[first], gaze[second]).numpy())}


def degrees(changes: np.ndarray[Any, Any]) -> list[float]:
    """Mean, median, 5th and 95th percentile."""
    return [float(changes.mean()), *(float(np.quantile(changes, q)) for q in (0.5, 0.05, 0.95))]


def overhead(bench: Bench, repetitions: int = 25) -> dict[str, float]:
    """Time of one loss and gradient of RetinaFace through a key, as a multiple of that without one.

    Each is taken right after the other, and the median of the ratios is reported: machines are seldom quiet.
    """
    originals = bench.originals[:2]
    plain = bench.models["retinaface"]
    faces = plain.predict(originals)
    readers: dict[str, TargetModel[Any]] = {"no key": plain}
    for cell, tile in ((4, 32), (1, 16)):
        readers[f"cells {cell} in {tile}"] = Keyed(plain, KEY, scramble=P(cell, tile), nonce=NONCE).at(range(2))
    targets = {name: reader.target(faces, (originals.shape[2], originals.shape[3])) for name, reader in readers.items()}
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repetitions):
        for name, reader in readers.items():
            began = time.process_time()
            leaf = originals.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(reader.loss(leaf, targets[name]).sum(), leaf)
            (originals + gradient.sign()).clamp(0, 1)
            times[name].append(time.process_time() - began)
    return {name: float(np.median(np.divide(spent, times["no key"]))) for name, spent in times.items()}


def main() -> None:
    """Measure what is missing and print it."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/keys"))
    parser.add_argument("--only", choices=[*GROUPS, "overhead"])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench()
    if options.only in (None, "overhead"):
        print("time of an iteration, times that without a key:", overhead(bench), flush=True)
    for group, cases in GROUPS.items():
        if options.only not in (None, group):
            continue
        path = options.folder / f"{group}.json"
        rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        for name, case in cases.items():
            if name not in rows:
                rows[name] = bench.measure(case)
                path.write_text(json.dumps(rows, indent=1))
            print(name, json.dumps(rows[name]), flush=True)


if __name__ == "__main__":
    main()
