"""Scrambles: rearrangements of a frame that a key decides, and that can be differentiated and undone."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from inspect import isabstract
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deidlib.images import check_image_shape
from deidlib.keys.key import Key


class Scramble(ABC):
    """What the holder of a key does to a frame before the model looks at it.

    It is exact on 256 grey levels, changes no size, and keeps every pixel near its place, so that boxes and points that
    the model reads are those of the frame.

    One of your own is a dataclass in a module, with fields that JSON can hold: so readers can make it again from what
    lies beside the protected file, once they have imported that module.
    """

    @abstractmethod
    def plan(self, key: Key, label: str, height: int, width: int) -> Tensor:
        """All that key, label and size decide, drawn once and used for many images.

        Args:
            key: the secret.
            label: other labels give independent plans: of the frames of a clip, say.
            height: of the frames, pixels; any.
            width: likewise.
        """

    @abstractmethod
    def __call__(self, images: Tensor, plans: Tensor) -> Tensor:
        """Scramble frames, differentiably.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1].
            plans: ``(B, ...)``, one for each frame, from :meth:`plan` with their size.

        Returns:
            ``(B, 3, H, W)`` in [0, 1].
        """

    def settings(self) -> dict[str, Any]:
        """What :func:`scramble_of` makes an equal one from; not secret."""
        return {"scramble": _name_of(type(self)), **(asdict(self) if is_dataclass(self) else {})}


@dataclass(frozen=True)
class CellPermutation(Scramble):
    """Square cells of pixels change places within square tiles, in another order in every tile.

    The grid starts at the top left corner. Tiles that the frame cuts off permute the whole cells that they have; what
    is left at the right and lower border, less than a cell, stays where it is.

    Args:
        cell: side of a cell, pixels. Smaller ones are fine noise to whoever has no key, which a network looks through.
        tile: side of a tile, pixels, a multiple of ``cell``. A tile of n cells has n! orders. Larger ones hide more, as
            everybody sees the means of tiles, and survive compression less. The defaults are for faces up to some 250
            pixels; for larger ones take both in proportion (docs/keys.md).

    Raises:
        ValueError: sides are no whole numbers >= 1, or a tile does not consist of at least four cells.

    Example:
        >>> scramble = CellPermutation(cell=1, tile=2)
        >>> images = torch.arange(4.0).div(4).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
        >>> scramble(images, scramble.plan(Key(bytes(32)), "frame 0", 2, 2)[None])[0, 0]
        tensor([[0.0000, 0.7500],
                [0.2500, 0.5000]])
    """

    cell: int = 4
    tile: int = 32

    def __post_init__(self) -> None:
        if not (isinstance(self.cell, int) and isinstance(self.tile, int) and self.cell >= 1):
            raise ValueError(f"cell and tile must be whole numbers of pixels, got {self.cell!r} and {self.tile!r}.")
        if self.tile % self.cell or self.tile < 2 * self.cell:
            raise ValueError(
                f"tile must be a multiple of cell, at least twice as large, got {self.tile} for cells of {self.cell}."
            )

    def plan(self, key: Key, label: str, height: int, width: int) -> Tensor:
        """``(2, H w)`` int32: where each run of ``cell`` pixels of a row comes from, and where it goes to."""
        across = width // self.cell
        source = torch.from_numpy(self._cells(key, label, height // self.cell, across))
        target = torch.empty_like(source)
        target[source] = torch.arange(len(source))
        return torch.stack([self._runs(order, across) for order in (source, target)]).int()

    def __call__(self, images: Tensor, plans: Tensor) -> Tensor:
        """Scramble frames; memory is channels last, as convolutions like it."""
        check_image_shape(images)
        _check_plans(images, plans)
        height, width = (side - side % self.cell for side in images.shape[-2:])
        if not height or not width:
            return images
        moved: Tensor = _Rearranged.apply(images[..., :height, :width], plans.transpose(0, 1), self.cell)
        if (height, width) == images.shape[-2:]:
            return moved
        # What is no whole cell stays.
        right = torch.cat([moved, images[..., :height, width:]], dim=3)
        return torch.cat([right, images[..., height:, :]], dim=2)

    def _cells(self, key: Key, label: str, down: int, across: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """For each cell, row by row, the cell that comes into its place."""
        side = self.tile // self.cell
        # Cells are numbered row by row; what tiles at the right and lower border lack is -1.
        whole = np.full((-(-down // side) * side, -(-across // side) * side), -1)
        whole[:down, :across] = np.arange(down * across).reshape(down, across)
        number = rearrange(whole, "(tile_y y) (tile_x x) -> (tile_y tile_x) (y x)", y=side, x=side)
        order = key.permutations(f"{label}/cells", len(number), side * side)
        # Of a tile that is cut off, the cells that it has, first in their own order and then in the key's.
        there = np.take_along_axis(number, order, axis=1)
        places = number[number >= 0]
        comes = np.empty(down * across, np.int64)
        comes[places] = there[there >= 0]
        return comes

    def _runs(self, order: Tensor, across: int) -> Tensor:
        """From cells to runs of ``cell`` pixels, each a row of a cell."""
        if not len(order):
            return order
        y, x = order.div(across, rounding_mode="floor"), order % across
        row = torch.arange(self.cell)[:, None]
        runs = (y * self.cell * across + x).view(-1, 1, across) + (row * across)
        return runs.flatten()


class _Rearranged(torch.autograd.Function):
    """Runs of pixels to other places. Its gradient is the way back: a gather too, where autograd would scatter."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, plans: Tensor, cell: int) -> Tensor:
        ctx.save_for_backward(plans)
        ctx.cell = cell
        return _gather(images, plans[0], cell)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (plans,) = ctx.saved_tensors
        # Written so that it can be differentiated again.
        return _Rearranged.apply(gradients[0], plans.flip(0), ctx.cell), None, None


