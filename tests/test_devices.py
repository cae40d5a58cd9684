"""Nothing mixes devices, hands a device's tensor to numpy, or waits more than it may: on a device that is pretended."""

from __future__ import annotations

import inspect
import pkgutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from importlib import import_module
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest
import torch
from device_cases import CASES, ITERATIONS, MODELS, Iteration, Scene, needed
from pretended import Count, Pretend
from torch import Tensor

import deidlib
from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.tolerance import Examiner

# The pretended device itself


def test_a_mix_of_devices_is_refused() -> None:
    with Pretend() as there:
        far, near = torch.ones(2, device=there.device), torch.ones(2)
        assert (far.device, far.is_cuda, (far + 1).device) == (torch.device("cuda:0"), True, there.device)
        # Values without a dimension go along, as on a device.
        assert (far * torch.tensor(2.0)).tolist() == [2, 2]
        mixs: list[Callable[[], object]] = [
            lambda: far + near,
            lambda: torch.cat([far, near]),
            lambda: torch.stack([far.sum(), near.sum()]),
            lambda: far[torch.tensor([True, False])] + near[:1],
            lambda: torch.where(near > 0, far, far),
            lambda: far + torch.ones(2, device="cuda:1"),
        ]
        for mix in mixs:
            with pytest.raises(RuntimeError, match="two devices"):
                mix()


def test_what_leaves_the_device_must_be_asked_for() -> None:
    with Pretend() as there:
        far = torch.arange(3.0, device=there.device)
        leaves: list[Callable[[], object]] = [far.numpy, lambda: np.asarray(far)]
        for leave in leaves:
            with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
                leave()
        assert far.cpu().numpy().tolist() == [0, 1, 2]


def test_waits_and_what_is_sent_are_counted() -> None:
    with Pretend() as there:
        far, at = torch.arange(3.0, device=there.device), torch.tensor([1, 0], device=there.device)
        waits: list[Callable[[], object]] = [
            lambda: far[0].item(),
            lambda: bool(far.any()),
            far.tolist,
            far.cpu,
            lambda: far.to("cpu"),
            lambda: far.nonzero(),
            lambda: far[far > 0],
            lambda: torch.zeros(3).copy_(far),
            lambda: at.repeat_interleave(at),
        ]
        for wait in waits:
            with there.counted() as count:
                wait()
            assert (count.waits, count.sent) == (1, 0), count.waited_for
        sends: list[Callable[[], object]] = [
            lambda: torch.tensor([1, 2], device=there.device),
            lambda: far.new_tensor([1.0]),
            lambda: torch.ones(2).to(there.device),
            lambda: torch.ones(2).cuda(),
            lambda: far[torch.tensor([1])],
            lambda: far.copy_(torch.ones(3)),
        ]
        for send in sends:
            with there.counted() as count:
                send()
            assert (count.waits, count.sent) == (0, 1), count.was_sent
        with there.counted() as count:
            far[at].where(far[at] > 0, 0.0).amax(), torch.zeros(2, device=far.device), far.new_full((2,), 3.0)
        assert (count.waits, count.sent) == (0, 0)


class _Doubled(torch.autograd.Function):
    """With a backward that makes a tensor: on the device of its gradient, or where torch makes them by default."""

    careful = True

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        return gradient * torch.full((2,), 2.0, device=gradient.device if _Doubled.careful else None)


def test_it_reaches_backward_and_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    caught = list[str]()

    def work() -> None:
        leaf = torch.ones(2, device="cuda").requires_grad_()
        total: Tensor = _Doubled.apply(leaf).sum()
        try:
            (gradient,) = torch.autograd.grad(total, leaf)
            caught.append(str(gradient.device))
        except RuntimeError as error:
            caught.append(str(error))

    with Pretend():
        for careful in (True, False):
            monkeypatch.setattr(_Doubled, "careful", careful)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert caught[0] == "cuda:0"
    assert "two devices" in caught[1]


