"""``about``: what something that measures is, for the record."""

from __future__ import annotations

from typing import Any

from torch import nn

from deidlib.records.fingerprint import described, fingerprint


def about(thing: Any) -> dict[str, Any]:
    """What a reader, an embedder or a measure is; its weights as a hash where they can be seen.

    Args:
        thing: an object or a function.

    Returns:
        ``class``, its class or the function's own name; ``fingerprint`` of a network's weights and settings.

    Example:
        >>> about(nn.Linear(2, 1).eval())["class"], about(len)
        ('torch.nn.modules.linear.Linear', {'class': 'builtins.len'})
    """
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    name = {"class": f"{kind.__module__}.{kind.__qualname__}"}
    return name | ({"fingerprint": fingerprint(described(thing))} if isinstance(thing, nn.Module) else {})
