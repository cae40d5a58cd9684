"""Checkpoints made to take for ever, or all memory, by a few bytes: refused before PyTorch reads them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from deidlib import weights
from deidlib.weights import CorruptWeights, pickled
from deidlib.weights.pickled import UnboundedError, check_checkpoint

# torch.save's own beginning of the old format: a magic number, a version, and the machine.
OLD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."


def old(content: bytes) -> bytes:
    """A file in the format from before PyTorch 1.6, with a pickle's instructions in it, and no numbers."""
    return OLD + b"\x80\x02" + content + b"." + b"\x80\x02]."


def new(content: bytes, name: str = "archive/data.pkl") -> bytes:
    """A file in today's format."""
    with io.BytesIO() as stored:
        with zipfile.ZipFile(stored, "w") as archive:
            archive.writestr(name, b"\x80\x02" + content + b".")
            archive.writestr("archive/version", "3\n")
        return stored.getvalue()


def text(said: str) -> bytes:
    """The instruction to make a text."""
    return b"X" + len(said.encode()).to_bytes(4, "little") + said.encode()


def pairs(count: int) -> bytes:
    """Tuples of twice the same tuple, each in the next: so many instructions, and two to that power of texts."""
    return text("x") + b"".join(b"q%ch%c\x86" % (k, k) for k in range(count))


def long_name(module: bytes) -> bytes:
    return b"c" + module + b"\n" + b"a" * 400_000 + b"\n"


PLANTED: dict[str, tuple[bytes, str]] = {
    # torch.load refuses these; then it searches its message for minutes to say so.
    "a function of 400,000 characters": (long_name(b"torch"), "names a function by 400006 characters"),
    "a module that is forbidden, of 400,000": (b"c" + b"os\n" + b"b" * 400_000 + b"\n", "by 400003 characters"),
    "a text that is called": (text("x" * 400_000) + b")R", "holds more than tensors"),
    "a text of which there is to be a new one": (text("x" * 400_000) + b")\x81", "holds more than tensors"),
    # What these say, it does.
    "a terabyte of zeros": (b"c__builtin__\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R", "makes bytes of what are none"),
    "a terabyte in a size": (
        b"c__builtin__\nbytearray\nctorch\nSize\n\x8a\x06\0\0\0\0\0\x01\x85\x85RR", "holds more than tensors"
    ),
    "a terabyte, called by another": (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(c__builtin__\nbytearray\nctorch\nTensor\n\x8a\x06\0\0\0\0\0\x01\x85}tR",
        "called by another",
    ),
    "an encoding of minutes": (
        b"c_codecs\nencode\n" + text("".join(map(chr, range(0x4E00, 0x9E00)))) + text("punycode") + b"\x86R",
        "makes bytes of what are none",
    ),
    "two to the 60 things in a key": (b"}" + pairs(60) + b"K\x01s", "has to be looked at more than 20000000 times"),
    "a million tuples in tuples as a key": (b"})" + b"\x85" * 1_000_000 + b"K\x01s", "more than 100 deep"),
    "more instructions than any net has": (b"](" + b"N" * 100_000 + b"e", "of more than 100000 instructions"),
    "more text than any net has": (b"](" + text("x" * (1 << 24)) + b"e", "has a pickle of more than 16777216 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("form", [old, new])
@pytest.mark.parametrize("name", PLANTED)
def test_what_takes_for_ever_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: Callable[[bytes], bytes]
) -> None:
    content, reason = PLANTED[name]
    (tmp_path / "planted.pth").write_bytes(form(content))
    monkeypatch.setattr(pickled, "_MOST_STEPS", 100_000)
    # Once it reads, it is too late.
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("PyTorch has been let at it"))
    with pytest.raises(CorruptWeights, match=reason) as refusal:
        weights.load(tmp_path / "planted.pth")
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("name", ["archive/DATA.PKL", "archive/data.pkl\0.txt", "data.pkl"])
def test_another_readers_names_of_the_same(name: str) -> None:
    with pytest.raises(UnboundedError):
        check_checkpoint(io.BytesIO(new(long_name(b"torch"), name)))


