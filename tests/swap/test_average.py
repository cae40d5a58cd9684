from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.face_model import face_model
from deidlib.media import read_image
from deidlib.metrics.alignment import align
from deidlib.metrics.embedders import OnnxEmbedder
from deidlib.models.mtcnn import MTCNN
from deidlib.swap.average import average_face, mean_shape


def frontal(at: tuple[float, float] = (48.0, 50.0), scale: float = 420.0) -> Tensor:
    return (face_model()[:, :2] * scale + torch.tensor(at)).float()


def faces_at(*landmarks: Tensor) -> Faces:
    boxes = torch.stack([torch.cat([p.amin(dim=0), p.amax(dim=0)]) for p in landmarks])
    return Faces(boxes, torch.ones(len(boxes)), torch.stack(landmarks))


def test_the_mean_shape_knows_no_place_size_or_tilt() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = torch.rand(12, 2, generator=generator, dtype=torch.float64)
    copies = []
    for angle, size, shift in ((0.0, 1.0, 0.0), (0.7, 3.0, 5.0), (-1.2, 0.2, -40.0)):
        a = torch.tensor(angle, dtype=torch.float64)
        turn = torch.stack([torch.stack([a.cos(), -a.sin()]), torch.stack([a.sin(), a.cos()])])
        copies.append(shape @ turn.T * size + shift)
    mean = mean_shape(torch.stack(copies))
    own = shape - shape.mean(dim=0)
    torch.testing.assert_close(mean, own / own.square().sum().sqrt())


def test_two_shapes_meet_in_the_middle() -> None:
    wide = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    tall = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    mean = mean_shape(torch.stack([wide, tall]))
    torch.testing.assert_close(mean[:, 0].abs().amax(), mean[:, 1].abs().amax())


def test_faces_are_laid_on_each_other() -> None:
    """A spot on the nose of each, wherever it is, becomes one spot; beside it, colours are averaged."""
    y, x = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    pictures, faces = [], []
    for at, scale, grey in (((48.0, 50.0), 420.0, 0.3), ((40.0, 44.0), 300.0, 0.5)):
        points = frontal(at, scale)
        spot = torch.exp(-((x - points[30, 0]) ** 2 + (y - points[30, 1]) ** 2) / (scale / 60) ** 2)
        pictures.append((grey + 0.3 * spot).expand(1, 3, 96, 96))
        faces.append(faces_at(points))
    mean = average_face(pictures, faces=faces, size=96)[0, 0]
    # Symmetric, so the spot is in the middle.
    torch.testing.assert_close(mean, mean.flip(-1), atol=1e-3, rtol=0)
    row, column = divmod(int(mean.argmax()), 96)
    assert column in (47, 48)
    torch.testing.assert_close(mean[row, 20], torch.tensor(0.4), atol=0.01, rtol=0)
    assert float(mean[row, column]) > 0.65


def test_a_face_of_nobody_needs_faces() -> None:
    picture = torch.rand(1, 3, 96, 96)
    one, two = faces_at(frontal()), faces_at(frontal((30, 40), 200), frontal((70, 40), 200))
    with pytest.raises(ValueError, match="average of 1 faces is no face of nobody"):
        average_face([picture], faces=[one])
    with pytest.raises(ValueError, match="average of 0 faces"):
        average_face([picture, picture], faces=[Faces.empty()] * 2)
    assert average_face([picture], faces=[two], size=32).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="face 0 of picture 1 has no landmarks"):
        average_face([picture, picture], faces=[one, one.replace(landmarks=None)])
    with pytest.raises(ValueError, match="one Faces per picture: got 1 for 2"):
        average_face([picture, picture], faces=[one])
    turned = face_model() @ torch.tensor([[0.7, 0, 0.714], [0, 1, 0], [-0.714, 0, 0.7]], dtype=torch.float64).T
    aside = faces_at((turned[:, :2] * 420 + 48).float())
    with pytest.raises(ValueError, match=r"face 0 of picture 1, at .* is turned aside"):
        average_face([picture, picture], faces=[one, aside])


def embedded(embed: OnnxEmbedder, image: Tensor, faces: Sequence[Faces]) -> Tensor:
    vectors = embed(align(image, faces))
    unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
    return unit


def test_the_average_of_three_people_is_none_of_them(shared: Path) -> None:
    from skimage.data import astronaut

    people = [read_image(shared / "media" / f"portrait0{i}.jpg") for i in (0, 1)]
    people = [torch.nn.functional.interpolate(image, scale_factor=0.4, mode="area") for image in people]
    people.append(torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255)
    detector, embed = MTCNN(), OnnxEmbedder()
    known = [[found[[0]] for found in detector.predict(image)] for image in people]
    mean = average_face(people, detector, faces=[found[0] for found in known], size=256)
    (found,) = detector.predict(mean)
    assert len(found) == 1
    own = embedded(embed, mean, [found])[0]
    alike = [float(embedded(embed, image, faces)[0] @ own) for image, faces in zip(people, known, strict=True)]
    assert max(alike) < 0.5, alike
