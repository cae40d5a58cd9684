"""The swapper on a driver: read back from the written file, by models that were not asked before."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.geometry.boxes import iou
from deidlib.images import to_grid
from deidlib.media import VideoReader, VideoWriter, read_image
from deidlib.metrics.alignment import align
from deidlib.metrics.embedders import OnnxEmbedder
from deidlib.models.base import FaceModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.models.strangers import PFLD
from deidlib.protect.deidentifier import Deidentifier
from deidlib.swap import WarpSwapper, average_face

STRIDE = 34


@pytest.fixture(scope="module")
def retinaface(shared: Path) -> RetinaFace:
    return RetinaFace()


@pytest.fixture(scope="module")
def driver(shared: Path) -> Tensor:
    """Eight frames of the clip."""
    with VideoReader(shared / "media" / "T002_talk.mp4") as reader:
        frames = [image for images, _ in reader.batches(16) for image in images]
    return torch.stack(frames[::STRIDE])


@pytest.fixture(scope="module")
def seen(retinaface: RetinaFace, driver: Tensor) -> list[Faces]:
    return retinaface.predict(driver)


@pytest.fixture(scope="module")
def portrait(shared: Path) -> Tensor:
    return interpolate(read_image(shared / "media" / "portrait00.jpg"), scale_factor=0.4, mode="area")


@pytest.fixture(scope="module")
def nobody(shared: Path, portrait: Tensor, retinaface: RetinaFace) -> Tensor:
    from skimage.data import astronaut

    other = interpolate(read_image(shared / "media" / "portrait01.jpg"), scale_factor=0.4, mode="area")
    third = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255
    return average_face([portrait, other, third], [retinaface, PFLD()], size=384)


def through_a_file(images: Tensor, path: Path) -> Tensor:
    with VideoWriter(path, Fraction(25), (images.shape[2], images.shape[3])) as writer:
        writer.write(images)
    with VideoReader(path) as reader:
        return torch.cat([back for back, _ in reader.batches(16)])


def embedded(embed: OnnxEmbedder, image: Tensor, faces: list[Faces]) -> Tensor:
    vectors = embed(align(image, faces))
    unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
    return unit


@pytest.mark.parametrize(("source", "points"), [("portrait", 68), ("nobody", 68), ("nobody", 5)])
def test_the_driver_is_somebody_else_at_the_same_place(
    source: str,
    points: int,
    request: pytest.FixtureRequest,
    driver: Tensor,
    seen: list[Faces],
    retinaface: RetinaFace,
    tmp_path: Path,
) -> None:
    picture: Tensor = request.getfixturevalue(source)
    models: list[FaceModel] = [retinaface, PFLD()] if points == 68 else [retinaface]
    swap = WarpSwapper(picture, models)
    places = [known.replace(landmarks=None) for known in seen]
    assert all(patch is not None for frame in swap.swap(driver, places) for patch in frame)
    out = through_a_file(to_grid(swap(driver, places)), tmp_path / "out.mkv")
    outside = (swap.mask(places, *driver.shape[2:]) == 0).expand_as(driver)
    assert torch.equal(out[outside], driver[outside])

    for known, found in zip(seen, retinaface.predict(out), strict=True):
        overlap = iou(known.boxes[:1], found.boxes)[0]
        assert float(overlap.max()) >= 0.85
        assert known.landmarks is not None
        assert found.landmarks is not None
        error = (known.landmarks[0] - found.landmarks[int(overlap.argmax())]).norm(dim=1).mean()
        assert float(error / (known.boxes[0, 2:] - known.boxes[0, :2]).prod().sqrt()) <= 0.06

    embed = OnnxEmbedder()
    before, after = embedded(embed, driver, seen), embedded(embed, out, seen)
    shown = embedded(embed, picture, [retinaface.predict(picture)[0][[0]]])[0]
    to_driver, to_source = float((before * after).sum(dim=1).mean()), float((after @ shown).mean())
    assert to_driver <= 0.30
    assert to_driver < to_source


def test_swap_then_attack(portrait: Tensor, driver: Tensor, seen: list[Faces], retinaface: RetinaFace) -> None:
    attacker = IFGSMAttacker([retinaface], max_iterations=20, step=APGDStep())
    swap = WarpSwapper(portrait, MTCNN())
    (batch,) = Deidentifier(attacker, obfuscator=swap, detectors=[retinaface]).frames([driver[:2]])
    assert batch.treatment == ["found", "found"]
    for known, found in zip(seen, retinaface.predict(batch.images), strict=False):
        assert float(iou(known.boxes[:1], found.boxes).max()) >= 0.95
    # It is the swapped face that was attacked.
    assert float((batch.images - batch.hidden).abs().max()) <= 8.01 / 255
    assert float((batch.hidden - batch.originals).abs().mean()) > 0.005


def test_a_group_is_never_shown(portrait: Tensor, shared: Path) -> None:
    """Whatever happens to each face of a group, its middle shows nothing of the original."""
    group = interpolate(read_image(shared / "media" / "group02.jpg"), scale_factor=0.75, mode="area")
    detector = MTCNN()
    (known,) = detector.predict(group)
    assert len(known) >= 3
    out = WarpSwapper(portrait, detector)(group, [known])
    for box in known.boxes:
        x0, y0, x1, y1 = box.round().long().clamp(min=0).tolist()
        before, after = group[0, :, y0:y1, x0:x1], out[0, :, y0:y1, x0:x1]
        fine = [part - torch.nn.functional.avg_pool2d(part[None], 9, 1, 4)[0] for part in (before, after)]
        middle = (slice(None), slice((y1 - y0) // 4, -(y1 - y0) // 4), slice((x1 - x0) // 4, -(x1 - x0) // 4))
        alike = torch.corrcoef(torch.stack([part[middle].flatten() for part in fine]))[0, 1]
        assert not float(alike) > 0.6
