from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from skimage.data import astronaut
from torch import Tensor
from toys import Looks, PixelTarget, Points, Sees, seen_on, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.faces import Faces
from deidlib.geometry.region import FaceRegion
from deidlib.media import (
    MediaError,
    MediaReadError,
    MediaWriteError,
    VideoInfo,
    VideoReader,
    VideoWriter,
    read_image,
    write_image,
)
from deidlib.models.base import frame_mean, rows_of
from deidlib.models.mtcnn import MTCNN
from deidlib.obfuscate import Pixelate, Solid
from deidlib.protect.batches import ProtectedBatch
from deidlib.protect.deidentifier import Deidentifier, NoFaceError
from deidlib.protect.image import protect_image
from deidlib.protect.output import Output
from deidlib.protect.video import protect_video
from deidlib.tracking import FaceTracker, TrackedFrame

HEIGHT, WIDTH = 32, 40
NTSC = Fraction(30000, 1001)
Box = tuple[float, float, float, float]
# Centre (13, 13): hidden with a tenth more on each side, columns and rows 7 to 18.
FACE: Box = (8, 8, 18, 18)
FOUND = (7, 7, 19, 19)


def clip(count: int) -> Tensor:
    """Noise on the uint8 grid; the corner pixel tells the number of the frame."""
    frames = torch.randint(0, 256, (count, 3, HEIGHT, WIDTH)) / 255
    frames[:, :, 0, 0] = (torch.arange(count) / 255)[:, None]
    return frames


def numbers(images: Tensor) -> list[int]:
    return [round(255 * value) for value in images[:, 0, 0, 0].tolist()]


@dataclass(frozen=True, eq=False)
class Content(PixelTarget):
    face: Tensor


class Scripted(Sees):
    """Finds faces by the number of the frame, and wants their pixels back."""

    def __init__(self, script: Mapping[int, Sequence[Box]], fails_at: int | None = None) -> None:
        super().__init__(lambda image, _: script.get(numbers(image[None])[0], ()))
        self.fails_at = fails_at
        self.asked: list[Faces] = []

    def target(self, reading: Sequence[Faces], size: tuple[int, int]) -> Content:
        self.asked += reading
        target = super().target(reading, size)
        if self.fails_at in numbers(target.pixels):
            raise RuntimeError("the model broke down")
        return Content(target.frame, target.pixels, rows_of(reading))

    def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
        assert isinstance(target, Content)
        rows = []
        for k, (left, top, right, bottom) in enumerate(target.face.long().tolist()):
            here = (..., slice(top, bottom), slice(left, right))
            rows.append((images[target.frame[k]][here] - target.pixels[k][here]).square().mean())
        return frame_mean(torch.stack(rows) if rows else images.new_zeros(0), target.frame, len(images))


def deidentifier(model: Scripted, **settings: Any) -> Deidentifier:
    # A mosaic by default: its cells can be counted, and one frame's can be told from another's.
    settings.setdefault("obfuscator", Pixelate())
    # A frame's number is in its corner, which is elsewhere when it is turned.
    settings.setdefault("lookout", None)
    tracker = tracking(settings)
    return Deidentifier(IFGSMAttacker([model], max_iterations=3), tracker=tracker, **settings)


def run(protector: Deidentifier, frames: Tensor, size: int) -> list[ProtectedBatch]:
    return list(protector.frames(torch.split(frames, size)))


def joined(batches: Sequence[ProtectedBatch], field: Literal["originals", "hidden", "images"]) -> Tensor:
    return torch.cat([getattr(batch, field) for batch in batches])


def treatments(batches: Sequence[ProtectedBatch]) -> list[str]:
    return [what for batch in batches for what in batch.treatment]


def inside(*rectangles: tuple[int, int, int, int]) -> Tensor:
    area = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for left, top, right, bottom in rectangles:
        area[top:bottom, left:right] = True
    return area


