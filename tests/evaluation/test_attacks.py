"""Attacks, on what they must break and on what they cannot."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clips import make_video
from footage import T002, frames
from patches import LEFT, RIGHT, Patches, brightness, frame
from torch import Tensor
from torch.nn.functional import interpolate

from deidlib.evaluation import EvaluationError, IdentitySettings, evaluate
from deidlib.evaluation.attacks import (
    Identified,
    Learned,
    SuperResolution,
    Suspects,
    ranked,
    shape_of,
    stretched,
)
from deidlib.evaluation.attacks.sums import ReadsSums, as_it_is, blurred, cells, reading_of
from deidlib.evaluation.report import write_report
from deidlib.faces import Faces
from deidlib.geometry.face_model import face_model
from deidlib.geometry.region import FaceRegion
from deidlib.metrics import OnnxEmbedder, align
from deidlib.metrics.alignment import ARCFACE_TEMPLATE
from deidlib.obfuscate import GaussianBlur, Obfuscator, Pixelate, Solid
from deidlib.records.detections import read_detections


def moving(count: int) -> tuple[Tensor, list[Faces], Tensor]:
    """A smooth picture that lies in frames of 160 x 160 at a new place each, its face's points, and it, aligned."""
    picture = interpolate(torch.rand(1, 3, 20, 20), size=(160, 160), mode="bicubic").clamp(0, 1)
    points = torch.tensor([ARCFACE_TEMPLATE]) + 24
    images, faces = [], []
    for x, y in torch.randint(-9, 10, (count, 2)).tolist():
        images.append(picture.roll((y, x), (2, 3)))
        shift = torch.tensor([x, y]).float()
        # The box stays where it is: the face moves against its cells.
        faces.append(Faces(torch.tensor([[34.0, 34.0, 126.0, 126.0]]), torch.ones(1), points + shift))
    return torch.cat(images), faces, picture[:, :, 24:136, 24:136]


def alike(a: Tensor, b: Tensor) -> float:
    """Correlation of the middle, which is hidden in every frame."""
    a, b = (image[:, :, 24:88, 24:88].flatten() for image in (a, b))
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def restored(hide: Obfuscator, read: ReadsSums, count: int) -> tuple[Tensor, Tensor]:
    images, faces, picture = moving(count)
    solver = SuperResolution(read, smoothness=0.1)
    for image, face in zip(hide(images, faces), faces, strict=True):
        solver.add(image, face, face.boxes[0])
    return solver.picture(), picture


@pytest.mark.parametrize("hide", [Pixelate(blocks=6), pytest.param(GaussianBlur(sigma=0.06), marks=pytest.mark.slow)])
def test_what_a_clip_adds_up_to_is_the_picture(hide: Obfuscator) -> None:
    one, picture = restored(hide, reading_of(hide), 1)
    many, picture_again = restored(hide, reading_of(hide), 60)
    assert alike(one, picture) < 0.87
    assert alike(many, picture_again) > 0.9


def test_nothing_adds_up_where_nothing_was_taken() -> None:
    picture, _ = restored(Solid(region=FaceRegion(factor=1.9)), cells(Pixelate(blocks=6)), 30)
    assert picture.sub(128 / 255).abs().max() < 1e-4
    # And no contrast is made of what has none.
    assert stretched(torch.full((1, 3, 9, 9), 0.3)).sub(0.5).abs().max() < 1e-3


def test_pictures_of_others_come_out_as_they_would() -> None:
    images, faces, _ = moving(12)
    hide = Pixelate(blocks=6)
    solver = SuperResolution(cells(hide))
    for image, face in zip(hide(images, faces), faces, strict=True):
        solver.add(image, face, face.boxes[0])
    suspects = Suspects.of(images[:1], faces[:1], [7])
    # Sampled once more on the canvas, it is nearly what the frames showed.
    assert alike(solver.parroted(suspects.canvases), solver.picture()) > 0.99
    assert solver.parroted(suspects.canvases[:0]).shape == (0, 3, 112, 112)
    assert suspects.people.tolist() == [7]


