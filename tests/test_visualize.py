from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.camera import Camera
from deidlib.geometry.face_model import face_model
from deidlib.visualize import (
    AXES,
    GREEN,
    amplified,
    draw_arrows,
    draw_axes,
    draw_boxes,
    draw_faces,
    draw_points,
    sheet,
)

GREY = torch.full((3, 96, 128), 0.5)


def touched(image: Tensor, before: Tensor = GREY) -> tuple[int, int, int, int]:
    """Bounding rectangle of what differs: left, top, right, bottom."""
    rows, columns = (image != before).any(dim=0).nonzero(as_tuple=True)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def near(image: Tensor, color: tuple[float, float, float], x: int, y: int) -> bool:
    return bool(torch.allclose(image[:, y, x], torch.tensor(color), atol=0.02))


def test_a_box_is_drawn_along_its_edges() -> None:
    image = draw_boxes(GREY, torch.tensor([[20.0, 30.0, 100.0, 80.0]]), GREEN, width=2)
    # A line of 2 px about the edge, and a seam of 1 px beside it, in 45 % black.
    assert touched(image) == (18, 28, 102, 82)
    for x, y in ((20, 50), (19, 50), (99, 50), (100, 50), (60, 29), (60, 30), (60, 79), (60, 80)):
        assert torch.equal(image[:, y, x], torch.tensor(GREEN))
    for x, y in ((18, 50), (21, 50), (60, 28), (60, 31), (60, 78), (60, 81)):
        torch.testing.assert_close(image[:, y, x], torch.full((3,), 0.5 * 0.55))
    assert torch.equal(image[:, 32:78, 22:98], GREY[:, 32:78, 22:98])


