"""The theorem of docs/privacy.md, file to file: under equal readings a face's pixels change no byte of the output."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import astronauts, make_video
from torch import Tensor

from deidlib import MTCNN, Deidentifier, Faces, Key, Pixelate, RetinaFace, Solid, recommended
from deidlib.attack.chain import Chain
from deidlib.images import to_grid
from deidlib.keys.record import KeyRecord
from deidlib.media import write_image
from deidlib.media.codecs import CODEC_TABLE
from deidlib.models.base import TargetModel
from deidlib.obfuscate import Obfuscator
from deidlib.protect.check import Check
from deidlib.protect.image import protect_image
from deidlib.protect.keyed import with_key
from deidlib.protect.output import Output
from deidlib.protect.promise import why_not_proved
from deidlib.protect.sidecar import Sidecar
from deidlib.protect.video import protect_video
from deidlib.tracking import FaceTracker

SIDE, COUNT = 128, 3
# Quick ones first: the rest is run with the slow tests.
SLOW = ("video", "chain", "key", "h264", "mjpeg.avi", "retinaface")
NONCE = "0" * 32


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """The astronaut, small and twice."""
    one = astronauts(COUNT, side=SIDE)
    return torch.cat([one, one.flip(3)], dim=3)


@pytest.fixture(scope="module")
def reading(frames: Tensor) -> list[Faces]:
    """Two faces in every frame, as a detector has read them on the original."""
    found = MTCNN().predict(frames)
    assert [len(known) for known in found] == [2] * COUNT
    return found


@pytest.fixture(scope="module")
def others(frames: Tensor, reading: Sequence[Faces]) -> dict[str, Tensor]:
    """The same frames with another in the place of the faces."""
    inside = Solid().mask(reading, *frames.shape[2:]) > 0
    chance = torch.Generator().manual_seed(1)
    kinds = {
        "another person": frames.flip(2) * 0.7 + 0.1,
        "noise": torch.rand(frames.shape, generator=chance),
        "black": torch.zeros_like(frames),
    }
    return {name: torch.where(inside, to_grid(other), frames) for name, other in kinds.items()}


Protect = Callable[[Deidentifier, Path, Path, Sequence[Faces], KeyRecord | None], object]


def image(
    deidentifier: Deidentifier, source: Path, target: Path, faces: Sequence[Faces], key: KeyRecord | None
) -> object:
    return protect_image(deidentifier, source, target, faces=faces[0], key=key)


def video(codec: Any = "ffv1") -> Protect:
    def run(
        deidentifier: Deidentifier, source: Path, target: Path, faces: Sequence[Faces], key: KeyRecord | None
    ) -> object:
        # Frames that are read badly are attacked again, from the original once more.
        check = Check(min_iou=0.9, repairs=1)
        return protect_video(
            deidentifier, source, target, output=Output(codec), faces=list(faces), key=key, check=check, batch_size=2
        )

    return run


def written(path: Path, run: Protect, deidentifier: Deidentifier, images: Tensor, faces: Sequence[Faces]) -> bytes:
    """What comes out of a file of those frames: all bytes of it, and of what lies beside it but the input's name."""
    path.mkdir()
    key = None
    if isinstance(next(iter(deidentifier.attacker.named_models().values())), MTCNN) and path.name.startswith("key"):
        # Of the input's hash a nonce is made by the key, which looks like chance to everybody else: here it is given.
        deidentifier, key = with_key(deidentifier, Key(bytes(32)), nonce=NONCE)
    if run is image:
        source, target = path / "in.png", path / "out.png"
        write_image(source, images[:1])
    else:
        source = make_video(path / "in.mkv", images)
        target = path / ("out.mp4" if "h264" in path.name else "out.mkv")
    run(deidentifier, source, target, faces, key)
    sidecar = json.loads(Sidecar.path_of(target).read_text())
    # Whatever is said of the input is no part of the theorem.
    sidecar.pop("input")
    return target.read_bytes() + json.dumps(sidecar, sort_keys=True).encode()


