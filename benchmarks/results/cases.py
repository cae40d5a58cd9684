"""What is measured: clips, ways of hiding, sets of authorised models, ways of storing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from footage import SHARED
from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import APGDStep
from deidlib.faces import Faces
from deidlib.geometry.region import FaceRegion
from deidlib.media import VideoReader, read_image
from deidlib.models.base import TargetModel
from deidlib.models.gaze import GazeResNet
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import GaussianBlur, Obfuscator, Pixelate

MEDIA = SHARED / "media"
EPSILON, ITERATIONS = 8 / 255, 60


@dataclass(frozen=True)
class Clip:
    """Frames of a video, every ``stride``-th of them.

    Args:
        video: its file name.
        stride: how many frames further the next one is.
        smallest: faces with a shorter side of fewer pixels are not counted.
    """

    video: str
    stride: int
    smallest: float = 0.0

    @functools.cache  # noqa: B019
    def frames(self) -> tuple[Tensor, Fraction]:
        """``(T, 3, H, W)`` and the rate at which the clip of these frames is stored."""
        with VideoReader(MEDIA / self.video) as reader:
            kept = [frame.image for number, frame in enumerate(reader) if number % self.stride == 0]
            return torch.stack(kept), reader.info.fps


CLIPS = {"T002_talk": Clip("T002_talk.mp4", 30), "talk_video00": Clip("talk_video00.mp4", 72, smallest=60.0)}

HIDING: dict[str, Obfuscator] = {
    "4 blocks": Pixelate(blocks=4),
    "8 blocks": Pixelate(blocks=8),
    "16 blocks": Pixelate(blocks=16),
    # The reference hides with 30 blocks across FAN's crop, which is about 2.5 times as wide as the face box.
    "reference: 30 blocks over 2.5 boxes": Pixelate(blocks=30, region=FaceRegion(factor=2.5)),
    "Gaussian blur": GaussianBlur(),
}
DEFAULT = "4 blocks"

# Name of the codec here: (codec of VideoWriter, its quality).
STORED: dict[str, tuple[str, int | None]] = {
    "FFV1": ("ffv1", None),
    "H.264 crf 18": ("h264", 18),
    "H.264 crf 23": ("h264", 23),
    "H.264 crf 28": ("h264", 28),
    "MJPG q 4": ("mjpeg", 4),
}


@dataclass(frozen=True)
class Authorised:
    """A set of models that may read, and models that are pushed away.

    Args:
        models: made when they are needed.
        weights: factors of their losses; negative for models that are to read nothing.
    """

    models: dict[str, Callable[[], TargetModel[Any]]]
    weights: dict[str, float]

    def attacker(self) -> IFGSMAttacker:
        """The attack of the table."""
        models = {name: make() for name, make in self.models.items()}
        return IFGSMAttacker(models, weights=self.weights, epsilon=EPSILON, max_iterations=ITERATIONS, step=APGDStep())


SETS = {
    "RetinaFace + MTCNN + MPIIGaze": Authorised(
        {"retinaface": RetinaFace, "mtcnn": MTCNN, "mpiigaze": GazeResNet.mpiigaze}, {}
    ),
    "RetinaFace + MPIIGaze": Authorised({"retinaface": RetinaFace, "mpiigaze": GazeResNet.mpiigaze}, {}),
    "none": Authorised({}, {}),
}
EVERYBODY = "RetinaFace + MTCNN + MPIIGaze"


@dataclass(frozen=True)
class Case:
    """One protected clip."""

    clip: str
    hiding: str
    authorised: str

    @property
    def folder(self) -> str:
        """A name for its files."""
        return "-".join(part.replace(" ", "").replace(":", "") for part in (self.clip, self.hiding, self.authorised))


def cases(clip: str) -> list[tuple[Case, str]]:
    """What is protected and how it is stored: the default first, then what it is compared with."""
    first = [Case(clip, DEFAULT, name) for name in ("none", EVERYBODY)]
    rest = [Case(clip, hiding, name) for hiding in HIDING if hiding != DEFAULT for name in ("none", EVERYBODY)]
    default = [(case, stored) for case in first for stored in STORED]
    default.append((Case(clip, DEFAULT, "RetinaFace + MPIIGaze"), "FFV1"))
    # Frames of 720p take long: fewer ways of hiding.
    rest = [case for case in rest if clip == "T002_talk" or case.authorised == "none" or case.hiding == "8 blocks"]
    return default + [(case, "FFV1") for case in rest]


def strangers() -> list[Tensor]:
    """Six other people to compare with: two portraits, at half their size, and a group of four."""
    images = []
    for name, scale in (("portrait00.jpg", 2), ("portrait01.jpg", 2), ("group02.jpg", 1)):
        image = read_image(MEDIA / name)
        size = (image.shape[2] // scale, image.shape[3] // scale)
        small = torch.nn.functional.interpolate(image, size, mode="bilinear", antialias=True).clamp(0, 1)
        images.append((small * 255).round() / 255)
    return images


def large(faces: list[Faces], smallest: float) -> list[Faces]:
    """Only faces of at least that many pixels on the shorter side."""
    return [known[(known.boxes[:, 2:] - known.boxes[:, :2]).amin(dim=1) >= smallest] for known in faces]