def test_apples_has_no_float64() -> None:
    with Pretend("mps:0") as there:
        far = torch.ones(2, device=there.device)
        for make in (far.double, lambda: far.to(torch.float64), lambda: torch.ones(1, dtype=torch.float64).to("mps")):
            with pytest.raises(TypeError, match="float64"):
                make()
        assert far.to("cpu", torch.float64).dtype == torch.float64


def test_gradients_cross_over() -> None:
    with Pretend():
        near = torch.ones(2, requires_grad=True)
        total = (near.to("cuda") * 3).cpu().sum()
        (gradient,) = torch.autograd.grad(total, near)
        assert type(gradient) is Tensor
        assert gradient.tolist() == [3, 3]


# What is run on it

REACHED = set[type]()
RUN = set[str]()
"""Public classes that a tensor on the device has reached, and the cases that were run."""


def public() -> set[type]:
    """Every public class of deidlib that can be made and does something; a table of values alone cannot go wrong."""
    found = set[type]()
    for module in pkgutil.walk_packages(deidlib.__path__, "deidlib."):
        if module.name.endswith("__main__") or any(f"{module.name}.".startswith(f"{room}.") for room in WITHOUT):
            continue
        for name, thing in vars(import_module(module.name)).items():
            mine = inspect.isclass(thing) and thing.__module__ == module.name and not name.startswith("_")
            if mine and not getattr(thing, "_is_protocol", False) and not inspect.isabstract(thing):
                found.add(thing)
    tables = {thing for thing in found if is_dataclass(thing) or issubclass(thing, tuple)}
    idle = {thing for thing in tables if not any(code.co_filename == inspect.getfile(thing) for code in methods(thing))}
    return {thing for thing in found - idle if not issubclass(thing, BaseException)}


