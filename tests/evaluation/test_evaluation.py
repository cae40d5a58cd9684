from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from clips import make_video
from patches import HEIGHT, LEFT, MOVED, RIGHT, WIDTH, Patches, brightness, frame
from torch import Tensor, nn
from toys import Sees

from deidlib.evaluation import (
    Evaluation,
    EvaluationError,
    IdentitySettings,
    QualitySettings,
    ReadingSettings,
    evaluate,
    write_evaluation,
)
from deidlib.evaluation.report import write_report
from deidlib.evaluation.result import spread
from deidlib.faces import Faces
from deidlib.media import MediaReadError, VideoReader, write_image
from deidlib.metrics import LPIPS, DiffScore, Miss, ReIdentification
from deidlib.metrics.movement import SIGNALS
from deidlib.models.retinaface import RetinaFace
from deidlib.models.strangers import PFLD, YuNet
from deidlib.records.detections import Detections, DetectionsError, read_detections, write_detections
from deidlib.records.fingerprint import described


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Path, Path]:
    """Four frames: moved by 4 pixels; missed; two faces of which one is missed; no face, and one found there."""
    before = [frame(LEFT), frame(LEFT), frame(LEFT, RIGHT), frame()]
    after = [frame(MOVED), frame(), frame(RIGHT), frame(RIGHT)]
    return make_video(tmp_path / "before.mkv", before), make_video(tmp_path / "after.mkv", after)


def test_every_number_is_the_one_computed_by_hand(clip: tuple[Path, Path]) -> None:
    result = evaluate(*clip, authorised={"red": Patches()}, unauthorised={"green": Patches(1)})
    red = result.readers["red"]
    assert (red.faces, red.found, red.extra) == (4, 2, 1)
    overlap = (36 * 60) / (44 * 60)
    assert [frame.values["iou"] for frame in red.frames] == [
        pytest.approx((overlap,)), (0.0,), pytest.approx((0.0, 1.0)), ()
    ]  # fmt: skip
    size = math.sqrt(40 * 60)
    assert red.all("landmarks_px") == pytest.approx([4, size, size, 0])
    assert red.all("nme_box") == pytest.approx([4 / size, 1, 1, 0])
    # The eyes are 20 pixels apart.
    assert red.all("nme_interocular") == pytest.approx([4 / 20, size / 20, size / 20, 0])
    assert red.all("head_pose_deg")[1:] == pytest.approx([180, 180, 0])
    assert red.all("gaze_deg") == []
    # Frames with a face: 1 - IoU and pixels, faces of a frame averaged.
    box = ((1 - overlap) + 1 + 0.5) / 3
    assert red.score["box"] == pytest.approx(box)
    assert red.score["landmarks"] == pytest.approx((4 + size + size / 2) / 3)
    assert red.normalised["score"] == pytest.approx(box + (4 / size + 1 + 0.5) / 3)
    assert [frame.score is None for frame in red.frames] == [False, False, False, True]
    # Whoever has nothing to read on the originals has nothing to miss.
    assert result.readers["green"].faces == 0
    assert [reader.name for reader in result.of("unauthorised")] == ["green"]


def test_it_agrees_with_the_metric_on_the_same_readings(clip: tuple[Path, Path]) -> None:
    result = evaluate(
        *clip, authorised={"red": Patches()}, reading=ReadingSettings(min_iou=0.0, miss=Miss(landmarks=0.5))
    )
    with VideoReader(clip[0]) as before, VideoReader(clip[1]) as after:
        here, there = ([f.image for f in reader] for reader in (before, after))
    oracle = DiffScore(miss=Miss(landmarks=0.5))
    oracle.update(Patches().predict(torch.stack(here)), Patches().predict(torch.stack(there)))
    assert result.readers["red"].score == pytest.approx(
        {name: value.item() for name, value in oracle.compute().items()}, nan_ok=True
    )


@pytest.mark.parametrize("batch", [1, 3, 9])
def test_nothing_depends_on_the_batch(clip: tuple[Path, Path], batch: int) -> None:
    def run(size: int) -> dict[str, Any]:
        return evaluate(
            *clip,
            authorised={"red": Patches()},
            identity=IdentitySettings(brightness, strangers=[frame(LEFT)[None]]),
            batch_size=size,
        ).to_json()

    a, b = run(2), run(batch)
    for data in (a, b):
        del data["settings"]["batch_size"]
    assert a == b


