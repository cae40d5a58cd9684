"""What serves best, by the models; and that the command line does just that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from toys import Pixels
from typer.testing import CliRunner

from deidlib import cli
from deidlib.attack.aggregation import Aggregator, GradientNorm, Sum
from deidlib.attack.chain import Chain
from deidlib.attack.distortions import H264, JPEG
from deidlib.attack.presets import (
    TOLERANCES,
    Until,
    recommended,
    recommended_chain,
    recommended_detectors,
    recommended_until,
)
from deidlib.attack.reading_step import ReadingStep
from deidlib.attack.steps import Annealed, APGDStep, MomentumSignStep, SignStep, StepRule
from deidlib.attack.tolerance import Tolerance
from deidlib.keys.key import Key
from deidlib.media import CODECS, write_image
from deidlib.models.cropped import CroppedDetector
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.protect import file
from deidlib.protect.deidentifier import Deidentifier
from deidlib.records.fingerprint import described


class Reads(Pixels):
    """A model that reads boxes, landmarks or gaze."""

    def __init__(self, task: Literal["boxes", "landmarks", "gaze"]) -> None:
        super().__init__()
        self.task = task  # type: ignore[misc]

    @property
    def name(self) -> str:
        return self.task


def mobilenet() -> RetinaFace:
    """RetinaFace with weights of nobody."""
    from face_alignment.detection.retinaface.net_retinaface import RetinaFace as Net

    return RetinaFace(Net().state_dict())


@pytest.mark.parametrize(
    ("tasks", "step", "aggregate"),
    [
        (["boxes"], APGDStep(), Sum()),
        (["gaze"], APGDStep(), Sum()),
        (["boxes", "landmarks"], APGDStep(), GradientNorm()),
        (["boxes", "gaze"], MomentumSignStep(), Sum()),
        (["boxes", "landmarks", "gaze"], MomentumSignStep(), Sum()),
    ],
)
def test_the_models_decide(tasks: list[Any], step: StepRule[Any], aggregate: Aggregator) -> None:
    models = [Reads(task) for task in tasks]
    attacker = recommended(models)
    assert (attacker.step, attacker.aggregate, attacker.max_iterations) == (step, aggregate, 60)
    assert list(attacker.named_models().values()) == models
    assert list(attacker.named_models()) == tasks


def test_few_and_shorter_and_shorter_steps_where_a_key_meets_distortions() -> None:
    def chosen(*tasks: Any, **settings: Any) -> tuple[StepRule[Any], int]:
        settings = {"keyed": True, "distortions": [H264(23)], **settings}
        attacker = recommended([Reads(task) for task in tasks or ("boxes",)], **settings)
        return attacker.step, attacker.max_iterations

    step, steps = chosen()
    assert isinstance(step, Annealed)
    # A third of what it was, and the last of them is the shortest.
    assert steps == step.steps <= 60 / 3
    assert chosen("boxes", "landmarks") == (step, steps)
    # The first crosses half of the ball, of a map where it is widest.
    assert step.step == MomentumSignStep(4 / 255, decay=0.5)
    wide = Annealed(MomentumSignStep(8 / 255, decay=0.5), steps=steps)
    for radius in (16 / 255, torch.tensor([[4.0, 16.0]], dtype=torch.float64) / 255):
        assert chosen(epsilon=radius)[0] == wide
    assert chosen(epsilon=0.0)[1] == steps
    # A model that reads by a key says so itself.
    mine = recommended([Keyed(Reads("boxes"), Key.generate())], distortions=[H264(23)])
    assert (mine.step, mine.max_iterations) == (step, steps)
    # Whoever names a number gets as many, becoming shorter over all of them.
    assert chosen(max_iterations=30) == (replace(step, steps=30), 30)
    assert chosen(max_iterations=0)[1] == 0
    # Where that was not measured, all is as it was.
    assert chosen(distortions=[]) == chosen(keyed=False) == chosen(step=APGDStep()) == (APGDStep(), 60)
    assert chosen("boxes", "gaze") == chosen(until=TOLERANCES["quick"]) == (MomentumSignStep(), 60)


def test_what_is_given_is_taken() -> None:
    models = {"a": Reads("boxes"), "b": Reads("gaze")}
    attacker = recommended(
        models, step=SignStep(), aggregate=GradientNorm(), epsilon=0.1, max_iterations=3, distortions=[JPEG(50)]
    )
    assert (attacker.step, attacker.aggregate, attacker.epsilon) == (SignStep(), GradientNorm(), 0.1)
    assert (attacker.max_iterations, list(attacker.distortions)) == (3, [JPEG(50)])
    assert replace(attacker, threshold={"a": 1.0}).threshold == {"a": 1.0}


def test_what_the_attacker_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one target model"):
        recommended([])
    with pytest.raises(ValueError, match="two models are called 'boxes'"):
        recommended([Reads("boxes"), Reads("boxes")])
    with pytest.raises(ValueError, match="max_iterations must be >= 0"):
        recommended([Reads("boxes")], max_iterations=-1)


def test_retinaface_on_mobilenet_is_attacked_through_windows() -> None:
    model = mobilenet()
    attacked = recommended({"mine": model, "mtcnn": MTCNN()}).named_models()
    cropped = attacked["mine"]
    assert isinstance(cropped, CroppedDetector)
    assert cropped.model is model
    assert isinstance(attacked["mtcnn"], MTCNN)
    # The same one is asked where faces are: it is read once.
    assert recommended_detectors(attacked.values()) == [model, attacked["mtcnn"]]
    # Whoever wraps it in something else means that.
    keyed = Keyed(model, Key.generate())
    assert recommended([keyed]).named_models() == {keyed.name: keyed}


def test_mtcnn_helps_to_hide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine without weights but those that MTCNN brings.
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("DEIDLIB_CACHE", str(tmp_path))
    detector, mtcnn = Reads("boxes"), MTCNN()
    first, second = recommended_detectors([Reads("gaze"), detector])
    assert first is detector
    assert isinstance(second, MTCNN)
    assert recommended_detectors([mtcnn, detector]) == [mtcnn, detector]
    assert recommended_detectors([Keyed(mtcnn, Key.generate())]) == [mtcnn]
    assert next(recommended_detectors([], device="meta")[0].parameters()).device == torch.device("meta")


def test_retinaface_helps_where_its_weights_are(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(shared / "weights"))
    mtcnn = MTCNN()
    first, second = recommended_detectors([mtcnn])
    assert first is mtcnn
    assert isinstance(second, RetinaFace)
    assert recommended_detectors([second, mtcnn]) == [second, mtcnn]


def test_frames_start_from_those_before_them_where_the_codec_keeps_that() -> None:
    starts = {codec: recommended_chain(codec) for codec in CODECS}
    assert starts.pop("h264") == Chain()
    assert set(starts.values()) == {None}
    assert recommended_chain("h264", keyed=True) is None
    # A frame before that reads well enough is nearly right, unless the key made another frame of it.
    assert recommended_chain("ffv1", until=TOLERANCES["quick"]) == Chain()
    assert recommended_chain("ffv1", keyed=True, until=TOLERANCES["quick"]) is None


def test_a_tolerance_is_handed_on_and_reached_by_steps_of_one_length() -> None:
    attacker = recommended([MTCNN()], until=TOLERANCES["fine"])
    assert attacker.until == TOLERANCES["fine"]
    assert attacker.step == MomentumSignStep()
    assert attacker.fine == ReadingStep()
    assert recommended([MTCNN()], until={"mtcnn": Tolerance(iou=0.95)}).fine == ReadingStep(near=4.0)
    assert recommended([MTCNN()], until=TOLERANCES["fine"], step=APGDStep()).step == APGDStep()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Deidentifier]:
    """What the command line would do to a picture, each time that it is asked to."""
    asked: list[Deidentifier] = []

    def remember(deidentifier: Deidentifier, *_: object, **__: object) -> None:
        asked.append(deidentifier)
        raise KeyboardInterrupt

    monkeypatch.setattr(file, "protect_image", remember)
    return asked


@pytest.mark.parametrize(
    ("options", "codec", "until"),
    [
        ([], "ffv1", recommended_until(MTCNN())),
        (["--until", "never"], "ffv1", None),
        (["--codec", "h264"], "h264", None),
        (["--detectors", "mtcnn"], "ffv1", recommended_until(MTCNN())),
        (["--until", "quick"], "ffv1", {"mtcnn": TOLERANCES["quick"]}),
        (["--until", "iou:0.97"], "ffv1", Tolerance(iou=0.97)),
    ],
)
def test_the_command_line_does_this(
    options: list[str],
    codec: str,
    until: Until,
    seen: list[Deidentifier],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without RetinaFace's weights, mtcnn is who looks by default.
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("DEIDLIB_CACHE", str(tmp_path))
    write_image(tmp_path / "a.png", torch.zeros(1, 3, 32, 32))
    CliRunner().invoke(cli.app, ["protect", str(tmp_path / "a.png"), str(tmp_path / "b.png"), *options])
    models = {"mtcnn": MTCNN()}
    mine = Deidentifier(
        recommended(models, until=until),
        detectors=recommended_detectors(models.values()),
        chain=recommended_chain(codec, until=until),
    )
    assert [described(one) for one in seen] == [described(mine)]


def test_the_command_line_knows_of_the_key(seen: list[Deidentifier], tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.zeros(1, 3, 32, 32))
    Key.generate().save(tmp_path / "key")
    ask = ["protect", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--targets", "mtcnn", "--survive", "h264:23"]
    for more in (["--key", str(tmp_path / "key")], ["--key", str(tmp_path / "key"), "--iterations", "60"], []):
        CliRunner().invoke(cli.app, [*ask, *more])
    short, long, open_to_all = (one.attacker for one in seen)
    mine = recommended({"mtcnn": MTCNN()}, distortions=[H264(23)], keyed=True)
    assert described(short) == described(mine)
    assert (long.max_iterations, long.step) == (60, replace(mine.step, steps=60))  # type: ignore[type-var]
    assert (open_to_all.max_iterations, open_to_all.step) == (60, APGDStep())
    assert all(one.chain is None for one in seen[:2])


def test_each_model_is_held_to_what_it_can_be() -> None:
    sharp, coarse = TOLERANCES["standard"], TOLERANCES["quick"]
    models: dict[str, Any] = {
        "a": mobilenet(),
        "b": CroppedDetector(mobilenet()),
        "c": MTCNN(),
        "d": Reads("landmarks"),
    }
    assert recommended_until(models) == {"a": sharp, "b": sharp, "c": coarse, "d": coarse}
    assert recommended_until(models, "quick") == dict.fromkeys("abcd", coarse)


def test_all_steps_are_taken_where_reading_before_the_file_is_stored_says_little() -> None:
    cases: list[dict[str, Any]] = [{"codec": "h264"}, {"codec": "mjpeg"}, {"keyed": True}, {"distortions": [JPEG(50)]}]
    for settings in cases:
        assert recommended_until(MTCNN(), **settings) is None
        assert recommended_until(MTCNN(), always=True, **settings) is not None