# Rooms through which no tensor of a device goes, and why.
WITHOUT = {
    "deidlib.app": "a page, over what protect does",
    "deidlib.cli": "words of a shell, and what prints",
    "deidlib.cluster": "whole clips by protect, on other machines",
    "deidlib.storage": "files",
    "deidlib.media": "files: frames are fetched by to_pixels before they are written, and read on the CPU",
    "deidlib.records": "numbers in files, on the CPU",
    "deidlib.weights": "files; a model is moved once it is filled",
    "deidlib.keys": "keys are bytes",
    "deidlib.evaluation.report": "pages",
}
# Single classes likewise, and what is run by a case whose own tensors lie on the CPU.
EXEMPT = {
    "deidlib.attack.fine_steps.Asked": "by iteration 'fine steps'",
    "deidlib.attack.fine_steps.FineSteps": "by iteration 'fine steps'",
    "deidlib.attack.look.Look": "by every iteration",
    "deidlib.attack.loop.Iterate": "by every iteration; its frames are put together by Part",
    "deidlib.protect.protected_frames.ProtectedFrames": "by case 'a video is protected'",
    "deidlib.protect.side_by_side.SideBySide": "by case 'frames are protected'",
    "deidlib.attack.attack_step.AttackStep": "what a listener is told",
    "deidlib.models.strangers.lbp.LBPCascade": "as any PixelDetector, it is given bytes",
    "deidlib.protect.estimate.Estimator": "times, of what Deidentifier does",
    "deidlib.protect.file_work.FileWork": "files",
    "deidlib.protect.folder_work.FolderWork": "files",
    "deidlib.protect.forwards.Forwards": "numbers",
    "deidlib.protect.outcome.RunSummary": "numbers",
    "deidlib.protect.remote.RemoteWork": "files",
    "deidlib.protect.source.ClipSource": "files",
    "deidlib.protect.spread.Plan": "numbers",
    "deidlib.protect.spread.Spread": "other processes, each with what is run here",
    "deidlib.protect.workers.Workers": "other processes",
    "deidlib.metrics.identity.Naive": "hands on what it is given",
    "deidlib.metrics.identity.Linkage": "hands on what it is given",
    "deidlib.metrics.pairing.Pairing": "its length",
    "deidlib.attack.steps.AnnealedState": "what Annealed hands on: iteration 'annealed'",
    "deidlib.attack.steps.OptimizerState": "holds optimisers, which hold the tensors: iteration 'optimizer'",
    "deidlib.attack.steps.StepState": "empty",
    "deidlib.models.strangers.framing.Letterbox": "sizes",
    "deidlib.models.strangers.framing.RoundedUp": "sizes",
    "deidlib.models.strangers.cascade.Cascade": "OpenCV 5 has none; as any PixelDetector, it is given bytes",
    "deidlib.models.strangers.dlib_models.DlibCNN": "takes seconds; as DlibHOG, it is given bytes",
    "deidlib.geometry.camera.Camera": "numbers",
    "deidlib.geometry.camera.NormalizedCamera": "numbers",
    "deidlib.metrics.difference.Miss": "numbers",
    "deidlib.metrics.temporal_fidelity.FollowedFace": "on the CPU, as poses are",
    "deidlib.swap.lattice.Lattice": "on the CPU, the same on every machine: case 'swap by warping'",
    "deidlib.swap.lattice.Pyramid": "on the CPU, the same on every machine: case 'swap by warping'",
    "deidlib.swap.tps.ThinPlate": "on the CPU, the same on every machine: case 'swap by warping'",
    "deidlib.evaluation.identity.IdentityResult": "numbers",
    "deidlib.evaluation.identity.IdentitySettings": "settings",
    "deidlib.evaluation.movement.MovementResult": "on the CPU",
    "deidlib.evaluation.pairs.Pair": "files",
    "deidlib.evaluation.pairs.Pairs": "files",
    "deidlib.evaluation.quality.QualityResult": "numbers",
    "deidlib.evaluation.quality.QualitySettings": "settings",
    "deidlib.evaluation.reading.FrameComparison": "numbers",
    "deidlib.evaluation.reading.ReaderResult": "numbers, and readings on the CPU",
    "deidlib.evaluation.reading.ReadingSettings": "settings",
    "deidlib.evaluation.result.Evaluation": "numbers, and readings on the CPU",
    "deidlib.evaluation.verdict.Condition": "words",
    "deidlib.protect.batches.FaceCount": "numbers",
    "deidlib.protect.check.Check": "settings",
    "deidlib.protect.outcome.FolderSummary": "numbers",
    "deidlib.protect.inputs.Inputs": "files",
    "deidlib.protect.live.Recording": "frames on the CPU",
    "deidlib.protect.look.Written": "files",
    "deidlib.protect.manifest.Manifest": "files",
    "deidlib.protect.output.Output": "settings",
    "deidlib.protect.pace.Pace": "numbers",
    "deidlib.protect.prefetch.BackgroundSink": "what it is given is fetched before: case 'a video is protected'",
    "deidlib.protect.readback.Readback": "numbers",
    "deidlib.protect.frame_record.FrameRecord": "on the CPU",
    "deidlib.protect.segments.SegmentStore": "files",
    "deidlib.protect.segments.SegmentWriter": "files",
    "deidlib.protect.work_folder.WorkFolder": "files",
    "deidlib.protect.sidecar.Sidecar": "files",
    "deidlib.protect.summary.Summary": "numbers",
}


def methods(thing: type) -> Iterator[CodeType]:
    """The code of what a class defines."""
    for value in vars(thing).values():
        for part in (value, getattr(value, "fget", None), getattr(value, "__func__", None)):
            while part is not None and hasattr(part, "__wrapped__"):
                part = part.__wrapped__
            if inspect.isfunction(part):
                yield part.__code__


@contextmanager
def watched(classes: set[type], there: Pretend) -> Iterator[None]:
    """Note in which of them the device is told to do something."""
    known = {code for thing in classes for base in thing.__mro__ for code in methods(base)}
    own = {code: thing for thing in classes for code in methods(thing)}

    def look(frame: FrameType | None) -> None:
        while frame is not None:
            code = frame.f_code
            if code in known:
                if code in own:
                    REACHED.add(own[code])
                # A method that is inherited is its object's, too.
                if code.co_argcount and (kind := type(frame.f_locals[code.co_varnames[0]])) in classes:
                    REACHED.add(kind)
            frame = frame.f_back

    there.watching = look
    try:
        yield
    finally:
        there.watching = None


