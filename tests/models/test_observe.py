from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from toys import Pixels, one_face

from deidlib import Faces, observe
from deidlib.faces import five_points


class Corner(Pixels):
    """The face that everybody finds, and in frames after the first another one in the corner; five points each."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        corner = Faces(torch.tensor([[0.0, 0.0, 6.0, 6.0]]), torch.tensor([0.5]))
        found = [Faces.cat([face, corner][: 1 + (i > 0)]) for i, face in enumerate(one_face(images))]
        return [face.replace(landmarks=torch.rand(len(face), 5, 2)) for face in found]


def test_a_face_that_a_detector_adds_takes_nothing_from_those_known() -> None:
    images = torch.rand(2, 3, 40, 40)
    landmarks, gaze = torch.rand(1, 68, 2) * 40, torch.tensor([[0.0, 0.6, -0.8]])
    known = [face.replace(landmarks=landmarks, gaze=gaze) for face in one_face(images)]
    alone, joined = observe(images, [Corner()], known)
    assert (len(alone), len(joined)) == (1, 2)
    for faces in (alone, joined):
        assert faces.landmarks is not None
        assert faces.gaze is not None
        assert torch.equal(faces.landmarks[:1], landmarks)
        assert torch.equal(faces.gaze[:1], gaze)
    # What the detector saw of the other one is kept as well; where it looks nobody has read.
    assert joined.landmarks is not None
    assert joined.gaze is not None
    assert bool(five_points(joined.landmarks[1:]).isfinite().all())
    assert bool(joined.gaze[1:].isnan().all())
