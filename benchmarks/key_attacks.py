"""Attacks on keyed protection by somebody without the key: ``python -m benchmarks.key_attacks [static] [nonce]``.

Needs the shared weights and media beside the project; about ten minutes of a core. The attacker knows the library, its
settings, the weights and where the face is (the mosaic shows it), and in the known-plaintext case what the authorised
model reads on the originals. He looks for the order of the cells, tile by tile, in two ways:

- mixing (Frank-Wolfe): the model's loss is linearised at the present mixture of orders, the best order for the linear
  loss is an assignment problem in every tile, and the mixture moves towards it; in the end it is rounded to one order
  per tile;
- climbing: from the order as it comes, the gradient ranks all exchanges of two cells, and promising ones are made in as
  many tiles at once as lowers the loss.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from footage import SHARED, T002, frames
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import avg_pool2d, softplus

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.geometry.boxes import decode, iou
from deidlib.geometry.region import FaceRegion
from deidlib.keys.key import Key
from deidlib.keys.record import new_nonce
from deidlib.keys.scramble import CellPermutation
from deidlib.models.keyed import Keyed
from deidlib.models.retinaface import RetinaFace, RetinaFaceTarget
from deidlib.obfuscate import Pixelate

CELL, TILE = 4, 32
SIDE = TILE // CELL
TOP, LEFT, SIZE = 32, 96, 320
KNOWN, HELD_OUT = 8, 4
STEPS, CLIMB = 60, 400

Loss = Callable[[Tensor], Tensor]


def tiles_of(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` to cells ``(B, tiles, cells, 3 * CELL * CELL)``."""
    n = SIZE // TILE
    parts = images.reshape(-1, 3, n, SIDE, CELL, n, SIDE, CELL).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return parts.reshape(len(images), n * n, SIDE * SIDE, -1)


def images_of(cells: Tensor) -> Tensor:
    """The way back."""
    n = SIZE // TILE
    parts = cells.reshape(-1, n, n, SIDE, SIDE, 3, CELL, CELL).permute(0, 5, 1, 3, 6, 2, 4, 7)
    return parts.reshape(-1, 3, SIZE, SIZE)


def mixed(protected: Tensor, loss: Loss, tiles: Tensor) -> Tensor:
    """One order of cells per tile, ``(tiles, cells)``, that makes the loss small on all frames at once."""
    cells = tiles_of(protected)
    count = cells.shape[2]
    mixture = torch.full((cells.shape[1], count, count), 1 / count)
    mixture[~tiles] = torch.eye(count)
    for step in range(STEPS):
        leaf = mixture.clone().requires_grad_()
        value = loss(images_of(torch.einsum("tij,btjp->btip", leaf, cells))).mean()
        (gradient,) = torch.autograd.grad(value, leaf)
        towards = torch.zeros_like(mixture)
        for tile in tiles.nonzero().flatten().tolist():
            rows, columns = linear_sum_assignment(gradient[tile].numpy())
            towards[tile, rows, columns] = 1
        towards[~tiles] = torch.eye(count)
        mixture = mixture + 2 / (step + 2) * (towards - mixture)
    order = torch.zeros(mixture.shape[:2], dtype=torch.long)
    for tile in range(len(mixture)):
        order[tile] = torch.from_numpy(linear_sum_assignment(-mixture[tile].numpy())[1])
    return order


def climbed(protected: Tensor, loss: Loss, tiles: Tensor) -> Tensor:
    """Likewise, by exchanges of two cells that lower the loss."""
    cells = tiles_of(protected)
    count = cells.shape[2]
    chance = torch.Generator().manual_seed(0)

    def tried(order: Tensor) -> tuple[float, Tensor]:
        """The loss, and what it gains to first order by the exchange of any two cells of a tile."""
        now = cells.gather(2, order[None, :, :, None].expand_as(cells)).requires_grad_()
        value = loss(images_of(now)).mean()
        (gradient,) = torch.autograd.grad(value, now)
        across = torch.einsum("btip,btjp->tij", gradient, now.detach())
        stay = across.diagonal(dim1=1, dim2=2)
        return float(value.detach()), stay[:, :, None] + stay[:, None] - across - across.transpose(1, 2)

    order = torch.arange(count).expand(cells.shape[1], count).clone()
    best, gain = tried(order)
    share = 0.5
    for _ in range(CLIMB):
        # Not always the same exchange, so that a step that failed can be followed by another one.
        ranked = (gain * torch.rand(gain.shape, generator=chance)).flatten(1).argmax(dim=1)
        rows = (tiles & (torch.rand(len(tiles), generator=chance) < share)).nonzero().flatten()
        first, second = ranked[rows] // count, ranked[rows] % count
        candidate = order.clone()
        candidate[rows, first], candidate[rows, second] = order[rows, second], order[rows, first]
        value, slope = tried(candidate)
        if value < best:
            order, best, gain, share = candidate, value, slope, min(1.2 * share, 1.0)
        else:
            share = max(share / 2, 1 / int(tiles.sum()))
    return order


def rearranged(images: Tensor, order: Tensor) -> Tensor:
    """Frames with their cells in that order."""
    cells = tiles_of(images)
    return images_of(cells.gather(2, order[None, :, :, None].expand(len(cells), -1, -1, cells.shape[3])))