def _gather(images: Tensor, source: Tensor, cell: int) -> Tensor:
    frames = len(images)
    runs = rearrange(images, "frames c h (w pixel) -> (frames h w) (pixel c)", pixel=cell)
    first = torch.arange(frames, device=images.device, dtype=source.dtype)[:, None] * (len(runs) // frames)
    moved = runs.index_select(0, (source + first).flatten())
    back: Tensor = rearrange(
        moved, "(frames h w) (pixel c) -> frames c h (w pixel)", frames=frames, h=images.shape[2], pixel=cell
    )
    return back


def scramble_of(settings: Mapping[str, Any]) -> Scramble:
    """The scramble that :meth:`Scramble.settings` describes.

    Settings come with a file, from anybody; so nothing is ever imported because they say so. A class of this library
    goes by its name, any other by ``"module:Class"``, and must have been defined or imported by then.

    Args:
        settings: its name as ``"scramble"``, and its fields.

    Raises:
        ValueError: no such scramble is known yet, or the fields are not its own.

    Example:
        >>> scramble_of({"scramble": "CellPermutation", "cell": 2, "tile": 16})
        CellPermutation(cell=2, tile=16)
    """
    fields = {str(name): value for name, value in settings.items()}
    name = fields.pop("scramble", None)
    known = {_name_of(kind): kind for kind in _kinds(Scramble)}
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"unknown scramble {name!r}; known: {', '.join(sorted(known))}. {_advice(name)}")
    try:
        return known[name](**fields)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made from {fields}: {error}.") from None


def _name_of(kind: type[Scramble]) -> str:
    return kind.__name__ if kind.__module__.startswith("deidlib.") else f"{kind.__module__}:{kind.__qualname__}"


def _kinds(kind: type[Any]) -> Iterator[type[Scramble]]:
    """The scrambles defined so far, those defined again (in a notebook, say) last."""
    for inner in kind.__subclasses__():
        if not isabstract(inner):
            yield inner
        yield from _kinds(inner)


def _advice(name: object) -> str:
    module, colon, _ = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not colon or not re.fullmatch(r"[\w.]+", module):
        return "A newer deidlib may know it."
    if module == "__main__":
        return "Whoever protected the file defined it in a program of his own: define the same class before reading."
    return f"Its author's module is {module}: if you trust it, import it before reading."


def _check_plans(images: Tensor, plans: Tensor) -> None:
    if len(plans) != len(images):
        raise ValueError(f"expected one plan per frame: {len(images)} frames, got {len(plans)} plans.")