def colours(image: Tensor, area: Tensor) -> int:
    """How many different colours there are; of noise, as many as pixels."""
    return len(torch.unique(image[:, area].T, dim=0))


# Fail closed


def followed(script: Mapping[int, Sequence[Box]], count: int, **settings: Any) -> list[TrackedFrame]:
    """What the tracker makes of the script; it has tests of its own."""
    boxes = [torch.tensor(script.get(k, ()), dtype=torch.float32).reshape(-1, 4) for k in range(count)]
    faces = [Faces(found, torch.ones(len(found))) for found in boxes]
    return list(FaceTracker(**settings).track(faces, HEIGHT, WIDTH))


@pytest.mark.parametrize("size", [1, 3, 4, 30])
def test_every_frame_is_hidden_whether_or_not_a_face_is_found(size: int) -> None:
    frames = clip(30)
    script: dict[int, Sequence[Box]] = {10: [FACE], 11: [FACE], 16: [FACE], 17: [FACE, (24, 2, 34, 12)]}
    batches = run(deidentifier(Scripted(script), hold=3, window=5, smoothing=1), frames, size)
    expected = followed(script, 30, hold=3, window=5, smoothing=1)
    what = ["whole-frame"] * 5 + ["held"] * 5 + ["found"] * 2 + ["filled"] * 4 + ["found"] * 2 + ["held"] * 3
    what += ["whole-frame"] * 9
    assert treatments(batches) == what == [frame.treatment for frame in expected]
    hidden, images = joined(batches, "hidden"), joined(batches, "images")
    for k, frame in enumerate(expected):
        places = [*frame.found.boxes, *frame.others.boxes]
        area = inside((0, 0, WIDTH, HEIGHT))
        if what[k] != "whole-frame":
            both = Faces(torch.stack(places), torch.ones(len(places)))
            area = Pixelate().mask([both], HEIGHT, WIDTH)[0, 0] > 0
        # Noise has as many colours as pixels, a mosaic as many as cells: 4 across each place, and about as many down.
        assert colours(frames[k], area) > 120
        assert colours(hidden[k], area) <= 20 * max(len(places), 1)
        # Everything else is the input, bit for bit.
        assert torch.equal(images[k][:, ~area], frames[k][:, ~area])
        assert torch.equal(hidden[k][:, ~area], frames[k][:, ~area])
        # Only a frame with faces found carries a perturbation.
        assert torch.equal(images[k], hidden[k]) == (what[k] != "found")


def test_a_face_lost_beside_one_that_is_found_stays_hidden() -> None:
    other: Box = (24, 2, 34, 12)
    frames = clip(5)
    script: dict[int, Sequence[Box]] = {0: [FACE, other], 1: [other], 2: [other], 3: [other], 4: [FACE, other]}
    batches = run(deidentifier(Scripted(script), smoothing=0), frames, 2)
    assert treatments(batches) == ["found"] * 5
    beside = [known.boxes for batch in batches for known in batch.others]
    assert [len(boxes) for boxes in beside] == [0, 1, 1, 1, 0]
    hidden, images = joined(batches, "hidden"), joined(batches, "images")
    for k in (1, 2, 3):
        left, top, right, bottom = beside[k][0].tolist()
        assert left < FACE[0]
        assert top < FACE[1]
        assert right > FACE[2]
        assert bottom > FACE[3]
        assert colours(hidden[k], inside(FOUND)) <= 20
        # Nothing is known about the lost face, so there is nothing to perturb.
        assert torch.equal(images[k][:, inside((8, 13, 18, 18))], hidden[k][:, inside((8, 13, 18, 18))])
        assert not torch.equal(images[k][:, inside((24, 2, 34, 12))], hidden[k][:, inside((24, 2, 34, 12))])


