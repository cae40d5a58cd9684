from __future__ import annotations

from pathlib import Path

import pytest
from clips import make_video
from command import deidlib, refused
from patches import Patches, frame

from deidlib.evaluation import Evaluation, evaluate
from deidlib.evaluation.verdict import Condition

FACE = (10, 10, 42, 42)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Two faces of four are found, one moved by a quarter of its width; another appears."""
    folder = tmp_path_factory.mktemp("clips")
    before = make_video(folder / "a.mkv", [frame(FACE)] * 4)
    after = make_video(folder / "b.mkv", [frame(FACE), frame((18, 10, 50, 42)), frame(), frame((46, 10, 60, 30))])
    return evaluate(before, after, authorised={}, unauthorised={"red": Patches()}, quality=None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("found(red) > 0", 2),
        ("found_share(red) > 0", 0.5),
        ("missed(red) > 0", 2),
        ("extra(red) > 0", 1),
        # 1, and 24 of 40 columns shared; missed faces have none.
        ("iou(red) > 0", (1 + 24 / 40 + 0 + 0) / 4),
        ("least_iou(red) > 0", 0),
    ],
)
def test_the_measures_are_those_counted_by_hand(result: Evaluation, text: str, value: float) -> None:
    assert Condition.parse(text).value(result) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("text", ["found(red) > 1", "found(red)>=2", "found(red)<=2", "found_share(red) < 50.5%"])
def test_it_holds(result: Evaluation, text: str) -> None:
    assert Condition.parse(text).holds(result)


@pytest.mark.parametrize("text", ["found(red) > 2", "found(red)<2", "extra(red) >= 1.5", "found_share(red) > 50 %"])
def test_it_does_not_hold(result: Evaluation, text: str) -> None:
    assert not Condition.parse(text).holds(result)


def test_what_was_not_there_to_measure_is_not_passed(tmp_path: Path) -> None:
    nothing = make_video(tmp_path / "a.mkv", [frame()] * 2)
    empty = evaluate(nothing, nothing, authorised={}, unauthorised={"red": Patches()}, quality=None)
    for text in ("iou(red) < 0.9", "iou(red) > 0.9", "found_share(red) < 1"):
        assert Condition.parse(text).holds(empty)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("found(yunet)", "no condition"),
        ("found yunet > 0", "no condition"),
        ("seen(yunet) > 0", "no measure 'seen'"),
        ("found > 0", "of the files"),
        ("found(red) > 1.2.3", "no number"),
    ],
)
def test_another_form_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Condition.parse(text)


def test_what_nobody_measured_is_refused(result: Evaluation) -> None:
    with pytest.raises(ValueError, match="--against yunet"):
        Condition.parse("found(yunet) > 0").holds(result)
    with pytest.raises(ValueError, match="--embedder"):
        Condition.parse("accepted > 0").holds(result)


def test_the_command_ends_with_the_verdict(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "a.mkv", [frame(FACE)] * 2)
    asked: list[str | Path] = [
        "evaluate",
        clip,
        clip,
        "--models",
        "",
        "--against",
        "mtcnn",
        "--no-quality",
        "--fail-if",
    ]
    passed = deidlib(*asked, "found(mtcnn) > 0")
    # MTCNN sees no face in a red square.
    assert passed.exit_code == 0, passed.output
    assert "verdict: passed" in passed.stdout
    failed = deidlib(*asked, "found(mtcnn) < 1")
    assert failed.exit_code == 2
    assert "verdict: failed, since found(mtcnn) < 1 (0)" in failed.stdout
    refused(deidlib(*asked, "nonsense"), "no condition")