@pytest.mark.parametrize("read", [cells(Pixelate(blocks=3)), blurred(GaussianBlur()), as_it_is(FaceRegion())])
def test_sums_are_means_over_the_points_that_they_name(read: ReadsSums) -> None:
    # Of a slope, a symmetric mean is the value in the middle, so values and points must agree.
    x, y = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="xy")
    slope = torch.stack([x, y, x + y]) / 120
    face = Faces(torch.tensor([[15.0, 12.0, 45.0, 51.0]]), torch.ones(1))
    hidden = Pixelate(blocks=3)(slope[None], [face])[0] if read.__qualname__.startswith("cells") else slope
    sums = read(hidden, face.boxes[0], 1.5)
    told = (sums.points * sums.weights[:, None]).sum(dim=1)
    assert float(sums.weights.sum()) == pytest.approx(1)
    assert torch.allclose(sums.values[:, :2] * 120, told, atol=1e-3)


def test_a_frame_without_points_cannot_be_aligned() -> None:
    solver = SuperResolution(as_it_is(FaceRegion()))
    box = torch.tensor([[2.0, 2.0, 9.0, 9.0]])
    with pytest.raises(ValueError, match="one face with landmarks"):
        solver.add(torch.rand(3, 16, 16), Faces(box, torch.ones(1)), box[0])
    with pytest.raises(ValueError, match="no frame was added"):
        solver.picture()


def test_the_place_among_suspects_is_counted_against_the_attacker() -> None:
    def pixel(crops: Tensor) -> Tensor:
        return crops[:, :2, 0, 0]

    def crop(a: float, b: float) -> Tensor:
        image = torch.zeros(1, 3, 112, 112)
        image[:, 0], image[:, 1] = a, b
        return image

    pictures = torch.cat([crop(1, 0), crop(0, 1), crop(1, 1), crop(0, 1)])
    people = torch.tensor([0, 0, 1, 2])
    found = ranked(pixel, crop(0, 1), pictures, people, 0)
    # Person 2 is exactly as alike. Grey is most like person 1; of the others nobody is before him.
    assert (found.place, found.of, found.cosine, found.other) == (2, 3, 1.0, 1.0)
    assert found.blank == 3
    with pytest.raises(ValueError, match="no picture of person 5"):
        ranked(pixel, crop(0, 1), pictures, people, 5)


@pytest.mark.parametrize("learned", [Learned(), Learned(hidden=8)])
def test_a_classifier_learns_what_there_is_and_nothing_else(learned: Learned) -> None:
    people = torch.arange(4).repeat(10)
    features = torch.nn.functional.one_hot(people, 4).float() + 0.1 * torch.randn(40, 4)
    scores = learned.scores(features[:20], people[:20], features[20:])
    assert Identified.of(scores, people[20:]) == Identified(1.0, 0.25, 1.0, 20)
    assert torch.equal(scores, learned.scores(features[:20], people[:20], features[20:]))
    # What is the same for everybody is nobody's.
    same = learned.scores(torch.ones(20, 4), people[:20], torch.ones(20, 4))
    found = Identified.of(same, people[20:])
    assert found.auc == pytest.approx(0.5)
    assert found.rank1 == pytest.approx(0.25)
    # Nor is it of whoever was seen most.
    often = torch.tensor([0] * 17 + [1, 2, 3])
    said = learned.scores(torch.ones(20, 4), often, torch.ones(1, 4))
    assert torch.allclose(said.exp(), torch.full((1, 4), 0.25), atol=0.02)


def test_more_said_of_a_person_throughout_knows_nobody() -> None:
    people = torch.tensor([0, 0, 0, 1, 2])
    offsets = torch.tensor([3.0, 1.0, 0.0])
    assert Identified.of(offsets.repeat(5, 1), people).auc == 0.5
    # Right for both of persons 1 and 2, and of three against two for person 0 in two of three.
    fits = offsets + torch.tensor([[0.3, 0, 0], [0.2, 0, 0], [0, 0, 0], [0.1, 1, 0], [0.1, 0, 1]])
    assert Identified.of(fits, people).auc == pytest.approx((1 + 1 + 0 + 1 + 1) / 5)
    assert math.isnan(Identified.of(offsets.repeat(2, 1), torch.tensor([1, 1])).auc)


def test_a_shape_forgets_place_size_and_turn_and_keeps_proportions() -> None:
    points = face_model(68)[None, :, :2].float() * 1000 + 200
    face = Faces(torch.tensor([[100.0, 100.0, 300.0, 320.0]]), torch.ones(1), points)
    known = shape_of([face])
    assert len(known) == 2 * 68 + 4
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]]) * 2.5
    moved = face.replace(landmarks=points @ turn.T + 30)
    assert torch.allclose(shape_of([moved, Faces.empty()])[:136], known[:136], atol=1e-4)
    assert torch.allclose(shape_of([face.map(lambda part: part * 3)]), known, atol=1e-4)
    wide = face.replace(landmarks=points * torch.tensor([1.2, 1.0]))
    assert (shape_of([wide]) - known)[:136].abs().max() > 0.05
    with pytest.raises(ValueError, match="no proportions"):
        shape_of([Faces.empty()])


