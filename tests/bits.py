"""What the library's own arithmetic gives, as hashes, and what a network reads: run by ``test_bits`` as elsewhere.

Prints a line of JSON for each number of threads, with oneDNN and without. The processor's instructions are torch's
choice when it starts: ``ATEN_CPU_CAPABILITY`` in the environment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from recipe import image
from skimage.data import astronaut
from torch import Tensor

from deidlib.attack.aggregation import GradientNorm, Losses
from deidlib.attack.distortions import H264, JPEG, Blur, ChromaSubsampling
from deidlib.attack.steps import APGDStep, MomentumSignStep, StepRule
from deidlib.faces import Faces
from deidlib.geometry.region import FaceRegion
from deidlib.geometry.warp import perspective_grid
from deidlib.images import sum_in_order, to_grid
from deidlib.models.base import TargetModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.obfuscate import GaussianBlur, Pixelate

# Large enough that torch spreads work over threads, and no multiples of its vectors.
HEIGHT, WIDTH, FRAMES = 170, 150, 3


def pictures() -> Tensor:
    """Cuts of the astronaut, ``(FRAMES, 3, HEIGHT, WIDTH)``."""
    pixels = torch.from_numpy(astronaut()).permute(2, 0, 1).float() / 255
    return torch.stack([pixels[:, 10 * i : 10 * i + HEIGHT, 130 + 7 * i : 130 + 7 * i + WIDTH] for i in range(FRAMES)])


def faces() -> list[Faces]:
    """A face in each picture, and one that the frame cuts off."""
    return [
        Faces(torch.tensor([[40.3 + i, 51.1, 97.9, 120.2], [130.0, -20.0, 180.5, 31.0]]), torch.ones(2))
        for i in range(FRAMES)
    ]


def results(frames: Tensor, boxes: list[Faces]) -> Iterator[tuple[str, Tensor]]:
    """Name and rows, one for each frame, of everything that must not hang on last bits."""
    weights = image((1, *frames.shape[1:]), stream=1, low=-1)
    for distortion in (JPEG(75), JPEG(20), H264(23), ChromaSubsampling(), Blur(1.5)):
        for side in (0, 1):
            leaf = frames[..., side:, side:].clone().requires_grad_()
            seen = distortion(leaf)
            (gradient,) = torch.autograd.grad((seen * weights[..., side:, side:]).sum(), leaf)
            yield f"{distortion}, from {side}", seen.detach()
            yield f"{distortion}, from {side}: gradient", gradient
    for region in (FaceRegion(), FaceRegion(shape="ellipse", feather=7.5)):
        yield f"{region}", region.mask(boxes, HEIGHT, WIDTH)
        mosaic, blur = Pixelate(4, region=region), GaussianBlur(region=region)
        for hide in (mosaic, blur):
            yield f"{hide}", hide(frames, boxes)
    matrices = torch.stack(
        [torch.tensor([[1.1, 0.1, 3.0], [-0.1, 0.9, b.boxes[0, 0]], [1e-4, 2e-4, 1.0]]) for b in boxes]
    )
    yield "perspective grid", perspective_grid(matrices, (36, 60))
    yield from attacked(frames)


def attacked(frames: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A few steps of an attack that makes a mosaic look like the frame from which it came, seen through codecs."""
    start = to_grid(Blur(4.0)(frames))
    rules: tuple[StepRule[Any], ...] = (APGDStep(window=2), MomentumSignStep(1 / 255))
    for rule in rules:
        x, state = start, rule.init(start)
        first: dict[str, Tensor] = {}
        for _ in range(4):
            losses, gradients = {}, {}
            for distortion in (JPEG(60), H264(25)):
                leaf = x.clone().requires_grad_()
                error = distortion(leaf) - frames
                (gradients[str(distortion)],) = torch.autograd.grad(error.square().sum() / 2, leaf)
                losses[str(distortion)] = sum_in_order(error.detach().square().flatten(1).T)
            first = first or losses
            objective, gradient = GradientNorm()(Losses(losses, first, dict.fromkeys(losses, 1.0)), gradients)
            x, state = rule(x, gradient, objective, state)
            x = to_grid(x.clamp(0, 1))
        yield f"attack by {rule}", x
        yield f"attack by {rule}: objective", objective


def digests() -> dict[str, str]:
    """Hashes of all results, after a comparison of each frame alone with itself among others."""
    frames, boxes = pictures(), faces()
    alone = [dict(results(frames[i : i + 1], boxes[i : i + 1])) for i in range(FRAMES)]
    found = {}
    for name, together in results(frames, boxes):
        for i in range(FRAMES):
            assert torch.equal(alone[i][name][0], together[i]), f"{name}: frame {i} differs alone and among others"
        found[name] = hashlib.sha256(together.contiguous().numpy().tobytes()).hexdigest()
    return found


def readings() -> dict[str, dict[str, list[float]]]:
    """What networks make of the pictures, together and one by one: boxes, and losses and gradients of their mosaics."""
    frames = pictures()
    found = {}
    for model in models():
        boxes = model.predict(frames)
        hidden = Pixelate(4)(frames, boxes)
        found[f"{model.name}, together"] = reading(model, frames, boxes, hidden)
        parts = [slice(i, i + 1) for i in range(FRAMES)]
        alone = [reading(model, frames[part], boxes[part], hidden[part]) for part in parts]
        found[f"{model.name}, alone"] = {name: [x for one in alone for x in one[name]] for name in alone[0]}
    return found


def models() -> list[TargetModel[Any]]:
    """Those whose weights are at hand."""
    detectors: list[TargetModel[Any]] = [MTCNN()]
    with suppress(FileNotFoundError):
        detectors.append(RetinaFace())
    return detectors


def reading(model: TargetModel[Any], frames: Tensor, boxes: list[Faces], hidden: Tensor) -> dict[str, list[float]]:
    """Boxes read on ``frames``; loss of ``hidden`` frames that are to be read as ``boxes``, and its gradient."""
    leaf = hidden.clone().requires_grad_()
    loss = model.loss(leaf, model.target(boxes, (HEIGHT, WIDTH)))
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return {
        "boxes": torch.cat([read.boxes for read in model.predict(frames)]).flatten().tolist(),
        "loss": loss.detach().tolist(),
        # Every tenth pixel tells enough.
        "gradient": gradient[..., ::10, ::10].flatten().tolist(),
    }


if __name__ == "__main__":
    # Every number of threads and both kinds of convolution; all pairs would take twice as long and say no more.
    for threads, onednn in ((1, True), (2, False), (3, True)):
        torch.set_num_threads(threads)
        with torch.backends.mkldnn.flags(enabled=onednn):
            about = {"threads": threads, "onednn": onednn, "capability": torch.backends.cpu.get_cpu_capability()}
            print(json.dumps(about | {"digests": digests(), "readings": readings()}))