def test_the_hidden_region_does_not_tremble() -> None:
    boxes: list[Box] = [(8 + k % 2, 8, 20 + k % 2, 20) for k in range(12)]
    script = {k: [box] for k, box in enumerate(boxes)}
    frames = clip(12)

    def changed(smoothing: int) -> list[Tensor]:
        hidden = joined(run(deidentifier(Scripted(script), smoothing=smoothing), frames, 4), "hidden")
        return list((hidden != frames).any(dim=1)[4:8])

    rough, smooth = changed(0), changed(2)
    assert not torch.equal(rough[0], rough[1])
    assert all(torch.equal(area, smooth[0]) for area in smooth)
    assert all(bool(area[~smooth[0]].sum() == 0) for area in rough)


def test_a_held_place_stays_within_the_frame() -> None:
    batches = run(deidentifier(Scripted({0: [(30, 22, 40, 32)]})), clip(2), 2)
    ((left, top, right, bottom),) = batches[0].faces[1].boxes.tolist()
    assert left < 30
    assert top < 22
    assert (right, bottom) == (40, 32)


@pytest.mark.parametrize("settings", [{"hold": 0}, {"on_missing": "whole-frame"}])
def test_without_a_hold_the_whole_frame_goes_at_once(settings: dict[str, Any]) -> None:
    batches = run(deidentifier(Scripted({0: [FACE]}), **settings), clip(3), 2)
    assert treatments(batches) == ["found", "whole-frame", "whole-frame"]
    assert colours(joined(batches, "images")[2], inside((0, 0, WIDTH, HEIGHT))) == 12


def test_the_whole_frame_is_hidden_whatever_the_region() -> None:
    ellipse = Pixelate(region=FaceRegion(factor=1.5, shape="ellipse", feather=2))
    (batch,) = run(deidentifier(Scripted({}), obfuscator=ellipse), clip(1), 1)
    assert colours(batch.images[0], inside((0, 0, WIDTH, HEIGHT))) == 12


def test_keep_leaves_the_frame_bit_for_bit() -> None:
    frames = clip(4)
    batches = run(deidentifier(Scripted({1: [FACE]}), on_missing="keep", hold=0, window=0), frames, 3)
    assert treatments(batches) == ["kept", "found", "kept", "kept"]
    images = joined(batches, "images")
    assert torch.equal(images[[0, 2, 3]], frames[[0, 2, 3]])
    assert colours(joined(batches, "hidden")[1], inside(FOUND)) == 16


@pytest.mark.parametrize("size", [1, 2, 7])
def test_error_names_the_frame(size: int) -> None:
    protector = deidentifier(Scripted({k: [FACE] for k in range(5)}), on_missing="error")
    with pytest.raises(NoFaceError, match=r"frame 5 shows no face that \['scripted'\] find\..*on_missing='hold'"):
        run(protector, clip(7), size)


def test_no_state_is_left_from_the_clip_before() -> None:
    protector = deidentifier(Scripted({0: [FACE]}))
    assert treatments(run(protector, clip(1), 1)) == ["found"]
    assert treatments(run(protector, clip(2)[1:], 1)) == ["whole-frame"]


def test_frames_of_one_clip_have_one_size() -> None:
    with pytest.raises(ValueError, match=r"one size: got \(32, 39\) \(height, width\) at frame 2"):
        list(deidentifier(Scripted({})).frames([clip(2), clip(2)[..., :39]]))


@pytest.mark.parametrize("size", [1, 3])
def test_faces_that_are_given_are_hidden_and_no_detector_is_asked(size: int) -> None:
    class Silent(Scripted):
        def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
            raise AssertionError("the places are known")

    frames = clip(3)
    given = [Faces(torch.tensor([FACE], dtype=torch.float32), torch.ones(1)), Faces.empty(), Faces.empty()]
    given = seen_on(frames, given)
    protector = deidentifier(Silent({}), hold=1, window=0)
    batches = list(protector.frames(torch.split(frames, size), faces=given))
    assert treatments(batches) == ["found", "held", "whole-frame"]
    assert colours(joined(batches, "hidden")[0], inside(FOUND)) == 16
    with pytest.raises(ValueError, match="one entry per frame, got 2 for more"):
        list(protector.frames(torch.split(frames, size), faces=given[:2]))


