from __future__ import annotations

import copy
import hashlib
import hmac
import io
import json
import os
import pickle
import re
import stat
import struct
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from deidlib.keys.key import Key, KeyFileError

SECRET = bytes(range(32))
KEY = Key(SECRET)
# The secret as anything that leaks it would spell it.
SPELLINGS = [SECRET.hex(), "AAECAwQFBgc", repr(SECRET)[2:20], str(list(SECRET))[1:20]]


def expand(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand of RFC 5869, section 2.3, by its definition."""
    result, block = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(secret, block + info + bytes([number]), "sha256")
        result += block
    return result[:length]


def chacha20(key: bytes, counter: int, nonce: bytes) -> bytes:
    """One block of RFC 8439, section 2.3, by its definition."""

    def quarter(s: list[int], a: int, b: int, c: int, d: int) -> None:
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xFFFFFFFF
            mixed = s[z] ^ s[x]
            s[z] = ((mixed << turn) | (mixed >> (32 - turn))) & 0xFFFFFFFF

    start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), counter]
    start += struct.unpack("<3I", nonce)
    state = list(start)
    for _ in range(10):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            quarter(state, a, b, c, d)
        for a, b, c, d in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(state, a, b, c, d)
    return struct.pack("<16I", *((x + y) & 0xFFFFFFFF for x, y in zip(state, start, strict=True)))


def test_the_oracle_is_that_of_the_rfc() -> None:
    block = chacha20(bytes(range(32)), 1, bytes.fromhex("000000090000004a00000000"))
    assert block.hex().startswith("10f1e7e4d13b5915500fdd1fa32071c4")
    assert block.hex().endswith("a2503c4e")
    # Appendix A.1 of RFC 5869, step 2.
    pseudorandom = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    info = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    assert expand(pseudorandom, info, 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_everything_is_derived_by_hkdf_under_a_label_of_its_own() -> None:
    assert KEY.id == expand(SECRET, b"deidlib/1/id", 8).hex()
    assert KEY.derive("party a") == Key(expand(SECRET, b"deidlib/1/key/party a", 32))
    assert KEY.mac("text") == hmac.digest(expand(SECRET, b"deidlib/1/seal", 32), b"text", "sha256").hex()[:32]


def test_words_are_the_stream_of_chacha20() -> None:
    key = expand(SECRET, b"deidlib/1/stream/x", 32)
    stream = b"".join(chacha20(key, counter, bytes(12)) for counter in range(3))
    words = KEY.words("x", 20)
    assert words.dtype == np.uint64
    assert words.tolist() == list(struct.unpack("<20Q", stream[:160]))


def test_permutations_are_the_order_of_the_words() -> None:
    words = KEY.words("p", 3 * 50).tolist()
    for row, permutation in enumerate(KEY.permutations("p", 3, 50).tolist()):
        own = words[50 * row : 50 * row + 50]
        assert permutation == sorted(range(50), key=own.__getitem__)


def test_vectors_of_the_documentation() -> None:
    assert KEY.id == "44a8a419e18c1974"
    assert KEY.derive("party a").id == "02903f867c6a8e7b"
    assert KEY.mac("message") == "49e7c725cb149926cd34eb1237aa452e"
    assert [f"{word:016x}" for word in KEY.words("label", 2).tolist()] == ["dbcabaf84f9f6ef8", "97b22bb6dd442758"]
    assert KEY.permutations("label", 1, 16).tolist() == [[9, 3, 14, 8, 4, 11, 10, 1, 13, 5, 2, 15, 7, 12, 6, 0]]
    assert Key.from_passphrase("correct horse battery staple", salt="project 7").id == "4125eec36f12509f"


def test_all_orders_are_equally_likely() -> None:
    rows = KEY.permutations("uniform", 24_000, 4)
    seen = Counter(map(tuple, rows.tolist()))
    assert len(seen) == 24
    # Chi squared with 23 degrees of freedom is above 49.7 once in a thousand.
    assert sum((count - 1000) ** 2 / 1000 for count in seen.values()) < 49.7


def test_one_bit_changes_everything() -> None:
    plain = KEY.permutations("x", 100, 64)
    for bit in (0, 100, 255):
        neighbour = Key((int.from_bytes(SECRET, "little") ^ (1 << bit)).to_bytes(32, "little"))
        assert neighbour != KEY
        assert neighbour.id != KEY.id
        # Of 6400 places about 100 agree by chance.
        assert (neighbour.permutations("x", 100, 64) == plain).sum() < 160
    assert (KEY.permutations("y", 100, 64) == plain).sum() < 160
    assert (KEY.derive("x").permutations("x", 100, 64) == plain).sum() < 160


def test_generated_keys_differ() -> None:
    assert len({Key.generate() for _ in range(50)}) == 50


def test_a_passphrase_gives_what_scrypt_gives() -> None:
    expected = hashlib.scrypt(
        "fünf Wörter und noch eins".encode(),
        salt="Projekt Überblick".encode(),
        n=2**17,
        r=8,
        p=1,
        maxmem=2**28,
        dklen=32,
    )
    composed = Key.from_passphrase("fünf Wörter und noch eins", salt="Projekt Überblick")
    assert composed == Key(expected)
    # The same letters as a Mac types them: u and diaeresis.
    assert composed == Key.from_passphrase("fu\u0308nf Wo\u0308rter und noch eins", salt="Projekt U\u0308berblick")
    with pytest.raises(ValueError, match="at least 12 characters") as caught:
        Key.from_passphrase("hunter2", salt="project 7")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="salt needs at least 8"):
        Key.from_passphrase("correct horse battery staple", salt="x")


def test_a_file_keeps_the_key_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "party.key"
    before = os.umask(0)
    try:
        KEY.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Key.load(path) == KEY
    with pytest.raises(KeyFileError, match="never overwritten"):
        Key.generate().save(path)
    assert Key.load(path) == KEY


def test_a_full_disk_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "party.key"

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(KeyFileError, match=r"party.key cannot be written: No space left"):
            KEY.save(path)
    assert not path.exists()
    # The name is free, where half a key would hold it for ever.
    KEY.save(path)
    assert Key.load(path) == KEY


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "party.key"
    KEY.save(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 600 party.key"):
        Key.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "deidlib-key-1",
        "deidlib-key-1 AAECAwQFBgc",
        "deidlib-key-1 AAECAwQFBgc=",
        "deidlib-key-2 " + 43 * "A" + "=",
        "\xff",
    ],
)
def test_what_is_no_key_file_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "party.key"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=r"party\.key") as caught:
        Key.load(path)
    assert "AAECAwQFBgc" not in "".join(traceback.format_exception(caught.value))


def test_places_that_do_not_exist_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read as a key file: No such file"):
        Key.load(tmp_path / "missing.key")
    with pytest.raises(KeyFileError, match="cannot be written: No such file"):
        KEY.save(tmp_path / "missing" / "party.key")


def test_nothing_shows_the_secret() -> None:
    shown = [repr(KEY), str(KEY), f"{KEY}", f"{[KEY]}", KEY.id, KEY.mac("x"), repr(KEY.derive("x"))]
    with pytest.raises(ValueError, match="32 secret bytes, got 31 bytes") as caught:
        Key(SECRET[:31])
    shown.append(str(caught.value))
    for spelling in SPELLINGS:
        assert not [text for text in shown if spelling.lower() in text.lower()]
    assert re.fullmatch(r"Key\(id='[0-9a-f]{16}'\)", repr(KEY))
    with pytest.raises(TypeError, match="vars"):
        vars(KEY)


def test_it_goes_nowhere_by_accident() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEY)
    with pytest.raises(TypeError, match="not pickled"):
        torch.save({"key": KEY}, io.BytesIO())
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(KEY)
    assert copy.deepcopy([KEY]) == [KEY]
    assert copy.copy(KEY) is KEY


def test_keys_compare_by_their_secret() -> None:
    assert Key(SECRET) == KEY
    assert hash(Key(SECRET)) == hash(KEY)
    assert KEY != SECRET
    assert Key(bytes(32)) != KEY
    assert KEY.verify("text", KEY.mac("text"))
    assert not KEY.verify("Text", KEY.mac("text"))
    assert not KEY.verify("text", Key(bytes(32)).mac("text"))
    assert not KEY.verify("text", "")
    assert not KEY.verify("text", "ä")