def test_frames_are_let_go(tmp_path: Path) -> None:
    frames = [frame(LEFT)] * 40
    a, b = make_video(tmp_path / "a.mkv", frames), make_video(tmp_path / "b.mkv", frames)
    reader = Patches()
    done: list[tuple[int, int]] = []
    evaluate(
        a,
        b,
        authorised={"red": reader},
        identity=IdentitySettings(brightness),
        batch_size=2,
        progress=lambda *n: done.append(n),
    )
    # Two batches of two files are read; at most the ones before are still held.
    assert len(reader.alive) == 40
    assert max(reader.alive) <= 4
    assert done == [(n, 40) for n in range(0, 41, 2)]


def test_a_reading_keeps_no_more_than_itself(tmp_path: Path) -> None:
    class Slices(Patches):
        def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
            return [Faces(torch.rand(50_000, 4).cumsum(dim=1)[:1], torch.rand(50_000)[:1]) for _ in images]

    a = make_video(tmp_path / "a.mkv", [frame(LEFT)])
    reader = evaluate(a, a, authorised={"slices": Slices()}, quality=None).readers["slices"]
    for faces in (reader.originals[0], reader.protected[0]):
        assert faces.boxes.untyped_storage().nbytes() == 16
        assert faces.scores.untyped_storage().nbytes() == 4


def test_readers_without_a_detector_are_told_by_their_group(clip: tuple[Path, Path]) -> None:
    points, gaze = Patches(task="landmarks"), Patches(task="gaze")
    result = evaluate(*clip, authorised={"red": Patches(), "gaze": gaze}, unauthorised={"points": points})
    # The original has (0, 0, -1) too; what is not found counts as half a turn.
    assert result.readers["gaze"].all("gaze_deg") == pytest.approx([0, 180, 180, 0])
    assert result.readers["gaze"].score["gaze"] == pytest.approx((0 + 180 + 90) / 3)
    # Nobody unauthorised looks for faces, so the authorised detector's places are used.
    assert [len(known) for known in points.given[0] or ()] == [1, 1, 2, 0]
    assert [len(known) for known in points.given[1] or ()] == [1, 0, 1, 1]


def test_the_truth_replaces_what_authorised_readers_read_on_the_original(
    clip: tuple[Path, Path], tmp_path: Path
) -> None:
    told = Faces(torch.tensor([[14.0, 20.0, 54.0, 80.0]]), torch.ones(1))
    frames = [told, Faces.empty(), Faces.empty(), Faces.empty()]
    groups: dict[str, Any] = {"authorised": {"red": Patches()}, "unauthorised": {"other": Patches()}}
    truth = Detections(frames, size=(HEIGHT, WIDTH), readers=("somebody",))
    result = evaluate(*clip, truth=truth, **groups)
    assert result.readers["red"].all("iou") == [1.0]
    assert result.readers["red"].extra == 2
    assert result.readers["other"].faces == 4
    assert result.readers["red"].frames[0].values["landmarks_px"] is None
    write_detections(tmp_path / "truth.json", truth)
    assert evaluate(*clip, truth=tmp_path / "truth.json", **groups).to_json() == result.to_json()
    # With the truth, readers of landmarks need no detector; on the protected frame they are told the same places.
    points = Patches(task="landmarks")
    alone = evaluate(*clip, truth=truth, authorised={"points": points})
    assert alone.readers["points"].all("iou") == [1.0]
    for wrong, message in (
        (Detections(frames[:3]), "3 frames"),
        (Detections(frames, size=(10, 10)), "10x10"),
    ):
        with pytest.raises(EvaluationError, match=message):
            evaluate(*clip, truth=wrong, **groups)
    with pytest.raises(DetectionsError, match="on 4 frames; the clip has 1"):
        evaluate_image(tmp_path, truth=tmp_path / "truth.json")


def evaluate_image(folder: Path, **options: Any) -> Evaluation:
    write_image(folder / "a.png", frame(LEFT))
    return evaluate(folder / "a.png", folder / "a.png", authorised={"red": Patches()}, **options)