def test_settings_are_checked() -> None:
    attacker = IFGSMAttacker([Points()])
    with pytest.raises(ValueError, match=r"needs a detector.*\['points'\].*detectors=\[MTCNN\(\)\]"):
        Deidentifier(attacker)
    with pytest.raises(ValueError, match="needs a detector"):
        Deidentifier(attacker, detectors=[Points()])
    with pytest.raises(ValueError, match="on_missing must be 'hold', 'whole-frame', 'error' or 'keep', got 'skip'"):
        deidentifier(Scripted({}), on_missing="skip")
    with pytest.raises(ValueError, match="hold must be >= 0 frames, got -1"):
        deidentifier(Scripted({}), hold=-1)


# Hiding and attacking


def test_every_face_is_hidden_and_attacked_within_its_region() -> None:
    other: Box = (24, 2, 34, 12)
    frames = clip(3)
    model = Scripted({0: [FACE, other], 1: [other], 2: [FACE, other]})
    (batch,) = run(deidentifier(model), frames, 3)
    for k, areas in enumerate([(FOUND, (23, 1, 35, 13)), ((23, 1, 35, 13),), (FOUND, (23, 1, 35, 13))]):
        for area in areas:
            assert colours(batch.hidden[k], inside(area)) == 16
            assert not torch.equal(batch.images[k][:, inside(area)], batch.hidden[k][:, inside(area)])
        if k != 1:
            assert torch.equal(batch.images[k][:, ~inside(*areas)], frames[k][:, ~inside(*areas)])
    assert [len(faces) for faces in batch.faces] == [2, 1, 2]
    levels = batch.images * 255
    assert torch.equal(batch.images, levels.round() / 255)
    assert (batch.images - batch.hidden).abs().mul(255).max().round() <= 8
    assert batch.attack is not None
    assert (batch.attack.final_losses()["scripted"] < batch.attack.losses["scripted"][0]).all()


def test_a_model_that_looks_at_the_whole_frame_changes_only_the_region() -> None:
    frames = clip(2)
    # The landmark stub's loss falls wherever a pixel gets darker.
    attacker = IFGSMAttacker([Scripted({0: [FACE], 1: [FACE]}), Points()], weights={"scripted": 0.0}, max_iterations=2)
    (batch,) = run(Deidentifier(attacker), frames, 2)
    area = inside(FOUND)
    assert torch.equal(batch.images[:, :, ~area], frames[:, :, ~area])
    assert (batch.images < batch.hidden)[:, :, area].all()


def test_the_result_does_not_depend_on_the_batches() -> None:
    frames = clip(7)
    protector = deidentifier(Scripted({1: [FACE], 2: [FACE, (24, 2, 34, 12)], 5: [FACE]}), hold=1)
    whole = run(protector, frames, 7)
    for size in (1, 2, 3):
        parts = run(protector, frames, size)
        assert torch.equal(joined(parts, "images"), joined(whole, "images"))
        assert torch.equal(joined(parts, "hidden"), joined(whole, "hidden"))
        assert treatments(parts) == treatments(whole)


@pytest.mark.parametrize(("window", "late"), [(0, 0), (2, 1), (3, 2), (4, 2)])
def test_frames_are_a_stream(window: int, late: int) -> None:
    taken: list[int] = []

    def source() -> Iterator[Tensor]:
        for k, part in enumerate(torch.split(clip(12), 2)):
            taken.append(k)
            yield part

    stream = deidentifier(Scripted({}), window=window).frames(source())
    assert taken == []
    for k, _ in enumerate(stream):
        assert taken == list(range(min(k + 1 + late, 6)))


