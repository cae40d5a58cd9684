from __future__ import annotations

import base64
import json
import shutil
import stat
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import astronauts, read_video
from command import deidlib, done, refused
from toys import Pixels

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.geometry.boxes import iou
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.media import VideoWriter, read_image, write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.image import protect_image
from deidlib.protect.video import protect_video
from deidlib.records.detections import read_detections
from deidlib.records.files import sha256_of


def secrets_of(*files: Path) -> list[str]:
    """All ways in which a key might be shown."""
    found = []
    for file in files:
        coded = file.read_text().split()[1]
        raw = base64.b64decode(coded)
        found += [coded, raw.hex(), repr(raw)]
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of two frames, protected by a key, and a second key."""
    folder = tmp_path_factory.mktemp("keyed")
    with VideoWriter(folder / "in.mkv", Fraction(25), (128, 128)) as writer:
        writer.write(astronauts(2))
    # Not drawn anew, so that the attack is the same every time.
    Key(bytes(range(32))).save(folder / "right.key")
    Key(bytes(range(1, 33))).save(folder / "wrong.key")
    # One frame a batch: each must be told its own number.
    arguments = (
        "--key",
        folder / "right.key",
        "--iterations",
        25,
        "--epsilon",
        16,
        "--batch",
        1,
        "--min-iou",
        "0.5",
    )
    result = done(deidlib("protect", folder / "in.mkv", folder / "out.mkv", *arguments))
    assert f"only key {Key.load(folder / 'right.key').id} opens it" in result.stdout
    (folder / "said.txt").write_text(result.output)
    return folder


# Keys


def test_a_new_key_is_for_its_owner_alone_and_only_its_id_is_said(tmp_path: Path) -> None:
    file = tmp_path / "my.key"
    result = done(deidlib("key", "new", file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert result.output == f"{Key.load(file).id}\n"
    shown = done(deidlib("key", "show-id", file))
    assert shown.output == result.output
    # Another one is another one.
    assert done(deidlib("key", "new", tmp_path / "other.key")).output != result.output


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "my.key"
    done(deidlib("key", "new", file))
    before = file.read_bytes()
    refused(deidlib("key", "new", file), "exists", "never overwritten")
    # It says so before anything has to be typed.
    refused(deidlib("key", "new", file, "--passphrase", "--salt", "project 7"), "exists")
    assert file.read_bytes() == before


def test_a_passphrase_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    words, file = "correct horse battery staple", tmp_path / "my.key"
    result = done(deidlib("key", "new", file, "--passphrase", "--salt", "project 7", typed=f"{words}\n{words}\n"))
    # The id that docs/keys.md gives for these words; the blanks are the runner's terminal.
    assert result.stdout.split() == ["4125eec36f12509f"]
    assert Key.load(file) == Key.from_passphrase(words, salt="project 7")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "horse" not in result.output


@pytest.mark.parametrize(
    ("options", "typed", "message"),
    [
        (["--passphrase"], None, "--salt belong together"),
        (["--salt", "project 7"], None, "--salt belong together"),
        (["--passphrase", "--salt", "project 7"], "short one\nshort one\n", "at least 12 characters"),
        (["--passphrase", "--salt", "p7"], "correct horse battery\ncorrect horse battery\n", "at least 8 characters"),
    ],
)
def test_passphrases_that_are_none(tmp_path: Path, options: list[str], typed: str | None, message: str) -> None:
    result = deidlib("key", "new", tmp_path / "my.key", *options, typed=typed)
    refused(result, message, asked=typed is not None)
    assert "short one" not in result.output
    assert "horse" not in result.output
    assert not (tmp_path / "my.key").exists()


def test_a_key_that_others_may_read_is_refused_everywhere(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "right.key", tmp_path / "my.key")
    (tmp_path / "my.key").chmod(0o644)
    refused(deidlib("key", "show-id", tmp_path / "my.key"), "may be read by others", "chmod 600")
    refused(deidlib("read", home / "out.mkv", "--key", tmp_path / "my.key"), "may be read by others")
    refused(deidlib("protect", home / "in.mkv", tmp_path / "out.mkv", "--key", tmp_path / "my.key"), "by others")
    assert not (tmp_path / "out.mkv").exists()
    refused(deidlib("key", "show-id", tmp_path / "none.key"), "none.key", "deidlib key new")


# Protecting and reading


def test_the_description_names_the_key_and_the_file_is_checked_with_it(home: Path) -> None:
    notes = json.loads((home / "out.mkv.json").read_text())
    record, key = KeyRecord.from_dict(notes["key"]), Key.load(home / "right.key")
    assert record.opened_by(key)
    assert not record.opened_by(Key.load(home / "wrong.key"))
    assert (record.key_id, record.models) == (key.id, ("mtcnn",))
    # Read back by key: without it nothing would have been found.
    assert notes["readback"]["models"]["mtcnn"]["faces"] == 2
    assert notes["readback"]["models"]["mtcnn"]["found"] == 1
    assert notes["readback"]["models"]["mtcnn"]["min_iou"] > 0.8


def test_nothing_that_is_written_or_said_holds_a_key(home: Path) -> None:
    said = "".join((home / name).read_text() for name in ("said.txt", "out.mkv.json"))
    said += deidlib("read", home / "out.mkv", "--key", home / "wrong.key").output
    assert not [secret for secret in secrets_of(home / "right.key", home / "wrong.key") if secret in said]
    assert sorted(path.name for path in home.iterdir()) == [
        "in.mkv", "out.mkv", "out.mkv.json", "right.key", "said.txt", "wrong.key",
    ]  # fmt: skip


def test_the_right_key_reads(home: Path, tmp_path: Path) -> None:
    out, overlay = tmp_path / "faces.json", tmp_path / "drawn.mkv"
    arguments = ("--key", home / "right.key", "--models", "mtcnn", "--json", out, "--overlay", overlay, "--batch", 1)
    result = done(deidlib("read", home / "out.mkv", *arguments))
    assert result.stdout.startswith(f"{home / 'out.mkv'}: 2 frames, 2 with faces; 2 faces read by mtcnn")
    assert "warning" not in result.output
    found = read_detections(out, size=(128, 128), frames=2)
    assert (found.readers, found.sha256) == (("mtcnn",), sha256_of(home / "out.mkv"))
    assert (found.pts, found.time_base) == ((0, 40), Fraction(1, 1000))
    for known, read in zip(MTCNN().predict(astronauts(2)), found.frames, strict=True):
        assert iou(known.boxes, read.boxes).item() > 0.8
    drawn, protected = read_video(overlay), read_video(home / "out.mkv")
    # Green lines where the boxes are, and the protected frames (not the originals) beneath.
    for image, below, read in zip(drawn, protected, found.frames, strict=True):
        # The row of pixels that holds at least half of the line, which is one pixel wide.
        left, top, right, _ = read.boxes[0].floor().long().tolist()
        line = image[:, top, left + 3 : right - 3]
        assert (line[1] > line[0] + 0.1).all()
        assert torch.equal(image[:, : top - 4], below[:, : top - 4])


def test_without_models_all_that_the_key_opens_read(home: Path) -> None:
    assert "2 faces read by mtcnn" in done(deidlib("read", home / "out.mkv", "--key", home / "right.key")).stdout


def test_frames_are_read_by_their_numbers(home: Path) -> None:
    result = done(deidlib("read", home / "out.mkv", "--key", home / "right.key", "--first", 1))
    assert "0 faces read" in result.stdout
    assert "nothing could be read" in result.stderr


def test_a_clip_that_was_cut_is_read_with_the_numbers_that_it_had(home: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mkv"
    with VideoWriter(cut, Fraction(25), (128, 128)) as writer:
        writer.write(read_video(home / "out.mkv")[1:])
    arguments = ("read", cut, "--key", home / "right.key", "--sidecar", home / "out.mkv.json")
    lost = done(deidlib(*arguments))
    assert "0 faces read" in lost.stdout
    assert "2 frames were protected, and here are 1" in lost.stderr
    assert "it has been changed" in lost.stderr
    assert "1 faces read" in done(deidlib(*arguments, "--first", 1)).stdout


def test_a_wrong_key_is_known_before_anything_is_read(home: Path, tmp_path: Path) -> None:
    out, overlay = tmp_path / "faces.json", tmp_path / "drawn.mkv"
    result = deidlib("read", home / "out.mkv", "--key", home / "wrong.key", "--json", out, "--overlay", overlay)
    wrong, right = (Key.load(home / name).id for name in ("wrong.key", "right.key"))
    refused(result, f"nothing is readable with this key (id {wrong})", f"protected with key {right}")
    assert "device" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_no_key_reads_nothing(home: Path, tmp_path: Path) -> None:
    refused(deidlib("read", home / "out.mkv"), "nothing is readable without a key", "Add --key FILE")
    # Whoever does not heed the description, or has none, finds nothing with the same weights.
    shutil.copy(home / "out.mkv", tmp_path / "alone.mkv")
    result = done(deidlib("read", tmp_path / "alone.mkv", "--models", "mtcnn"))
    assert "2 frames, 0 with faces; 0 faces read by mtcnn" in result.stdout
    # And the original is read plainly.
    assert "2 frames, 2 with faces; 2 faces read" in done(deidlib("read", home / "in.mkv")).stdout


def test_models_that_the_file_was_not_protected_for(home: Path) -> None:
    result = deidlib("read", home / "out.mkv", "--key", home / "right.key", "--models", "mtcnn,retinaface,fan")
    refused(result, "retinaface, fan cannot read this file", "protected for mtcnn", "Try --models mtcnn.")


def test_descriptions_that_do_not_serve(home: Path, tmp_path: Path) -> None:
    arguments = ("read", tmp_path / "out.mkv", "--key", home / "right.key")
    shutil.copy(home / "out.mkv", tmp_path / "out.mkv")
    refused(deidlib(*arguments), "out.mkv.json does not exist", "--sidecar")
    notes: dict[str, Any] = json.loads((home / "out.mkv.json").read_text())
    beside = tmp_path / "out.mkv.json"
    beside.write_text("{}")
    refused(deidlib(*arguments), "does not describe a protected file")
    # Another program's notes are no reason not to read a file without a key.
    assert "2 frames" in done(deidlib("read", tmp_path / "out.mkv")).stdout
    beside.write_text(json.dumps(notes | {"key": None}))
    refused(deidlib(*arguments), "was not protected with a key")
    beside.write_text(json.dumps(notes | {"key": {"nonce": None}}))
    refused(deidlib(*arguments), "out.mkv.json is damaged: this is no record of a key")
    beside.write_text(json.dumps(notes | {"key": notes["key"] | {"nonce": "0" * 32}}))
    refused(deidlib(*arguments), "has been changed since it was written", "nothing is readable with this key")


def test_outputs_replace_nothing_that_is_needed(home: Path, tmp_path: Path) -> None:
    before = sha256_of(home)
    arguments = ("read", home / "out.mkv", "--key", home / "right.key")
    refused(deidlib(*arguments, "--json", home / "out.mkv.json"), "would replace", "out.mkv.json")
    refused(deidlib(*arguments, "--overlay", home / "out.mkv"), "would replace", "out.mkv")
    refused(deidlib(*arguments, "--json", home / "right.key"), "--json must name a .json file")
    refused(deidlib(*arguments, "--overlay", tmp_path / "drawn.png"), "--overlay must name", ".mkv or .mp4")
    refused(deidlib(*arguments, "--overlay", tmp_path / "none" / "drawn.mkv"), "does not exist")
    refused(deidlib("read", home / "none.mkv"), "none.mkv does not exist")
    assert sha256_of(home) == before
    assert not list(tmp_path.iterdir())


def test_an_image(tmp_path: Path, home: Path) -> None:
    source, out, drawn = tmp_path / "in.png", tmp_path / "out.png", tmp_path / "drawn.png"
    write_image(source, astronauts(1))
    done(deidlib("protect", source, out, "--key", home / "right.key", "--iterations", 25, "--epsilon", 16))
    result = done(deidlib("read", out, "--key", home / "right.key", "--overlay", drawn, "--json", tmp_path / "o.json"))
    assert "1 frames, 1 with faces" in result.stdout
    (known,), (read,) = MTCNN().predict(read_image(source)), read_detections(tmp_path / "o.json").frames
    assert iou(known.boxes, read.boxes).item() > 0.8
    assert read_image(drawn).shape == (1, 3, 128, 128)
    assert not torch.equal(read_image(drawn), read_image(out))
    refused(deidlib("read", out, "--key", home / "wrong.key"), "nothing is readable with this key")
    # Protected again without a key, it no longer says that it has one.
    done(deidlib("protect", source, out, "--iterations", 0))
    assert "0 faces read" in done(deidlib("read", out)).stdout


# Nonces


class Clips:
    """Pictures that are protected for a toy, which costs nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for k, name in enumerate(("a", "b")):
            write_image(folder / f"{name}.png", torch.full((1, 3, 64, 64), k / 2))

    def nonce(self, name: str, key: Key, *, iterations: int = 1) -> str:
        deidentifier = Deidentifier(IFGSMAttacker({"toy": Pixels()}, max_iterations=iterations))
        out = self.folder / "out.png"
        protect_image(deidentifier, self.folder / f"{name}.png", out, key=key)
        record = KeyRecord.from_dict(json.loads((self.folder / "out.png.json").read_text())["key"])
        assert record.opened_by(key)
        assert record.models == ("toy",)
        assert record.nonce is not None
        return record.nonce


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    return Clips(tmp_path)


