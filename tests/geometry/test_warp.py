from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from deidlib.geometry.warp import (
    area_spans,
    crop_grid,
    crop_resize,
    perspective_grid,
    sample,
    warp_perspective,
)


def random_image(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def as_array(image: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return image.permute(1, 2, 0).contiguous().numpy()


def from_array(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tensor:
    return torch.from_numpy(array).permute(2, 0, 1)


PERSPECTIVES = torch.tensor(
    [
        [[1.9, -0.5, -20.0], [0.4, 1.8, -15.0], [1e-3, -2e-3, 1.0]],
        # Half of what it shows lies outside the image.
        [[0.9, 0.1, 25.0], [-0.1, 0.8, -12.0], [0.0, 1e-3, 1.1]],
        [[-1.0, 0.0, 40.0], [0.0, 1.0, 0.25], [0.0, 0.0, 1.0]],
    ]
)


def test_warp_perspective_equals_opencv() -> None:
    import cv2

    images = torch.stack([random_image(37, 53, seed) for seed in range(3)])
    ours = warp_perspective(images, PERSPECTIVES, (30, 45))
    major = int(cv2.__version__.split(".")[0])
    for image, matrix, warped in zip(images, PERSPECTIVES, ours, strict=True):
        theirs = cv2.warpPerspective(as_array(image), matrix.double().numpy(), (45, 30))
        # OpenCV 4 rounds source positions to 1/32 pixel.
        assert (warped - from_array(theirs)).abs().max() < (1e-3 if major >= 5 else 0.05)


@pytest.mark.parametrize("size", [(16, 16), (50, 21), (7, 90), (1, 1)])
def test_crop_resize_equals_slicing_and_opencv(size: tuple[int, int]) -> None:
    import cv2

    image = random_image(40, 60)
    boxes = torch.tensor([[3.0, 5.0, 33.0, 29.0], [0.0, 0.0, 60.0, 40.0], [10.0, 10.0, 11.0, 12.0]])
    ours = crop_resize(image[None], boxes, size, frame=torch.zeros(3, dtype=torch.long))
    for (x0, y0, x1, y1), crop in zip(boxes.int().tolist(), ours, strict=True):
        theirs = cv2.resize(as_array(image)[y0:y1, x0:x1], (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        assert (crop - from_array(theirs)).abs().max() < 1e-3


def test_a_crop_that_leaves_the_image_is_black_there() -> None:
    import cv2

    image = random_image(20, 30)
    boxes = torch.tensor([[-8.0, -5.0, 12.0, 15.0], [18.0, 10.0, 42.0, 34.0], [100.0, 100.0, 120.0, 120.0]])
    padded = np.pad(as_array(image), ((120, 120), (120, 120), (0, 0)))
    ours = crop_resize(image[None], boxes, (26, 26), frame=torch.zeros(3, dtype=torch.long))
    for (x0, y0, x1, y1), crop in zip((boxes.int() + 120).tolist(), ours, strict=True):
        theirs = cv2.resize(padded[y0:y1, x0:x1], (26, 26), interpolation=cv2.INTER_LINEAR)
        assert (crop - from_array(theirs)).abs().max() < 1e-3
    assert not ours[2].any()


def test_a_crop_of_its_own_size_is_a_slice() -> None:
    image = random_image(40, 60)
    crop = crop_resize(image[None], torch.tensor([[7.0, 3.0, 27.0, 33.0]]), (30, 20))
    assert torch.allclose(crop[0], image[:, 3:33, 7:27], atol=1e-5)


def test_rows_read_the_frame_they_name() -> None:
    images = torch.stack([torch.full((3, 8, 8), value) for value in (0.1, 0.2, 0.3)])
    frame = torch.tensor([2, 0, 2, 1])
    grid = perspective_grid(torch.eye(3).expand(4, 3, 3), (4, 4))
    assert torch.allclose(sample(images, grid, frame)[:, 0, 0, 0], torch.tensor([0.3, 0.1, 0.3, 0.2]))


@pytest.mark.parametrize("count", [1, 4, 7, 20, 31])
def test_spans_are_those_of_an_adaptive_average(count: int) -> None:
    # The gradient of each average falls on the pixels that it is of.
    low, high = torch.tensor([2, 0, 7]), torch.tensor([14, 30, 8])
    for first, last, spans in zip(low.tolist(), high.tolist(), area_spans(low, high, count).tolist(), strict=True):
        pixels = torch.zeros(1, 1, last - first, requires_grad=True)
        means = torch.nn.functional.adaptive_avg_pool1d(pixels, count)[0, 0]
        for mean, (start, end) in zip(means, spans, strict=True):
            (gradient,) = torch.autograd.grad(mean, pixels, retain_graph=True)
            at = gradient[0, 0].nonzero() + first
            assert [int(at.min()), int(at.max()) + 1] == [start, end]


def test_part_of_an_area_crop() -> None:
    low, high = torch.tensor([3, 0]), torch.tensor([17, 9])
    whole = area_spans(low, high, count=8)
    assert torch.equal(area_spans(low, high, count=8, first=2, last=5), whole[:, 2:5])


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 2, 7, 9, generator=generator, dtype=torch.float64, requires_grad=True)
    matrices = torch.tensor(
        [[[1.3, 0.2, -1.0], [0.1, 0.9, 0.4], [0.01, 0.02, 1.0]], [[0.7, 0.0, 2.0], [0.1, 1.1, -3.0], [0.0, 0.0, 1.0]]],
        dtype=torch.float64,
    )
    boxes = torch.tensor([[1.0, 1.0, 6.0, 5.0], [-2.0, 3.0, 5.0, 9.0]], dtype=torch.float64)
    frame = torch.tensor([1, 1])

    assert torch.autograd.gradcheck(lambda x: sample(x, crop_grid(boxes, (3, 4)), frame), (images,))
    assert torch.autograd.gradcheck(lambda x: warp_perspective(x, matrices, (5, 4), frame), (images,))
    assert torch.autograd.gradcheck(lambda x: crop_resize(x, boxes, (6, 3)), (images,))
