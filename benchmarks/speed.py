"""What an iteration costs beyond the floor, forward and backward of the network: ``python -m benchmarks.speed``.

All in one run, so that the ratios hold on a busy machine too; 480 x 480 frames of the astronaut.
RetinaFace's weights are looked for beside the project first.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from face_alignment.detection.retinaface.net_retinaface import RetinaFace as Net
from footage import SHARED
from skimage.data import astronaut
from torch.utils.benchmark import Timer

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.geometry.warp import crop_resize
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Pixelate

BATCH, STEPS = 8, 20
WEIGHTS = SHARED / "weights"


def milliseconds(work: Callable[[], object], per: int) -> float:
    """Median wall time of ``work``, divided by ``per``."""
    work()
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=4).median * 1000 / per)


def main() -> None:
    """Print the table of docs/benchmarks.md."""
    if WEIGHTS.is_dir():
        os.environ.setdefault("DEIDLIB_WEIGHTS", str(WEIGHTS))
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255
    boxes = torch.tensor([[10.0 + 4 * i, 0, 410 + 4 * i, 400] for i in range(BATCH)])
    images = crop_resize(picture.expand(BATCH, -1, -1, -1), boxes, (480, 480)).mul(255).round() / 255
    mtcnn, retinaface = MTCNN(), RetinaFace()
    faces = mtcnn.predict(images)
    hidden = Pixelate()(images, faces)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}, 480 x 480, ms per frame\n")
    print("| work | ms | ratio |")
    print("|---|---|---|")

    def backward(net: torch.nn.Module) -> Callable[[], object]:
        def work() -> object:
            leaf = (hidden * 255 - 110).requires_grad_()
            box, score, points = net(leaf)
            return torch.autograd.grad(box.sum() + score.square().sum() + points.sum(), leaf)

        return work

    def weights_too() -> object:
        leaf = (hidden * 255 - 110).requires_grad_()
        box, score, points = trainable(leaf)
        total: torch.Tensor = box.sum() + score.square().sum() + points.sum()
        total.backward()  # type: ignore[no-untyped-call]
        return leaf.grad

    trainable = Net().eval()
    frozen = Net().eval().requires_grad_(False)
    reference = milliseconds(weights_too, BATCH)
    floor = milliseconds(backward(frozen), BATCH)
    print(f"| RetinaFace net, forward and backward, weights too (as the reference) | {reference:.1f} | |")
    print(f"| the same, weights frozen | {floor:.1f} | {floor / reference:.2f} of the reference |")
    for model in (retinaface, mtcnn):
        target = model.target(faces, (480, 480))

        def step(model: RetinaFace | MTCNN = model, target: object = target) -> object:
            leaf = hidden.clone().requires_grad_()
            return torch.autograd.grad(model.loss(leaf, target).sum(), leaf)  # type: ignore[arg-type]

        loss = milliseconds(step, BATCH)
        attacker = IFGSMAttacker([model], max_iterations=STEPS)
        whole = milliseconds(lambda attacker=attacker: attacker(hidden, faces), BATCH * STEPS)  # type: ignore[misc]
        note = f"{loss / reference:.2f} of the reference" if model is retinaface else ""
        print(f"| `{type(model).__name__}.loss` with gradient | {loss:.1f} | {note} |")
        print(
            f"| `IFGSMAttacker`, {type(model).__name__}, per iteration, targets included | {whole:.1f} | "
            f"{whole / loss:.2f} of its loss |"
        )


if __name__ == "__main__":
    main()
