"""On a GPU: what comes out is what comes out on the CPU, in bounded memory, and an iteration waits for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from device_cases import MODELS, Scene

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.steps import SignStep

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["retinaface", "mpiigaze", "fan"]


@pytest.fixture
def card() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU that torch can use")
    return torch.device("cuda", 0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_the_cpus(card: torch.device, name: str) -> None:
    """Loss within 1e-3 of it, and a gradient whose direction is the same to a cosine of 0.99."""
    found = []
    for device in (torch.device("cpu"), card):
        scene = Scene(device)
        model = scene.put(MODELS[name]())
        leaf = scene.hidden.clone().requires_grad_()
        loss = model.loss(leaf, model.target(scene.faces, (scene.images.shape[2], scene.images.shape[3])))
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        found.append((loss.detach().cpu(), gradient.cpu().flatten(1)))
    (loss, gradient), (other, slope) = found
    torch.testing.assert_close(other, loss, rtol=1e-3, atol=1e-5)
    assert torch.cosine_similarity(gradient, slope).min() > 0.99


@pytest.mark.gpu
def test_an_iteration_waits_for_nothing(card: torch.device) -> None:
    """torch raises at a wait; what is set up before the first step may."""
    scene = Scene(card)
    model = scene.put(MODELS["retinaface"]())
    target = model.target(scene.faces, (scene.images.shape[2], scene.images.shape[3]))
    leaf = scene.hidden.clone().requires_grad_()

    def iterate() -> torch.Tensor:
        (gradient,) = torch.autograd.grad(model.loss(leaf, target).sum(), leaf)
        rule = SignStep()
        images, _ = rule(leaf.detach(), gradient, gradient[:, 0, 0, 0], rule.init(leaf))
        return images

    iterate()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        iterate()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_memory_does_not_grow_with_iterations(card: torch.device) -> None:
    scene, peaks = Scene(card), []
    model = scene.put(MODELS["retinaface"]())
    for steps in (2, 2, 20):
        torch.cuda.reset_peak_memory_stats(card)
        IFGSMAttacker([model], max_iterations=steps)(scene.hidden, scene.faces)
        peaks.append(torch.cuda.max_memory_allocated(card))
    assert peaks[2] < 1.1 * peaks[1]


def test_the_script_runs_from_end_to_end_on_a_cpu(tmp_path: Path) -> None:
    command = ["sh", str(ROOT / "benchmarks" / "gpu.sh"), "cpu", "--quick", "--folder", str(tmp_path)]
    if sys.platform == "win32":
        pytest.skip("a shell script")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "gpu.json").read_text())
    assert data["about"]["gpu"] == "none"
    rows = data["tables"]["iterations"]["rows"]
    assert {row[0] for row in rows} >= {"RetinaFace", "FAN", "ETH-XGaze", "all three"}
    assert "| all three | 2 |" in (tmp_path / "gpu.md").read_text()
    # A frame each of all chains goes at once, so that the passes do not grow with their number.
    assert [(row[0], row[2]) for row in data["tables"]["chains"]["rows"]] == [(1, 2), (2, 2)]
    assert "bfloat16" in done.stdout
