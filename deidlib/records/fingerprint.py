"""What settings are made of, as JSON: two jobs with the same description do the same."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None))


def described(thing: Any) -> Any:
    """A JSON value that tells apart whatever works differently.

    Dataclasses are their fields, models their class, weights (as a hash) and plain attributes, tensors their hash,
    functions their name and code. Nothing secret comes out: of an attribute whose name begins with ``_`` and of
    bytes there is at most a hash. What cannot be told apart is described differently every time.

    Example:
        >>> described({"size": Fraction(1, 3), "key": b"secret"})["size"]
        '1/3'
    """
    if isinstance(thing, _PLAIN):
        return thing
    if isinstance(thing, Fraction | torch.device | torch.dtype):
        return str(thing)
    if isinstance(thing, bytes):
        return {"sha256": hashlib.sha256(thing).hexdigest()}
    if isinstance(thing, Tensor):
        return {"shape": list(thing.shape), "sha256": _tensor_hash([("", thing)])}
    if hasattr(thing, "tobytes") and hasattr(thing, "dtype"):
        return {"type": _name(type(thing)), "sha256": hashlib.sha256(thing.tobytes()).hexdigest()}
    if isinstance(thing, nn.Module):
        return _described_module(thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        values = {field.name: getattr(thing, field.name) for field in fields(thing)}
        return {"type": _name(type(thing))} | {
            key: fingerprint(described(value)) if key.startswith("_") else described(value)
            for key, value in values.items()
        }
    if isinstance(thing, Mapping):
        return {str(key): described(value) for key, value in thing.items()}
    if isinstance(thing, Sequence | set | frozenset):
        return [described(value) for value in (sorted(thing) if isinstance(thing, set | frozenset) else thing)]
    if isinstance(thing, type):
        return _name(thing)
    code = getattr(thing, "__code__", None)
    if code is not None:
        closed = [described(cell.cell_contents) for cell in thing.__closure__ or ()]
        text = repr((code.co_code.hex(), code.co_names, [c for c in code.co_consts if isinstance(c, _PLAIN)], closed))
        return {"function": f"{thing.__module__}.{thing.__qualname__}", "sha256": _text_hash(text)}
    text = repr(thing)
    if re.search(r" at 0x[0-9a-f]+", text):
        if hasattr(thing, "__dict__"):
            return {"type": _name(type(thing)), "sha256": fingerprint(described(dict(vars(thing))))}
        # Nobody can tell two of them apart: never the same twice.
        return {"type": _name(type(thing)), "unknown": uuid.uuid4().hex}
    return {"type": _name(type(thing)), "sha256": _text_hash(text)}


def fingerprint(description: Any) -> str:
    """SHA-256 of a description.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    return _text_hash(json.dumps(description, sort_keys=True))


def _described_module(module: nn.Module) -> dict[str, Any]:
    own = {key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"}
    hidden = {
        key: value
        for key, value in vars(module).items()
        if key.startswith("_") and key not in _MODULE_FIELDS and not isinstance(value, nn.Module)
    }
    # Whatever a class keeps to itself still decides what it does; lists and the like are what it has seen so far.
    private = {key: value for key, value in hidden.items() if isinstance(value, (*_PLAIN, bytes, Tensor, tuple))}
    result: dict[str, Any] = {
        "type": _name(type(module)),
        "weights": _tensor_hash([*module.named_parameters(), *module.named_buffers()]),
        **{key: described(value) for key, value in own.items() if not callable(value) or hasattr(value, "__code__")},
    }
    if private:
        result["private"] = fingerprint({key: described(value) for key, value in private.items()})
    inner = {
        name: _described_module(child)
        for name, child in module.named_children()
        if not type(child).__module__.startswith("torch.")
    }
    return result | ({"inner": inner} if inner else {})


_MODULE_FIELDS = frozenset(vars(nn.Module()))


def _tensor_hash(named: Sequence[tuple[str, Tensor]]) -> str:
    total = hashlib.sha256()
    for name, tensor in named:
        # Sides of length 1 of a channels-last tensor have strides that `contiguous` leaves as they are.
        whole = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        total.update(f"{name} {tuple(whole.shape)} {whole.dtype}\n".encode())
        total.update(whole.view(torch.uint8).numpy().tobytes() if whole.ndim else str(whole.item()).encode())
    return total.hexdigest()


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _name(kind: type) -> str:
    # A class of this library is told by its name alone, so that moving it changes no fingerprint; no two share one.
    return kind.__qualname__ if kind.__module__.startswith("deidlib.") else f"{kind.__module__}.{kind.__qualname__}"
