"""What looking at windows and starting from the frame before save: ``python -m benchmarks.windows``.

CPU time, in turns, all in one run. Needs the shared weights and media beside the project.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from unittest.mock import patch

from footage import SHARED, frames
from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.attack.distortions import H264
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.models.cropped import CroppedDetector
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Pixelate
from deidlib.protect.deidentifier import Deidentifier

FEW, MANY, TURNS = 2, 12, 3


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def per_iteration(attackers: Mapping[str, Callable[[int], IFGSMAttacker]], originals: Tensor) -> dict[str, float]:
    """Milliseconds that one more iteration takes, the least of some turns."""
    faces = RetinaFace().predict(originals)
    hide = Pixelate(blocks=4)
    hidden, mask = hide(originals, faces), hide.mask(faces, *originals.shape[-2:])

    def run(attacker: IFGSMAttacker) -> Callable[[], object]:
        return lambda: attacker(hidden, faces, mask=mask)

    least: dict[str, list[float]] = {name: [float("inf")] * 2 for name in attackers}
    for _ in range(TURNS):
        for name, make in attackers.items():
            for k, steps in enumerate((FEW, MANY)):
                least[name][k] = min(least[name][k], seconds(run(make(steps))))
    return {name: 1000 * (many - few) / (MANY - FEW) for name, (few, many) in least.items()}


def whole_frames(model: RetinaFace | CroppedDetector, *, channels: bool) -> Callable[[int], IFGSMAttacker]:
    """Attackers by their number of steps."""
    return lambda steps: IFGSMAttacker([model], max_iterations=steps, distortions=[H264(23)] if channels else [])


def print_windows() -> None:
    """The first table."""
    model = RetinaFace()
    windowed = CroppedDetector(model)
    print(
        "| frame, face | the loss looks at | ms | with `h264:23` on the whole frame | on the surroundings of the mask |"
    )
    print("|---|---|---|---|---|")
    for name, number in (("talk_video00.mp4", 100), ("T002_talk.mp4", 120)):
        originals = frames(SHARED / "media" / name, range(number, number + 1))
        with patch("deidlib.attack.attacker.local", lambda *_: None):
            everywhere = per_iteration(
                {
                    f"{looks}{told}": whole_frames(reader, channels=bool(told))
                    for looks, reader in (("frame", model), ("window", windowed))
                    for told in ("", "+")
                },
                originals,
            )
        near = per_iteration(
            {looks: whole_frames(reader, channels=True) for looks, reader in (("frame", model), ("window", windowed))},
            originals,
        )
        (faces,) = model.predict(originals)
        x1, y1, x2, y2 = faces.boxes[0].tolist()
        what = f"{originals.shape[-1]} x {originals.shape[-2]}, {x2 - x1:.0f} x {y2 - y1:.0f}"
        for looks in ("frame", "window"):
            print(f"| {what} | {looks} | {everywhere[looks]:.0f} | {everywhere[looks + '+']:.0f} | {near[looks]:.0f} |")


def print_starts() -> None:
    """The second table."""
    originals = frames(SHARED / "media" / "T002_talk.mp4", range(120, 128))
    model = RetinaFace()
    faces: list[Faces] = model.predict(originals)
    attacker = IFGSMAttacker([CroppedDetector(model)], max_iterations=60, step=APGDStep())
    print("| 8 frames of T002_talk | CPU s | gradients | loss |")
    print("|---|---|---|---|")
    for name, start in (("each from its hidden self, 60 steps", None), ("from the one before, 20 steps", Chain())):
        protector = Deidentifier(attacker, Pixelate(blocks=4), detectors=[model], chain=start)
        began = time.process_time()
        (batch,) = protector.frames([originals], faces=faces)
        spent = time.process_time() - began
        assert batch.attack is not None
        loss = float(batch.attack.final_losses()["retinaface"].mean())
        print(f"| {name} | {spent:.1f} | {int(batch.attack.iterations.sum())} | {loss:.2f} |")


if __name__ == "__main__":
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    print_windows()
    print()
    print_starts()
