"""``ClusterError``: what can be wrong with a cluster, in one line."""

from __future__ import annotations

from typing import Any


class ClusterError(ValueError):
    """A cluster cannot be reached, or none of its nodes can do the work."""


def ray() -> Any:
    """The package.

    Raises:
        ClusterError: it is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ClusterError(f'Ray is not installed ({error}): pip install "deidlib[ray]"') from None
    return ray


def one_line(error: BaseException) -> str:
    """What an error says, without the traces that come with it from other machines."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        error = cause
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join((said[-1] if said and said[0].startswith("Traceback") else " ".join(said)).split())[:500]
