from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from toys import Sees, boxed

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle
from deidlib.geometry.region import FaceRegion
from deidlib.images import to_grid
from deidlib.obfuscate import Concealment, Obfuscator, Pixelate, Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.swap import FaceSwapper
from deidlib.swap.base import Patch


class Painter(FaceSwapper):
    """Paints a face's box in the colour of its score, beyond its region too; a face of score 0 it cannot paint."""

    def __init__(self, share: float = 1.0, fallback: Obfuscator | None = None) -> None:
        super().__init__(fallback)
        self.share = share

    def swap(self, images: Tensor, faces: Sequence[Faces]) -> list[list[Patch | None]]:
        height, width = images.shape[2:]
        everywhere = Rectangle(0, 0, width, height)
        return [
            [
                Patch(everywhere, torch.full((3, height, width), score), torch.full((height, width), self.share))
                if score
                else None
                for score in known.scores.tolist()
            ]
            for known in faces
        ]


TIGHT = FaceRegion(factor=1.0)


def test_shows_the_patch_within_the_region_and_nothing_else_changes() -> None:
    images = torch.rand(1, 3, 20, 30)
    before = images.clone()
    swap = Painter(fallback=Pixelate(region=TIGHT))
    out = swap(images, [boxed((4, 5, 10, 12), scores=[0.25])])
    assert torch.equal(out[0, :, 5:12, 4:10], torch.full((3, 7, 6), 0.25))
    out[0, :, 5:12, 4:10] = images[0, :, 5:12, 4:10]
    assert torch.equal(out, images)
    assert torch.equal(images, before)


def test_a_share_blends() -> None:
    images = torch.full((1, 3, 8, 8), 0.5)
    out = Painter(0.5, fallback=Pixelate(region=TIGHT))(images, [boxed((2, 2, 4, 4), scores=[1.0])])
    assert torch.equal(out[0, 0, 2:4, 2:4], torch.full((2, 2), 0.75))


@pytest.mark.parametrize("fallback", [Pixelate(blocks=4), Solid((1.0, 0.0, 0.0)), Pixelate(region=FaceRegion(1.5))])
def test_a_face_that_cannot_be_swapped_is_hidden_by_the_fallback(fallback: Obfuscator) -> None:
    images = torch.rand(2, 3, 24, 24)
    faces = [boxed((4, 4, 12, 12), scores=[0.0]), boxed((8, 8, 20, 22), scores=[0.0])]
    assert torch.equal(Painter(fallback=fallback)(images, faces), fallback(images, faces))


def test_the_fallback_takes_nothing_from_the_face_by_default() -> None:
    assert Painter().fallback == Solid()


def test_what_became_of_each_face_is_told() -> None:
    class Choosy(FaceSwapper):
        def swap(self, images: Tensor, faces: Sequence[Faces]) -> list[list[Patch | str | None]]:
            rows = Painter().swap(images, faces)
            return [[row[0], "it looks away", *row[2:]] if row else [] for row in rows]

    images = torch.rand(2, 3, 24, 24)
    faces = [boxed((2, 2, 8, 8), (12, 12, 20, 20), (2, 12, 8, 20), scores=[1.0, 0.5, 0.0]), Faces.empty()]
    out, outcomes = Choosy().with_outcomes(images, faces)
    assert outcomes == [["swapped", "it looks away", "it cannot be swapped"], []]
    assert torch.equal(out, Choosy()(images, faces))
    # Both that were not are hidden.
    assert torch.equal(out[0, :, 12:20, 2:20:17], torch.full((3, 8, 2), Solid().color[0]))


def test_a_swapped_face_lies_above_one_that_cannot_be_swapped_whatever_their_order() -> None:
    images = torch.rand(1, 3, 24, 24)
    boxes = ((2.0, 2.0, 14.0, 14.0), (8.0, 8.0, 20.0, 20.0))
    swap = Painter(fallback=Solid(region=TIGHT))
    for scores in ([0.5, 0.0], [0.0, 0.5]):
        out = swap(images, [boxed(*boxes, scores=scores)])
        mine, other = boxes[scores.index(0.5)], boxes[scores.index(0.0)]
        expected = Solid(region=TIGHT)(images, [boxed(other)])
        expected = Solid((0.5, 0.5, 0.5), region=TIGHT)(expected, [boxed(mine)])
        assert torch.equal(out, expected)


def test_several_faces_and_frames_without_any() -> None:
    images = torch.rand(3, 3, 24, 30)
    two = boxed((2, 2, 8, 8), (12, 4, 20, 16), scores=[0.25, 0.75])
    faces = [two, Faces.empty(), boxed((1, 1, 9, 9), scores=[0.0])]
    swap = Painter()
    out = swap(images, faces)
    assert torch.equal(out[1], images[1])
    assert float(out[0, 0, 5, 5]) == 0.25
    assert float(out[0, 0, 10, 16]) == 0.75
    for i in range(3):
        assert torch.equal(out[i : i + 1], swap(images[i : i + 1], faces[i : i + 1]))
    nothing = swap(images, [Faces.empty()] * 3)
    assert torch.equal(nothing, images)
    assert nothing.data_ptr() != images.data_ptr()


def test_only_the_faces_given_are_swapped() -> None:
    images = torch.rand(1, 3, 24, 30)
    known = boxed((2, 2, 8, 8), (12, 4, 20, 16), scores=[0.25, 0.75])
    out = Painter()(images, [known[[0]]])
    assert torch.equal(out[..., 10:], images[..., 10:])


def test_errors() -> None:
    swap = Painter()
    with pytest.raises(ValueError, match=r"one Faces per frame: got 1 for 2 frames.*Faces\.empty"):
        swap(torch.rand(2, 3, 8, 8), [Faces.empty()])
    with pytest.raises(ValueError, match="at least one frame"):
        swap(torch.rand(0, 3, 8, 8), [])
    with pytest.raises(TypeError, match="float"):
        swap(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [Faces.empty()])


def test_the_mask_and_whole_frames_are_the_fallbacks() -> None:
    fallback = Pixelate(blocks=2, region=FaceRegion(1.3, "ellipse", 2))
    swap: Concealment = Painter(fallback=fallback)
    faces = [boxed((5, 5, 20, 20)), Faces.empty()]
    assert torch.equal(swap.mask(faces, 30, 41), fallback.mask(faces, 30, 41))
    images = torch.rand(2, 3, 30, 41)
    assert torch.equal(swap.hide_frame(images), fallback.hide_frame(images))


class Grey(Painter):
    def swap(self, images: Tensor, faces: Sequence[Faces]) -> list[list[Patch | None]]:
        return super().swap(images, [known.replace(scores=torch.full((len(known),), 0.5)) for known in faces])


def test_serves_as_the_pipelines_obfuscator() -> None:
    seer = Sees(boxed((10, 10, 40, 40)))
    images = to_grid(torch.rand(2, 3, 64, 64))
    swap = Grey()
    attacker = IFGSMAttacker([seer], max_iterations=1)
    (batch,) = Deidentifier(attacker, obfuscator=swap, detectors=[seer], lookout=None).frames([images])
    assert batch.treatment == ["found", "found"]
    assert torch.equal(batch.hidden[:, :, 12:38, 12:38], to_grid(torch.full((2, 3, 26, 26), 0.5)))
    outside = (swap.mask([boxed((10, 10, 40, 40))] * 2, 64, 64) == 0).expand_as(images)
    assert torch.equal(batch.images[outside], images[outside])
