from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deidlib.faces import Faces
from deidlib.geometry.boxes import iou
from deidlib.records.detections import FORMAT, Detections, DetectionsError, read_detections, write_detections

SHA = "0123456789abcdef" * 4

HEADER = "source,frame,detect_id,type,score,x,y,w,h," + ",".join(
    f"point_{k:02d},point_{k:02d}_x,point_{k:02d}_y" for k in range(5)
)


def csv_row(
    frame: str | int = 1, *, source: str = "a.mp4", x: str = "10", w: str = "40", mirrored: bool = False
) -> str:
    """A face of 40 x 60 at (10, 20)."""
    points = [(20, 40), (40, 40), (30, 50), (22, 60), (38, 60)]
    if mirrored:
        points = [points[k] for k in (1, 0, 2, 4, 3)]
    cells = ",".join(f"point_{k:02d},{px},{py}" for k, (px, py) in enumerate(points))
    return f"{source},{frame},0,FACE_0,0.75,{x},20,{w},60,{cells}"


def written(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def faces(n: int, points: int | None, gaze: bool, generator: torch.Generator) -> Faces:
    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 10 ** torch.randint(-6, 6, shape, generator=generator)

    corner = noise(n, 2)
    return Faces(
        torch.cat([corner, corner + noise(n, 2).abs()], dim=1),
        torch.rand(n, generator=generator),
        None if points is None else noise(n, points, 2),
        noise(n, 3) if gaze else None,
    )


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31), counts=st.lists(st.integers(0, 3), max_size=4), points=st.sampled_from([None, 5, 68])
)
def test_what_is_written_is_read_exactly(
    tmp_path_factory: pytest.TempPathFactory, seed: int, counts: list[int], points: int | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    frames = [faces(n, points, gaze=bool(seed % 2), generator=generator) for n in counts]
    path = tmp_path_factory.mktemp("detections") / "a.json"
    before = Detections(
        frames, (480, 640), SHA, ("mtcnn", "fan"), tuple(range(7, 7 + len(frames))) or None, Fraction(1, 30000)
    ) if frames else Detections(frames)  # fmt: skip
    write_detections(path, before)
    after = read_detections(path)
    assert (after.size, after.sha256, after.readers, after.pts, after.time_base) == (
        before.size, before.sha256, before.readers, before.pts, before.time_base
    )  # fmt: skip
    assert len(after) == len(before)
    for old, new in zip(before.frames, after.frames, strict=True):
        for field in ("boxes", "scores", "landmarks", "gaze"):
            assert same(getattr(old, field), getattr(new, field)), field


def test_the_file_says_what_it_is_and_holds_no_nan(tmp_path: Path) -> None:
    points = torch.full((1, 5, 2), 0.1)
    points[0, 3] = torch.nan
    known = Faces(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([torch.nan]), points)
    write_detections(tmp_path / "a.json", Detections([known, Faces.empty()]))

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    data = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert data["format"] == FORMAT == "deidlib-detections/1"
    assert data["frames"][0] == {
        "pts": None,
        "boxes": [[1.0, 2.0, 3.0, 4.0]],
        "scores": [None],
        "landmarks": [[[0.10000000149011612] * 2] * 3 + [[None, None]] + [[0.10000000149011612] * 2]],
        "gaze": None,
    }
    assert data["frames"][1] == {"pts": None, "boxes": [], "scores": [], "landmarks": None, "gaze": None}
    back = read_detections(tmp_path / "a.json").frames[0]
    assert back.scores.isnan().all()
    assert back.landmarks is not None
    assert back.landmarks[0, 3].isnan().all()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_detections(path, Detections([Faces.empty()]))
    before = path.read_bytes()
    infinite = Faces(torch.zeros(1, 4), torch.tensor([torch.inf]))
    with pytest.raises(DetectionsError, match="scores hold an infinity"):
        write_detections(path, Detections([infinite]))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(DetectionsError, match="cannot be written"):
        write_detections(tmp_path / "missing" / "a.json", Detections([]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "deidlib-detections/2"}, "format is 'deidlib-detections/1', got 'deidlib-detections/2'"),
        ({"format": None}, "got None"),
        ({"size": [0, 4]}, r"size\[0\] must lie in 1 to"),
        ({"size": [4]}, "is not of the format"),
        ({"sha256": "ABC"}, "64 hexadecimal digits"),
        ({"frames": {}}, "frames must be a list, got an object"),
        ({"frames": [{"pts": None}]}, r"frame 0 \(counted from 0\): 'boxes' is missing"),
        ({"frames": [7]}, "is not of the format"),
        ({"time_base": "1/0"}, "is not of the format"),
    ],
)
def test_what_is_no_file_of_detections_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.json"
    write_detections(path, Detections([Faces.empty()]))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DetectionsError, match=message) as caught:
        read_detections(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[1, 2, None, 4]]}, "NaN or infinity"),
        ({"boxes": [[5, 2, 3, 4]]}, "x2 >= x1"),
        ({"boxes": [[1, 2, 3]]}, r"shape \(4,\)"),
        ({"boxes": [[1, 2, 3, "4"]]}, "must be numbers"),
        ({"boxes": [[1, 2, 3, 1e300]]}, "float32"),
        ({"scores": []}, "one per box"),
        ({"scores": [True]}, "must be numbers"),
        ({"gaze": []}, r"Faces.gaze must have shape \(1, 3\)"),
        ({"landmarks": [[[1, 2]] * 7]}, r"shape \(5, 2\)"),
        ({"landmarks": [5]}, "frame 1"),
        ({"pts": 3}, "some frames have a time stamp"),
        ({"pts": 1.5}, "must be a whole number"),
    ],
)
def test_a_wrong_frame_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "a.json"
    known = Faces(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.ones(1))
    write_detections(path, Detections([Faces.empty(), known]))
    data = json.loads(path.read_text())
    data["frames"][1] |= change
    path.write_text(json.dumps(data))
    with pytest.raises(DetectionsError, match=message):
        read_detections(path)


