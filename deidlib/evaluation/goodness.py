"""Which way is good: of a reader who may read that it reads, of one who may not that it does not."""

from __future__ import annotations

from deidlib.evaluation.reading import Role

UPPER, LOWER = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"
"""The higher the better, and the lower the better."""

# Of a reader who may read; all others are errors.
_GROWS = ("found", "coverage", "IoU", "least")
# A face that is none is no reading of anybody.
_NEITHER = ("extra",)


def arrow(name: str, role: Role) -> str:
    """Which way a measure is good for a reader of that role: an arrow, or nothing where it is the same.

    Args:
        name: as columns are headed: ``"found"``, ``"IoU"``, ``"points"`` ...
        role: of the reader.

    Example:
        >>> arrow("IoU", "authorised"), arrow("IoU", "unauthorised"), arrow("gaze", "unauthorised")
        ('↑', '↓', '↑')
    """
    if name in _NEITHER:
        return LOWER if role == "authorised" else ""
    return UPPER if (name in _GROWS) == (role == "authorised") else LOWER
