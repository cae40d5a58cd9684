"""Boxes drawn with other tools: COCO's JSON and CVAT's XML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deidlib.bounded import BoundsError
from deidlib.faces import Faces
from deidlib.records.cvat import read_cvat
from deidlib.records.detections import Detections, DetectionsError, read_detections


def coco(**changes: Any) -> dict[str, Any]:
    """Three pictures, out of order; a face in the first, two in the last."""
    sizes = {"width": 64, "height": 48}
    return {
        "images": [
            {"id": 12, "file_name": "f_002.png", **sizes},
            {"id": 10, "file_name": "f_000.png", **sizes},
            {"id": 11, "file_name": "f_001.png", **sizes},
        ],
        "annotations": [
            {"image_id": 12, "category_id": 1, "bbox": [1, 2, 10, 20.5], "score": 0.5},
            {"image_id": 10, "category_id": 1, "bbox": [3, 4, 5, 6], "keypoints": [1, 2, 2]},
            {"image_id": 10, "category_id": 2, "bbox": [0, 0, 9, 9]},
            {"image_id": 12, "category_id": 1, "bbox": [20, 2, 10, 20], "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "Face"}, {"id": 2, "name": "plate"}],
    } | changes


def read(path: Path, data: Any, **options: Any) -> Detections:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return read_detections(path, **options)


def boxes(found: Detections) -> list[list[list[float]]]:
    return [faces.boxes.tolist() for faces in found.frames]


def test_coco_becomes_faces_in_the_order_of_the_names(tmp_path: Path) -> None:
    found = read(tmp_path / "a.json", coco(), size=(48, 64), frames=3)
    assert boxes(found) == [[[3, 4, 8, 10]], [], [[1, 2, 11, 22.5], [20, 2, 30, 22]]]
    assert found.frames[2].scores.tolist() == [0.5, 1.0]
    assert found.size == (48, 64)
    with pytest.raises(DetectionsError, match="64x48 pixels; these have 640x480"):
        read_detections(tmp_path / "a.json", size=(480, 640))
    with pytest.raises(DetectionsError, match="on 3 frames; the clip has 4"):
        read_detections(tmp_path / "a.json", frames=4)


def test_of_one_category_all_are_faces(tmp_path: Path) -> None:
    one = coco(categories=[{"id": 1, "name": "driver"}])
    one["annotations"] = [known for known in one["annotations"] if known["category_id"] == 1]
    assert [len(here) for here in boxes(read(tmp_path / "a.json", one))] == [1, 0, 2]
    del one["categories"]
    assert [len(here) for here in boxes(read(tmp_path / "a.json", one))] == [1, 0, 2]


IMAGE = {"id": 1, "file_name": "a.png", "width": 64, "height": 48}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]},
            "'car', 'person', and none is 'face'",
        ),
        ({"categories": [{"id": 1, "name": "face"}]}, "category 2, which its categories lack"),
        ({"categories": []}, "category 1, which its categories lack"),
        ({"images": []}, "fewer than 1"),
        ({"images": [IMAGE, IMAGE | {"id": 2, "file_name": "b.png", "width": 65}]}, "2 sizes"),
        ({"images": [IMAGE, IMAGE | {"id": 2}]}, "two of its pictures have one name"),
        ({"images": [IMAGE, IMAGE | {"file_name": "b.png"}]}, "two of its images have one id"),
        ({"images": [IMAGE | {"id": k, "file_name": f"{k}.png"} for k in (2, 10, 12)]}, "order is not clear.*0002.png"),
        ({"images": [IMAGE | {"width": 0}]}, r"images\[0\].width must lie in 1"),
        ({"images": [IMAGE]}, "box in the image 12, which its images lack"),
        ({"annotations": [{"image_id": 10, "category_id": 1, "bbox": [1, 2, -3, 4]}]}, "negative width"),
        ({"annotations": [{"image_id": 10, "category_id": 1, "bbox": [1, 2, 3]}]}, "bbox holds 3 entries, fewer"),
        ({"annotations": [{"image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 1e300]}]}, "too large for a picture"),
        ({"annotations": [{"image_id": 10, "category_id": 1, "bbox": [1, 2, 3, "4"]}]}, "finite number"),
        ({"annotations": {}}, "annotations must be a list"),
    ],
)
def test_a_coco_that_says_not_where_faces_are_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DetectionsError, match=message) as caught:
        read(tmp_path / "a.json", coco(**change))
    assert str(caught.value).startswith(str(tmp_path / "a.json"))


def test_results_of_coco_are_told_what_they_lack(tmp_path: Path) -> None:
    with pytest.raises(DetectionsError, match="does not say which pictures there are"):
        read(tmp_path / "a.json", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}])


def box(frame: int | None, *corners: float, outside: int = 0, more: str = "") -> str:
    left, top, right, bottom = corners
    number = "" if frame is None else f'frame="{frame}" outside="{outside}" keyframe="1" '
    return f'<box {number}xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" {more}/>'


def video(*tracks: str, size: int | None = 6, meta: str = "", label: str = "face") -> str:
    told = "" if size is None else f"<size>{size}</size>"
    inside = "".join(
        f'<track id="{k}" label="{label}" source="manual">{track}</track>' for k, track in enumerate(tracks)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><name>secret</name>'
        f"{told}<start_frame>0</start_frame><frame_filter></frame_filter>{meta}"
        "<original_size><width>64</width><height>48</height></original_size></task></meta>"
        f"{inside}</annotations>"
    )


def test_a_track_lies_where_cvat_shows_it(tmp_path: Path) -> None:
    # From 1 to 3 it moves by two a frame; at 4 it is outside; at 5 it is back, and stays.
    first = box(3, 4, 0, 14, 9) + box(1, 0, 0, 10, 9) + box(4, 4, 0, 14, 9, outside=1) + box(5, 1, 1, 9, 9)
    # Nobody ended it.
    second = box(2, 20, 20, 30, 30)
    found = read(tmp_path / "a.xml", video(first, second), size=(48, 64), frames=6)
    ever = [20, 20, 30, 30]
    assert boxes(found) == [
        [], [[0, 0, 10, 9]], [[2, 0, 12, 9], ever], [[4, 0, 14, 9], ever], [ever], [[1, 1, 9, 9], ever]
    ]  # fmt: skip
    assert found.size == (48, 64)
    assert all((faces.scores == 1).all() for faces in found.frames)
    # As long as the file says; or as the clip is, where it does not say.
    assert len(read_detections(tmp_path / "a.xml")) == 6
    assert len(read(tmp_path / "b.xml", video(second, size=None), frames=9)) == 9
    assert len(read(tmp_path / "b.xml", video(second, size=None))) == 3


def test_pictures_of_cvat_are_frames(tmp_path: Path) -> None:
    noted = box(None, 1, 2, 30, 40, more='label="face" occluded="1"').replace("/>", '><attribute name="a"/></box>')
    text = (
        '<annotations><image id="0" name="f_1.png" width="64" height="48">'
        + noted
        + box(None, 5, 5, 6, 6, more='label="plate"')
        + '</image><image id="1" name="f_0.png" width="64" height="48">'
        + '<polygon label="face" points="3.5,4;10,2;7,12"/><ellipse label="face" cx="20" cy="30" rx="5" ry="7"/>'
        + '<mask label="face" rle="1" left="2" top="3" width="4" height="5"/><tag label="face"/>'
        + "</image></annotations>"
    )
    found = read(tmp_path / "a.XML", text, size=(48, 64), frames=2)
    assert boxes(found) == [[[3.5, 2, 10, 12], [15, 23, 25, 37], [2, 3, 6, 8]], [[1, 2, 30, 40]]]


def test_a_turned_box_is_enclosed() -> None:
    corners = read_cvat(video(box(0, 10, 10, 30, 14, more='rotation="90"'), size=1)).faces[0].boxes[0]
    torch.testing.assert_close(corners, torch.tensor([18.0, 2.0, 22.0, 22.0]))
    corners = read_cvat(video(box(0, 10, 10, 30, 30, more='rotation="45"'), size=1)).faces[0].boxes[0]
    half = 10 * 2**0.5
    torch.testing.assert_close(corners, torch.tensor([20 - half, 20 - half, 20 + half, 20 + half]))


def test_labels_that_are_no_faces_are_left_out() -> None:
    labels = "<labels><label><name>face</name></label><label><name>plate</name></label></labels>"
    plates = video(box(0, 1, 1, 9, 9), label="plate", meta=labels)
    assert [len(faces) for faces in read_cvat(plates).faces] == [0] * 6
    assert [len(faces) for faces in read_cvat(video(box(0, 1, 1, 9, 9), label="driver")).faces] == [1] * 6
    with pytest.raises(BoundsError, match="'car', 'man', and none is 'face'"):
        read_cvat(video(box(0, 1, 1, 9, 9), label="car", meta=labels.replace("face", "man").replace("plate", "car")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations>", "no XML"),
        ("", "no XML"),
        ("<html></html>", "begins with <html>"),
        (video(box(7, 1, 1, 9, 9)), "box in frame 7, counted from 0, and the clip has 6"),
        (video(size=5), "of a clip of 5 frames, and this one has 6"),
        (video(box(0, 9, 1, 1, 9)), "inside out"),
        (video(box(0, 1, 1, 9, 9).replace('xtl="1"', 'xtl="nan"')), "xtl must be a finite number, got 'nan'"),
        (video(box(0, 1, 1, 9, 9).replace('xtl="1"', "")), "lacks 'xtl'"),
        (video(box(0, 1, 1, 9, 9).replace('frame="0"', 'frame="-1"')), "frame must be a whole number"),
        (video('<points frame="0" points="1,2"/>'), "'points', which is no area to be hidden"),
        (video('<skeleton frame="0"/>'), "'skeleton', which is no area"),
        (video(box(0, 1, 1, 9, 9)).replace("<frame_filter>", "<frame_filter>step=5"), "some of the frames only"),
        (video(box(0, 1, 1, 9, 9)).replace("<start_frame>0", "<start_frame>100"), "begins at frame 100"),
        (video(box(0, 1, 1, 9, 9), size=10**9), "size must be a whole number from 0 to"),
        ("<annotations>" + "<a>" * 30 + "</a>" * 30 + "</annotations>", "more than 24 deep"),
    ],
)
def test_a_cvat_that_says_not_where_faces_are_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DetectionsError, match=message) as caught:
        read(tmp_path / "a.xml", text, frames=6)
    assert str(tmp_path / "a.xml") in str(caught.value)


def test_entities_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("0")
    laughs = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 12))
    for declared in (f'<!ENTITY l0 "ha">{laughs}', f'<!ENTITY l11 SYSTEM "{secret.as_uri()}">'):
        text = f"<!DOCTYPE annotations [{declared}]>" + video(box(0, 1, 1, 9, 9), meta="<labels>&l11;</labels>")
        with pytest.raises(DetectionsError, match="declares a document type"):
            read(tmp_path / "a.xml", text.replace('<?xml version="1.0" encoding="utf-8"?>\n', ""))


def test_many_tracks_over_many_frames_are_refused_before_they_are_made() -> None:
    tracks = [box(0, 1, 1, 9, 9)] * 3
    with pytest.raises(BoundsError, match="more than 20000000 boxes"):
        read_cvat(video(*tracks, size=9_999_999))


def test_boxes_of_other_tools_hide_faces(tmp_path: Path) -> None:
    from clips import astronauts
    from command import deidlib, done

    from deidlib.media import read_image, write_image

    write_image(tmp_path / "a.png", astronauts(1))
    drawn = box(None, 30, 40, 90, 110, more='label="face"')
    text = f'<annotations><image id="0" name="a.png" width="128" height="128">{drawn}</image></annotations>'
    (tmp_path / "a.xml").write_text(text)
    options = ("--faces", tmp_path / "a.xml", "--hide-only")
    done(deidlib("protect", tmp_path / "a.png", tmp_path / "o.png", *options))
    changed = (read_image(tmp_path / "o.png") - astronauts(1)).abs().amax(dim=(0, 1)) > 0
    assert changed[40:110, 30:90].float().mean() > 0.9
    assert isinstance(read_detections(tmp_path / "a.xml").frames[0], Faces)


@settings(max_examples=40, deadline=None)
@given(
    which=st.sampled_from(["coco", "video", "pictures"]),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.text(max_size=4)), min_size=1, max_size=3),
)
def test_damaged_files_are_errors_of_ours(
    tmp_path_factory: pytest.TempPathFactory, which: str, cuts: list[tuple[float, int, str]]
) -> None:
    drawn = box(None, 1, 2, 30, 40, more='label="face"')
    text = {
        "coco": json.dumps(coco()),
        "video": video(box(0, 1, 1, 9, 9) + box(3, 1, 1, 9, 9, outside=1)),
        "pictures": f'<annotations><image id="0" name="a.png" width="64" height="48">{drawn}</image></annotations>',
    }[which]
    for where, length, instead in cuts:
        place = int(where * len(text))
        text = text[:place] + instead + text[place + length :]
    path = tmp_path_factory.mktemp("damaged") / ("a.json" if which == "coco" else "a.xml")
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        found = read_detections(path, frames=6)
    except DetectionsError:
        return
    assert len(found) == 6