@pytest.mark.parametrize("text", ["", "{", '{"format": NaN}', "[1, Infinity]", "frame,x\n1,2\n"])
def test_other_text_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DetectionsError, match=r"no JSON|not JSON"):
        read_detections(path)


def test_what_is_no_text_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DetectionsError, match="no text"):
        read_detections(tmp_path / "a.json")
    with pytest.raises(DetectionsError, match="cannot be read"):
        read_detections(tmp_path / "b.csv")


def test_size_and_length_must_be_those_of_the_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_detections(path, Detections([Faces.empty()] * 3, size=(480, 640)))
    assert len(read_detections(path, size=(480, 640), frames=3)) == 3
    with pytest.raises(DetectionsError, match="640x480 pixels; these have 320x240"):
        read_detections(path, size=(240, 320))
    for frames in (2, 4):
        with pytest.raises(DetectionsError, match=f"on 3 frames; the clip has {frames}"):
            read_detections(path, frames=frames)


def test_the_fields_must_agree() -> None:
    with pytest.raises(DetectionsError, match="belong together"):
        Detections([Faces.empty()], pts=(0,))
    with pytest.raises(DetectionsError, match="one per frame"):
        Detections([Faces.empty()], pts=(0, 1), time_base=Fraction(1, 25))
    with pytest.raises(DetectionsError, match="above 0 seconds"):
        Detections([Faces.empty()], pts=(0,), time_base=Fraction(0))


def test_the_csv_becomes_boxes_and_points(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", csv_row(2), csv_row(4), csv_row(2, x="110"))
    found = read_detections(path, size=(120, 160))
    assert [len(known) for known in found.frames] == [0, 2, 0, 1]
    assert found.size == (120, 160)
    assert found.frames[1].boxes.tolist() == [[10, 20, 50, 80], [110, 20, 150, 80]]
    assert found.frames[1].scores.tolist() == [0.75, 0.75]
    assert found.frames[3].landmarks is not None
    assert found.frames[3].landmarks[0].tolist() == [[20, 40], [40, 40], [30, 50], [22, 60], [38, 60]]
    assert [len(known) for known in read_detections(path, frames=6).frames] == [0, 2, 0, 1, 0, 0]
    with pytest.raises(DetectionsError, match="frame 4; the clip has 3"):
        read_detections(path, frames=3)


def test_a_csv_without_rows_has_no_face(tmp_path: Path) -> None:
    path = written(tmp_path / "a.CSV")
    assert len(read_detections(path)) == 0
    assert [len(known) for known in read_detections(path, frames=2).frames] == [0, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([csv_row(), csv_row(0)], "line 3: frames are whole numbers from 1"),
        ([csv_row("1.5")], "frames are whole numbers"),
        ([csv_row(x="nan")], "line 2: x must be a finite number, got 'nan'"),
        ([csv_row(x="inf")], "finite"),
        ([csv_row(x="")], "finite"),
        ([csv_row(w="-1")], "must not be negative"),
        ([csv_row().rsplit(",", 4)[0]], "point_03_y must be a finite number, got None"),
        ([csv_row(), csv_row(2, source="b.mp4")], "2 sources"),
        ([csv_row(mirrored=True), csv_row(2, mirrored=True), csv_row(3)], "subject's right eye"),
    ],
)
def test_a_wrong_csv_is_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(DetectionsError, match=message):
        read_detections(written(tmp_path / "a.csv", *rows))


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "1,2", header="frame,left")
    with pytest.raises(DetectionsError, match="lacks the columns score, x, y, w, h, point_00_x"):
        read_detections(path)


def test_the_challenge_own_csv(shared: Path) -> None:
    found = read_detections(shared / "media" / "T002_talk.csv", size=(480, 480), frames=270)
    assert [len(known) for known in found.frames] == [1] * 270
    first = found.frames[0]
    x, y, w, h = 182.41114807128906, 64.15389251708984, 127.51606750488281, 179.07476806640625
    assert torch.allclose(first.boxes, torch.tensor([[x, y, x + w, y + h]]), rtol=1e-7)
    assert first.landmarks is not None
    right_eye, left_eye, nose, right_mouth, left_mouth = first.landmarks[0]
    # An upright face that looks at the camera: the subject's right is left in the picture.
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]


def test_the_challenge_own_csv_shows_the_clip_faces(shared: Path) -> None:
    from deidlib.media import VideoReader
    from deidlib.models.retinaface import RetinaFace

    found = read_detections(shared / "media" / "T002_talk.csv")
    with VideoReader(shared / "media" / "T002_talk.mp4") as reader:
        image, _ = next(iter(reader))
    read = RetinaFace().predict(image[None])[0]
    assert float(iou(read.boxes, found.frames[0].boxes)[0, 0]) > 0.85
    assert read.landmarks is not None
    assert found.frames[0].landmarks is not None
    # A swap of left and right would put the points half a face apart.
    assert float((read.landmarks[0] - found.frames[0].landmarks[0]).norm(dim=1).max()) < 10