def test_inputs_are_not_modified() -> None:
    frames = clip(2)
    before = frames.clone()
    (batch,) = run(deidentifier(Scripted({0: [FACE]})), frames, 2)
    assert torch.equal(frames, before)
    assert torch.equal(batch.originals, before)


def test_faces_may_be_found_by_others_than_the_authorised() -> None:
    class Stranger(Scripted):
        def loss(self, images: Tensor, target: PixelTarget) -> Tensor:
            raise AssertionError("a stranger is not attacked")

    # The authorised one sees the first face a little elsewhere, and in the second frame another face.
    other: Box = (24, 2, 34, 12)
    authorised, stranger = Scripted({0: [(8, 9, 18, 19)], 1: [FACE]}), Stranger({0: [FACE], 1: [other]})
    (batch,) = run(deidentifier(authorised, detectors=[stranger], smoothing=0, hold=0, after_hold="drop"), clip(2), 2)
    assert batch.treatment == ["found", "found"]
    # It does not decide what is hidden, and is to read what it read of what is.
    assert colours(batch.hidden[0], inside(FOUND)) == 16
    assert torch.equal(batch.hidden[1][:, ~inside((23, 1, 35, 13))], batch.originals[1][:, ~inside((23, 1, 35, 13))])
    assert [known.boxes.tolist() for known in authorised.asked] == [[[8, 9, 18, 19]], []]
    assert [known["scripted"].boxes.tolist() for known in batch.readings] == [[[8, 9, 18, 19]], []]
    assert batch.attack is not None
    assert list(batch.attack.losses) == ["scripted"]


def test_an_original_is_read_once_by_a_detector_that_hides_and_is_authorised() -> None:
    model = Scripted({k: [FACE] for k in range(4)})
    run(deidentifier(model), clip(4), 2)
    assert model.frames_read == 4


def test_several_detectors_hide_the_union() -> None:
    first, second = Scripted({0: [FACE]}), Scripted({0: [(24, 2, 34, 12)], 1: [FACE]})
    (batch,) = run(deidentifier(Scripted({}), detectors=[first, second]), clip(2), 2)
    assert batch.treatment == ["found", "found"]
    assert len(batch.faces[0]) == 2
    assert colours(batch.hidden[0], inside((23, 1, 35, 13))) == 16


def test_landmarks_and_gaze_are_read_from_the_original() -> None:
    landmarks, gaze = Points(), Looks()
    attacker = IFGSMAttacker([gaze, landmarks, Scripted({1: [FACE], 2: [FACE]})], max_iterations=1)
    (batch,) = run(Deidentifier(attacker), clip(4), 4)
    assert batch.treatment == ["held", "found", "found", "held"]
    # What is only supposed to be there has not been read.
    assert [list(known) for known in batch.readings] == [[], *[["looks", "points", "scripted"]] * 2, []]
    for model in (landmarks, gaze):
        assert len(model.asked) == 2
        for known in model.asked:
            assert known.landmarks is not None
            assert known.landmarks[0].tolist() == [[8, 8]] * 5
    for known in gaze.asked:
        assert known.gaze is not None
        assert known.gaze.tolist() == [[0, 0, -1]]


def test_without_any_face_nothing_is_attacked() -> None:
    model = Scripted({}, fails_at=0)
    (batch,) = run(deidentifier(model), clip(1), 1)
    assert batch.attack is None


# Files


def write_clip(
    path: Path, frames: Tensor, *, codec: str = "h264-lossless", stamps: Sequence[int] | None = None
) -> Path:
    with VideoWriter(path, NTSC, (HEIGHT, WIDTH), codec=codec, time_base=Fraction(1, 30000)) as writer:
        writer.write(frames, stamps)
    return path


