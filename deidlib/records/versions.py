"""Which versions computed something: results may differ in the last bit between them."""

from __future__ import annotations

from importlib import metadata


def versions(*others: str) -> dict[str, str | None]:
    """The versions of this library, of what computes, and of other packages, by name.

    Args:
        others: packages besides; ``None`` for one that is not installed.

    Example:
        >>> versions("no such package")["no such package"] is None
        True
    """
    found: dict[str, str | None] = {}
    for name in ("deidlib", "torch", "torchvision", "av", *others):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found
