"""``pickled``: what is sent to our own processes, keys and all, from whatever device to whatever other one."""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch
from torch import Tensor

from deidlib.keys.key import Key


def pickled(thing: object) -> bytes:
    """What may be sent to our own processes: all that pickle takes, and keys; from wherever it is to the CPU.

    Raises:
        ValueError: it cannot be sent.
    """
    content = io.BytesIO()
    try:
        _Pickler(content, pickle.HIGHEST_PROTOCOL).dump(thing)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"workers are processes, to which everything must be sent, and this cannot be: {error}. Define models and "
            "functions of your own at the top of a module, or leave workers out."
        ) from error
    return content.getvalue()


class _Pickler(pickle.Pickler):
    """Keys, which nobody else may pickle, and what lies on an accelerator, which is to lie on the worker's."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, Key):
            return Key, (thing._secret,)
        if type(thing) is Tensor and thing.device.type == "cuda":
            return _placed, (thing.detach().cpu(),)
        if isinstance(thing, torch.device) and thing.type == "cuda":
            return _here, ()
        return NotImplemented


_HERE = torch.device("cpu")


def unpack_on(device: torch.device) -> None:
    """From now on what arrives in this process, and was on an accelerator, is put there."""
    global _HERE
    _HERE = device


def _here() -> torch.device:
    return _HERE


def _placed(tensor: Tensor) -> Tensor:
    return tensor.to(_HERE)