def read_clip(path: Path) -> tuple[Tensor, list[Fraction], VideoInfo]:
    with VideoReader(path) as reader:
        frames = list(reader)
    return torch.stack([f.image for f in frames]), [f.pts * reader.info.time_base for f in frames], reader.info


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_video_keeps_its_frames_and_times(tmp_path: Path) -> None:
    frames = clip(7)
    stamps = [0, 1001, 2002, 4004, 5005, 5500, 7007]
    source, target = write_clip(tmp_path / "in.mp4", frames, stamps=stamps), tmp_path / "out.mkv"
    steps: list[int] = []
    protector = deidentifier(Scripted({1: [FACE], 4: [FACE]}), hold=1)
    summary = protect_video(protector, source, target, batch_size=3, progress=steps.append)
    # No batch reaches beyond a segment of 64 frames.
    assert steps == [2, 2, 2, 1]
    assert (summary.frames, summary.found, summary.filled, summary.held) == (7, 2, 2, 2)
    assert (summary.partly_held, summary.whole_frame, summary.kept) == (0, 1, 0)

    seen, times, info = read_clip(target)
    memory = run(protector, frames, 7)
    assert torch.equal(seen, joined(memory, "images"))
    # MKV keeps whole milliseconds.
    assert all(abs(t - Fraction(s, 30000)) <= Fraction(1, 2000) for t, s in zip(times, stamps, strict=True))
    assert info.fps == read_clip(source)[2].fps
    assert (info.height, info.width, info.codec) == (HEIGHT, WIDTH, "ffv1")
    attack = memory[0].attack
    assert attack is not None
    assert summary.losses == {"scripted": pytest.approx(float(attack.final_losses()["scripted"].mean()))}
    assert names(tmp_path) == ["in.mp4", "out.mkv", "out.mkv.json"]


@pytest.mark.parametrize(("name", "codec"), [("out.mp4", "h264-lossless"), ("out", "png-folder")])
def test_other_lossless_files_hold_the_same(tmp_path: Path, name: str, codec: str) -> None:
    frames, target = clip(3), tmp_path / name
    protector = deidentifier(Scripted({0: [FACE]}))
    protect_video(protector, write_clip(tmp_path / "in.mp4", frames), target, output=Output(codec=codec))
    expected = joined(run(protector, frames, 3), "images")
    if codec == "png-folder":
        seen = torch.cat([read_image(target / f"{k:06d}.png") for k in range(3)])
        times = json.loads((target / "frames.json").read_text())
        assert [t * Fraction(times["time_base"]) for t in times["pts"]] == [k / NTSC for k in range(3)]
    else:
        seen, exact, _ = read_clip(target)
        assert exact == [k / NTSC for k in range(3)]
    assert torch.equal(seen, expected)


def break_in_the_middle(source: Path) -> Scripted:
    return Scripted({k: [FACE] for k in range(9)}, fails_at=5)


