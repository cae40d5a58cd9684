"""A detector that is to find nothing, and an authorised one beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import pytest
import torch
from footage import SHARED, frames
from skimage.data import astronaut
from torch import Tensor, nn
from toys import boxed

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.presets import TOLERANCES, recommended
from deidlib.faces import FaceBatch, Faces
from deidlib.geometry.boxes import iou
from deidlib.keys.key import Key
from deidlib.models.base import Target, TargetModel, frame_of
from deidlib.models.discreet import Discreet
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.models.observe import observe, read_originals
from deidlib.models.retinaface import RetinaFace
from deidlib.models.silent import Silent
from deidlib.models.strangers import YuNet
from deidlib.obfuscate import Solid

PICTURE = torch.from_numpy(astronaut()[:256, 96:352]).permute(2, 0, 1)[None] / 255


class Bright(TargetModel[Target]):
    """Speaks for a face in a quarter as much as it is bright there: log-odds are 8 times the mean, less 4."""

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "boxes"

    def proposals(self, images: Tensor) -> tuple[Tensor, Tensor]:
        cells = nn.functional.adaptive_avg_pool2d(images.mean(dim=1), 2).flatten(1)
        places = torch.tensor([[0.0, 0, 4, 4], [4, 0, 8, 4], [0, 4, 4, 8], [4, 4, 8, 8]])
        return cells * 8 - 4, places.to(images)

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        margin, places = self.proposals(images)
        return [Faces(places[row > 0], row[row > 0].sigmoid()) for row in margin]

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> Target:
        return Target(frame_of(reading))

    def loss(self, images: Tensor, target: Target) -> Tensor:
        return images.new_zeros(len(images))


def test_the_hinge_by_hand() -> None:
    # Means of the quarters: 1, 0.5, 0.25, 0. Log-odds 4, 0, -2, -4; with slack 2: 6, 2, 0, 0.
    image = torch.zeros(1, 3, 8, 8)
    for (row, column), value in {(0, 0): 1.0, (0, 4): 0.5, (4, 0): 0.25}.items():
        image[..., row : row + 4, column : column + 4] = value
    images = image.repeat(3, 1, 1, 1)
    silent = Silent(Bright(), factor=1.0, slack=2.0)
    # All of it; the right half, whose centres are those of the second and fourth; nobody.
    target = silent.target([boxed([0, 0, 8, 8]), boxed([4, 0, 8, 8]), Faces.empty()], (8, 8))
    leaf = images.clone().requires_grad_()
    loss = silent.loss(leaf, target)
    assert loss.tolist() == [8.0, 2.0, 0.0]
    assert silent.loss(images[[1, 0]], target.select(torch.tensor([1, 0]))).tolist() == [2.0, 8.0]
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    # 8 over the 16 pixels and three channels of each quarter above the hinge, where somebody is.
    assert torch.allclose(gradient[0, :, :4], torch.tensor(8 / 48))
    assert float(gradient[0, :, 4:].abs().max()) == 0
    assert torch.allclose(gradient[1, :, :4, 4:], torch.tensor(8 / 48))
    assert float(gradient[1, :, :, :4].abs().max()) == 0
    assert float(gradient[2].abs().max()) == 0


def test_two_faces_on_one_place_count_it_once() -> None:
    silent = Silent(Bright(), factor=1.0)
    one, two = (silent.target([boxed(*[[0.0, 0, 8, 8]] * count)], (8, 8)) for count in (1, 2))
    image = torch.ones(1, 3, 8, 8)
    assert silent.loss(image, one) == silent.loss(image, two) == 4 * 6


def test_an_attack_makes_it_silent_and_stops_caring() -> None:
    hidden = torch.full((1, 3, 8, 8), 0.55)
    silent = Silent(Bright())
    faces = [boxed([0, 0, 8, 8])]
    assert len(silent.predict(hidden)[0]) == 4
    result = IFGSMAttacker([silent], epsilon=1.0, max_iterations=100, threshold=1e-6)(hidden, faces)
    assert len(silent.predict(result.images)[0]) == 0
    # At 0.25 the hinge is 0: no pixel goes further than that and a step.
    assert 0.24 < float(result.images.min()) <= float(result.images.max()) <= 0.26


def test_only_detectors_that_tell_their_proposals(shared: Path) -> None:
    with pytest.raises(TypeError, match=r"needs a detector with proposals\(images\), which YuNet has not"):
        Silent(cast(Any, YuNet()))
    with pytest.raises(ValueError, match="Discreet needs models whose losses are added"):
        Discreet(MTCNN(), [])


@pytest.mark.parametrize("make", [MTCNN, RetinaFace, lambda: RetinaFace("retinaface_mobilenet0.25_1mb")])
def test_proposals_speak_for_the_faces_that_are_found(make: Any, request: pytest.FixtureRequest) -> None:
    if make is not MTCNN:
        request.getfixturevalue("shared")
    model = make()
    (found,) = model.predict(PICTURE)
    margin, places = model.proposals(torch.cat([PICTURE, torch.full_like(PICTURE, 0.5)]))
    assert margin.shape == (2, len(places))
    assert not bool((margin[1] > 0).any())
    assert len(model.predict(torch.full_like(PICTURE, 0.5))[0]) == 0
    assert float(iou(found.boxes[:1], places[margin[0] > 0]).max()) > 0.4
    if isinstance(model, RetinaFace):
        # Its score is the best anchor's.
        assert margin[0].max().sigmoid().item() == pytest.approx(found.scores[0].item(), abs=1e-5)


def test_to_whoever_reads_a_discreet_model_is_the_model() -> None:
    model, other = MTCNN(), Silent(MTCNN())
    discreet = Discreet(model, [other, other])
    assert (discreet.name, discreet.task, discreet.for_originals) == ("mtcnn", "boxes", model)
    reading = model.predict(PICTURE)
    assert torch.equal(discreet.predict(PICTURE)[0].boxes, reading[0].boxes)
    size = (256, 256)
    both = discreet.loss(PICTURE, discreet.target(reading, size))
    alone = model.loss(PICTURE, model.target(reading, size)) + 2 * other.loss(PICTURE, other.target(reading, size))
    assert torch.allclose(both, alone)
    loss, seen = discreet.loss_and_reading(PICTURE, discreet.target(reading, size))
    assert torch.allclose(loss, alone)
    _, own = model.loss_and_reading(PICTURE, model.target(reading, size))
    assert isinstance(seen, FaceBatch)
    assert isinstance(own, FaceBatch)
    assert torch.equal(seen.boxes, own.boxes)


def test_silence_is_kept_beside_the_first_detector() -> None:
    attacker = recommended([MTCNN()], silence=[MTCNN()])
    (model,) = attacker.named_models().values()
    assert isinstance(model, Discreet)
    assert isinstance(model.model, MTCNN)
    with pytest.raises(ValueError, match="silence needs a detector among the models"):
        recommended([_Gaze()], silence=[MTCNN()])


class _Gaze(Bright):
    task = "gaze"


def test_with_a_key_nobody_is_silenced() -> None:
    with pytest.raises(ValueError, match="mtcnn reads by a key, which keeps everybody out"):
        recommended([Keyed(MTCNN(), Key.generate())], silence=[MTCNN()])


def test_whoever_is_silenced_finds_less_and_the_authorised_read_as_well(shared: Path) -> None:
    """Frames that show the face to RetinaFace's twin, unless it is silenced.

    Of strangers that take no part, last bits decide single frames: benchmarks/strangers.py counts them on clips.
    """
    images = frames(SHARED / "media" / "T002_radio.mp4", [0, 45, 90])
    model, twin = RetinaFace(), RetinaFace("retinaface_mobilenet0.25_1mb")
    faces, hide = observe(images, [model]), Solid()
    hidden, mask = hide(images, faces), hide.mask(faces, 480, 480)
    reading = read_originals(images, [model])
    counts, overlaps = [], []
    for silence in ([], [twin]):
        attacker = recommended([model], until=TOLERANCES["quick"], silence=silence)
        result = attacker(hidden, reading, mask=mask)
        assert result.within is not None
        overlaps.append(
            [float(iou(a.boxes, b.boxes).max()) for a, b in zip(faces, model.predict(result.images), strict=True)]
        )
        counts.append(sum(len(found) > 0 for found in twin.predict(result.images)))
    assert min(map(min, overlaps)) >= 0.95  # as well, and no worse with silence
    plain, silenced = counts
    assert plain == 3
    # A frame is done when RetinaFace reads it, wherever the other is by then.
    assert silenced <= 1
