from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from deidlib.geometry.summed_area import SummedArea


def test_means_are_those_of_an_area_resize() -> None:
    images = torch.rand(2, 3, 97, 131)
    sums = SummedArea.of(images)
    for size in ((97, 131), (58, 79), (13, 17), (1, 1), (120, 140)):
        torch.testing.assert_close(sums.resized(size), interpolate(images, size=size, mode="area"), rtol=0, atol=1e-6)


def test_crops_are_area_resizes_of_slices_and_pass_their_gradient_on() -> None:
    images = torch.rand(2, 3, 40, 50, dtype=torch.float64, requires_grad=True)
    image, boxes = torch.tensor([1, 0, 1]), torch.tensor([[3, 5, 33, 25], [0, 0, 50, 40], [48, 38, 50, 39]])
    crops = SummedArea.of(images).crops(image, boxes, 12)
    slices = [
        images[f : f + 1, :, y0:y1, x0:x1] for f, (x0, y0, x1, y1) in zip(image.tolist(), boxes.tolist(), strict=True)
    ]
    expected = torch.cat([interpolate(part, size=(12, 12), mode="area") for part in slices])
    torch.testing.assert_close(crops, expected)
    weights = torch.rand_like(crops)
    gradients = [torch.autograd.grad((each * weights).sum(), images)[0] for each in (crops, expected)]
    torch.testing.assert_close(*gradients)


def test_large_images_do_not_lose_digits() -> None:
    # In float32 the sums of a million pixels would leave differences of 0.1.
    image = torch.rand(1, 1, 1000, 1000)
    corner = SummedArea.of(image).crops(torch.tensor([0]), torch.tensor([[998, 998, 1000, 1000]]), 1)
    torch.testing.assert_close(corner[0, 0, 0, 0], image[0, 0, 998:, 998:].mean(), rtol=0, atol=1e-7)
