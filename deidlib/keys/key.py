"""``Key``: a secret, what is derived from it one way, and permutations that only its holder can draw."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import secrets
import stat
import unicodedata
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from deidlib.bounded import BoundsError, read_regular

_BYTES = 32
# Of a key file.
_MOST_BYTES = 4096
_HEADER = "deidlib-key-1"
# scrypt's cost: 128 MiB and about half a second for each guess of a passphrase.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**17, 8, 1
_SHORTEST_PASSPHRASE, _SHORTEST_SALT = 12, 8


class KeyFileError(ValueError):
    """A key file is missing, is no key, or can be read by others; or one that exists would be replaced."""


class Key:
    """A secret of 256 bits.

    Nothing that is printed, logged or raised shows it; ``id`` is a public name for it. It cannot be pickled or copied
    into JSON by accident: :meth:`save` is the only way out.

    Args:
        secret: 32 bytes that nobody can guess. Rather use :meth:`generate`, :meth:`load` or :meth:`from_passphrase`.

    Raises:
        ValueError: not 32 bytes.

    Example:
        >>> key = Key.from_passphrase("correct horse battery staple", salt="project 7")
        >>> key
        Key(id='4125eec36f12509f')
        >>> key.derive("gaze") == key.derive("gaze"), key.derive("gaze") == key
        (True, False)
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) != _BYTES:
            got = f"{len(secret)} bytes" if isinstance(secret, bytes) else type(secret).__name__
            raise ValueError(f"a key is made of {_BYTES} secret bytes, got {got}. Use Key.generate().")
        self._secret = secret

    @classmethod
    def generate(cls) -> Key:
        """A new key, from the operating system's randomness."""
        return cls(secrets.token_bytes(_BYTES))

    @classmethod
    def from_passphrase(cls, passphrase: str, *, salt: str) -> Key:
        """The key that belongs to a passphrase, by scrypt (RFC 7914; N = 2^17, r = 8, p = 1).

        A key is as strong as the passphrase: six words drawn by dice have 77 bits. Prefer :meth:`generate`.

        Args:
            passphrase: at least 12 characters; accents may be typed in either of Unicode's ways (NFC is taken).
            salt: at least 8 characters that are not secret: the name of the project, say. It keeps one table of
                guesses from serving for everybody.

        Raises:
            ValueError: either is too short.
        """
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

        if len(passphrase) < _SHORTEST_PASSPHRASE:
            raise ValueError(f"a passphrase needs at least {_SHORTEST_PASSPHRASE} characters. Take six words or more.")
        if len(salt) < _SHORTEST_SALT:
            raise ValueError(f"salt needs at least {_SHORTEST_SALT} characters; the name of the project will do.")
        salt, passphrase = (unicodedata.normalize("NFC", text) for text in (salt, passphrase))
        kdf = Scrypt(salt=salt.encode(), length=_BYTES, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)
        return cls(kdf.derive(passphrase.encode()))

    @classmethod
    def load(cls, path: str | Path) -> Key:
        """Read a key file.

        Raises:
            KeyFileError: it is missing, holds no key, or others may read it (as ssh, which refuses such files too).
        """
        path = Path(path)
        try:
            content, known = read_regular(path, _MOST_BYTES)
            text, mode = content.decode("ascii"), known.st_mode
        except BoundsError:
            raise KeyFileError(f"{path} is no key file of deidlib. Make one: deidlib key new.") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise KeyFileError(f"{path} cannot be read as a key file: {reason}. Make one: deidlib key new.") from None
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(
                f"{path} may be read by others (mode {stat.S_IMODE(mode):04o}). If nobody has: chmod 600 {path.name}."
            )
        match = re.fullmatch(rf"{_HEADER} (\S+)\s*", text)
        try:
            secret = base64.b64decode(match[1], validate=True) if match else b""
        except binascii.Error:
            secret = b""
        if len(secret) != _BYTES:
            raise KeyFileError(f"{path} is no key file of deidlib. Make one: deidlib key new.")
        return cls(secret)

    def save(self, path: str | Path) -> None:
        """Write a key file that only its owner may read (mode 0600).

        Raises:
            KeyFileError: the file exists, since a key that is overwritten is lost for ever; or it cannot be written.
        """
        path = Path(path)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise KeyFileError(f"{path} exists. A key is never overwritten: choose another name.") from None
        except OSError as error:
            raise KeyFileError(f"{path} cannot be written: {error.strerror}. Choose another place.") from None
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{_HEADER} {base64.b64encode(self._secret).decode()}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # Half a key would keep the name from being used for ever.
            path.unlink(missing_ok=True)
            raise KeyFileError(f"{path} cannot be written: {error.strerror}. Choose another place.") from None

    @property
    def id(self) -> str:
        """A public name, 16 hexadecimal digits, from which nothing of the key can be computed."""
        return self._expand("id", 8).hex()

    def derive(self, purpose: str) -> Key:
        """The sub-key for a purpose, by HKDF-SHA256 (RFC 5869): it opens nothing but what it was derived for.

        Args:
            purpose: any text: the name of a party, a model, a clip.
        """
        return Key(self._expand(f"key/{purpose}", _BYTES))

    def mac(self, message: str) -> str:
        """A code, 32 hexadecimal digits, that shows whether somebody who reads ``message`` holds the same key."""
        return hmac.digest(self._expand("seal", _BYTES), message.encode(), "sha256").hex()[:32]

    def verify(self, message: str, seal: str) -> bool:
        """Whether ``seal`` was made from ``message`` with this key; compared in constant time."""
        return hmac.compare_digest(self.mac(message).encode(), seal.encode())

    def encrypt(self, message: bytes, about: str) -> bytes:
        """Lock a message away: only this key opens it, and only unchanged (ChaCha20-Poly1305, RFC 8439).

        Args:
            message: what nobody else is to read.
            about: public text that it belongs to; it opens for the same text only.

        Example:
            >>> key = Key.generate()
            >>> key.decrypt(key.encrypt(b"a face", "frame 3"), "frame 3")
            b'a face'
        """
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        nonce = secrets.token_bytes(12)
        return nonce + ChaCha20Poly1305(self._expand("encryption", _BYTES)).encrypt(nonce, message, about.encode())

    def decrypt(self, sealed: bytes, about: str) -> bytes:
        """The message that :meth:`encrypt` locked away.

        Raises:
            ValueError: it was changed, belongs to another text, or was locked with another key.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        cipher = ChaCha20Poly1305(self._expand("encryption", _BYTES))
        try:
            return cipher.decrypt(sealed[:12], sealed[12:], about.encode())
        except (InvalidTag, ValueError):
            raise ValueError(f"this was not locked for {about!r} with this key, or was changed since.") from None

    def words(self, label: str, count: int) -> NDArray[np.uint64]:
        """Numbers that nobody can tell from random ones without the key: the same on every machine, for ever.

        The stream is ChaCha20 (RFC 8439) under a sub-key of ``label``, nonce and counter 0, in little-endian words.

        Args:
            label: other labels give other, independent numbers.
            count: how many, of 64 bits.
        """
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

        cipher = Cipher(algorithms.ChaCha20(self._expand(f"stream/{label}", _BYTES), bytes(16)), mode=None)
        return np.frombuffer(cipher.encryptor().update(bytes(8 * count)), dtype="<u8").astype(np.uint64)

    def permutations(self, label: str, count: int, size: int) -> NDArray[np.int64]:
        """Permutations drawn by the key, ``(count, size)``: row k holds 0 .. size - 1 in some order.

        Each row is the order of ``size`` words. All orders are equally likely, but for two words that are equal:
        for 1024 of them once in 2^45 rows.

        Example:
            >>> Key(bytes(32)).permutations("test", 1, 8).tolist()
            [[2, 6, 4, 5, 1, 3, 0, 7]]
        """
        return np.argsort(self.words(label, count * size).reshape(count, size), axis=1, kind="stable").astype(np.int64)

    def _expand(self, label: str, length: int) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        # The secret is uniform already (or scrypt's output), so HKDF's first step would add nothing.
        return HKDFExpand(algorithm=SHA256(), length=length, info=f"deidlib/1/{label}".encode()).derive(self._secret)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Key(id={self.id!r})"

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: object) -> Key:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Key is not pickled, so that it goes nowhere by accident; use key.save(path).")
