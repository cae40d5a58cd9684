"""Half precision: within ``torch.autocast`` all comes out as without it, and models in half are refused in a line.

A reading in half precision is that of another model, and the signs of a gradient are chance (docs/benchmarks.md). So
nothing public computes in it unasked, whatever the caller's code does around it: shown on the pretended device, with
the work of every public class (``device_cases.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from device_cases import CASES, MODELS, SIDE, Scene, gaze, needed
from pretended import Remote
from torch import Tensor

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.metrics.quality import ssim
from deidlib.models.gaze import GazeResNet
from deidlib.nets.mpiigaze import MPIIGazeNet

# Plain networks of torch, which nobody reads or measures by: what autocast is for.
PLAIN = {"networks alone"}
# Seconds.
LONG = {
    *("a video is protected", "an image is protected", "files are compared", "frames are protected"),
    *("model retinaface-resnet50", "model fan", "clips are attacked", "dlib reads", "a transform protects"),
}


def leaves(thing: Any, path: str = "result") -> Iterator[tuple[str, Any]]:
    """All tensors and numbers in a result, with where they are."""
    if isinstance(thing, Tensor):
        yield path, (thing.inner if isinstance(thing, Remote) else thing).detach()
    elif isinstance(thing, int | float):
        yield path, torch.tensor(float(thing), dtype=torch.float64)
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(thing, Sequence) and not isinstance(thing, str | bytes):
        for number, value in enumerate(thing):
            yield from leaves(value, f"{path}[{number}]")
    elif is_dataclass(thing):
        for field in fields(thing):
            yield from leaves(getattr(thing, field.name), f"{path}.{field.name}")


def result_of(name: str, scene: Scene, *, half: bool) -> dict[str, Any]:
    """What a case gives, with the same weights each time."""
    torch.manual_seed(0)
    work = CASES[name].make(scene)
    with torch.autocast(scene.device.type, dtype=torch.bfloat16, enabled=half):
        return dict(leaves(work()))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in CASES if name not in PLAIN]
)
def test_within_autocast_nothing_changes(name: str, scene: Scene) -> None:
    if (needs := CASES[name].needs) is not None:
        needed(needs)
    plain, half = (result_of(name, scene, half=half) for half in (False, True))
    assert plain.keys() == half.keys()
    other = [path for path, value in plain.items() if value.dtype != half[path].dtype]
    assert not other, "in another precision"
    for path, value in plain.items():
        assert torch.equal(value.nan_to_num(7.0), half[path].nan_to_num(7.0)), path


def test_autocast_would_be_seen(scene: Scene) -> None:
    """Or the tests above would show nothing."""
    for name in PLAIN:
        assert any(value.dtype == torch.bfloat16 for value in result_of(name, scene, half=True).values())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_in_half_say_so_in_a_line(name: str, dtype: torch.dtype, scene: Scene) -> None:
    model = scene.put(MODELS[name]())
    target = model.at([0, 1]).target(scene.faces, (SIDE, SIDE))
    halved = model.to(dtype).at([0, 1])
    line = rf"computes in {str(dtype).removeprefix('torch.')}, and the images are float32.*model\.float\(\)"
    asks: list[Callable[[], object]] = [
        lambda: halved.predict(scene.images, scene.faces),
        lambda: halved.loss(scene.hidden, target),
        lambda: halved.loss_and_reading(scene.hidden, target),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match=line) as info:
            ask()
        assert "\n" not in str(info.value)


def test_frames_in_half_say_so_in_a_line(scene: Scene) -> None:
    frames, eyes = scene.images.to(torch.bfloat16), scene.put(gaze(MPIIGazeNet, "mpiigaze"))
    asks: list[Callable[[], object]] = [
        lambda: eyes.predict(frames, scene.faces),
        lambda: ssim(frames, frames),
        lambda: IFGSMAttacker([eyes])(frames, scene.faces),
    ]
    for ask in asks:
        with pytest.raises(TypeError, match=r"must be float32 in \[0, 1\], got torch.bfloat16. Convert with") as info:
            ask()
        assert "\n" not in str(info.value)


class Halved(GazeResNet):
    """A user's model, whose method knows nothing of precision."""

    def loss(self, images: Tensor, target: Any) -> Tensor:
        flat = images.flatten(1)
        return (flat @ flat.mT).diagonal()


def test_models_of_users_are_no_exception(scene: Scene) -> None:
    model = scene.put(Halved(MPIIGazeNet(), "mpiigaze"))
    with torch.autocast(scene.device.type, dtype=torch.bfloat16):
        assert (scene.images.flatten(1) @ scene.images.flatten(1).mT).dtype == torch.bfloat16
        assert model.loss(scene.images, None).dtype == torch.float32
