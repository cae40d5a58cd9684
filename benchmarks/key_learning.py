"""A network that learns to read keyed frames without the key: ``python -m benchmarks.key_learning``.

Needs the shared weights and media beside the project; a few minutes of a core. The attacker has many frames of one clip
with what the authorised model read on their originals, protected with one key for all frames (his best case) or another
for every frame. He trains a small network to read the five points from the protected frame; it is judged on later
frames of the clip. The same network trained on frames that were hidden and never perturbed shows what the mosaic gives
anyway.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from footage import SHARED, T002, frames
from torch import Tensor, nn

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import APGDStep
from deidlib.keys.key import Key
from deidlib.keys.record import new_nonce
from deidlib.models.keyed import Keyed
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Pixelate

from .key_attacks import LEFT, SIZE, TOP

TRAINED, STRIDE, ITERATIONS, EPOCHS = 60, 3, 25, 150


def main() -> None:
    """Print the table."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    torch.manual_seed(0)
    model, hide = RetinaFace(), Pixelate(blocks=4)
    originals = frames(T002[0], range(0, 270, STRIDE))[:, :, TOP : TOP + SIZE, LEFT : LEFT + SIZE].contiguous()
    truth = [known for part in torch.split(originals, 8) for known in model.predict(part)]
    points = torch.stack([known.landmarks[0] for known in truth if known.landmarks is not None])
    size = torch.stack([(known.boxes[0, 2:] - known.boxes[0, :2]).prod().sqrt() for known in truth])
    hidden, mask = hide(originals, truth), hide.mask(truth, SIZE, SIZE)
    key, pictures = Key(bytes(range(32))), {"hidden, never perturbed": hidden}
    for name, keyed in (
        ("no key in the attack", None),
        ("one key for all frames", Keyed(model, key)),
        ("another key for every frame", Keyed(model, key, nonce=new_nonce())),
    ):
        attacker = IFGSMAttacker([keyed or model], max_iterations=ITERATIONS, step=APGDStep())
        parts = []
        for i in range(0, len(originals), 6):
            part = slice(i, i + 6)
            numbers = range(len(originals))[part]
            attacked = attacker(hidden[part], truth[part], mask=mask[part], numbers=numbers)
            parts.append(attacked.images)
        pictures[name] = torch.cat(parts)
    mean = points[:TRAINED].mean(dim=0)
    print("| frames learned from | error on later frames, of the face's size | on the frames learned from |")
    print("|---|---|---|")
    print(f"| nothing: always the mean of the first frames | {error(mean, points[TRAINED:], size[TRAINED:]):.1%} | |")
    for name, images in pictures.items():
        read = learned(images[:TRAINED], points[:TRAINED])
        later, own = (
            error(read(images[part]), points[part], size[part]) for part in (slice(TRAINED, None), slice(0, TRAINED))
        )
        print(f"| {name} | {later:.1%} | {own:.1%} |", flush=True)


def error(read: Tensor, points: Tensor, size: Tensor) -> float:
    """Mean distance of the points over the face's size."""
    return float(((read - points).norm(dim=-1).mean(dim=1) / size).mean())


def learned(images: Tensor, points: Tensor) -> Callable[[Tensor], Tensor]:
    """A network from frames ``(B, 3, H, W)`` to five points ``(B, 5, 2)`` in pixels."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 48), (48, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 10 * 10, 10), nn.Unflatten(1, (5, 2)))
    mean, spread = points.mean(dim=0), 20.0
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(images)), 20):
            loss = (net(images[rows]) * spread + mean - points[rows]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    net.eval()

    @torch.no_grad()
    def read(pictures: Tensor) -> Tensor:
        points: Tensor = net(pictures) * spread + mean
        return points

    return read


if __name__ == "__main__":
    main()
