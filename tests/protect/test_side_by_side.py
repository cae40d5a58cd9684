"""Chains side by side: as fast as a device is wide, and of every frame the same bits as one chain after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from clips import astronauts, make_video
from toys import Sees, painted, tracking

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain, PreviousFrame
from deidlib.attack.presets import recommended
from deidlib.attack.result import AttackResult
from deidlib.attack.steps import SignStep
from deidlib.attack.tolerance import Tolerance
from deidlib.keys.key import Key
from deidlib.models.mtcnn import MTCNN
from deidlib.obfuscate import Pixelate, Solid
from deidlib.protect.batches import DetectedBatch
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.segments import SegmentStore, SegmentWriter
from deidlib.protect.side_by_side import SideBySide
from deidlib.protect.video import protect_video
from deidlib.protect.work_folder import WorkFolder
from deidlib.records.files import sha256_of
from deidlib.tracking import TrackedFrame

LENGTH, COUNT, SIDE = 4, 14, 32
BATCHES = (1, 4, 16)


@pytest.fixture
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device that works on many frames at once."""
    for place in ("attack.chain", "protect.readers", "protect.found_frames"):
        monkeypatch.setattr(f"deidlib.{place}.read_together", lambda count, device: [slice(0, count)])


def cornered(image: torch.Tensor, number: int) -> list[list[float]]:
    """A face where the frame's corner pixel says, none where that is dark."""
    shift = 16 * float(image[1, 0, 0])
    return [[8 + shift, 8, 20 + shift, 20]] if image[0, 0, 0] > 0.5 else []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that moves, now and then jumps, and is not seen in one frame."""
    frames = torch.rand(COUNT, 3, SIDE, SIDE)
    frames[:, 0, 0, 0] = (torch.arange(COUNT) != 6).float()
    frames[:, 1, 0, 0] = torch.tensor([0, 1, 2, 3, 90, 91, 0, 93, 9, 8, 200, 201, 202, 203])[:COUNT] / 255
    return make_video(tmp_path_factory.mktemp("clips") / "in.mkv", frames)


def toy(model: Sees) -> Deidentifier:
    attacker = IFGSMAttacker([model], epsilon=16 / 255, max_iterations=4, step=SignStep(1 / 255))
    chain = Chain(iterations=2, newcomers=3, length=LENGTH, step=SignStep(1 / 255))
    tracker = tracking({"window": 0, "hold": 0, "smoothing": 0})
    return Deidentifier(attacker, Solid((0.5, 0.5, 0.5)), chain=chain, tracker=tracker, lookout=None)


@pytest.mark.usefixtures("_wide")
def test_a_clip_has_the_same_bytes_however_many_chains_go_side_by_side(clip: Path, tmp_path: Path) -> None:
    hashes, widest = set(), []
    for batch in BATCHES:
        model = Sees(cornered)
        protect_video(toy(model), clip, tmp_path / f"{batch}.mkv", check=None, batch_size=batch)
        hashes.add(sha256_of(tmp_path / f"{batch}.mkv"))
        widest.append(max(model._attacked))
    assert len(hashes) == 1
    # One frame, two (of four, two begin a chain with other settings than the others) and never more than chains.
    assert widest[0] == 1
    assert widest[1] == widest[2] == 4 == -(-COUNT // LENGTH)


@pytest.mark.parametrize("keyed", [False, True], ids=["", "keyed"])
def test_so_it_has_with_a_network_on_a_processor(tmp_path: Path, keyed: bool) -> None:
    clip = make_video(tmp_path / "in.mkv", astronauts(7))
    until = Tolerance(iou=0.8)
    files = []
    for batch in BATCHES:
        chain = Chain(iterations=2, length=2)
        deidentifier = Deidentifier(recommended([MTCNN()], max_iterations=3, until=until), Pixelate(), chain=chain)
        target = tmp_path / f"{batch}.mkv"
        key = Key(bytes(range(32))) if keyed else None
        assert protect_video(deidentifier, clip, target, check=None, batch_size=batch, key=key).found == 7
        files.append((sha256_of(target), target.with_name(f"{batch}.mkv.json").read_text()))
    assert len(set(files)) == 1


def test_so_it_has_without_chains(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "in.mkv", astronauts(4))
    hashes = set()
    for batch in BATCHES:
        deidentifier = Deidentifier(recommended([MTCNN()], max_iterations=2), Pixelate())
        done = protect_video(deidentifier, clip, tmp_path / f"{batch}.mkv", check=None, batch_size=batch)
        assert done.found == 4
        hashes.add(sha256_of(tmp_path / f"{batch}.mkv"))
    assert len(hashes) == 1


@pytest.mark.usefixtures("_wide")
def test_frames_of_several_chains_are_each_what_they_are_alone() -> None:
    """One that follows, one with a newcomer, one that begins; some within tolerance at once, some only afresh."""

    class Darkness(Sees):
        def __init__(self) -> None:
            super().__init__(lambda image, number: [[8, 8, 20, 20]] if image[0, 12, 12] < 0.45 else [])

    box = torch.tensor([[8.0, 8.0, 20.0, 20.0]])
    hidden = torch.full((4, 3, SIDE, SIDE), 128 / 255)
    hidden[3] = 140 / 255
    dark = torch.full((4, 3, SIDE, SIDE), 100 / 255)
    reading = painted(dark)
    reading = [known.replace(boxes=box) for known in reading]
    faces = [
        known if i != 1 else known[[0, 0]].replace(boxes=torch.cat([box, box + 9])) for i, known in enumerate(reading)
    ]
    before = [
        PreviousFrame(torch.full((1, 3, SIDE, SIDE), 112 / 255), box),
        PreviousFrame(torch.full((1, 3, SIDE, SIDE), 118 / 255), box),
        None,
        PreviousFrame(torch.full((1, 3, SIDE, SIDE), 139 / 255), box),
    ]
    attacker = IFGSMAttacker(
        [Darkness()], epsilon=32 / 255, max_iterations=12, step=SignStep(2 / 255), until=Tolerance(iou=0.9)
    )
    chain = Chain(iterations=2, newcomers=4, step=SignStep(1 / 255))

    def attacked(rows: list[int]) -> Iterator[AttackResult]:
        return iter(
            chain.attack(
                attacker,
                hidden[rows],
                {name: [reading[i] for i in rows] for name in attacker.named_models()},
                [faces[i] for i in rows],
                mask=torch.ones(len(rows), 1, SIDE, SIDE),
                numbers=[64 * i + 5 for i in rows],
                previous=[before[i] for i in rows],
            )
        )

    together = list(attacked([0, 1, 2, 3]))
    for i, one in enumerate(together):
        (alone,) = attacked([i])
        for name in ("images", "objective", "iterations", "best", "converged", "within", "excess"):
            assert torch.equal(getattr(one, name), getattr(alone, name)), (i, name)
    steps = [int(one.iterations) for one in together]
    assert len(set(steps)) > 2, steps


def detected(deidentifier: Deidentifier, pulled: list[int]) -> Iterator[tuple[DetectedBatch, list[TrackedFrame]]]:
    def batches() -> Iterator[DetectedBatch]:
        for first in range(0, 32, 2):
            pulled.append(first)
            yield deidentifier.detect(torch.rand(2, 3, SIDE, SIDE), first)

    yield from deidentifier.follow(batches())


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_frames_wait_than_are_needed(count: int) -> None:
    deidentifier, pulled = toy(Sees(cornered)), list[int]()
    seen: list[list[int]] = []
    for batch, _, _ in SideBySide(deidentifier, count).over(detected(deidentifier, pulled)):
        seen.append(list(batch.numbers))
        done = sum(len(numbers) for numbers in seen)
        # Of the chains that are open, and the batch that has just come.
        assert 2 * len(pulled) - done <= count * LENGTH + 2
    assert sorted(number for numbers in seen for number in numbers) == list(range(32))
    assert max(map(len, seen)) == count
    if count == 1:
        # At once, as it must be with what comes live.
        assert seen == [[number] for number in range(32)]


def test_segments_are_written_side_by_side(tmp_path: Path) -> None:
    frames = torch.rand(6, 3, 16, 16).mul(255).round().div(255)
    deidentifier = toy(Sees(cornered))
    records = []
    for batch, tracked in detected(deidentifier, []):
        from deidlib.protect.protected_frames import _records

        records += _records(deidentifier, batch, tracked, deidentifier.protect(batch, tracked))
    with WorkFolder(tmp_path / "out.mkv", {"job": 1}) as folder:
        store = SegmentStore(folder, 4)
        with SegmentWriter(store, 0) as writer:
            for number in (0, 4, 1, 5, 2, 3):
                writer.add(number, frames[number : number + 1], records[number : number + 1])
                assert (store.latest(0, 0) is not None) == (number == 3)
        assert store.known() == [0, 1]
        assert torch.equal(torch.cat([*store.images(0, 0, 3), *store.images(1, 0, 3)]), frames)
        assert [record.pts for record in store.records(1, 0)] == [4, 5]
