from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import Pixels

from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.keys.scramble import CellPermutation, Scramble, scramble_of
from deidlib.models.keyed import Keyed

KEY = Key(bytes(range(32)))


def picture(height: int, width: int, frames: int = 1) -> Tensor:
    """Every value of every frame another one, on the uint8 grid as far as there are grey levels."""
    levels = torch.arange(frames * 3 * height * width) % 256
    return levels.view(frames, 3, height, width).float() / 255


def by_hand(image: np.ndarray, cell: int, tile: int, key: Key, label: str) -> np.ndarray:
    """Tile by tile and cell by cell, as the documentation describes it; ``(H, W, C)``."""
    height, width, _ = image.shape
    side, result = tile // cell, image.copy()
    down, across = height // cell, width // cell
    tiles = [(y, x) for y in range(0, down, side) for x in range(0, across, side)]
    orders = key.permutations(f"{label}/cells", len(tiles), side * side).tolist() if tiles else []
    for (top, left), order in zip(tiles, orders, strict=True):
        places = [(top + n // side, left + n % side) for n in range(side * side)]
        whole = [n for n, (y, x) in enumerate(places) if y < down and x < across]
        for goes, comes in zip(whole, [n for n in order if n in whole], strict=True):
            (y, x), (from_y, from_x) = places[goes], places[comes]
            result[y * cell : (y + 1) * cell, x * cell : (x + 1) * cell] = image[
                from_y * cell : (from_y + 1) * cell, from_x * cell : (from_x + 1) * cell
            ]
    return result


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
grids = st.sampled_from([(1, 2), (1, 8), (2, 4), (2, 16), (3, 9), (4, 32), (5, 15)])


@given(size=sizes, grid=grids)
@settings(max_examples=40, deadline=None)
def test_cells_move_as_the_documentation_says(size: tuple[int, int], grid: tuple[int, int]) -> None:
    scramble = CellPermutation(*grid)
    images = picture(*size, frames=2)
    plans = torch.stack([scramble.plan(KEY, label, *size) for label in ("a", "b")])
    out = scramble(images, plans)
    for image, moved, label in zip(images, out, "ab", strict=True):
        expected = by_hand(image.permute(1, 2, 0).numpy(), *grid, KEY, label)
        assert np.array_equal(moved.permute(1, 2, 0).numpy(), expected)


@given(size=sizes, grid=grids)
@settings(max_examples=20, deadline=None)
def test_nothing_is_lost_and_the_way_back_is_exact(size: tuple[int, int], grid: tuple[int, int]) -> None:
    scramble = CellPermutation(*grid)
    plan = scramble.plan(KEY, "x", *size)
    places = torch.arange(size[0] * size[1], dtype=torch.float64).view(1, 1, *size).expand(1, 3, *size)
    moved = scramble(places, plan[None])
    assert torch.equal(moved.flatten(2).sort().values, places.flatten(2))
    assert torch.equal(scramble(moved, plan.flip(0)[None]), places)


def test_grey_levels_stay_exact() -> None:
    scramble = CellPermutation(2, 8)
    levels = torch.randint(0, 256, (1, 3, 33, 47))
    plan = scramble.plan(KEY, "x", 33, 47)[None]
    moved = scramble(levels.float() / 255, plan).mul(255).round().long()
    assert torch.equal(moved.flatten().bincount(minlength=256), levels.flatten().bincount(minlength=256))
    assert torch.equal(scramble(moved.float() / 255, plan.flip(1)).mul(255).round().long(), levels)


def test_pixels_stay_within_their_tile() -> None:
    x = torch.arange(70.0).div(255).expand(1, 3, 70, 70)
    y = x.transpose(2, 3)
    scramble = CellPermutation(4, 32)
    plan = scramble.plan(KEY, "x", 70, 70)[None]
    for places in (x, y):
        before, after = ((p * 255 / 32).floor() for p in (places, scramble(places, plan)))
        assert torch.equal(before, after)
    assert not torch.equal(scramble(x, plan), x)
    # 70 = 17 cells of 4 and two pixels, which stay.
    assert torch.equal(scramble(x, plan)[..., 68:], x[..., 68:])
    assert torch.equal(scramble(y, plan)[..., 68:, :], y[..., 68:, :])


def test_tiles_are_scrambled_in_ways_of_their_own() -> None:
    tiles = CellPermutation(1, 8).plan(KEY, "x", 64, 64)[0].view(8, 8, 8, 8).transpose(1, 2).reshape(64, 64)
    inside = torch.stack([tiles // 64 % 8, tiles % 8], dim=2)
    assert len({tuple(order) for order in inside.flatten(1).tolist()}) == 64


def test_labels_and_keys_decide() -> None:
    scramble = CellPermutation(4, 32)
    plan = scramble.plan(KEY, "frame 0", 64, 64)
    assert torch.equal(plan, scramble.plan(Key(bytes(range(32))), "frame 0", 64, 64))
    for other in (scramble.plan(KEY, "frame 1", 64, 64), scramble.plan(KEY.derive("b"), "frame 0", 64, 64)):
        # Runs of 4 pixels that stay in their column or row of cells happen by chance; whole cells once in 64.
        assert (plan[0] == other[0]).float().mean() < 0.05


def test_the_vector_of_the_documentation() -> None:
    plan = CellPermutation(1, 4).plan(KEY, "frame 0", 4, 8)
    assert plan[0].view(4, 8).tolist() == [
        [9, 26, 8, 18, 12, 6, 23, 21],
        [27, 10, 24, 19, 20, 29, 13, 14],
        [1, 3, 11, 17, 30, 15, 22, 28],
        [2, 16, 0, 25, 7, 4, 31, 5],
    ]


def test_gradients_are_right() -> None:
    scramble = CellPermutation(2, 6)
    images = torch.rand(2, 3, 9, 11, dtype=torch.float64, requires_grad=True)
    plans = torch.stack([scramble.plan(KEY, label, 9, 11) for label in ("a", "b")])
    assert torch.autograd.gradcheck(lambda x: scramble(x, plans), images)
    assert torch.autograd.gradgradcheck(lambda x: scramble(x, plans).square(), images)


def test_the_gradient_of_a_pixel_is_that_of_the_place_it_went_to() -> None:
    scramble = CellPermutation(1, 16)
    images = torch.rand(1, 3, 40, 24, requires_grad=True)
    plan = scramble.plan(KEY, "x", 40, 24)[None]
    weight = torch.rand(1, 3, 40, 24)
    (gradient,) = torch.autograd.grad((scramble(images, plan) * weight).sum(), images)
    assert torch.equal(gradient, scramble(weight, plan.flip(1)))


def test_frames_do_not_depend_on_the_batch() -> None:
    scramble = CellPermutation(4, 32)
    images = torch.rand(3, 3, 50, 70)
    plans = torch.stack([scramble.plan(KEY, f"frame {n}", 50, 70) for n in range(3)])
    together = scramble(images, plans)
    for i in range(3):
        assert torch.equal(scramble(images[i : i + 1], plans[i : i + 1]), together[i : i + 1])
    with pytest.raises(ValueError, match="one plan per frame: 3 frames, got 2 plans"):
        scramble(images, plans[:2])


def test_frames_smaller_than_a_cell_stay_as_they_are() -> None:
    scramble = CellPermutation(8, 64)
    for size in ((1, 1), (7, 100), (100, 7)):
        images = torch.rand(1, 3, *size)
        assert torch.equal(scramble(images, scramble.plan(KEY, "x", *size)[None]), images)


@pytest.mark.parametrize(("cell", "tile"), [(0, 8), (4, 4), (4, 30), (1.0, 8), (8, 4)])
def test_grids_that_make_no_sense_are_refused(cell: int, tile: int) -> None:
    with pytest.raises(ValueError, match="cell"):
        CellPermutation(cell, tile)


def test_settings_make_an_equal_one() -> None:
    scramble = CellPermutation(2, 32)
    assert scramble.settings() == {"scramble": "CellPermutation", "cell": 2, "tile": 32}
    assert scramble_of(scramble.settings()) == scramble
    with pytest.raises(ValueError, match=r"unknown scramble 'Rot13'; known: .*CellPermutation.*A newer deidlib may"):
        scramble_of({"scramble": "Rot13"})
    with pytest.raises(ValueError, match="CellPermutation cannot be made from"):
        scramble_of({"scramble": "CellPermutation", "side": 3})


@dataclass(frozen=True)
class Mirror(Scramble):
    """A scramble of one's own."""

    twice: bool = False

    def plan(self, key: Key, label: str, height: int, width: int) -> Tensor:
        return torch.zeros(1)

    def __call__(self, images: Tensor, plans: Tensor) -> Tensor:
        return images if self.twice else images.flip(3)


class Sketch(Mirror, ABC):
    @abstractmethod
    def more(self) -> None: ...


def test_a_scramble_of_ones_own_is_read_back_from_the_record() -> None:
    scramble = Mirror(twice=True)
    assert scramble.settings() == {"scramble": f"{__name__}:Mirror", "twice": True}
    record = KeyRecord.of(KEY, nonce="n", scramble=scramble, models=["pixels"])
    back = KeyRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    assert back.opened_by(KEY)
    reader = Keyed.from_record(back, Pixels(), KEY)
    assert reader.scramble == scramble
    with pytest.raises(ValueError, match=r"Mirror cannot be made from .*thrice"):
        scramble_of({**scramble.settings(), "thrice": True})
    # Nothing can be made of what is not finished.
    with pytest.raises(ValueError, match="unknown scramble"):
        scramble_of({"scramble": f"{__name__}:Sketch"})


def test_what_is_defined_again_is_what_is_read() -> None:
    # As in a notebook whose cell is run twice.
    def define() -> type[Scramble]:
        @dataclass(frozen=True)
        class Again(Mirror):
            pass

        return Again

    first, second = define(), define()
    assert first().settings() == second().settings()
    assert type(scramble_of(first().settings())) is second


def test_a_file_cannot_make_a_reader_import_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_scrambles.py").write_text(
        "from pathlib import Path\nPath(__file__).with_suffix('.run').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("evil_scrambles:Rot13", "evil_scrambles", "os:system", "builtins:eval", "pathlib:Path"):
        with pytest.raises(ValueError, match=f"unknown scramble '{name}'"):
            scramble_of({"scramble": name})
    assert "evil_scrambles" not in sys.modules
    assert not (tmp_path / "evil_scrambles.run").exists()
    with pytest.raises(ValueError, match=r"module is evil_scrambles: if you trust it, import it before reading"):
        scramble_of({"scramble": "evil_scrambles:Rot13"})
    with pytest.raises(ValueError, match="define the same class before reading"):
        scramble_of({"scramble": "__main__:Rot13"})


@pytest.mark.parametrize("name", [None, 3, ["CellPermutation"], {"a": 1}, "a b; import os:Mirror"])
def test_what_is_no_name_is_unknown(name: object) -> None:
    with pytest.raises(ValueError, match=r"unknown scramble.*A newer deidlib may know it"):
        scramble_of({"scramble": name})