def test_an_archive_by_its_end_is_a_pickle_by_its_beginning(tmp_path: Path) -> None:
    """PyTorch goes by the beginning, ``zipfile`` by the end."""
    (tmp_path / "both.pth").write_bytes(old(long_name(b"torch")) + new(b"}", "a") + b"")
    assert zipfile.is_zipfile(tmp_path / "both.pth")
    with pytest.raises(CorruptWeights, match="names a function"):
        weights.load(tmp_path / "both.pth")


def test_all_that_is_saved_of_nets_and_settings_is_walked_through(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    shared = ("a", 1, 0.5, None, True, 1 << 70)
    content = {
        "state_dict": net.state_dict(),
        "parameters": list(net.parameters()),
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0)}},
            "param_groups": [{"betas": (0.9, 0.99), "foreach": None}],
        },
        "half": torch.rand(3, 2).half().mT,
        "shared": [shared, shared, {"a": shared}, {1, 2}, complex(1, 2)],
        "bytes": [b"a\xffb", bytearray(b"abc"), bytearray()],
        "size": torch.Size([1, 2]),
        "dtype": torch.bfloat16,
        "config": "learning_rate: 0.1\n" * 10_000,
        "names": OrderedDict((f"layer.{k}", torch.zeros(1)) for k in range(300)),
    }
    for new_format in (True, False):
        torch.save(content, tmp_path / "all.pth", _use_new_zipfile_serialization=new_format)
        read = weights.load(tmp_path / "all.pth")
        assert read["shared"] == content["shared"]
        assert read["bytes"] == content["bytes"]
        assert torch.equal(read["state_dict"]["0.weight"], net.state_dict()["0.weight"])


@pytest.mark.parametrize("content", [b"\x80\x02", b"\x80\x02N", b"\x80\x02)R.", b"\x80\x02h\x07.", b"\x80\x02t.", b""])
def test_what_is_cut_or_shuffled_is_an_error_and_no_crash(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cut.pth").write_bytes(OLD + content)
    with pytest.raises(CorruptWeights, match=r"cut\.pth"):
        weights.load(tmp_path / "cut.pth")


@pytest.mark.parametrize("name", ["items", "values", "keys", "get"])
def test_a_dict_with_functions_of_its_own_is_read_as_a_dict(tmp_path: Path, name: str) -> None:
    state = nn.Linear(2, 2).state_dict()
    # Saving needs them: they get their names in the file.
    state.__dict__["a" * len(name)] = 5
    torch.save(state, tmp_path / "dressed.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "dressed.pth").read_bytes()
    (tmp_path / "dressed.pth").write_bytes(content.replace(text("a" * len(name)), text(name)))
    assert weights.load(tmp_path / "dressed.pth").__dict__[name] == 5
    assert list(weights.load_state(tmp_path / "dressed.pth")) == ["weight", "bias"]


def _strange() -> dict[str, torch.Tensor]:
    named = torch.zeros(2)
    named.__dict__["is_floating_point"] = 5
    return {
        "nowhere": torch.zeros(2, device="meta"),
        "sparse": torch.zeros(2).to_sparse(),
        "with an attribute": named,
    }


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize("name", _strange())
def test_tensors_that_are_no_numbers_beside_each_other(tmp_path: Path, name: str) -> None:
    torch.save({"weight": _strange()[name]}, tmp_path / "strange.pth")
    with pytest.raises(CorruptWeights, match="weight is no plain tensor of numbers"):
        weights.load_state(tmp_path / "strange.pth")


def test_the_walk_knows_what_pytorch_reads() -> None:
    """An instruction that PyTorch learns, and this walk not, would be refused: then it is to be learnt here, too."""
    assert torch.serialization.DEFAULT_PROTOCOL == 2
    with pytest.raises(pickle.UnpicklingError, match="STACK_GLOBAL"):
        check_checkpoint(io.BytesIO(OLD + b"\x80\x04" + text("torch") + text("Size") + b"\x93."))
