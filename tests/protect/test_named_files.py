"""Files that are named: each into its own output, by this process or by workers that they share; and their options."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import make_video
from toys import Pixels, White

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.attack.steps import SignStep
from deidlib.media import write_image
from deidlib.obfuscate import Pixelate
from deidlib.protect import Sidecar, protect_file, protect_files, protect_folder, protect_image
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.sidecar import publish
from deidlib.protect.workers import Workers
from deidlib.records.files import sha256_of

Pairs = list[tuple[Path, Path]]


def nothing(image: torch.Tensor, number: int) -> list[list[float]]:
    return []


def hider() -> Deidentifier:
    attacker = IFGSMAttacker([White(nothing, original=Pixels())], max_iterations=1, step=SignStep(1 / 255))
    chain = Chain(iterations=1, length=4, step=SignStep(1 / 255))
    return Deidentifier(attacker, Pixelate(4), detectors=[Pixels()], chain=chain)


@pytest.fixture
def named(tmp_path: Path) -> Pairs:
    """A clip, a picture, a file that is neither, and a clip in another folder."""
    (tmp_path / "sub").mkdir()
    names = ("a.mkv", "b.png", "c.mkv", "sub/a.mkv")
    for name in ("a.mkv", "sub/a.mkv"):
        make_video(tmp_path / name, torch.rand(3, 3, 32, 32))
    write_image(tmp_path / "b.png", torch.rand(3, 32, 32))
    (tmp_path / "c.mkv").write_bytes(b"no video")
    return [(tmp_path / name, (tmp_path / name).with_stem(f"{Path(name).stem}.out")) for name in names]


def test_workers_are_started_once_for_all_and_give_what_one_process_gives(
    named: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = list[int]()
    start = Workers._started

    def counted(self: Workers, i: int) -> Any:
        started.append(i)
        return start(self, i)

    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.set_forkserver_preload(["toys", "deidlib.protect.files", "deidlib.protect.spread"])
        monkeypatch.setattr("deidlib.protect.workers._START", "forkserver")
    monkeypatch.setattr(Workers, "_started", counted)
    elsewhere = [(one, tmp_path / "here" / out.relative_to(tmp_path)) for one, out in named]
    here = protect_files(hider(), elsewhere, options={"targets": "mtcnn"})
    assert not started
    there = protect_files(hider(), named, workers=2, options={"targets": "mtcnn"})
    assert started == [0, 1]
    assert [one.summary for one in there.files] == [one.summary for one in here.files]
    assert [one.error for one in there.files] == [one.error for one in here.files]
    (failed,) = there.failed
    assert (failed.source, failed.target) == named[2]
    assert str(failed.error).startswith(str(named[2][0]))
    for i in (0, 1, 3):
        assert sha256_of(named[i][1]) == sha256_of(elsewhere[i][1])
        assert Sidecar.describes(named[i][1])
        assert Sidecar.options(Sidecar.path_of(named[i][1])) == {"targets": "mtcnn"}
    # No manifest beside the inputs, and no secret.
    assert not [path for path in tmp_path.rglob("*") if "manifest" in path.name or path.suffix == ".key"]


def test_an_output_is_nobody_elses(tmp_path: Path) -> None:
    for pairs in ([("a.mkv", "x.mkv"), ("b.mkv", "x.mkv")], [("a.mkv", "b.mkv"), ("b.mkv", "c.mkv")]):
        with pytest.raises(ValueError, match="each file needs an output of its own, which is none of the inputs"):
            protect_files(hider(), [(tmp_path / one, tmp_path / out) for one, out in pairs])


def test_options_are_in_the_description_when_it_appears_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = list[Any]()

    def seen(file: Path, protected: Path, description: dict[str, Any]) -> None:
        published.append(description.get("options"))
        publish(file, protected, description)

    monkeypatch.setattr("deidlib.protect.clip.publish", seen)
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "a.mkv", torch.rand(2, 3, 32, 32))
    write_image(tmp_path / "in" / "b.png", torch.rand(3, 32, 32))
    options = {"targets": "mtcnn", "epsilon": 8}
    for name in ("a.mkv", "b.png"):
        protect_file(hider(), tmp_path / "in" / name, tmp_path / name, options=options)
    protect_file(hider(), tmp_path / "in" / "a.mkv", tmp_path / "plain.mkv")
    protect_folder(hider(), tmp_path / "in", tmp_path / "out", options=options)
    assert published == [options, options, None, options, options]
    assert sha256_of(tmp_path / "plain.mkv") == sha256_of(tmp_path / "a.mkv")
    with pytest.raises(ValueError, match="notes no options"):
        Sidecar.options(tmp_path / "plain.mkv.json")
    # Others than before are no other work.
    assert protect_folder(hider(), tmp_path / "in", tmp_path / "out").finished_before == 2


def test_options_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", torch.rand(2, 3, 32, 32))
    with pytest.raises(TypeError, match="not JSON serializable"):
        protect_file(hider(), tmp_path / "a.mkv", tmp_path / "out.mkv", options={"place": tmp_path})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv"]
    with pytest.raises(ValueError, match="options need a target"):
        protect_image(hider(), tmp_path / "a.png", options={})  # type: ignore[call-overload]
