"""Authorise a model of your own: five points read by one network, protected together with a detector."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from facenet_pytorch.models.mtcnn import ONet
from skimage.data import astronaut
from torch import Tensor

from deidlib import MTCNN, Faces, Solid, Target, TargetModel, frame_mean, recommended
from deidlib.geometry.warp import crop_resize
from deidlib.models.base import frame_of, needs_boxes, rows_of
from deidlib.models.observe import read_originals


@dataclass(frozen=True, eq=False)
class PointsTarget(Target):
    """Where to look, ``(F, 4)``, and what to read there, ``(F, 5, 2)``; pixels."""

    boxes: Tensor
    points: Tensor


class FivePoints(TargetModel[PointsTarget]):
    """Five points in a given box. The network is the last stage of MTCNN; yours goes in its place."""

    task = "landmarks"

    def __init__(self) -> None:
        super().__init__()
        self.net = ONet()

    def read(self, images: Tensor, boxes: Tensor, frame: Tensor) -> Tensor:
        if not len(frame):
            return boxes.new_zeros(0, 5, 2)
        crops = crop_resize(images, boxes, (48, 48), frame)
        xs_then_ys: Tensor = self.net((crops * 255 - 127.5) / 128)[1]
        return boxes[:, None, :2] + xs_then_ys.reshape(-1, 2, 5).mT * sides(boxes)

    @torch.no_grad()
    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        known = needs_boxes(self, images, faces)
        points = torch.split(self.read(images, rows_of(known), frame_of(known)), [len(here) for here in known])
        return [here.replace(landmarks=part) for here, part in zip(known, points, strict=True)]

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> PointsTarget:
        return PointsTarget(frame_of(reading), rows_of(reading), rows_of(reading, "landmarks"))

    def loss(self, images: Tensor, target: PointsTarget) -> Tensor:
        # 1 where the points are a tenth of the box off.
        error = (self.read(images, target.boxes, target.frame) - target.points) / (0.1 * sides(target.boxes))
        return frame_mean(error.square().sum(dim=-1).mean(dim=-1), target.frame, len(images))


def sides(boxes: Tensor) -> Tensor:
    """Width and height of boxes, ``(F, 1, 2)``."""
    return (boxes[:, 2:] - boxes[:, :2])[:, None]


def error(model: FivePoints, images: Tensor, faces: Sequence[Faces], truth: Tensor) -> float:
    """Mean distance from the true points, pixels."""
    (read,) = model.predict(images, faces)
    assert read.landmarks is not None
    return float((read.landmarks - truth).norm(dim=-1).mean())


def main(iterations: int = 40) -> None:
    picture = torch.from_numpy(astronaut()[:256, 96:352]).permute(2, 0, 1)[None] / 255
    detector, mine = MTCNN(), FivePoints()
    readings = read_originals(picture, [detector, mine])
    faces = readings["fivepoints"]
    truth = faces[0].landmarks
    assert truth is not None

    hide = Solid()
    hidden, mask = hide(picture, faces), hide.mask(faces, 256, 256)
    attack = recommended([detector, mine], max_iterations=iterations)
    result = attack(hidden, readings, mask=mask)

    print(f"{'':<12}{'MTCNN finds':>12}{'points off by':>16}")
    for stage, images in {"original": picture, "hidden": hidden, "protected": result.images}.items():
        off = error(mine, images, faces, truth)
        print(f"{stage:<12}{len(detector.predict(images)[0]):>12}{off:>13.1f} px")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=40)
    main(parser.parse_args().iterations)