def damage(source: Path) -> Scripted:
    content = bytearray(source.read_bytes())
    for k in range(len(content) * 2 // 3, len(content) * 2 // 3 + 40):
        content[k] ^= 0xFF
    source.write_bytes(content)
    return Scripted({})


@pytest.mark.parametrize(
    ("prepare", "kind", "message"),
    [
        (break_in_the_middle, RuntimeError, "broke down"),
        (damage, MediaReadError, r"in\.mkv: frame \d.*damaged"),
    ],
)
@pytest.mark.parametrize("earlier", [b"", b"an earlier result"])
def test_nothing_half_written(
    tmp_path: Path, prepare: Callable[[Path], Scripted], kind: type[Exception], message: str, earlier: bytes
) -> None:
    source, target = write_clip(tmp_path / "in.mkv", clip(9), codec="ffv1"), tmp_path / "out.mkv"
    if earlier:
        target.write_bytes(earlier)
    model = prepare(source)
    written: list[int] = []
    with pytest.raises(kind, match=message):
        protect_video(deidentifier(model, window=0), source, target, batch_size=2, progress=written.append)
    # It did begin.
    assert sum(written) >= 2
    assert names(tmp_path) == ["in.mkv", *(["out.mkv"] if earlier else [])]
    if earlier:
        assert target.read_bytes() == earlier


@pytest.mark.parametrize("content", [b"", b"hello\n" * 50, bytes(range(256)) * 20])
def test_what_is_no_media_file(tmp_path: Path, content: bytes) -> None:
    for name in ("in.mp4", "in.png"):
        (tmp_path / name).write_bytes(content)
    protector = deidentifier(Scripted({}))
    with pytest.raises(MediaReadError, match=r"in\.mp4"):
        protect_video(protector, tmp_path / "in.mp4", tmp_path / "out.mkv")
    with pytest.raises(MediaReadError, match=r"in\.png"):
        protect_image(protector, tmp_path / "in.png", tmp_path / "out.png")
    assert names(tmp_path) == ["in.mp4", "in.png"]


def test_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, image = write_clip(tmp_path / "in.mkv", clip(2), codec="ffv1"), tmp_path / "in.png"
    write_image(image, clip(1))
    (tmp_path / "folder.png").mkdir()
    model = Scripted({})
    protector = deidentifier(model)
    before = {path: path.read_bytes() for path in (video, image)}

    def refuse(attempt: Callable[[], object], message: str, kind: type[Exception] = MediaWriteError) -> None:
        with pytest.raises(kind, match=message):
            attempt()

    refuse(lambda: protect_video(protector, video, video), r"output equals input: .*in\.mkv")
    refuse(lambda: protect_image(protector, image, image), r"output equals input: .*in\.png")
    refuse(lambda: protect_video(protector, video, tmp_path / "out.mp4"), r"'ffv1' goes into \.mkv, not '\.mp4'")
    refuse(lambda: protect_video(protector, video, tmp_path / "no" / "out.mkv"), "does not exist")
    refuse(
        lambda: protect_image(protector, image, tmp_path / "out.jpg"), r"written as \.png, not '\.jpg'.*Write out\.png"
    )
    refuse(lambda: protect_image(protector, image, tmp_path / "folder.png"), "is a folder. Name")
    refuse(
        lambda: protect_video(protector, video, tmp_path / "out.mkv", output=Output(quality=3)),
        "quality belongs to",
        ValueError,
    )
    refuse(lambda: protect_video(protector, video, tmp_path / "out.mkv", batch_size=0), "at least 1", ValueError)

    def read_only(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", read_only)
    refuse(lambda: protect_video(protector, video, tmp_path / "out.mkv"), "Permission denied.*another folder")
    refuse(lambda: protect_image(protector, image, tmp_path / "out.png"), "Permission denied.*another folder")
    assert model.frames_read == 0
    assert {path: path.read_bytes() for path in before} == before
    assert names(tmp_path) == ["folder.png", "in.mkv", "in.png"]


def test_an_image(tmp_path: Path) -> None:
    frames = clip(1)
    write_image(tmp_path / "in.png", frames)
    protector = deidentifier(Scripted({0: [FACE]}))
    summary = protect_image(protector, tmp_path / "in.png", tmp_path / "out.PNG")
    assert (summary.frames, summary.found) == (1, 1)
    assert torch.equal(read_image(tmp_path / "out.PNG"), joined(run(protector, frames, 1), "images"))
    assert names(tmp_path) == ["in.png", "out.PNG", "out.PNG.json"]


def test_an_image_whose_attack_fails_leaves_nothing(tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", clip(1))
    with pytest.raises(RuntimeError, match="broke down"):
        protect_image(deidentifier(Scripted({0: [FACE]}, fails_at=0)), tmp_path / "in.png", tmp_path / "out.png")
    with pytest.raises(NoFaceError, match="frame 0"):
        protect_image(deidentifier(Scripted({}), on_missing="error"), tmp_path / "in.png", tmp_path / "out.png")
    assert names(tmp_path) == ["in.png"]


def test_a_real_face(tmp_path: Path) -> None:
    picture = torch.from_numpy(astronaut()[:256, 100:356].copy()).permute(2, 0, 1)[None] / 255
    write_image(tmp_path / "in.png", picture)
    model = MTCNN()
    protector = Deidentifier(IFGSMAttacker([model], max_iterations=1))
    assert protect_image(protector, tmp_path / "in.png", tmp_path / "out.png").found == 1
    (truth,) = model.predict(picture)
    seen = read_image(tmp_path / "out.png")
    ((left, top, right, bottom),) = FaceRegion().rectangles(truth, 256, 256)
    outside = torch.ones(256, 256, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert torch.equal(seen[0][:, outside], picture[0][:, outside])
    assert (seen - protector.obfuscator(picture, [truth])).abs().max() * 255 <= 8.51


def test_errors_can_be_caught_as_one() -> None:
    assert issubclass(MediaReadError, MediaError)
    assert issubclass(NoFaceError, ValueError)


# A way of hiding of one's own


class Curtain:
    """Not one of ours: covers the boxes that it is given, and says nothing of following faces."""

    def __init__(self) -> None:
        self.given: list[Faces] = []

    def __call__(self, images: Tensor, faces: Sequence[Faces]) -> Tensor:
        self.given += faces
        return Solid()(images, faces)

    def mask(self, faces: Sequence[Faces], height: int, width: int) -> Tensor:
        return Solid().mask(faces, height, width)

    def hide_frame(self, images: Tensor) -> Tensor:
        return Solid().hide_frame(images)


class Mask(Curtain):
    follows_face = True


def test_a_cover_of_ones_own_does_not_tremble_and_what_follows_the_face_does() -> None:
    # A box that trembles by a pixel.
    frames, script = clip(9), {k: [(8 + k % 2, 8, 20 + k % 2, 20)] for k in range(9)}
    given = {}
    for kind in (Curtain, Mask):
        hide = kind()
        run(deidentifier(Scripted(script), obfuscator=hide), frames, 9)
        given[kind] = [known.boxes for known in hide.given]
    boxes = [torch.tensor(box, dtype=torch.float32) for box in script.values()]
    # One smoothed place, the same in every frame of the middle, and it holds the box.
    for k in range(3, 6):
        assert torch.equal(given[Curtain][k], given[Curtain][4])
        assert bool((given[Curtain][k][0, :2] <= boxes[k][0, :2]).all())
        assert bool((given[Curtain][k][0, 2:] >= boxes[k][0, 2:]).all())
    assert all(torch.equal(faces, box) for faces, box in zip(given[Mask], boxes, strict=True))


@pytest.mark.parametrize("feather", [0.0, 3.0])
@pytest.mark.parametrize("shape", ["box", "ellipse"])
def test_outside_of_the_regions_that_are_told_nothing_changes(shape: Literal["box", "ellipse"], feather: float) -> None:
    hide = Solid(region=FaceRegion(1.3, shape, feather))
    protector = deidentifier(Scripted({0: [FACE], 2: [(12, 9, 22, 20), (30, 2, 39, 12)]}), obfuscator=hide, hold=0)
    frames = clip(6)
    detected = [protector.detect(frames, 0)]
    ((batch, tracked),) = protector.follow(detected)
    protected = protector.protect(batch, tracked)
    for i, frame in enumerate(tracked):
        regions = protector.regions(frame, (HEIGHT, WIDTH))
        assert regions is not None
        changed = (protected.images[i] != protected.originals[i]).any(dim=0)
        assert changed.any()
        assert not (changed & ~inside(*regions)).any()
    whole = protector.regions(tracked[-1], (HEIGHT, WIDTH))
    assert whole == [(0, 0, WIDTH, HEIGHT)]
    # Of what somebody's own concealment hides, nothing is known.
    assert deidentifier(Scripted({}), obfuscator=Curtain()).regions(tracked[0], (HEIGHT, WIDTH)) is None
