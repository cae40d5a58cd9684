"""What is read on a turned picture is turned back to where it is."""

from __future__ import annotations

import pytest
import torch

from deidlib.faces import Faces
from deidlib.geometry.quarter_turn import QuarterTurn


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_rectangle_comes_back_to_its_pixels(quarters: int) -> None:
    picture = torch.zeros(1, 3, 5, 8)
    picture[..., 1:3, 2:7] = 1
    # One marked corner tells which way round it lies.
    picture[..., 1, 2] = 2
    turned = QuarterTurn(quarters).image(picture)
    assert turned.shape[-2:] == ((8, 5) if quarters % 2 else (5, 8))
    ys, xs = turned[0, 0].nonzero().T
    (y,), (x,) = (turned[0, 0] == 2).nonzero().T.tolist()
    box = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()[None]
    points = torch.tensor([[[x + 0.5, y + 0.5]] * 5])
    back = QuarterTurn(quarters).back(Faces(box, torch.ones(1), points), (5, 8))
    assert back.boxes.tolist() == [[2, 1, 7, 3]]
    assert back.landmarks is not None
    assert back.landmarks.tolist() == [[[2.5, 1.5]] * 5]


def test_gaze_is_turned_about_the_axis_of_the_camera() -> None:
    # Turned counter-clockwise by a quarter, a gaze to the right is one upwards: y points down.
    up = torch.tensor([[0.0, -0.6, -0.8]])
    faces = Faces(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), gaze=up)
    gaze = [QuarterTurn(quarters).back(faces, (9, 9)).gaze for quarters in range(4)]
    assert [seen.tolist() for seen in gaze if seen is not None] == [
        up.tolist(),
        torch.tensor([[0.6, 0.0, -0.8]]).tolist(),
        torch.tensor([[0.0, 0.6, -0.8]]).tolist(),
        torch.tensor([[-0.6, 0.0, -0.8]]).tolist(),
    ]


def test_four_quarters_are_none() -> None:
    one = QuarterTurn(1)
    picture = torch.rand(1, 3, 5, 8)
    faces = Faces(torch.tensor([[1.0, 2.0, 3.0, 5.0]]), torch.ones(1), gaze=torch.tensor([[0.6, 0.0, -0.8]]))
    turned, back = picture, faces
    for size in ((5, 8), (8, 5), (5, 8), (8, 5)):
        turned, back = one.image(turned), one.back(back, size)
    assert torch.equal(turned, picture)
    assert torch.equal(back.boxes, faces.boxes)
    assert back.gaze is not None
    assert faces.gaze is not None
    assert torch.equal(back.gaze, faces.gaze)


def test_other_turns_are_refused() -> None:
    with pytest.raises(ValueError, match="0, 1, 2 or 3 quarter turns, got 4"):
        QuarterTurn(4)
