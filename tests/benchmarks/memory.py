"""Peak memory of the paper's three models in one attack: ``python -m tests.benchmarks.memory``.

2D-FAN-4, RetinaFace MobileNet-0.25 and ETH-XGaze's ResNet-18 with random weights, four frames of 480 x 480 with a face
each, on the CPU. What counts is size, not what is read.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import torch
from face_alignment.detection.retinaface.net_retinaface import RetinaFace as RetinaFaceNet
from torchvision.models import resnet18

from deidlib.attack import IFGSMAttacker
from deidlib.camera import Camera, face_model
from deidlib.faces import Faces
from deidlib.targets.base import TargetModel
from deidlib.targets.fan import FAN
from deidlib.targets.gaze import GazeResNet
from deidlib.targets.retinaface import RetinaFace


def main() -> None:
    """Print seconds per frame and iteration and the peak resident memory."""
    torch.manual_seed(0)
    images = torch.rand(4, 3, 480, 480)
    # The mean face, looking at the camera from 60 cm.
    points = face_model(68).float()
    depth = points[:, 2:] + 0.6
    landmarks = points[:, :2] / depth * 480 + 240
    box = torch.cat([landmarks.amin(dim=0), landmarks.amax(dim=0)])[None]
    faces = [Faces(box, torch.ones(1), landmarks[None])] * 4
    models: dict[str, TargetModel[Any]] = {
        "retinaface": RetinaFace(RetinaFaceNet().state_dict(), score_threshold=0.0),
        "fan": FAN(None),
        "eth-xgaze": GazeResNet(resnet18(num_classes=2), "eth-xgaze", camera=Camera.default(480, 480)),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    IFGSMAttacker(models, max_iterations=2)(images, images, faces=faces)
    seconds = (time.perf_counter() - began) / 4 / 3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"threads {torch.get_num_threads()}, {seconds:.2f} s per frame and iteration")
    print(f"peak RSS {peak / 2**20:.2f} GiB, of which before the attack {before / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
