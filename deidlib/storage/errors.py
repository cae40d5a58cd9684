"""``StorageError``: what can be wrong with a store, in one line each."""

from __future__ import annotations

import errno

# Names of classes of packages that need not be installed.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
    "DefaultCredentialsError",
    "RefreshError",
    "ClientAuthenticationError",
}
_UNREACHED = {
    "HTTPClientError",
    "ConnectionError",
    "ClientConnectionError",
    "ClientPayloadError",
    "IncompleteRead",
    "FSTimeoutError",
    "ResponseParserError",
    "ServerTimeoutError",
    "TransportError",
    "ServiceRequestError",
}
_PASSING = (errno.EBUSY, getattr(errno, "EREMOTEIO", errno.EIO), errno.EIO, errno.EAGAIN)


class StorageError(ValueError):
    """A store, or what lies in it, cannot be used; the message names it."""


def is_passing(error: BaseException) -> bool:
    """Whether a store may answer when it is asked again: it is away, or says that it is busy or broken."""
    if isinstance(
        error, FileNotFoundError | FileExistsError | PermissionError | NotADirectoryError | IsADirectoryError
    ):
        return False
    if isinstance(error, TimeoutError | ConnectionError) or _kinds(error) & _UNREACHED:
        return True
    return isinstance(error, OSError) and error.errno in _PASSING


def explained(error: BaseException, url: str, doing: str) -> StorageError:
    """What a user can do about it.

    Args:
        error: what the store's client raised.
        url: what was asked for.
        doing: in one word: ``"read"``, ``"listed"``, ``"written"``.
    """
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if _kinds(error) & _NO_CREDENTIALS:
        return StorageError(
            f"{url} cannot be {doing}: no credentials were found ({said}). Set those of the store, such as "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, on every machine that works."
        )
    if isinstance(error, PermissionError):
        return StorageError(f"{url} may not be {doing} ({said}). Ask for the right to, or check the credentials.")
    if isinstance(error, FileNotFoundError):
        return StorageError(f"{url} is not there ({said}). Check the address.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = error.filename or "the disk"
        return StorageError(f"{url} cannot be {doing}: {place} is full. Make space, or name another place: --scratch.")
    if is_passing(error):
        return StorageError(f"{url} cannot be {doing}: the store does not answer ({said}). Run again when it does.")
    return StorageError(f"{url} cannot be {doing} ({said}).")


def _kinds(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
