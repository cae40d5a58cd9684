"""What a notebook shows: short words, tables, sheets and curves; and that the library does what the shell does."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from clips import astronauts, make_video
from command import deidlib, done
from patches import LEFT, RIGHT, Patches, frame
from toys import Pixels as PixelModel
from toys import Points, White, boxed, painted

from deidlib import MTCNN, Faces, IFGSMAttacker, Key, from_pixels, media, observe, protect_image, recommended, to_pixels
from deidlib.attack import AttackResult, SignStep, Tolerance
from deidlib.attack.presets import recommended_until
from deidlib.cli import app
from deidlib.evaluation import evaluate
from deidlib.images import to_uint8
from deidlib.media import read_image, write_image
from deidlib.models.base import by_name
from deidlib.models.cropped import CroppedDetector
from deidlib.obfuscate import Solid
from deidlib.protect import (
    Check,
    Deidentifier,
    FileResult,
    FolderSummary,
    Output,
    Summary,
    protect_video,
    recommended_deidentifier,
)
from deidlib.protect.lookout import Lookout
from deidlib.protect.share import Share
from deidlib.records.detections import Detections
from deidlib.records.fingerprint import described
from deidlib.records.html_table import html_table
from deidlib.tracking import FaceTracker
from deidlib.visualize import figure, picture

PLACE = (20, 16, 50, 60)


def red(image: torch.Tensor, number: int) -> Faces:
    (faces,) = Patches().predict(image[None])
    return faces


@pytest.fixture
def hider() -> Deidentifier:
    return Deidentifier(IFGSMAttacker(White(red), max_iterations=1), lookout=None)


@pytest.fixture(scope="module")
def attacked() -> tuple[torch.Tensor, AttackResult]:
    hidden, other = torch.full((2, 3, 12, 16), 0.5), torch.full((2, 3, 12, 16), 0.6)
    attack = IFGSMAttacker(PixelModel(), max_iterations=3, step=SignStep(1 / 255))
    return hidden, attack(hidden, painted(other))


# One model


def test_one_model_is_a_list_of_it() -> None:
    model = MTCNN()
    alone, listed = IFGSMAttacker(model), IFGSMAttacker([model])
    assert alone.named_models() == listed.named_models() == {"mtcnn": model}
    # A job that was begun with the one goes on with the other.
    assert described(alone) == described(listed)
    assert described(recommended(model)) == described(recommended([model]))
    assert by_name(model) == {"mtcnn": model}
    assert len(observe(astronauts(1), model)[0]) == len(observe(astronauts(1), [model])[0]) == 1


# Words


def test_words_are_short(attacked: tuple[torch.Tensor, AttackResult], hider: Deidentifier) -> None:
    points, model = Points(), MTCNN()
    assert repr(points) == "Points(landmarks, 0 weights)"
    assert repr(CroppedDetector(model)) == f"CroppedDetector({model!r}, context=128)"
    assert repr(IFGSMAttacker([PixelModel(), points], max_iterations=7)) == (
        "IFGSMAttacker(pixels, points; epsilon 8/255; steps 7 at most; "
        f"rule {SignStep()!r}; sum Sum())"
    )  # fmt: skip
    assert repr(attacked[1]).startswith("AttackResult(2 frames of 16 x 12, 3 steps; final loss pixels ")
    (batch,) = hider.frames([torch.stack([frame(PLACE), frame(PLACE)])])
    assert repr(batch) == "ProtectedBatch(2 frames of 128 x 96: 2 found)"
    known = Detections([boxed(PLACE), Faces.empty()], size=(96, 128), readers=("mtcnn",))
    assert repr(known) == "Detections(2 frames, 1 of them with faces; 128 x 96; mtcnn)"


def test_a_summary_says_what_happened_and_leaves_zeros_out(tmp_path: Path, hider: Deidentifier) -> None:
    clip = make_video(tmp_path / "a.mkv", [frame(PLACE), frame()])
    summary = protect_video(hider, clip, tmp_path / "o.mkv", check=None)
    assert repr(summary) == "Summary(2 frames: 1 found, 1 held)"
    table = summary._repr_html_()
    assert "<td>found</td><td>1</td>" in table
    assert "kept" not in table
    assert "<td>to be looked at</td><td>1 frame</td>" in table


def test_a_summary_says_how_the_file_is_read() -> None:
    from deidlib.protect.readback import ModelReadback, Readback

    read = Readback({"m": ModelReadback(4, 0.75, 0.5, 0.0, None, None)}, 0.9, (2,), 1, 0)
    counted: dict[str, Any] = dict.fromkeys(("filled", "held", "partly_held", "whole_frame", "kept"), 0)
    counted |= {"turned": 0, "disputed": 0, "losses": {}}
    summary = Summary(frames=4, found=4, fewest=1, most=1, readback=read, **counted)
    assert repr(summary) == "Summary(4 frames: 4 found; m finds 75% of 4, IoU 0.5)"


def test_a_folder_is_counted() -> None:
    files = [FileResult(Path(name), Path(name), error=error) for name, error in (("a", None), ("b", "damaged"))]
    assert repr(FolderSummary(files)) == "FolderSummary(2 files: 1 failed, 1 finished before)"


# Tables


def test_texts_of_tables_are_escaped_and_long_ones_cut() -> None:
    table = html_table([(number, "<b>") for number in range(15)], head=("n", "&"), caption="a<b")
    assert "<caption>a&lt;b</caption>" in table
    assert "<th>&amp;</th>" in table
    assert table.count("&lt;b&gt;") == 12
    assert "<td>and 3 more</td><td></td></tr></table>" in table
    assert "script" in html_table([("<script>",)])
    assert "<script" not in html_table([("<script>",)])


def test_faces_are_a_row_each_in_pixels_and_degrees() -> None:
    gaze = torch.tensor([[0.5, 0.0, -(0.75**0.5)], [0.0, -(0.5**0.5), -(0.5**0.5)]])
    table = boxed((1, 2, 30, 40), (5, 5, 9, 9)).replace(gaze=gaze)._repr_html_()
    assert (
        "<td>0</td><td>1.0</td><td>2.0</td><td>30.0</td><td>40.0</td><td>1.000</td><td></td><td>30.0, 0.0</td>" in table
    )
    # Up is less than none.
    assert "<td>0.0, -45.0</td>" in table
    assert boxed(*[(0, 0, 1, 1)] * 20)._repr_html_().count("<tr>") == 13


def test_what_was_attacked_is_a_row_per_frame(attacked: tuple[torch.Tensor, AttackResult]) -> None:
    table = attacked[1]._repr_html_()
    assert table.count("<tr>") == 3
    assert f"<td>1</td><td>3</td><td>3</td><td>{float(attacked[1].final_losses()['pixels'][1]):.3g}</td>" in table
    said = IFGSMAttacker(PixelModel(), epsilon=4 / 255, until=Tolerance(iou=0.9))._repr_html_()
    assert "<td>epsilon</td><td>4/255</td>" in said
    assert "iou=0.9" in said
    assert "<td>boxes</td>" in PixelModel()._repr_html_()


# Pictures


def test_a_sheet_shows_what_was_and_what_is(attacked: tuple[torch.Tensor, AttackResult], hider: Deidentifier) -> None:
    hidden, result = attacked
    alone, beside = result.show(), result.show(hidden)
    assert beside.size[0] > 2.5 * alone.size[0]
    pixels = np.asarray(result.show(hidden, hidden, most=1)).reshape(-1, 3)
    for level in to_pixels(hidden)[0, 0, 0], to_pixels(result.images)[0, 0, 0]:
        assert (pixels == level).all(axis=1).sum() > 12 * 16
    with pytest.raises(ValueError, match=r"batches of \(2, 3, 12, 16\), got \[\(1, 3, 12, 16\)\]"):
        result.show(hidden[:1])
    (batch,) = hider.frames([frame(PLACE)[None]])
    assert batch.show().size[0] > 3 * 240


def test_a_picture_is_one_frame() -> None:
    image = torch.rand(3, 4, 5)
    assert np.array_equal(np.asarray(picture(image)), to_pixels(image))
    assert picture(image[None]).size == (5, 4)
    with pytest.raises(ValueError, match="one frame, got 2"):
        picture(torch.rand(2, 3, 4, 5))


def test_curves_are_the_losses(attacked: tuple[torch.Tensor, AttackResult]) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [notebook]")
    pyplot = sys.modules.get("matplotlib.pyplot")
    drawn = attacked[1].plot()
    (axes,) = drawn.axes
    mean = next(line for line in axes.lines if line.get_label() == "pixels")
    assert np.allclose(mean.get_ydata(), attacked[1].losses["pixels"].mean(dim=1))
    assert axes.get_title()
    assert axes.get_xlabel() == "steps"
    assert "loss" in axes.get_ylabel()
    shown: bytes = drawn._repr_png_()  # type: ignore[attr-defined]
    assert shown.startswith(b"\x89PNG")
    # A figure that pyplot knew would be shown twice.
    assert pyplot is None or not pyplot.get_fignums()
    # A frame without a face has no loss to take a logarithm of.
    nobody = IFGSMAttacker(PixelModel(), max_iterations=1)(torch.rand(1, 3, 8, 8), [Faces.empty()])
    assert nobody.plot().axes[0].get_yscale() == "linear"


def test_bars_are_who_finds_the_faces(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [notebook]")
    write_image(tmp_path / "a.png", frame(LEFT, RIGHT))
    write_image(tmp_path / "b.png", frame(LEFT))
    readers = {"red": Patches()}
    result = evaluate(tmp_path / "a.png", tmp_path / "b.png", authorised=readers, unauthorised={"green": Patches(1)})
    assert repr(result) == "Evaluation(b.png, 1 frame; red authorised 1/2, green unauthorised 0/0)"
    table = result._repr_html_()
    assert "<td>red</td><td>authorised</td><td>boxes</td><td>1 of 2</td><td>0.5</td>" in table
    (axes,) = result.plot().axes
    bars: list[Any] = list(axes.patches)
    assert [bar.get_width() for bar in bars] == [0, 50]


def test_without_matplotlib_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install deidlib\[notebook\]"):
        figure(1, 1)


# Arrays


def test_pixels_come_and_go_as_files_hold_them() -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(to_pixels(from_pixels(pixels)), pixels)
    batch: Any = np.stack([pixels, pixels])
    assert np.array_equal(to_pixels(from_pixels(batch)), batch)
    wrong: Any = pixels / 255.0
    with pytest.raises(TypeError, match=r"uint8, 0 to 255, got float64.*round\(\).astype"):
        from_pixels(wrong)
    wrong = torch.zeros(3, 4, 5)
    with pytest.raises(TypeError, match="got Tensor"):
        from_pixels(wrong)
    for shape in ((4, 5), (4, 5, 4), (3, 4, 5)):
        with pytest.raises(ValueError, match=r"\(\.\.\., H, W, 3\), RGB"):
            from_pixels(np.zeros(shape, np.uint8))


def test_an_array_is_protected_as_the_file_is(tmp_path: Path, hider: Deidentifier) -> None:
    pixels = to_pixels(frame(PLACE))
    before = pixels.copy()
    write_image(tmp_path / "a.png", from_pixels(pixels))
    assert protect_image(hider, tmp_path / "a.png", tmp_path / "o.png").found == 1
    of_file = to_pixels(read_image(tmp_path / "o.png"))[0]
    assert not np.array_equal(of_file, pixels)
    assert np.array_equal(protect_image(hider, tmp_path / "a.png"), of_file)
    # A view with strides of its own, such as OpenCV's colours turned round.
    turned = np.ascontiguousarray(pixels[..., ::-1])[..., ::-1]
    summary = protect_image(hider, turned, tmp_path / "p.png", check=Check(repairs=2))
    assert summary.readback is not None
    assert np.array_equal(to_pixels(read_image(tmp_path / "p.png"))[0], of_file)
    assert np.array_equal(pixels, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "o.png", "o.png.json", "p.png", "p.png.json"]


def test_an_array_is_written_nowhere_but_protected(
    tmp_path: Path, hider: Deidentifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    original, written = to_uint8(frame(PLACE)), []
    write = media.write_image

    def watched(path: Path, image: torch.Tensor) -> None:
        written.append(to_uint8(image[0]))
        write(path, image)

    monkeypatch.setattr("deidlib.protect.clip.write_image", watched)
    given = protect_image(hider, to_pixels(frame(PLACE)), check=None)
    assert given.shape == (96, 128, 3)
    left, top, right, bottom = PLACE
    assert written
    assert all((image != original)[:, top:bottom, left:right].any(dim=0).all() for image in written)
    assert list(tmp_path.iterdir()) == []
    bad = IFGSMAttacker(MTCNN(), max_iterations=0)
    with pytest.raises(ValueError, match="no face"):
        protect_image(Deidentifier(bad, tracker=FaceTracker(on_missing="error")), to_pixels(frame()))
    assert list(tmp_path.iterdir()) == []


def test_arrays_that_are_no_picture_are_refused(tmp_path: Path, hider: Deidentifier) -> None:
    wrong: Any = np.zeros((8, 8, 3))
    with pytest.raises(TypeError, match="uint8"):
        protect_image(hider, wrong)
    with pytest.raises(ValueError, match=r"\(H, W, 3\), got \(2, 8, 8, 3\)"):
        protect_image(hider, np.zeros((2, 8, 8, 3), np.uint8))
    arguments: Any = {"key": Key.generate()}
    with pytest.raises(ValueError, match="key needs a target"):
        protect_image(hider, np.zeros((8, 8, 3), np.uint8), **arguments)


# The library and the shell


def test_the_shell_has_the_library_s_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr("deidlib.cli.protect.run", lambda work, *_: taken.append(work))
    write_image(tmp_path / "a.png", frame())
    cases: list[tuple[list[str], dict[str, Any]]] = [
        ([], {}),
        (["--until", "quick"], {"until": recommended_until(MTCNN(), "quick")}),
        (["--codec", "h264"], {"codec": "h264"}),
    ]
    for options, settings in cases:
        done(deidlib("protect", tmp_path / "a.png", tmp_path / "o.png", *options))
        work = taken.pop()
        assert described(work.deidentifier) == described(recommended_deidentifier(MTCNN(), **settings))
        assert work.output == Output(settings.get("codec", "ffv1"))
        assert work.check == Check()
        assert work.batch_size == inspect.signature(protect_video).parameters["batch_size"].default


def test_options_default_to_what_the_classes_do() -> None:
    options = {option.name: option.default for option in typer.main.get_command(app).commands["protect"].params}  # type: ignore[attr-defined]
    tracker, lookout, share, check, output = FaceTracker(), Lookout(), Share(), Check(), Output()
    attack = inspect.signature(recommended).parameters
    assert options["epsilon"] / 255 == attack["epsilon"].default == IFGSMAttacker(MTCNN()).epsilon
    assert options["iterations"] == attack["max_iterations"].default
    assert (options["window"], options["hold"], options["on_missing"], options["after_hold"]) == (
        tracker.window, tracker.hold, tracker.on_missing, tracker.after_hold
    )  # fmt: skip
    assert options["lookout"] == lookout.every
    assert (tuple(options["share"]), options["grid"], options["degrees"]) == (share.parts, share.pixels, share.degrees)
    assert options["min_iou"] == check.min_iou
    assert (options["codec"], options["quality"], options["audio"]) == (output.codec, output.quality, output.audio)
    assert isinstance(Deidentifier(IFGSMAttacker(MTCNN())).obfuscator, Solid)
