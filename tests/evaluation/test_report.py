from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_video
from patches import LEFT, MOVED, RIGHT, Patches, brightness, frame
from PIL import Image
from torch import Tensor

from deidlib.evaluation import Evaluation, EvaluationError, IdentitySettings, evaluate
from deidlib.evaluation.report import write_report
from deidlib.evaluation.report.curves import Line, chart
from deidlib.evaluation.report.pictures import choose, fine_structure
from deidlib.faces import Faces
from deidlib.media import write_image
from deidlib.media.clip import Clip

VOID = {"meta", "img", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID, tag
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        # White space is what a browser makes of it.
        self.text.append(" ".join(data.split()))

    def pictures(self) -> list[Tensor]:
        found = []
        for source in self.sources:
            head, data = source.split(",", 1)
            assert head == "data:image/jpeg;base64"
            image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
            found.append(torch.from_numpy(np.array(image)).float() / 255)
        return found


class Anywhere(Patches):
    """Finds the face whatever its colour: red in originals, blue in protected frames."""

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        return [a if len(a) else b for a, b in zip(super().predict(images), Patches(2).predict(images), strict=True)]


@pytest.fixture
def result(tmp_path: Path) -> Evaluation:
    before = [frame(LEFT)] * 6
    after = [frame(MOVED if k == 4 else LEFT, channel=2) for k in range(6)]
    after[1] = frame()
    return evaluate(
        make_video(tmp_path / "before.mkv", before),
        make_video(tmp_path / "after.mkv", after),
        authorised={"anywhere": Anywhere()},
        unauthorised={"red": Patches()},
        identity=IdentitySettings(brightness, strangers=[frame(RIGHT)[None]]),
    )


def page_of(tmp_path: Path, result: Evaluation, *, show_originals: bool = False, worst: int = 6) -> Page:
    write_report(tmp_path / "a.html", result, show_originals=show_originals, worst=worst)
    return Page((tmp_path / "a.html").read_text(encoding="utf-8"))


def share_of_red(pictures: Sequence[Tensor]) -> float:
    """Of the pixels, how many are as red as the original's face; drawing has no such red over an area."""
    rows = torch.cat([picture.reshape(-1, 3) for picture in pictures])
    return float(((rows[:, 0] > 0.85) & (rows[:, 1:] < 0.15).all(dim=1)).float().mean())


def test_the_page_needs_nothing_else(tmp_path: Path, result: Evaluation) -> None:
    page = page_of(tmp_path, result)
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not {"script", "link", "iframe", "object", "base", "form", "a"} & set(page.tags)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    # Anything before it, and browsers go back to the last century.
    assert text.startswith("<!doctype html>")
    assert not re.search(r"url\(|@import|https?://|javascript:", text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "after.mkv", "before.mkv"]


def test_originals_are_shown_only_when_asked_for(
    tmp_path: Path, result: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    some = Clip.some

    def watched(clip: Clip, numbers: set[int]) -> dict[int, Tensor]:
        opened.append(clip.path.name)
        return some(clip, numbers)

    monkeypatch.setattr(Clip, "some", watched)
    page = page_of(tmp_path, result)
    assert opened == ["after.mkv"]
    assert share_of_red(page.pictures()) < 0.002
    assert "protected frames only" in " ".join(page.text)
    page = page_of(tmp_path, result, show_originals=True)
    assert sorted(opened) == ["after.mkv", "after.mkv", "before.mkv"]
    assert share_of_red(page.pictures()) > 0.02
    assert "This report shows original frames, faces included." in " ".join(page.text)


def test_the_numbers_are_in_it(tmp_path: Path, result: Evaluation) -> None:
    text = " ".join(page_of(tmp_path, result).text)
    assert "5 of 6 (83.3 %)" in text
    assert "0 of 6 (0 %)" in text
    overlap = (5 - 1 + 36 / 44) / 6
    assert f"{overlap:.3f} / 0.000" in text
    assert result.sha256["protected"] in text
    assert torch.__version__.split("+")[0] in text


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    name = '<b onload="x">&\''
    write_image(tmp_path / "a&<i>.png", frame(LEFT))
    path = tmp_path / "a&<i>.png"
    result = evaluate(path, path, authorised={name: Patches()}, unauthorised={"</td>": Patches()})
    page = page_of(tmp_path, result)
    assert page.tags.count("b") == 1 + 2  # the file, and two readers in short
    assert "i" not in page.tags
    assert any(name in text for text in page.text)


def hostile(value: Any) -> Any:
    """The same with markup in every string, names of measures and files aside: those are not for others to choose."""
    if isinstance(value, str):
        return f'{value}</td></code><script src="x">\'&'
    if isinstance(value, Mapping):
        return {name: hostile(entry) for name, entry in value.items()}
    return [hostile(entry) for entry in value] if isinstance(value, list | tuple) else value


def test_no_string_of_an_evaluation_is_markup(tmp_path: Path, result: Evaluation) -> None:
    assert result.identity is not None
    words = ("threshold_from", "why_no_attackers")
    other = replace(
        result,
        # The frames are read from the same file, whose name may end as it likes.
        original=Path("<i>.mkv"),
        protected=Path("<i>.mkv"),
        sha256=hostile(result.sha256),
        readers={
            hostile(name): replace(reader, name=hostile(reader.name), about=hostile(reader.about))
            for name, reader in result.readers.items()
        },
        identity=replace(result.identity, **{word: hostile(getattr(result.identity, word)) for word in words}),
        settings=hostile(result.settings) | {"min_iou": 0.5, "miss": result.settings["miss"]},
        versions={hostile(name): hostile(value) for name, value in result.versions.items()},
    )
    # Tag by tag the same page; only what the tags hold differs.
    assert page_of(tmp_path, other).tags == page_of(tmp_path, result).tags


def test_the_charts_alone_come_as_html() -> None:
    found = []
    for part in files("deidlib.evaluation.report").iterdir():
        if part.name.endswith(".j2"):
            template = re.sub(r"{#.*?#}", "", part.read_text(encoding="utf-8"), flags=re.DOTALL)
            assert "autoescape" not in template, part.name
            found += re.findall(r"\S+\s*\|\s*safe\b", template)
    assert found == ["chart | safe"]


def test_the_worst_frames_are_chosen_in_turn_and_bounded(result: Evaluation) -> None:
    chosen = choose(result, 2)
    # Frame 1 is missed by the authorised reader; nobody else reads anything; then the likeness.
    assert 1 in [choice.number for choice in chosen]
    (miss,) = [choice for choice in chosen if choice.number == 1]
    assert "anywhere, authorised" in miss.why
    assert len(chosen) == 2
    assert choose(result, 0) == []
    everything = choose(result, 100)
    assert [choice.number for choice in everything] == list(range(6))
    # After the miss, the frame that has moved.
    order = [c for c in choose(result, 3) if "authorised" in c.why]
    assert {choice.number for choice in order} == {1, 4}


def test_a_face_that_was_overlooked_is_shown_as_its_finder_sees_it(tmp_path: Path) -> None:
    both = torch.where(torch.arange(128) < 64, frame(LEFT), frame(RIGHT, channel=1))
    result = evaluate(
        make_video(tmp_path / "a.mkv", [both] * 3),
        make_video(tmp_path / "b.mkv", [torch.where(torch.arange(128) < 64, frame(), both)] * 3),
        authorised={"red": Patches()},
        unauthorised={"red too": Patches(), "green": Patches(1)},
        identity=IdentitySettings(brightness),
    )
    # In turn: the authorised reader's worst, the best of another, and what is most alike.
    first, second, third = choose(result, 3)
    assert (first.reader.name, second.reader.name, third.reader.name) == ("red", "green", "green")
    assert "overlooked, or is none (cosine 1.000)" in third.why
    write_report(tmp_path / "r.html", result, worst=0)
    text = " ".join(Page((tmp_path / "r.html").read_text(encoding="utf-8")).text)
    assert "Faces on the originals that only unauthorised detectors see: 3." in text


def test_what_was_overlooked_is_said_even_if_no_face_of_the_authorised_readers_could_be_compared(
    tmp_path: Path,
) -> None:
    write_image(tmp_path / "a.png", frame(RIGHT, channel=1))
    path = tmp_path / "a.png"
    result = evaluate(
        path,
        path,
        authorised={"red": Patches()},
        unauthorised={"green": Patches(1)},
        identity=IdentitySettings(brightness),
    )
    assert result.identity is not None
    alike = replace(result.identity, cosines=[()], beside=[(0.75, 0.5)])
    assert alike.mean is None
    text = " ".join(page_of(tmp_path, replace(result, identity=alike), worst=0).text)
    assert "Faces on the originals that only unauthorised detectors see: 2." in text
    assert "No face could be compared." in text
    assert "2, greatest cosine 0.750" in text


def test_the_number_of_frames_shown_can_be_said(tmp_path: Path, result: Evaluation) -> None:
    assert len(page_of(tmp_path, result, worst=1).sources) == 3
    assert not page_of(tmp_path, result, worst=0).sources
    with pytest.raises(ValueError, match="worst must be >= 0"):
        write_report(tmp_path / "a.html", result, worst=-1)


def test_the_perturbation_is_shown_where_the_hidden_frames_are_known(tmp_path: Path) -> None:
    hidden = frame(LEFT, channel=2)
    after = hidden.clone()
    after[0, 30:70, 20:40] += 4 / 255
    for name, image in (("a", frame(LEFT)), ("h", hidden), ("b", after)):
        write_image(tmp_path / f"{name}.png", image)
    result = evaluate(tmp_path / "a.png", tmp_path / "b.png", authorised={"red": Patches()})
    write_report(tmp_path / "r.html", result, hidden=tmp_path / "h.png")
    last = Page((tmp_path / "r.html").read_text(encoding="utf-8")).pictures()[-1]
    # The face is 40 x 60, and half of it is shown on each side: less of it at the upper and left edge of the frame.
    assert last.shape == (96, 70, 3)
    assert last[50, 30].tolist() == pytest.approx([0.5 + 16 * 4 / 255, 0.5, 0.5], abs=0.06)
    assert last[10, 60].tolist() == pytest.approx([0.5, 0.5, 0.5], abs=0.03)
    write_image(tmp_path / "h.png", torch.zeros(3, 8, 8))
    with pytest.raises(EvaluationError, match="pixels"):
        write_report(tmp_path / "r.html", result, hidden=tmp_path / "h.png")


def test_fine_structure_is_that_of_the_frame_itself() -> None:
    flat = torch.full((3, 32, 32), 0.3)
    assert torch.allclose(fine_structure(flat), torch.full_like(flat, 0.5), atol=1e-5)
    dotted = flat.clone()
    dotted[0, 16, 16] += 8 / 255
    shown = fine_structure(dotted)
    assert float(shown[0, 16, 16]) == pytest.approx(0.5 + 8 * (8 / 255) * 80 / 81, abs=1e-4)
    assert float((shown[1:] - 0.5).abs().max()) < 1e-5


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path, result: Evaluation) -> None:
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_report(tmp_path / "none" / "a.html", result)
    (tmp_path / "b.html").mkdir()
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_report(tmp_path / "b.html", result)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.mkv", "b.html", "before.mkv"]


def test_files_without_faces_make_a_page_too(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", frame())
    result = evaluate(
        tmp_path / "a.png",
        tmp_path / "a.png",
        authorised={"red": Patches()},
        identity=IdentitySettings(brightness),
        quality=None,
    )
    text = " ".join(page_of(tmp_path, result).text)
    assert "has no face to read" in text
    assert "No frame shows a face" in text


def test_the_page_says_what_inside_the_faces_means(tmp_path: Path, result: Evaluation) -> None:
    def words(result: Evaluation) -> str:
        return " ".join(page_of(tmp_path, result, worst=0).text)

    assert "an estimate, 1.2 times the boxes of the faces" in words(result)
    region = result.settings["region"] | {"factor": 1.5}
    assert "an estimate, 1.5 times the boxes of the faces" in words(
        replace(result, settings={**result.settings, "region": region})
    )
    assert result.quality is not None
    known = replace(result, quality=replace(result.quality, known=True))
    assert "what was hidden, as the file beside the protected one says" in words(known)
    assert "an estimate" not in words(known)


def test_what_moves_is_drawn_over_what_moved(tmp_path: Path) -> None:
    steps = [0, 3, 6, 4, 1, -2, -5, -3, 0, 2]
    boxes = [(16 + step, 20, 46 + step, 80) for step in steps]
    before = make_video(tmp_path / "a.mkv", [frame(box) for box in boxes])
    after = make_video(tmp_path / "b.mkv", [frame(box, channel=2) for box in [boxes[0], *boxes[:-1]]])
    result = evaluate(before, after, authorised={"anywhere": Anywhere()}, unauthorised={"red": Patches()})
    page = page_of(tmp_path, result, worst=0)
    text = " ".join(page.text)
    assert "anywhere: face 1, 10 frames compared" in text
    assert "Box centre, to the right, anywhere" in text
    assert "Box size" not in text  # it does not change
    assert "red: face" not in text
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    figure = next(part for part in html.split("<figure") if "Box centre, to the right, anywhere" in part)
    original, protected = points(figure)
    # One frame late: what the one has at a place, the other has one place on.
    assert [y for _, y in original[:-1]] == [y for _, y in protected[1:]]
    assert 'stroke-dasharray="7 4" points="' not in figure.split("<polyline")[1]
    assert 'stroke-dasharray="7 4" points="' in figure.split("<polyline")[2]
    # Drawn from the least to the greatest value, not from 0.
    assert max(y for _, y in original) > 150 > 60 > min(y for _, y in original)
    still = evaluate(before, make_video(tmp_path / "c.mkv", [frame()] * 10), authorised={"red": Patches()})
    assert "Nothing that was read on the originals moves." in " ".join(page_of(tmp_path, still, worst=0).text)


# Curves


def points(html: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'<polyline [^>]*points="([^"]+)"', html)
    return [[(float(a), float(b)) for a, b in (pair.split(",") for pair in run.split())] for run in found]


def test_a_curve_is_drawn_to_scale() -> None:
    html = chart("A", "unit", [Line("x", [0.0, 1.0, 0.5], 0)], top=1)
    ((a, b, c),) = points(html)
    assert a[0] < b[0] < c[0]
    assert b[0] - a[0] == pytest.approx(c[0] - b[0])
    # Up is down in SVG; half of the value is half of the height.
    assert a[1] - c[1] == pytest.approx((a[1] - b[1]) / 2, abs=0.1)


def test_a_curve_without_a_bottom_fills_its_height() -> None:
    lines = [Line("x", [100.0, 101.0], 0)]
    assert [a[1] - b[1] for ((a, b),) in (points(chart("A", "unit", lines, bottom=None)),)] == pytest.approx([184])
    assert [a[1] - b[1] for ((a, b),) in (points(chart("A", "unit", lines)),)] == pytest.approx([184 / 150], abs=0.2)


def test_a_gap_stays_a_gap() -> None:
    html = chart("A", "unit", [Line("x", [0.0, 1.0, None, 0.5, None, 0.25, 0.5], 0)])
    assert [len(run) for run in points(html)] == [2, 2]
    assert html.count("<circle") == 1


def test_long_curves_keep_their_extremes() -> None:
    values: list[float | None] = [0.5] * 20_000
    values[12_345] = 0.0
    values[777] = 1.0
    (run,) = points(chart("A", "unit", [Line("x", values, 0)], top=1))
    assert len(run) <= 1400
    heights = [y for _, y in run]
    ((_, bottom), (_, top)) = points(chart("A", "unit", [Line("x", [0.0, 1.0], 0)], top=1))[0]
    assert max(heights) == bottom
    assert min(heights) == top
    assert [x for x, _ in run] == sorted(x for x, _ in run)


def test_equal_values_and_single_frames_have_axes_too() -> None:
    for values in ([0.0, 0.0], [3.0], [None, None], [-0.5, -0.25]):
        html = chart("A<", "unit", [Line("x&y", values, 9)])
        assert "x&amp;y" in html
        assert "A&lt;" in html
        assert "nan" not in html