def test_a_nonce_is_of_one_clip_one_way_and_one_key(clips: Clips) -> None:
    key = Key.generate()
    nonce = clips.nonce("a", key)
    # A job that is continued, or done again, has the same.
    assert clips.nonce("a", key) == nonce
    others = {clips.nonce("b", key), clips.nonce("a", key, iterations=2), clips.nonce("a", Key.generate())}
    assert len(others | {nonce}) == 4
    assert all(len(text) == 32 for text in others)


def test_a_job_that_is_continued_is_the_same_job(clips: Clips, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "in.mkv", Fraction(25), (64, 64)) as writer:
        writer.write(torch.rand(3, 3, 64, 64))
    seen = []
    for _ in range(2):
        deidentifier = Deidentifier(IFGSMAttacker({"toy": Pixels()}, max_iterations=1))
        key = Key(bytes(range(32)))
        protect_video(deidentifier, tmp_path / "in.mkv", tmp_path / "out.mkv", batch_size=2, key=key)
        notes = json.loads((tmp_path / "out.mkv.json").read_text())
        # By the first, segments that are there are known to be of this job.
        seen.append([notes["fingerprint"], notes["output"], notes["key"]])
    assert seen[0] == seen[1]


# Measuring


def test_what_a_key_opens_is_measured_beside_the_same_model_without_it(home: Path, tmp_path: Path) -> None:
    files = (home / "in.mkv", home / "out.mkv")
    told = ("--key", home / "right.key", "--against", "mtcnn", "--no-quality", "--json", tmp_path / "numbers.json")
    done(deidlib("evaluate", *files, *told))
    readers = json.loads((tmp_path / "numbers.json").read_text())["readers"]
    assert {name: reader["role"] for name, reader in readers.items()} == {
        "mtcnn+key": "authorised",
        "mtcnn": "unauthorised",
    }
    assert {name: reader["summary"]["found"] for name, reader in readers.items()} == {"mtcnn+key": 2, "mtcnn": 0}
    refused(deidlib("evaluate", *files, "--key", home / "wrong.key"), "nothing is readable with this key")
    refused(deidlib("evaluate", *files, "--key", home / "right.key", "--models", "retinaface"), "protected for mtcnn")
    refused(deidlib("evaluate", home, home, "--key", home / "right.key"), "--key belongs to one file")
    refused(deidlib("evaluate", *files, "--sidecar", home / "out.mkv.json"), "Add --key")
