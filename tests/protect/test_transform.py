from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from patches import Patches, frame
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from toys import White

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.faces import Faces
from deidlib.images import from_uint8, to_pixels, to_uint8
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.transform import Deidentify

PLACE = (20, 16, 50, 60)


def red(image: Tensor, number: int) -> Faces:
    """The patches of a frame."""
    (faces,) = Patches().predict(image[None])
    return faces


def hiding() -> Deidentify:
    return Deidentify(Deidentifier(IFGSMAttacker([White(red)], max_iterations=0)))


def expected(picture: Tensor) -> Tensor:
    """The same by the deidentifier itself, in uint8."""
    (batch,) = hiding().deidentifier.frames([picture[None]])
    return to_uint8(batch.images[0])


def test_each_kind_of_picture_comes_back_as_what_it_was() -> None:
    picture = frame(PLACE)
    levels, wanted = to_uint8(picture), expected(picture)
    assert not torch.equal(levels, wanted)
    assert torch.equal(hiding()(levels), wanted)
    image = hiding()(tv_tensors.Image(levels))
    assert type(image) is tv_tensors.Image
    assert torch.equal(image, wanted)
    shown = hiding()(PIL.Image.fromarray(to_pixels(picture)))
    assert isinstance(shown, PIL.Image.Image)
    assert np.array_equal(np.asarray(shown), wanted.permute(1, 2, 0).numpy())
    halves = hiding()(from_uint8(levels).double())
    assert halves.dtype == torch.float64
    assert torch.equal(to_uint8(halves), wanted)


def test_boxes_and_labels_stay_as_they_are() -> None:
    boxes = tv_tensors.BoundingBoxes(torch.tensor([PLACE]), format="XYXY", canvas_size=(96, 96))
    sample = {
        "image": tv_tensors.Image(to_uint8(frame(PLACE))),
        "boxes": boxes,
        "label": torch.tensor([3]),
        "who": "nobody",
    }
    given: dict[str, Any] = v2.Compose([hiding()])(sample)
    assert torch.equal(given["image"], expected(frame(PLACE)))
    assert given["boxes"] is boxes
    assert given["label"] is sample["label"]
    assert given["who"] == "nobody"


def test_a_clip_is_one_clip() -> None:
    # The face that is missed in the middle is hidden where it was before and after.
    clip = torch.stack([frame(PLACE), frame(), frame(PLACE)])
    given = hiding()(tv_tensors.Video(to_uint8(clip)))
    assert type(given) is tv_tensors.Video
    left, top, right, bottom = PLACE
    assert (given[:, :, top:bottom, left:right] == 128).all()
    assert torch.equal(given[1, :, :, 80:], to_uint8(clip)[1, :, :, 80:])


@pytest.mark.parametrize(
    ("sample", "error", "words"),
    [
        ({"label": 3}, TypeError, "no picture"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), ValueError, "v2.RGB"),
        (torch.zeros(3, 8, 8, dtype=torch.int32), TypeError, "int32"),
        (torch.full((3, 8, 8), 7.0), ValueError, "0, 1"),
    ],
)
def test_what_cannot_be_protected_is_refused(sample: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        hiding()(sample)


class Pictures(Dataset[Tensor]):
    """Two pictures, hidden as they are loaded."""

    def __init__(self) -> None:
        self.hide = hiding()

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        shown: Tensor = self.hide(to_uint8(frame((20 + 4 * index, 16, 50 + 4 * index, 60))))
        return shown


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_it_works_in_the_workers_of_a_loader(start: str) -> None:
    alone = torch.stack([Pictures()[index] for index in range(2)])
    loader = DataLoader(Pictures(), batch_size=2, num_workers=2, multiprocessing_context=start)
    (together,) = loader
    assert torch.equal(together, alone)