def test_points_lie_symmetric_about_their_coordinates() -> None:
    image = draw_points(GREY, torch.tensor([[64.0, 48.0]]), (1.0, 0.0, 0.0), radius=5)
    assert torch.equal(image[:, 48, 64], torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(image, image.flip(2))
    assert torch.equal(image, image.flip(1))
    # The area of the disc; on black the seam does not show.
    disc = draw_points(torch.zeros(3, 96, 128), torch.tensor([[64.0, 48.0]]), (1.0, 0.0, 0.0), radius=5)
    assert float(disc.sum()) == pytest.approx(torch.pi * 25, rel=0.01)


def test_fractions_of_pixels_count() -> None:
    a, b = (draw_points(GREY, torch.tensor([[x, 48.0]]), radius=3) for x in (64.0, 64.5))
    assert not torch.equal(a, b)
    assert torch.equal(draw_points(GREY, torch.tensor([[65.0, 48.0]]), radius=3)[:, :, 1:], a[:, :, :-1])


def test_an_arrow_has_its_head_at_the_end() -> None:
    image = draw_arrows(GREY, torch.tensor([[[20.0, 48.0], [100.0, 48.0]]]), (1.0, 1.0, 0.0), width=2)
    assert near(image, (1.0, 1.0, 0.0), 30, 48)
    changed = (image != GREY).any(dim=0).sum(dim=0)
    assert changed[85:95].max() > 2 * changed[25:60].max()


def test_axes_have_their_colours() -> None:
    axes = torch.tensor([[[64.0, 48.0], [110.0, 48.0], [64.0, 90.0], [30.0, 20.0]]])
    image = draw_axes(GREY, axes, width=3)
    for color, (x, y) in zip(AXES, ((90, 48), (64, 70), (47, 34)), strict=True):
        assert near(image, color, x, y)


def test_lines_grow_with_the_frame() -> None:
    widths = []
    for scale in (1, 4):
        image = torch.zeros(3, 250 * scale, 250 * scale)
        drawn = draw_boxes(image, torch.tensor([[50.0, 50.0, 200.0, 200.0]]) * scale)
        widths.append(int((drawn[1, 125 * scale] > 0.3).sum()))
    # 1 px, smoothed over two rows, and 6 px; each on two sides.
    assert widths == [4, 12]


def test_what_lies_outside_is_no_trouble() -> None:
    boxes = torch.tensor([[-50.0, -50.0, 20.0, 20.0], [1e7, 1e7, 2e7, 2e7], [-1e9, 40.0, 1e9, 60.0]])
    image = draw_boxes(GREY, boxes)
    # A line of 1 px between two rows covers half of each, above its seam.
    torch.testing.assert_close(image[1, 39:41, 60], torch.full((2,), (0.5 * 0.55 + 0.9) / 2))
    assert 0 <= image.min() <= image.max() <= 1
    assert torch.equal(draw_points(GREY, torch.tensor([[-300.0, 500.0]])), GREY)


def test_draw_faces_draws_what_is_known() -> None:
    boxes, scores = torch.tensor([[30.0, 20.0, 90.0, 80.0]]), torch.ones(1)
    five = torch.tensor([[[45.0, 40.0], [75.0, 40.0], [60.0, 55.0], [48.0, 68.0], [72.0, 68.0]]])
    gaze = torch.tensor([[1.0, 0.0, 0.0]])
    plain = draw_faces(GREY, Faces(boxes, scores))
    dotted = draw_faces(GREY, Faces(boxes, scores, five))
    pointed = draw_faces(GREY, Faces(boxes, scores, five, gaze))
    assert torch.equal(plain, draw_boxes(GREY, boxes))
    for x, y in five[0].long().tolist():
        assert not torch.equal(dotted[:, y, x], plain[:, y, x])
    # From between the eyes (60, 40), one box width to the right.
    left, _, right, _ = touched(pointed, dotted)
    assert 56 <= left <= 60
    assert 118 <= right <= 124
    # Without landmarks, from the middle of the box.
    _, top, _, bottom = touched(draw_faces(GREY, Faces(boxes, scores, None, gaze)), plain)
    assert abs((top + bottom) / 2 - 50) <= 1


def test_axes_start_at_the_nose() -> None:
    camera = Camera.default(128, 96)
    points = camera.project(face_model(68).double() + torch.tensor([0.0, 0.0, 0.5]).double()).float()[None]
    faces = Faces(torch.cat([points.amin(1), points.amax(1)], dim=1), torch.ones(1), points)
    changed = touched(draw_faces(GREY, faces, axes=True), draw_faces(GREY, faces))
    # 5 cm at 50 cm with a focal length of 128 px: 12.8 px to the right and down of (64, 48).
    assert abs(changed[2] - 77) <= 3
    assert abs(changed[3] - 61) <= 3
    assert changed[0] >= 58


def test_batches_and_single_frames_agree() -> None:
    images = torch.rand(2, 3, 96, 128)
    before = images.clone()
    faces = [Faces(torch.tensor([[30.0, 20.0, 90.0, 80.0]]), torch.ones(1)), Faces.empty()]
    drawn = draw_faces(images, faces)
    assert torch.equal(images, before)
    assert torch.equal(drawn[0], draw_faces(images[0], faces[0]))
    assert torch.equal(drawn[1], images[1])
    with pytest.raises(ValueError, match="got 1 for 2 frames"):
        draw_faces(images, faces[0])
    with pytest.raises(TypeError, match="uint8"):
        draw_faces(torch.zeros(3, 8, 8, dtype=torch.uint8), Faces.empty())


def test_amplified() -> None:
    a = torch.tensor([0.0, 8.0, -8.0, 1.0, -2.0]) / 255 + 0.4
    out = amplified(a, torch.full((5,), 0.4))
    torch.testing.assert_close(out, torch.tensor([0.5, 1.0, 0.0, 0.5 + 16 / 255, 0.5 - 32 / 255]))
    with pytest.raises(ValueError, match="same shape"):
        amplified(torch.zeros(3), torch.zeros(4))


def find(page: Tensor, panel: Tensor) -> tuple[int, int]:
    """Where a panel of one colour lies on the page: left, top."""
    rows, columns = (page == panel[:, :1, :1]).all(dim=0).nonzero(as_tuple=True)
    left, top = int(columns.min()), int(rows.min())
    assert torch.equal(page[:, top : top + panel.shape[1], left : left + panel.shape[2]], panel)
    return left, top


def test_a_sheet_holds_every_panel_unchanged() -> None:
    colours = torch.rand(6, 3, 1, 1) * 0.5 + 0.25
    panels = [colour.expand(3, 240, 260) for colour in colours]
    page = sheet(
        [panels[:3], panels[3:]],
        titles=["original", "obfuscated", "protected"],
        labels=["frame 0", "frame 8"],
        captions=[["1.00", "", "IoU 0.97"]] * 2,
    )
    places = [find(page, panel) for panel in panels]
    assert places[0][1] == places[1][1] == places[2][1] < places[3][1]
    assert places[0][0] == places[3][0] < places[1][0] == places[4][0] < places[2][0]
    assert all(b - a >= 260 for a, b in ((places[0][0], places[1][0]), (places[1][0], places[2][0])))
    left, top = places[0]

    def ink(part: Tensor) -> bool:
        return bool((part < 0.3).any())

    # Titles above, labels to the left, captions below; none where there is no text; white at the rim.
    assert ink(page[:, :top, left : left + 260])
    assert ink(page[:, top : top + 240, :left])
    below = slice(top + 240, places[3][1])
    assert ink(page[:, below, left : left + 260])
    assert not ink(page[:, below, places[1][0] : places[1][0] + 260])
    assert page[:, 0].eq(1).all()
    assert page[:, :, 0].eq(1).all()
    assert page[:, -1].eq(1).all()
    assert page[:, :, -1].eq(1).all()
    assert 0 <= page.min() <= page.max() <= 1


def test_small_panels_are_enlarged_pixel_by_pixel() -> None:
    panel = torch.rand(3, 60, 50)
    page = sheet([[panel]])
    enlarged = panel.repeat_interleave(5, 1).repeat_interleave(5, 2)
    height, width = page.shape[1:]
    inner = page[:, (height - 300) // 2 :, (width - 250) // 2 :]
    assert torch.equal(inner[:, :300, :250], enlarged)


def test_long_titles_stay_within_their_column() -> None:
    panel = torch.full((3, 240, 240), 0.5)
    page = sheet([[panel, panel]], titles=["a very long title that does not fit above its panel at all", ""])
    top = find(page, panel)[1]
    columns = (page[:, :top] < 0.9).any(dim=0).any(dim=0).nonzero()
    left = find(page, panel)[0]
    assert left <= int(columns.min())
    assert int(columns.max()) < left + 240


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": []}, "at least one"),
        ({"rows": [[]]}, "at least one"),
        ({"rows": [[GREY], [GREY, GREY]]}, r"\[1, 2\]"),
        ({"rows": [[GREY, GREY[:, 1:]]]}, "one size"),
        ({"rows": [[GREY]], "titles": ["a", "b"]}, "titles must hold 1"),
        ({"rows": [[GREY]], "labels": []}, "labels must hold 1"),
        ({"rows": [[GREY]], "captions": [["a", "b"]]}, "captions must be 1 rows of 1"),
        ({"rows": [[GREY + 1]]}, r"panel 0 must lie in \[0, 1\]"),
    ],
)
def test_sheet_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sheet(**arguments)