def test_target_models_are_told_the_frames_and_read_originals_in_their_own_way(tmp_path: Path) -> None:
    before = make_video(tmp_path / "a.mkv", [torch.ones(3, 32, 32)] * 5)
    after = make_video(tmp_path / "b.mkv", [torch.zeros(3, 32, 32)] * 5)
    middle = (8, 8, 24, 24)
    keyed = Sees(
        lambda image, number: [] if image.mean() > 0.5 else [middle],
        original=Sees(lambda image, number: [middle] if image.mean() > 0.5 else []),
    )
    result = evaluate(before, after, authorised={"keyed": keyed}, batch_size=2, quality=None)
    assert (result.readers["keyed"].faces, result.readers["keyed"].found) == (5, 5)
    assert keyed.told == [(0, 1), (2, 3), (4,)]


# Movements


def walk(late: int, frames: int = 41) -> list[Tensor]:
    """A face that goes to and fro in 20 frames."""
    steps = [round(8 * math.sin(2 * math.pi * (k - late) / 20)) for k in range(frames)]
    return [frame((20 + step, 20, 50 + step, 80)) for step in steps]


def test_movements_are_followed_as_late_as_they_come(tmp_path: Path) -> None:
    after = walk(2)
    after[7] = frame()
    paths = make_video(tmp_path / "a.mkv", walk(0)), make_video(tmp_path / "b.mkv", after)
    result = evaluate(*paths, authorised={"red": Patches()}, batch_size=4, quality=None)
    movement = result.readers["red"].movement
    steps = [[float(shown[0, 50].gt(0.9).nonzero()[0]) for shown in walk(late)] for late in (0, 2)]
    kept = [[value for k, value in enumerate(row) if k != 7] for row in steps]
    found = movement.all["centre_px"].values
    assert found.correlation == pytest.approx(float(np.corrcoef(kept[0], kept[1])[0, 1]), abs=1e-6)
    squares = [(a - b) ** 2 for a, b in zip(*kept, strict=True)]
    assert found.rmse == pytest.approx(math.sqrt(sum(squares) / len(squares)), abs=1e-6)
    assert found.lag == pytest.approx(2, abs=1e-6)
    # Its size does not change; seen from the camera it turns, as it moves aside.
    assert {"centre_px", "points_px"} < set(movement.own) < {*SIGNALS} - {"size_px", "mouth_px", "gaze_yaw_deg"}
    data = result.to_json()["readers"]["red"]["movement"]
    assert [data[name] for name in ("faces", "compared", "missed", "unread")] == [1, 40, 1, 0]
    assert data["signals"]["centre_px"]["correlation"] == found.correlation
    assert data["signals"]["size_px"]["undefined"]["correlation"] == "the original does not move"
    assert data["signals"]["gaze_yaw_deg"]["undefined"]["rmse"] == "it is not read on both files"
    (face,) = data["followed"]
    assert (face["clip"], face["first"], face["frames"], face["missed"]) == (0, 0, 41, 1)
    assert face["signals"]["centre_px"]["changes"]["compared"] == 38


def test_each_clip_moves_by_itself(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        for clip in "ab":
            make_video(tmp_path / name / f"{clip}.mkv", walk(0, 9))
    movement = (
        evaluate(tmp_path / "x", tmp_path / "y", authorised={"red": Patches()}, quality=None).readers["red"].movement
    )
    assert [[(face.first, len(face)) for face in clip] for clip in movement.clips] == [[(0, 9)], [(0, 9)]]
    assert movement.all["centre_px"].changes.compared == 16
    assert movement.all["centre_px"].values.correlation == pytest.approx(1)


# Files


def test_lengths_that_differ_are_named(tmp_path: Path) -> None:
    a, b = make_video(tmp_path / "a.mkv", [frame()] * 3), make_video(tmp_path / "b.mkv", [frame()] * 2)
    reader = Patches()
    with pytest.raises(EvaluationError) as caught:
        evaluate(a, b, authorised={"red": reader})
    assert f"{a} has 3 frames and {b} has 2" in str(caught.value)
    assert not reader.seen


def test_sizes_that_differ_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.zeros(3, 8, 10))
    write_image(tmp_path / "b.png", torch.zeros(3, 10, 8))
    with pytest.raises(EvaluationError, match=r"a\.png has 10x8 pixels and .*b\.png has 8x10"):
        evaluate(tmp_path / "a.png", tmp_path / "b.png", authorised={"red": Patches()})


