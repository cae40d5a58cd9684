from __future__ import annotations

import torch

from deidlib.geometry.cut import cut


def test_windows_are_slices_with_the_gradient_of_slices() -> None:
    images = torch.rand(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    # Two overlap, and one image has none.
    places = [(1, 2, 3), (1, 0, 1), (1, 4, 4)]
    windows = cut(images, places, (5, 4))
    expected = torch.stack([images[i, :, top : top + 5, left : left + 4] for i, left, top in places])
    assert torch.equal(windows, expected)
    weights = torch.rand_like(windows)
    (got,), (wanted,) = (torch.autograd.grad((each * weights).sum(), images) for each in (windows, expected))
    torch.testing.assert_close(got, wanted)
    assert cut(images, [], (5, 4)).shape == (0, 3, 5, 4)
