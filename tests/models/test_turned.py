"""Faces that lie on their side or upside down."""

from __future__ import annotations

import pytest
import torch
from skimage.data import astronaut
from toys import Points

from deidlib.geometry.quarter_turn import QuarterTurn
from deidlib.images import from_pixels
from deidlib.models.base import FaceModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.turned import Turned


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_face_is_read_as_the_upright_one(quarters: int) -> None:
    detector, picture = MTCNN(), from_pixels(astronaut()[:256, 96:352])[None]
    (upright,) = detector.predict(picture)
    # The picture lies on its side; turned by what is left of a whole turn, it is upright.
    lying = QuarterTurn(4 - quarters).image(picture)
    (seen,) = Turned(detector, QuarterTurn(quarters)).predict(lying)
    assert len(seen) == 1
    # Where the face lies, by the turn in the other direction.
    there = QuarterTurn(quarters).back(upright, (256, 256))
    assert torch.equal(seen.boxes, there.boxes)
    assert torch.equal(seen.scores, upright.scores)
    assert seen.landmarks is not None
    assert there.landmarks is not None
    assert torch.equal(seen.landmarks, there.landmarks)


def test_only_detectors_look() -> None:
    assert isinstance(Turned(MTCNN(), QuarterTurn(1)), FaceModel)
    assert Turned(MTCNN(), QuarterTurn(3)).name == "mtcnn turned by 270"
    with pytest.raises(ValueError, match="points reads landmarks"):
        Turned(Points(), QuarterTurn(1))