@pytest.fixture(scope="module")
def classes() -> set[type]:
    return public()


def counted(make: Callable[[Scene], Callable[[], object]], scene: Scene, there: Pretend) -> Count:
    work = make(scene)
    with there.counted() as count:
        work()
    return count


@pytest.mark.parametrize("name", CASES)
def test_on_the_device(name: str, scene: Scene, there: Pretend, classes: set[type]) -> None:
    case = CASES[name]
    if case.needs:
        needed(case.needs)
    with watched(classes, there):
        count = counted(case.make, scene, there)
    RUN.add(name)
    assert count.waits <= case.waits, count.waited_for
    assert count.sent <= case.sent, count.was_sent


def per_iteration(iteration: Iteration, scene: Scene, there: Pretend) -> tuple[float, float, list[str]]:
    """Waits and what is sent, of an iteration in which no frame is done; and what they were for."""
    models = {name: scene.put(MODELS[name]()) for name in iteration.models}
    readings = dict.fromkeys(models, scene.faces)
    mask = torch.zeros(2, 1, *scene.images.shape[2:], device=scene.device)
    # So small that distortions look at its surroundings alone.
    mask[:, :, 48:80, 48:80] = 1
    counts = []
    for steps in (1, 3):
        attacker = IFGSMAttacker(models, max_iterations=steps, **iteration.settings)
        with there.counted() as count:
            result = attacker(scene.hidden, readings, mask=mask, numbers=[0, 1])
        assert result.images.device == scene.device
        assert result.iterations.tolist() == [steps] * 2
        counts.append(count)
    few, many = counts
    why = [*(many.waited_for - few.waited_for), *(many.was_sent - few.was_sent)]
    return (many.waits - few.waits) / 2, (many.sent - few.sent) / 2, why


@pytest.mark.parametrize("name", ITERATIONS)
def test_an_iteration(
    name: str, scene: Scene, there: Pretend, classes: set[type], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is read at the very end hangs on how many faces are found there.
    monkeypatch.setattr(Examiner, "finish", lambda *_: None)
    with watched(classes, there):
        waits, sent, why = per_iteration(ITERATIONS[name], scene, there)
    RUN.add(name)
    assert waits <= ITERATIONS[name].waits, why
    assert sent <= ITERATIONS[name].sent, why


def test_nothing_public_is_forgotten(classes: set[type]) -> None:
    """Whoever adds a class adds a case to ``device_cases.py``, or says below why there is none."""
    missing = [name for name in (*CASES, *ITERATIONS) if name not in RUN]
    here = [name for name in missing if name not in CASES or not CASES[name].needs]
    if here:
        pytest.skip(f"needs all cases, and {len(here)} were not run, {here[0]!r} among them")
    names = {f"{thing.__module__}.{thing.__qualname__}": thing for thing in classes}
    gone = [name for name in EXEMPT if name not in names]
    assert not gone, f"exempt, and not there: {gone}"
    left = [
        name
        for name, thing in sorted(names.items())
        if thing not in REACHED
        and name not in EXEMPT
        and not any(name.startswith(f"{room}.") for room in WITHOUT)
        # What could not be run here for want of a file or a package.
        and not (missing and thing.__module__.startswith(_FOREIGN))
    ]
    assert not left, f"no tensor of a device reaches {left}: add a case to tests/device_cases.py, or say why in EXEMPT"


# Readers in files of others, and what runs them.
_FOREIGN = ("deidlib.models.strangers", "deidlib.nets.", "deidlib.metrics.embedders")


# The same elsewhere


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cuda:1", "mps:0"])
def test_on_other_devices(name: str) -> None:
    """A second card, of which nobody may think as the first; and Apple's, which has no float64."""
    with Pretend(name) as there:
        scene = Scene(there.device)
        for case in CASES.values():
            if case.needs is None:
                counted(case.make, scene, there)
        for iteration in ITERATIONS.values():
            per_iteration(iteration, scene, there)