CASES: dict[str, tuple[Callable[[], TargetModel[Any]], Protect, Chain | None]] = {
    "image": (MTCNN, image, None),
    "video": (MTCNN, video(), None),
    "chain": (MTCNN, video(), Chain(iterations=2, newcomers=2, length=2)),
    "key": (MTCNN, video(), None),
    "key image": (MTCNN, image, None),
    "h264": (MTCNN, video("h264"), Chain(iterations=2, newcomers=2, length=2)),
    "mjpeg.avi": (MTCNN, video("mjpeg"), None),
    "retinaface": (RetinaFace, video(), None),
}


def deidentifier_of(case: str, hide: Obfuscator) -> Deidentifier:
    make, _, chain = CASES[case]
    attacker = recommended([make()], max_iterations=1)
    return Deidentifier(attacker, hide, detectors=[MTCNN()], chain=chain)


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES]
)
def test_the_pixels_of_faces_change_no_byte(
    case: str,
    frames: Tensor,
    others: Mapping[str, Tensor],
    reading: Sequence[Faces],
    tmp_path: Path,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # x264's macroblock tree differs between runs on one input (media/sinks.py): that is no difference of faces.
    monkeypatch.setitem(CODEC_TABLE, "h264", replace(CODEC_TABLE["h264"], options={"x264-params": "mbtree=0"}))
    run, told = CASES[case][1], deidentifier_of(case, Solid())
    first = written(tmp_path / f"{case} first", run, told, frames, reading)
    for name, other in others.items():
        assert not torch.equal(other, frames)
        assert written(tmp_path / f"{case} {name}", run, told, other, reading) == first, name


@pytest.mark.slow
def test_a_mosaic_tells_faces_apart(
    frames: Tensor, others: Mapping[str, Tensor], reading: Sequence[Faces], tmp_path: Path
) -> None:
    # So the test above would notice.
    told = deidentifier_of("image", Pixelate())
    results = [
        written(tmp_path / name, image, told, images, reading) for name, images in {"own": frames, **others}.items()
    ]
    assert len(set(results)) == len(results)


@pytest.mark.slow
def test_so_do_the_surroundings(frames: Tensor, reading: Sequence[Faces], tmp_path: Path) -> None:
    told = deidentifier_of("image", Solid())
    other = frames.clone()
    other[:, :, -1] = 0
    assert written(tmp_path / "a", image, told, frames, reading) != written(tmp_path / "b", image, told, other, reading)


@pytest.mark.slow
def test_where_places_are_held_and_whole_frames_are_hidden(
    frames: Tensor, others: Mapping[str, Tensor], reading: Sequence[Faces], tmp_path: Path
) -> None:
    # No face in the first frame, one that is lost in the last: nothing of either may show.
    told = deidentifier_of("video", Solid())
    told = replace(told, tracker=FaceTracker(window=0, hold=2, smoothing=0))
    known = [Faces.empty(), reading[1], Faces.empty()]
    place = Solid().mask([reading[1]], *frames.shape[2:])[0] > 0
    results = []
    for name, other in {"own": frames, **others}.items():
        images = torch.stack([other[0], other[1], torch.where(place, other[0], frames[2])])
        results.append(written(tmp_path / name, video(), told, images, known))
    assert len(set(results)) == 1


def test_a_file_says_whether_it_is_proved(frames: Tensor, reading: Sequence[Faces], tmp_path: Path) -> None:
    for hide, proved in ((Solid(), True), (Pixelate(), False)):
        told, folder = deidentifier_of("image", hide), tmp_path / str(proved)
        written(folder, image, told, frames, reading)
        sidecar = Sidecar.read(folder / "out.png", wanted=True)
        assert sidecar is not None
        assert sidecar.proved is proved
        assert (sidecar.why_not is None) is proved
    kept = replace(deidentifier_of("image", Solid()), tracker=FaceTracker(on_missing="keep"))
    assert "on_missing='keep'" in str(why_not_proved(kept))