@pytest.fixture
def attacked(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def made(hidden: Tensor) -> tuple[Path, Path]:
        before = make_video(tmp_path / "before.mkv", [frame(LEFT)] * 6)
        return before, make_video(tmp_path / "after.mkv", [hidden] * 6)

    return made


@pytest.mark.slow
def test_an_evaluation_attacks_clips(attacked: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    clip = attacked(frame())
    identity = IdentitySettings(brightness, strangers=[frame(RIGHT, channel=0)[None].flip(1)])
    told = {"authorised": {"red": Patches()}, "unauthorised": {"blue": Patches(2)}}
    result = evaluate(*clip, **told, identity=identity, attacks=["super-resolution", "perturbation"])  # type: ignore[arg-type]
    tried = [(one.attack, one.read_as, one.control, one.frames) for one in result.attacks]
    assert tried == [
        ("super-resolution", "8 blocks", False, 6),
        ("super-resolution", "4 blocks", False, 6),
        ("super-resolution", "blur", False, 6),
        ("super-resolution", "8 blocks", True, 6),
        ("perturbation", "an average", False, 6),
    ]
    control = result.attacks[3].ranking
    # The red rectangle under its mosaic is red, and the stranger is blue.
    assert (control.place, control.of) == (1, 2)
    assert control.cosine > 0.99
    assert all(one.ranking.place == one.ranking.blank for one in result.attacks if not one.control)
    rows = result.to_json()["attacks"]
    assert [row["control"] for row in rows] == [False, False, False, True, False]
    assert rows[3]["place"] == 1
    # The control shows the face, so it is in the report only where originals may be.
    for originals, pictures in ((False, 4), (True, 5)):
        write_report(tmp_path / "a.html", result, worst=0, show_originals=originals)
        assert (tmp_path / "a.html").read_text().count("<figure>") == pictures


def test_an_average_over_a_clip(attacked: Callable[..., tuple[Path, Path]]) -> None:
    clip, told = attacked(frame()), {"authorised": {"red": Patches()}}
    identity = IdentitySettings(brightness)
    result = evaluate(*clip, **told, identity=identity, attacks=["perturbation"])  # type: ignore[arg-type]
    (row,) = result.to_json()["attacks"]
    # There is nothing on grey, and nobody else to be taken for.
    assert result.attacks[0].picture.sub(0.5).abs().max() < 1e-3
    assert (row["attack"], row["place"], row["of"], row["cosine_other"]) == ("perturbation", 1, 1, None)
    assert row["undefined"] == {"cosine_other": "no strangers were given"}
    with pytest.raises(EvaluationError, match="give identity too"):
        evaluate(*clip, **told, attacks=["perturbation"])  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="attacks must be among"):
        evaluate(*clip, **told, identity=identity, attacks=["magic"])  # type: ignore[arg-type,list-item]


@pytest.mark.slow
def test_the_driver_comes_back_from_8_blocks(shared: Path) -> None:
    pytest.importorskip("onnxruntime")
    numbers = range(0, 120)
    images = frames(T002[0], numbers)
    known = read_detections(T002[0].with_suffix(".csv")).frames[: len(numbers)]
    embedder = OnnxEmbedder()
    other = shared / "media" / "T002_radio.mp4"
    clear = frames(other, [60])
    face = [read_detections(other.with_suffix(".csv")).frames[60]]
    suspects = Suspects.of(clear, face, [0])
    alike_by_way = {}
    for name, hide in (("8 blocks", Pixelate(blocks=8)), ("solid", Solid())):
        solver = SuperResolution(cells(Pixelate(blocks=8)))
        for image, faces in zip(hide(images, known), known, strict=True):
            solver.add(image, faces, faces.boxes[0])
        vectors = embedder(torch.cat([solver.picture(), solver.parroted(suspects.canvases)]))
        alike_by_way[name] = float(torch.cosine_similarity(vectors[:1], vectors[1:]))
    # Of two people it is 0.5 by these pictures, which are all blurred.
    assert alike_by_way["8 blocks"] > 0.65
    assert alike_by_way["solid"] < 0.5
    assert len(align(clear, face)) == 1