def truth_of(scramble: CellPermutation, key: Key, label: str) -> Tensor:
    """The order that the key draws, as a search gives it."""
    numbered = torch.arange((SIZE // CELL) ** 2, dtype=torch.float32).reshape(1, 1, SIZE // CELL, SIZE // CELL)
    field = numbered.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3).expand(1, 3, -1, -1).contiguous()
    before = tiles_of(field)[0, :, :, 0]
    after = tiles_of(scramble(field, scramble.plan(key, label, SIZE, SIZE)[None]))[0, :, :, 0]
    return (after[:, :, None] == before[:, None, :]).long().argmax(dim=2)


def seen(model: RetinaFace, images: Tensor, truth: Sequence[Faces]) -> str:
    """Found, mean IoU with what the model reads on the original, greatest score over the face."""
    overlaps, scores = [], []
    code, logits, _ = model.raw(images)
    priors = model._priors((SIZE, SIZE), images)
    for i, known in enumerate(truth):
        overlap = iou(known.boxes[:1], decode(code[i], priors))[0]
        margin = logits[i].softmax(-1)[:, 1]
        scores.append(float(margin[overlap > 0.5].max()) if bool((overlap > 0.5).any()) else 0.0)
        found = model.predict(images[i : i + 1])[0]
        overlaps.append(float(iou(known.boxes[:1], found.boxes).max()) if len(found) else 0.0)
    hit = np.array(overlaps) >= 0.5
    return f"{hit.mean():.0%} | {np.mean(overlaps):.2f} | {np.max(scores):.2f}"


def main() -> None:
    """Print the table."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    model, hide, scramble = RetinaFace(), Pixelate(blocks=4), CellPermutation(CELL, TILE)
    originals = frames(T002[0], range(0, 20 * (KNOWN + HELD_OUT), 20))
    originals = originals[:, :, TOP : TOP + SIZE, LEFT : LEFT + SIZE].contiguous()
    truth = model.predict(originals)
    hidden, mask = hide(originals, truth), hide.mask(truth, SIZE, SIZE)
    key, nonce = Key(bytes(range(32))), new_nonce()
    print("| attack | key | read by | found | IoU | greatest score | cells in their places |")
    print("|---|---|---|---|---|---|---|")
    # Tiles that hold something of any face; the others are left alone.
    busy = avg_pool2d(mask.amax(dim=0, keepdim=True), TILE).flatten() > 0
    kinds = {"static": ("one for all frames", None), "nonce": ("another for every frame", nonce)}
    for kind, given in (kinds[name] for name in sys.argv[1:] or kinds):
        keyed = Keyed(model, key, scramble=scramble, nonce=given)
        attacker = IFGSMAttacker([keyed], max_iterations=50, step=APGDStep())
        protected = attacker(hidden, truth, mask=mask, numbers=range(len(originals))).images
        target = model.target(truth, (SIZE, SIZE))
        with_key = keyed.scramble(protected, keyed.at(range(len(originals))).target(truth, (SIZE, SIZE)).plan)
        print(f"| the key itself | {kind} | all frames | {seen(model, with_key, truth)} | 100% |", flush=True)
        right = truth_of(scramble, key, "every frame" if given is None else f"{given}/frame 0")
        rest = slice(KNOWN, KNOWN + HELD_OUT)
        for search in (mixed, climbed):
            for name, source in (("protected", protected), ("hidden, never perturbed", hidden)):
                for count in (1, 2, KNOWN):
                    goal = as_original(model, target.select(torch.arange(count)))
                    order = search(source[:count], goal, busy)
                    share = float((order == right)[busy].float().mean())
                    for place, part in (("the frames searched", slice(0, count)), ("other frames", rest)):
                        line = seen(model, rearranged(source[part], order), truth[part])
                        what = f"{search.__name__}, originals known, {count} frames {name}"
                        print(f"| {what} | {kind} | {place} | {line} | {share:.1%} |", flush=True)
                order = search(source[:1], face_anywhere(model, truth[0]), busy)
                share = float((order == right)[busy].float().mean())
                line = seen(model, rearranged(source[:1], order), truth[:1])
                what = f"{search.__name__}, only the place known, {name}"
                print(f"| {what} | {kind} | the frame searched | {line} | {share:.1%} |", flush=True)
        # What all frames have in common, beside the mosaic: the perturbation, if it stands still.
        mean = (protected - hidden).mean(dim=0, keepdim=True)
        for factor in (1, 4, 16):
            for name, picture in (("itself", mean), ("blurred over tiles", avg_pool2d(mean, 9, 1, 4))):
                line = seen(model, (hidden[:1] + factor * picture).clamp(0, 1), truth[:1])
                print(f"| mean perturbation {name}, times {factor} | {kind} | one frame | {line} | |", flush=True)
    box = FaceRegion().rectangles(truth[0], SIZE, SIZE)[0]
    middle, half = torch.tensor(box).float().view(2, 2).mean(0), torch.tensor([box[2] - box[0], box[3] - box[1]]) / 2.4
    shrunk = torch.cat([middle - half, middle + half])[None]
    print(f"| the mosaic, shrunk by 1.2 | any | | 100% | {float(iou(shrunk, truth[0].boxes[:1])):.2f} | | |")


def as_original(model: RetinaFace, target: RetinaFaceTarget) -> Loss:
    """The model reads what it read on the originals."""

    def loss(images: Tensor) -> Tensor:
        return model.loss(images, target)

    return loss


def face_anywhere(model: RetinaFace, known: Faces) -> Loss:
    """Some anchor at the mosaic says that there is a face; nothing is known of it but the place of the mosaic."""

    def loss(images: Tensor) -> Tensor:
        _, logits, _ = model.raw(images)
        priors = model._priors((SIZE, SIZE), images)
        corners = torch.cat([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], dim=1)
        near = iou(known.boxes[:1], corners)[0] > 0.4
        margin = logits[:, near, 1] - logits[:, near, 0]
        return softplus(-margin.logsumexp(dim=1))

    return loss


if __name__ == "__main__":
    main()
