"""Cells put together by their edges, by somebody without the key: ``python -m benchmarks.key_neighbours``.

Needs the shared weights and media beside the project; some minutes of a core. A perturbation is a little smooth, also
where two cells meet in the scrambled frame. So whoever knows several frames whose cells are ordered alike compares
cells' edges over all of them: those of neighbours correlate. With the default hiding he needs no more than the
protected file, since what lies under a perturbation of grey is grey. Asked is

- one order for all frames (no nonce);
- another for every frame (a nonce), each frame by itself;
- a chain that does not exist: a nonce, but each frame starts from the one before it, carried through both orders. Its
  perturbation hardly changes, so that its cells are found again by comparing them, and with them which order follows
  from which. What is left to compare is what changes.

All is counted in the model's own order: scores do not depend on which order it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations

import torch
from footage import SHARED, frames
from torch import Tensor

from deidlib.attack.presets import TOLERANCES, recommended
from deidlib.attack.steps import APGDStep, MomentumSignStep
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.models.keyed import Keyed
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import Solid

CELL, TILE, COUNT, STEPS = 4, 32, 40, 25
SIDE = TILE // CELL
NONCE = "0123456789abcdef0123456789abcdef"


def cells_of(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` to ``(B, tiles, cells, 3, CELL, CELL)``; sides are multiples of a tile."""
    rows, columns = images.shape[2] // TILE, images.shape[3] // TILE
    parts = images.reshape(-1, 3, rows, SIDE, CELL, columns, SIDE, CELL).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return parts.reshape(len(images), rows * columns, SIDE * SIDE, 3, CELL, CELL)


def likeness(cells: Tensor) -> tuple[Tensor, Tensor]:
    """How well each cell's right edge fits each other's left one, and lower to upper: ``(tiles, cells, cells)``."""

    def compared(edges: Tensor, others: Tensor) -> Tensor:
        one, other = (
            torch.nn.functional.normalize(edge.permute(1, 2, 0, 3, 4).flatten(2), dim=2) for edge in (edges, others)
        )
        alike = one @ other.transpose(1, 2)
        alike.diagonal(dim1=1, dim2=2).fill_(-1)
        return alike

    right = compared(cells[..., :, CELL - 1], cells[..., :, 0])
    return right, compared(cells[..., CELL - 1, :], cells[..., 0, :])


def first(alike: Tensor, step: int) -> float:
    """The share of cells whose true neighbour fits best."""
    places = [i for i in range(SIDE * SIDE) if (i % SIDE < SIDE - 1 if step == 1 else i < SIDE * (SIDE - 1))]
    best = alike.argmax(dim=2)[:, places]
    return float((best == torch.tensor(places) + step).double().mean())


def searched(right: Tensor, down: Tensor) -> Tensor:
    """An order of a tile's cells whose edges fit: the best pairs first make rows, and then rows find their order."""
    count = SIDE * SIDE
    strips = {cell: [cell] for cell in range(count)}
    for pair in right.flatten().argsort(descending=True).tolist():
        left, other = strips[pair // count], strips[pair % count]
        ends = left is not other and left[-1] == pair // count and other[0] == pair % count
        if ends and len(left) + len(other) <= SIDE:
            left += other
            strips.update(dict.fromkeys(other, left))
    # What did not become a whole row fills rows as it comes.
    pieces = sorted({tuple(strip) for strip in strips.values()}, key=len, reverse=True)
    rows = torch.tensor([cell for piece in pieces for cell in piece]).view(SIDE, SIDE)
    below = down[rows[:, None], rows[None]].sum(dim=2)
    orders = torch.tensor(list(permutations(range(SIDE))))
    best = below[orders[:, :-1], orders[:, 1:]].sum(dim=1).argmax()
    return rows[orders[best]].flatten()


def main() -> None:
    """Print the table."""
    os.environ.setdefault("DEIDLIB_WEIGHTS", str(SHARED / "weights"))
    torch.set_num_threads(1)
    model, hide, key = RetinaFace(), Solid(), Key(bytes(range(32)))
    originals = frames(SHARED / "media" / "T002_radio.mp4", range(COUNT))
    height, width = originals.shape[-2:]
    truth = [faces for i in range(COUNT) for faces in model.predict(originals[i : i + 1])]
    hidden, mask = hide(originals, truth), hide.mask(truth, height, width)
    # Tiles in which everything is grey, in all frames.
    inside = cells_of(mask.expand(-1, 3, -1, -1)).amin(dim=(0, 2, 3, 4, 5)) > 0

    def perturbations(keyed: Keyed, attacked: Tensor) -> Tensor:
        plans = keyed.at(range(COUNT)).target(truth, (height, width)).plan
        return cells_of(keyed.scramble(attacked, plans) - keyed.scramble(hidden, plans))[:, inside]

    static, nonce = Keyed(model, key), Keyed(model, key, nonce=NONCE)
    print("| known | frames | right neighbour fits best | lower one | cells in their places after a search |")
    print("|---|---|---|---|---|")
    attacked = torch.cat(list(afresh(static, hidden, truth, mask)))
    alike = perturbations(static, attacked)
    for count in (1, 5, 10, 20, COUNT):
        told("one order for all frames", count, alike[:count])
    alike = perturbations(nonce, torch.cat(list(afresh(nonce, hidden, truth, mask))))
    told("another for every frame", 1, alike[:1])
    chained = perturbations(nonce, torch.cat(list(carried(nonce, hidden, truth, mask))))
    told("a chain, its first frame", 1, chained[:1])
    told("a chain, what changes along it", COUNT, chained[1:] - chained[:-1])


def afresh(keyed: Keyed, hidden: Tensor, truth: Sequence[Faces], mask: Tensor) -> Iterator[Tensor]:
    """Protected frames, each from its hidden self."""
    attacker = recommended([keyed], max_iterations=STEPS, step=APGDStep())
    for i in range(len(hidden)):
        yield attacker(hidden[i : i + 1], [truth[i]], mask=mask[i : i + 1], numbers=[i]).images


def carried(keyed: Keyed, hidden: Tensor, truth: Sequence[Faces], mask: Tensor) -> Iterator[Tensor]:
    """Protected frames, each from the one before it: to the model it looks as that one did."""
    attacker = recommended([keyed], until=TOLERANCES["quick"])
    plans = keyed.at(range(len(hidden))).target(truth, (hidden.shape[2], hidden.shape[3])).plan
    images: Tensor | None = None
    gradients = 0
    for i in range(len(hidden)):
        start = None
        if images is not None:
            # The way back is the plan the other way round.
            start = keyed.scramble(keyed.scramble(images, plans[i - 1 : i]), plans[i : i + 1].flip(1))
            attacker = replace(attacker, step=MomentumSignStep(0.5 / 255))
        result = attacker(hidden[i : i + 1], [truth[i]], mask=mask[i : i + 1], init=start, numbers=[i])
        images, gradients = result.images, gradients + int(result.gradients)
        yield images
    print(f"| (carried: {gradients / len(hidden):.2f} gradients a frame) | | | | |")


def told(what: str, count: int, cells: Tensor) -> None:
    """A row of the table."""
    right, down = likeness(cells)
    places = [float((searched(*pair) == torch.arange(SIDE * SIDE)).double().mean())
              for pair in zip(right, down, strict=True)]  # fmt: skip
    shares = (first(right, 1), first(down, SIDE), sum(places) / len(places))
    print(f"| {what} | {count} | {' | '.join(f'{share:.0%}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