def test_a_video_goes_with_a_folder_of_its_frames(clip: tuple[Path, Path], tmp_path: Path) -> None:
    with VideoReader(clip[1]) as reader:
        frames = [f.image for f in reader]
    folder = make_video(tmp_path / "frames", frames, codec="png-folder")
    one, other = (evaluate(clip[0], path, authorised={"red": Patches()}) for path in (clip[1], folder))
    assert one.to_json()["readers"] == other.to_json()["readers"]
    assert one.to_json()["quality"] == other.to_json()["quality"]


def test_folders_go_together_by_name_without_suffix(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for folder in (before / "in", after / "in"):
        folder.mkdir(parents=True)
    make_video(before / "in" / "b.mkv", [frame(LEFT)] * 2)
    make_video(after / "in" / "b.mp4", [frame(LEFT)] * 2, codec="h264-lossless")
    make_video(before / "c.mkv", [frame(RIGHT)] * 2)
    make_video(after / "c", [frame(RIGHT)] * 2, codec="png-folder")
    write_image(before / "a.jpg", frame(LEFT), quality=100)
    write_image(after / "a.png", frame(MOVED))
    (after / "deidlib-manifest.jsonl").write_text("{}")
    (after / ".hidden.png").write_bytes(b"")
    result = evaluate(before, after, authorised={"red": Patches()})
    assert [pair.name for pair in result.pairs] == ["a", "c", "in/b"]
    assert result.locate(0)[0].name == "a"
    assert (result.locate(4)[0].name, result.locate(4)[1]) == ("in/b", 1)
    with pytest.raises(IndexError, match="5 frames"):
        result.locate(5)
    assert result.readers["red"].all("iou")[1:] == [1.0] * 4
    assert result.quality is not None
    # Each clip begins anew: the first frame has none before it.
    assert [math.isnan(value) for value in result.quality.frames["flicker"]] == [True, True, False, True, False]
    write_image(after / "d.png", frame())
    with pytest.raises(EvaluationError, match=r"holds 3 files and .* 4.*only in .*after: d"):
        evaluate(before, after, authorised={"red": Patches()})
    write_image(after / "a.bmp.png", frame())
    write_image(after / "a.bmp.jpg", frame(), quality=90)
    with pytest.raises(EvaluationError, match="one name without suffix"):
        evaluate(before, after, authorised={"red": Patches()})


def test_what_does_not_go_together_is_refused(tmp_path: Path, clip: tuple[Path, Path]) -> None:
    write_image(tmp_path / "a.png", frame())
    red: dict[str, Any] = {"red": Patches()}
    with pytest.raises(EvaluationError, match=r"is an image and .* is a video"):
        evaluate(tmp_path / "a.png", clip[1], authorised=red)
    with pytest.raises(MediaReadError, match="does not exist"):
        evaluate(tmp_path / "none.mkv", clip[1], authorised=red)
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    with pytest.raises(EvaluationError, match="hold no image or video"):
        evaluate(tmp_path / "x", tmp_path / "y", authorised=red)
    with pytest.raises(MediaReadError, match="holds no picture"):
        evaluate(clip[0], tmp_path / "x", authorised=red)
    with pytest.raises(EvaluationError, match="red: authorised and unauthorised"):
        evaluate(*clip, authorised=red, unauthorised=red)
    with pytest.raises(EvaluationError, match="nobody to read"):
        evaluate(*clip, authorised={})
    with pytest.raises(EvaluationError, match="add a detector"):
        evaluate(*clip, authorised={"gaze": Patches(task="gaze")})
    with pytest.raises(EvaluationError, match="must have `task`"):
        evaluate(*clip, authorised={"red": object()})  # type: ignore[dict-item]
    with pytest.raises(EvaluationError, match="at least 1 frame"):
        evaluate(*clip, authorised=red, batch_size=0)


# Identity


def test_identity_is_the_cosine_of_the_same_face(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", frame(LEFT))
    write_image(tmp_path / "b.png", frame(LEFT, channel=1))

    def corner(crops: Tensor) -> Tensor:
        # Pure colours at the middle of the face.
        return crops[:, :, 50:60, 50:60].mean(dim=(2, 3)) + torch.tensor([0.0, 0.0, 1.0])

    result = evaluate(
        tmp_path / "a.png", tmp_path / "b.png", authorised={"red": Patches()}, identity=IdentitySettings(corner)
    )
    assert result.identity is not None
    # (1, 0, 1) against (0, 1, 1), although nobody finds the protected face.
    assert [list(frame) for frame in result.identity.cosines] == [[pytest.approx(0.5, abs=1e-3)]]
    assert result.identity.threshold is None
    assert result.identity.accepted is None
    same = evaluate(
        tmp_path / "a.png",
        tmp_path / "b.png",
        authorised={"red": Patches()},
        identity=IdentitySettings(corner, threshold=0.4),
    )
    assert same.identity is not None
    assert same.identity.accepted == 1.0


def test_faces_of_one_frame_and_strangers_set_the_threshold(tmp_path: Path) -> None:
    def place(crops: Tensor) -> Tensor:
        # Angles in the plane: red 0, green 60, blue 90 degrees.
        colour = crops[:, :, 50:60, 50:60].mean(dim=(2, 3))
        angle = (colour * torch.tensor([0.0, math.pi / 3, math.pi / 2])).sum(dim=1)
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    class Both(Patches):
        def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
            parts = [Patches(c).predict(images) for c in range(3)]
            return [
                Faces(
                    torch.cat([known.boxes for known in row]),
                    torch.cat([known.scores for known in row]),
                    torch.cat([known.landmarks for known in row if known.landmarks is not None]),
                )
                for row in zip(*parts, strict=True)
            ]

    two = torch.where(torch.arange(WIDTH) < WIDTH // 2, frame(LEFT), frame(RIGHT, channel=1))
    write_image(tmp_path / "a.png", two)
    one = evaluate(tmp_path / "a.png", tmp_path / "a.png", authorised={"all": Both()}, identity=IdentitySettings(place))
    assert one.identity is not None
    assert one.identity.threshold == pytest.approx(0.5, abs=1e-3)
    assert one.identity.impostors == 1
    assert one.identity.accepted == 1.0
    assert "nobody has said who is who" in str(one.identity.why_no_attackers)
    more = evaluate(
        tmp_path / "a.png",
        tmp_path / "a.png",
        authorised={"all": Both()},
        identity=IdentitySettings(place, strangers=[frame(LEFT, channel=2)[None]]),
    )
    assert more.identity is not None
    # Green and blue are 30 degrees apart.
    assert more.identity.threshold == pytest.approx(math.cos(math.pi / 6), abs=1e-3)
    assert more.identity.impostors == 3
    with pytest.raises(EvaluationError, match="shows no face"):
        evaluate(
            tmp_path / "a.png",
            tmp_path / "a.png",
            authorised={"all": Both()},
            identity=IdentitySettings(place, strangers=[frame()[None]]),
        )


def test_what_only_others_take_for_a_face_is_reported_beside(tmp_path: Path) -> None:
    both = torch.where(torch.arange(WIDTH) < WIDTH // 2, frame(LEFT), frame(RIGHT, channel=1))
    half = torch.where(torch.arange(WIDTH) < WIDTH // 2, frame(LEFT, channel=2), frame(RIGHT, channel=1))
    write_image(tmp_path / "a.png", both)
    write_image(tmp_path / "b.png", half)
    groups: dict[str, Any] = {
        "authorised": {"red": Patches()},
        "unauthorised": {"red too": Patches(), "green": Patches(1)},
    }
    result = evaluate(
        tmp_path / "a.png", tmp_path / "b.png", identity=IdentitySettings(brightness, threshold=0.5), **groups
    )
    assert result.identity is not None
    # The green face was overlooked, and is what it was; the red one has become blue.
    assert [len(frame) for frame in result.identity.cosines] == [1]
    assert result.identity.mean is not None
    assert result.identity.mean < 0.5
    assert result.identity.accepted == 0
    assert [list(frame) for frame in result.identity.beside] == [[pytest.approx(1)]]
    # Only what the authorised detectors find is inside.
    assert result.quality is not None
    assert result.quality.covered == pytest.approx([48 * 72 / (HEIGHT * WIDTH)])
    # Where there is a truth, nothing else is a face.
    truth = Detections(Patches().predict(both[None]))
    told = evaluate(
        tmp_path / "a.png", tmp_path / "b.png", identity=IdentitySettings(brightness), truth=truth, **groups
    )
    assert told.identity is not None
    assert list(told.identity.beside) == [()]


def test_reidentification_is_that_of_the_metric(clip: tuple[Path, Path]) -> None:
    with VideoReader(clip[0]) as before, VideoReader(clip[1]) as after:
        here, there = (torch.stack([f.image for f in reader]) for reader in (before, after))
    faces = Patches().predict(here)
    people = [[7], [7], [7, 8], []]
    oracle = ReIdentification(brightness)
    oracle.update(here, there, faces, people)
    result = evaluate(
        *clip,
        authorised={"red": Patches()},
        truth=Detections(faces),
        identity=IdentitySettings(brightness, identities=people),
    )
    assert result.identity is not None
    assert result.identity.attackers["naive"] == pytest.approx(
        {name: value.item() for name, value in oracle.compute().items()}, nan_ok=True, abs=1e-6
    )
    assert set(result.identity.attackers) == {"naive", "linkage"}
    with pytest.raises(EvaluationError, match="give the truth too"):
        evaluate(*clip, authorised={"red": Patches()}, identity=IdentitySettings(brightness, identities=people))
    with pytest.raises(EvaluationError, match="every face of every frame"):
        evaluate(
            *clip,
            authorised={"red": Patches()},
            truth=Detections(faces),
            identity=IdentitySettings(brightness, identities=people[:3]),
        )


def test_faces_without_points_are_counted_not_dropped_silently(tmp_path: Path) -> None:
    told = Detections([Faces(torch.tensor([[10.0, 20.0, 50.0, 80.0]]), torch.ones(1))])
    result = evaluate_image(tmp_path, truth=told, identity=IdentitySettings(brightness))
    assert result.identity is not None
    assert (result.identity.faces, result.identity.unaligned) == (0, 1)
    assert result.to_json()["identity"]["undefined"]["cosine"]


# JSON


def nulls(data: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every null, and the object that it stands in."""
    if isinstance(data, dict):
        for key, value in data.items():
            if value is None:
                yield f"{path}/{key}", data
            yield from nulls(value, f"{path}/{key}")
    elif isinstance(data, list):
        for value in data:
            assert value is not None, path
            yield from nulls(value, path)


def test_the_json_has_no_nan_and_says_why_a_value_is_null(clip: tuple[Path, Path], tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [
        {"identity": IdentitySettings(brightness)},
        {"quality": None, "unauthorised": {"green": Patches(1)}},
        {"truth": Detections([Faces.empty()] * 4), "identity": IdentitySettings(brightness)},
    ]
    for k, option in enumerate(options):
        result = evaluate(clip[0], clip[k % 2], authorised={"red": Patches()}, **option)
        write_evaluation(tmp_path / "a.json", result)
        data = json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda c: pytest.fail(c))
        assert data["format"] == "deidlib-evaluation/1"
        assert len(data["readers"]["red"]["frames"]) == data["frames"] == 4
        for part in ("settings", "versions"):
            del data[part]
        found = list(nulls(data))
        assert found
        for path, owner in found:
            assert owner["undefined"][path.rsplit("/", 1)[1]], path
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_evaluation(tmp_path / "none" / "a.json", result)


def test_every_key_is_on_the_page(clip: tuple[Path, Path]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    data = evaluate(
        *clip, authorised={"red": Patches()}, identity=IdentitySettings(brightness, strangers=[frame(LEFT)[None]])
    ).to_json()
    reader, identity, quality = data["readers"]["red"], data["identity"], data["quality"]
    parts = (
        data, data["clips"][0], data["settings"], reader, reader["summary"], reader["summary"]["iou"],
        reader["frames"][0], reader["diffscore"], reader["movement"], reader["movement"]["signals"],
        reader["movement"]["followed"][0], reader["movement"]["signals"]["size_px"], identity,
    )  # fmt: skip
    keys = {key for part in parts for key in part} - {"undefined"} | {"naive", "linkage", "fingerprint"}
    assert not {key for key in keys if f"`{key}`" not in page}
    stems = {key.removesuffix("_inside").removesuffix("_outside") for key in quality["frames"][0]} - {"undefined"}
    assert not {key for key in stems if f"`{key}`" not in page}
    assert f"`{data['format']}`" in page


def test_an_unchanged_frame_has_no_psnr_and_says_that_it_is_infinite(tmp_path: Path) -> None:
    data = evaluate_image(tmp_path).to_json()
    assert data["quality"]["summary"]["psnr"] is None
    assert data["quality"]["summary"]["undefined"]["psnr"].startswith("infinite")
    assert data["quality"]["summary"]["ssim"] == 1.0
    # 1.2 times 40 x 60 pixels.
    assert data["quality"]["frames"][0]["face_area"] == pytest.approx(48 * 72 / (HEIGHT * WIDTH))


def test_hashes_settings_and_versions_are_there(clip: tuple[Path, Path]) -> None:
    from deidlib.records.files import sha256_of

    data = evaluate(*clip, authorised={"red": Patches()}, reading=ReadingSettings(min_iou=0.25)).to_json()
    assert "original" not in data
    assert data["protected"]["sha256"] == sha256_of(clip[1])
    assert data["settings"]["min_iou"] == 0.25
    assert data["versions"]["torch"] == torch.__version__.split("+")[0]
    assert data["readers"]["red"]["class"].endswith(".Patches")


def test_which_network_measured_lpips_is_written_down(
    clip: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By name and by its weights; with random ones in place of those that torchvision downloads."""

    def said(lpips: Any) -> Any:
        quality = QualitySettings(lpips=lpips)
        result = evaluate(clip[0], clip[1], authorised={"red": Patches()}, quality=quality)
        write_report(tmp_path / "a.html", result, worst=0)
        return result.to_json()["settings"]["lpips"]

    def alexnet(weights: object = None) -> nn.Module:
        network: nn.Module = torchvision.models.AlexNet()
        return network

    monkeypatch.setattr(torchvision.models, "alexnet", alexnet)
    first, second = LPIPS("alex"), LPIPS("alex")
    one = said(first)
    assert (one["class"], one["net"]) == ("deidlib.metrics.quality.LPIPS", "alex")
    assert "LPIPS (alex)" in (tmp_path / "a.html").read_text(encoding="utf-8")
    # Its own state does not matter, its weights do.
    assert said(first) == one
    assert said(second)["fingerprint"] != one["fingerprint"]
    other = said(lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    assert set(other) == {"class"}
    assert other["class"].endswith("<lambda>")
    assert "LPIPS" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert evaluate(*clip, authorised={"red": Patches()}, quality=None).to_json()["settings"]["lpips"] is None


def test_readings_can_be_exported(clip: tuple[Path, Path], tmp_path: Path) -> None:
    result = evaluate(*clip, authorised={"red": Patches()})
    out = result.detections("red")
    assert out["original"].sha256 == result.sha256["original"]
    assert out["protected"].pts is not None
    write_detections(tmp_path / "a.json", out["protected"])
    back = read_detections(tmp_path / "a.json", size=(HEIGHT, WIDTH), frames=4)
    assert [known.boxes.tolist() for known in back.frames] == [[list(MOVED)], [], [list(RIGHT)], [list(RIGHT)]]


def test_spread_takes_values_that_occur() -> None:
    assert spread([]) is None
    # Of twenty faces the one that is missed lies in the worst twentieth, whichever end that is at.
    missed = spread([0.0] * 19 + [math.inf])
    assert missed is not None
    assert (missed["p95"], missed["median"], missed["p05"]) == (math.inf, 0.0, 0.0)
    found = spread([0.0] + [0.9] * 19)
    assert found is not None
    assert (found["p05"], found["median"], found["p95"]) == (0.0, 0.9, 0.9)
    even = spread([1.0, 2.0, 3.0, 10.0])
    assert even is not None
    assert (even["p05"], even["median"], even["p95"]) == (1.0, 2.5, 10.0)
    # As numpy has it, also where 5 or 95 percent name a value exactly.
    for count in (1, 2, 7, 20, 21, 100, 101, 1001):
        values = torch.rand(count, dtype=torch.float64).tolist()
        known = spread(values)
        assert known is not None
        assert known["p05"] == np.quantile(values, 0.05, method="lower")
        assert known["p95"] == np.quantile(values, 0.95, method="higher")
        assert known["median"] == pytest.approx(np.median(values))
    assert spread([3.0, 1.0, 2.0]) == {"mean": 2.0, "min": 1.0, "p05": 1.0, "median": 2.0, "p95": 3.0, "max": 3.0}


def test_nets_laid_out_channels_last_are_described_alike() -> None:
    plain, other = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)
    other.load_state_dict(plain.state_dict())
    assert described(plain) == described(other.to(memory_format=torch.channels_last))


# Real frames


def test_real_frames_against_the_challenge_truth(shared: Path, tmp_path: Path) -> None:
    with VideoReader(shared / "media" / "T002_talk.mp4") as reader:
        frames = [f.image for f, _ in zip(reader, range(2), strict=False)]
    before = make_video(tmp_path / "a.mkv", frames)
    truth = read_detections(shared / "media" / "T002_talk.csv", size=(480, 480))
    box = truth.frames[0].boxes[0].round().int().tolist()
    hidden = [image.clone() for image in frames]
    hidden[1][:, box[1] - 30 : box[3] + 30, box[0] - 30 : box[2] + 30] = 0.5
    after = make_video(tmp_path / "b.mkv", hidden)
    pytest.importorskip("onnxruntime")
    result = evaluate(
        before,
        after,
        authorised={"retinaface": RetinaFace()},
        unauthorised={"yunet": YuNet(), "pfld": PFLD()},
        truth=Detections(truth.frames[:2], size=(480, 480)),
        quality=None,
    )
    read = result.readers["retinaface"]
    # The first frame is as it was, the second has no face.
    assert read.all("iou")[0] > 0.85
    assert read.all("nme_box")[0] < 0.05
    assert read.all("iou")[1] == 0
    assert result.readers["yunet"].all("iou") == [pytest.approx(1), 0]
    assert result.readers["pfld"].all("landmarks_px")[0] == pytest.approx(0)
    assert result.readers["pfld"].protected[0].landmarks is not None
    assert result.readers["pfld"].protected[0].landmarks.shape == (1, 68, 2)


def test_nothing_that_is_written_tells_which_recording_it_was(tmp_path: Path) -> None:
    from deidlib.evaluation import write_evaluation
    from deidlib.evaluation.report import write_report
    from deidlib.evaluation.tables import write_table

    for folder in ("canary-folder", "protected"):
        (tmp_path / folder).mkdir()
        place = LEFT if folder == "protected" else MOVED
        make_video(tmp_path / folder / "a.mkv", [frame(place)] * 2)
        make_video(tmp_path / folder / "b.mkv", [frame(place)] * 2)
    (tmp_path / "canary-folder" / "canary-notes.txt").write_text("...")
    single = make_video(tmp_path / "canary.mkv", [frame(MOVED)] * 2), tmp_path / "protected" / "a.mkv"
    both = tmp_path / "canary-folder", tmp_path / "protected"
    for original, protected in (single, both):
        result = evaluate(original, protected, authorised={"red": Patches()})
        secrets = ["canary", str(tmp_path), result.sha256["original"]]
        assert result.sha256["original"] != result.sha256["protected"]
        write_evaluation(tmp_path / "out.json", result)
        write_report(tmp_path / "out.html", result)
        for suffix in (".csv", ".tex"):
            write_table(tmp_path / f"out{suffix}", result)
        for suffix in (".json", ".html", ".csv", ".tex"):
            text = (tmp_path / f"out{suffix}").read_text(encoding="utf-8")
            assert [secret for secret in secrets if secret in text] == [], suffix
        assert not any(secret in repr(result) + result._repr_html_() for secret in secrets)
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["passed_over"] == [{"reason": "neither an image nor a video", "files": 1}]
