"""Words of a shell, and the objects that they mean."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import torch
import typer
from toys import Pixels, Points, White
from typer.testing import CliRunner

from deidlib.attack.aggregation import GradientNorm, Sum
from deidlib.attack.distortions import H264, JPEG, Blur, ChromaSubsampling
from deidlib.attack.steps import MomentumSignStep, SignStep
from deidlib.attack.tolerance import Tolerance
from deidlib.cli.hiding import hiding_of, seen_besides
from deidlib.cli.names import (
    Combine,
    Names,
    Steps,
    aggregator_of,
    detectors_of,
    device_of,
    distortion_of,
    models_of,
    readers_for,
    readers_of,
    silenced_of,
    step_of,
    tolerance_of,
)
from deidlib.faces import Faces
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.keys.scramble import CellPermutation
from deidlib.models.base import TargetModel
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.weights import store
from deidlib.weights.table import Checkpoint


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", ()),
        (" , ", ()),
        ("mtcnn", ("mtcnn",)),
        (" RetinaFace,fan ,,FAN,", ("retinaface", "fan")),
        ("h264:23, jpeg:75", ("h264:23", "jpeg:75")),
        (["fan", " mtcnn", "fan"], ("fan", "mtcnn")),
    ],
)
def test_lists(said: str | list[str], words: tuple[str, ...]) -> None:
    names = Names(said)
    assert names == words
    assert Names(names) == names == Names(str(names))
    assert str(names) == ",".join(words)


def test_lists_as_options() -> None:
    app, seen = typer.Typer(), []

    @app.command()
    def command(
        some: Annotated[Names, typer.Option(parser=Names)] = Names("mtcnn,fan"),
        none: Annotated[Names | None, typer.Option(parser=Names)] = None,
    ) -> None:
        seen.append((some, none))

    for arguments in ([], ["--some", "a, B,a", "--none", ""]):
        assert CliRunner().invoke(app, arguments).exit_code == 0
    assert seen == [(("mtcnn", "fan"), None), (("a", "b"), ())]
    assert all(isinstance(value, Names) for value in itertools.chain(*seen) if value is not None)
    assert "mtcnn, fan" in CliRunner().invoke(app, ["--help"]).stdout


def test_who_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine without weights but those that MTCNN brings.
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("DEIDLIB_CACHE", str(tmp_path))
    detector, points = Pixels(), Points()
    models: dict[str, TargetModel[Any]] = {"retinaface": detector, "fan": points}
    first, second = detectors_of(Names(), models, "cpu")
    assert first is detector
    assert isinstance(second, MTCNN)
    assert detectors_of(Names("retinaface"), models, "cpu") == [detector]
    second, first = detectors_of(Names("mtcnn, retinaface"), models, "cpu")
    assert first is detector
    assert isinstance(second, MTCNN)
    with pytest.raises(ValueError, match="choose from mtcnn, retinaface"):
        detectors_of(Names("nobody"), models, "cpu")


def test_models_and_readers() -> None:
    assert [type(model) for model in models_of(Names("mtcnn"), "cpu").values()] == [MTCNN]
    assert readers_of(Names(), "cpu", "--against") == {}
    with pytest.raises(ValueError, match="--targets must name at least one model"):
        models_of(Names(), "cpu")


def test_who_is_silenced(shared: Path) -> None:
    models: dict[str, TargetModel[Any]] = {"mtcnn": MTCNN()}
    for none in ("none", "", "auto"):
        assert silenced_of(Names(none), models, "cpu") == []
    said = silenced_of(Names("mtcnn,retinaface-twin"), models, "cpu")
    assert [model.name for model in said] == ["mtcnn", "retinaface"]
    with pytest.raises(ValueError, match="unknown model 'yunet' in --silence; choose from retinaface-twin"):
        silenced_of(Names("yunet"), models, "cpu")


def test_the_twin_is_silent_by_default_if_it_can_be_had(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    retinaface = RetinaFace()
    (twin,) = silenced_of(Names("auto"), {"retinaface": retinaface}, "cpu")
    assert isinstance(twin, RetinaFace)
    assert twin.anchor_sizes != retinaface.anchor_sizes
    # The twin has no other twin than what is authorised.
    assert silenced_of(Names("auto"), {"retinaface": twin}, "cpu") == []
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("DEIDLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "_fetch", unavailable)
    assert silenced_of(Names("auto"), {"retinaface": retinaface}, "cpu") == []
    assert "warning: strangers like RetinaFace may find the faces" in capsys.readouterr().err


def unavailable(wanted: Checkpoint) -> Path:
    raise FileNotFoundError(f"{wanted.file} cannot be had")


def test_whom_a_key_opens() -> None:
    key = Key(bytes(range(32)))
    record = KeyRecord.of(key, nonce="n", scramble=CellPermutation(), models=["retinaface", "mpiigaze"])
    assert readers_for(Names(), None) == ("mtcnn",)
    assert readers_for(Names("fan"), None) == ("fan",)
    assert readers_for(Names(), record) == ("retinaface", "mpiigaze")
    assert readers_for(Names("mpiigaze"), record) == ("mpiigaze",)
    with pytest.raises(ValueError, match=r"fan cannot read this file.*Try --models retinaface,mpiigaze"):
        readers_for(Names("fan,mpiigaze"), record)


def test_step_rules_and_sums() -> None:
    rules = {name: step_of(name) for name in get_args(Steps)}
    assert rules == {
        "auto": None,
        "i-fgsm": SignStep(),
        "mi-fgsm": MomentumSignStep(),
        "ni-fgsm": MomentumSignStep(nesterov=True),
    }
    sums = {name: aggregator_of(name) for name in get_args(Combine)}
    assert sums == {"auto": None, "gradient-norm": GradientNorm(), "sum": Sum()}


def test_distortions() -> None:
    assert distortion_of("jpeg:75") == JPEG(75)
    assert distortion_of("h264:23") == H264(23)
    assert distortion_of("blur:0.8") == Blur(0.8)
    assert distortion_of("chroma") == ChromaSubsampling()


def test_tolerances() -> None:
    assert tolerance_of("quick") == Tolerance(iou=0.95, nme=0.015, gaze=3.0)
    assert tolerance_of("fine") == Tolerance(iou=0.998, nme=0.001, gaze=0.4)
    assert tolerance_of("iou:0.97, nme:1%,gaze:2") == Tolerance(iou=0.97, nme=0.01, gaze=2.0)
    assert tolerance_of("nme:0.02,score:0.1") == Tolerance(nme=0.02, score=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no limit.*Known: auto, never, quick, standard, fine, or limits such as iou:0.97"),
        ("sharp", "--until 'sharp': 'sharp' is no limit"),
        ("iou:0.9,iou:0.8", "the second of its kind"),
        ("iou", "--until 'iou': could not convert"),
        ("iou:97", r"an overlap in \[0, 1\], got 97"),
        ("nme:nan", "nme must be >= 0"),
        ("gaze:-1", "in degrees, got -1"),
    ],
)
def test_tolerances_that_are_none(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tolerance_of(text)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vp9:30", "unknown distortion 'vp9:30' in --survive. Known: jpeg:QUALITY"),
        ("", "unknown distortion ''"),
        ("jpeg", "--survive 'jpeg': .*Known: jpeg:QUALITY"),
        ("jpeg:101", "whole number from 1 to 100, got 101"),
        ("jpeg:7.5", "--survive 'jpeg:7.5'"),
        ("h264:52", r"0 \(best\) to 51 \(worst\), got 52"),
        ("h264:nan", "got nan"),
        ("h264:best", "--survive 'h264:best'"),
        ("blur:0", "sigma must be positive and at most 100"),
        ("blur:inf", "sigma must be positive and at most 100"),
        ("chroma:2", "unknown distortion 'chroma:2'"),
    ],
)
def test_distortions_that_are_none(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distortion_of(name)


def test_the_ellipse_hides_all_that_the_box_would_hide() -> None:
    faces = [Faces(torch.tensor([[20.0, 31.0, 41.0, 77.0]]), torch.ones(1))]
    ellipse = hiding_of("solid", shape="ellipse").mask(faces, 120, 90) > 0
    # The pixels whose middles lie in the box of 1.2 times the size.
    x, y = torch.arange(90) + 0.5, torch.arange(120) + 0.5
    inside = ((y - 54).abs() <= 1.2 * 23)[:, None] & ((x - 30.5).abs() <= 1.2 * 10.5)
    assert ellipse[0, 0][inside].all()
    assert int(ellipse.sum()) > int(inside.sum())
    # Round: the corners of the rectangle around it are open.
    rows, columns = ellipse[0, 0].any(dim=1).nonzero().flatten(), ellipse[0, 0].any(dim=0).nonzero().flatten()
    assert not ellipse[0, 0, rows[0], columns[0]]
    for text in ("pixelate", "blur"):
        assert torch.equal(hiding_of(text, shape="ellipse").mask(faces, 120, 90) > 0, ellipse)
    with pytest.raises(ValueError, match="shows a face in its own outline"):
        hiding_of("swap:face.png", shape="ellipse")


@pytest.mark.parametrize(
    ("cards", "mps", "wanted", "given"),
    [
        (0, False, "auto", "cpu"),
        (2, False, "auto", "cuda"),
        (0, True, "auto", "mps"),
        (2, False, "cuda:1", "cuda:1"),
        (2, False, "cpu", "cpu"),
        (0, True, "mps", "mps"),
    ],
)
def test_a_device_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cards: int, mps: bool, wanted: str, given: str
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert device_of(wanted) == given


@pytest.mark.parametrize(
    ("cards", "wanted", "message"),
    [
        (0, "cuda", r"--device cuda: this machine has cpu that torch can use\..*Use --device cpu, or auto"),
        (2, "cuda:2", r"--device cuda:2: this machine has cpu, cuda:0, cuda:1 .*Use --device cuda:0, or auto"),
        (1, "mps", r"--device mps: this machine has cpu, cuda:0 "),
        (1, "cuda:x", r"must be auto, cpu, cuda, cuda:N or mps, got 'cuda:x'"),
    ],
)
def test_a_device_that_is_not(monkeypatch: pytest.MonkeyPatch, cards: int, wanted: str, message: str) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        device_of(wanted)


def test_who_authorises_mtcnn_is_told_what_that_shows_to_others() -> None:
    said = seen_besides([MTCNN()])
    assert said is not None
    assert "--key" in said
    assert "--targets retinaface" in said
    assert seen_besides([White(lambda image, number: [])]) is None
