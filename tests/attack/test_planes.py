"""The linear maps behind the distortions against torch's and scipy's, and their transposes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor
from torch.nn import functional

from deidlib.attack.planes import (
    _basis,
    blurred,
    doubled,
    extended,
    from_frequencies,
    halved,
    mixed,
    repeated,
    to_frequencies,
)

MATRIX = [[0.3, 0.6, 0.1], [0.0, 1.0, -0.5]]
BELL = [0.4, 0.2, 0.1]

Map = Callable[[Tensor], Tensor]


def conv(planes: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    return functional.conv2d(planes, kernel.expand(planes.shape[1], 1, -1, -1), stride=stride, groups=planes.shape[1])


def by_conv_blurred(planes: Tensor) -> Tensor:
    kernel = planes.new_tensor([*BELL[:0:-1], *BELL])[:, None]
    return conv(functional.pad(planes, (0, 0, 2, 2), mode="replicate"), kernel)


def by_conv_halved(planes: Tensor) -> Tensor:
    kernel = planes.new_tensor([1.0, 3.0, 3.0, 1.0])[:, None] * planes.new_tensor([1.0, 1.0]) / 16
    return conv(functional.pad(planes, (0, 0, 1, 1), mode="replicate"), kernel, stride=2)


def mix(planes: Tensor) -> Tensor:
    return mixed(MATRIX, planes[:, :1], planes[:, 1:])


CASES: dict[str, tuple[Map, Map]] = {
    "mixed": (mix, lambda x: torch.einsum("rc,bchw->brhw", x.new_tensor(MATRIX), x)),
    "extended down": (
        partial(extended, dim=2, before=2, after=1),
        lambda x: functional.pad(x, (0, 0, 2, 1), "replicate"),
    ),
    "extended across": (
        partial(extended, dim=3, before=0, after=3),
        lambda x: functional.pad(x, (0, 3, 0, 0), "replicate"),
    ),
    "blurred": (partial(blurred, dim=2, weights=BELL), by_conv_blurred),
    "repeated": (repeated, lambda x: functional.interpolate(x, scale_factor=2.0, mode="nearest")),
    "doubled": (
        lambda x: doubled(doubled(x, 2), 3),
        lambda x: functional.interpolate(x, scale_factor=2.0, mode="bilinear"),
    ),
    "halved": (halved, by_conv_halved),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2)])
def test_each_map_and_its_gradient_are_torchs(name: str, size: tuple[int, int]) -> None:
    ours, theirs = CASES[name]
    planes = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    expected = theirs(planes)
    result = ours(planes)
    torch.testing.assert_close(result, expected)
    weights = torch.randn_like(expected)
    (gradient,), (slope,) = (torch.autograd.grad((out * weights).sum(), planes) for out in (result, expected))
    torch.testing.assert_close(gradient, slope)
    assert torch.autograd.gradcheck(ours, planes)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_frequencies_are_scipys(size: int) -> None:
    planes = torch.randn(2, 3, 2 * size, 3 * size, dtype=torch.float64)
    coefficients = to_frequencies(planes, size)
    assert coefficients.shape == (size, size, 2, 3, 2, 3)
    for row in range(2):
        for column in range(3):
            block = planes[..., size * row : size * (row + 1), size * column : size * (column + 1)]
            expected = torch.from_numpy(dctn(block.numpy(), axes=(2, 3), norm="ortho")).permute(2, 3, 0, 1)
            torch.testing.assert_close(coefficients[..., row, column], expected)
    torch.testing.assert_close(from_frequencies(coefficients), planes)
    # What keeps lengths has its inverse for a transpose.
    leaf = planes.requires_grad_()
    (gradient,) = torch.autograd.grad((to_frequencies(leaf, size) * coefficients).sum(), leaf)
    torch.testing.assert_close(gradient, planes)


def test_the_mean_of_whole_numbers_is_exact() -> None:
    levels = torch.randint(-128, 128, (1, 1, 64, 64)).float()
    means = to_frequencies(levels, 8)[0, 0, 0, 0]
    assert torch.equal(means, functional.avg_pool2d(levels, 8)[0, 0] * 8)


def test_what_is_made_in_inference_mode_takes_no_gradient_from_later_ones() -> None:
    _basis.cache_clear()
    planes = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        to_frequencies(planes.detach(), 2)

    def energy(values: Tensor) -> Tensor:
        return to_frequencies(values, 2).square().sum()

    # Through the gradient, too: its graph keeps the cosines.
    assert torch.autograd.gradgradcheck(energy, planes)
