"""State dicts: what is in a checkpoint, read within bounds as data, and put into a net."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from deidlib.weights.pickled import UnboundedError, check_checkpoint
from deidlib.weights.store import CorruptWeights, find, single_member


def load(name_or_path: str | Path) -> Any:
    """What is in a checkpoint, on the CPU. Only tensors and plain containers are read, never code.

    Raises:
        ValueError, WeightsNotFound: as :func:`find`.
        CorruptWeights: the file is no checkpoint, is cut short, unpacks to much more than it has bytes, or holds more
            than data.
    """
    path = find(name_or_path)
    _check_unpacked(path)
    with open(path, "rb") as file:
        # A format of its own, which holds numbers alone.
        if path.suffix != ".safetensors" and file.read(2) not in (
            b"PK",
            b"\x80\x02",
            b"\x80\x03",
            b"\x80\x04",
            b"\x80\x05",
        ):
            raise CorruptWeights(f"{path} is no file of PyTorch weights. Get it again, or give another one.")
    try:
        if path.suffix == ".safetensors":
            return torch.load(path, map_location="cpu", weights_only=True)
        with contextlib.closing(_content(path)) as content:
            check_checkpoint(content)
            return torch.load(content, map_location="cpu", weights_only=True)
    except UnboundedError as error:
        raise CorruptWeights(f"{path} {error}: no weights are like that. Get the file again.") from error
    except pickle.UnpicklingError as error:
        raise CorruptWeights(
            f"{path} holds more than tensors, and deidlib runs no code from weight files. If you trust where it "
            "comes from, save its state dict once: "
            f"torch.save(torch.load({path.name!r}, weights_only=False).state_dict(), 'new.pth')."
        ) from error
    except CorruptWeights:
        raise
    except Exception as error:  # what a reader of pickles raises over wrong bytes is any of Python's errors
        # Some list all signatures of a function in C++.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CorruptWeights(
            f"{path} cannot be read as PyTorch weights: it is cut short or another kind of file ({reason}). "
            "Get it again."
        ) from error


def load_state(name_or_path: str | Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, on the CPU.

    It may lie under ``state_dict``, ``model`` or ``model_state``, and its keys may carry the ``module.`` of
    ``DataParallel``: both are taken off.

    Raises:
        ValueError, WeightsNotFound: as :func:`find`.
        CorruptWeights: as :func:`load`, or the file holds something else than a state dict, tensors larger than itself,
            or numbers that are not finite.
    """
    state = _plain(load(name_or_path))
    for key in ("state_dict", "model", "model_state"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = _plain(state[key])
            break
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        found = f"keys {list(state)[:5]}"[:200] if isinstance(state, dict) else f"a {type(state).__name__}"
        raise CorruptWeights(
            f"{name_or_path} holds no state dict (names and tensors), found {found}. "
            "Save one: torch.save(net.state_dict(), 'new.pth')."
        )
    tensors, size = plain_state(state, name_or_path), find(name_or_path).stat().st_size
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    if total > _MOST_TIMES * size + _SPARE:
        raise CorruptWeights(
            f"{name_or_path} has {size} bytes and claims tensors of {total}: no weights are like that. "
            "Get the file again."
        )
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise CorruptWeights(f"{name_or_path}: {name} holds numbers that are not finite. Get the file again.")
    return tensors


def plain_state(state: Mapping[Any, Tensor], source: object) -> dict[str, Tensor]:
    """A state dict as it is read, with plain names and nothing but numbers in it.

    What a file makes of its dict and its tensors may have more: functions of its own in the place of theirs, numbers
    that are nowhere.

    Args:
        state: names, perhaps with the ``module.`` of ``DataParallel``, which is taken off, and tensors.
        source: where they come from, for messages.

    Raises:
        CorruptWeights: a tensor is none of numbers that lie beside each other in memory.
    """
    for name, value in _plain(state).items():
        if type(value) not in (Tensor, nn.Parameter) or value.__dict__ or not _is_plain(value):
            raise CorruptWeights(
                f"{source}: {str(name)[:100]} is no plain tensor of numbers. Save the state dict of a plain net."
            )
    return {str(key).removeprefix("module."): value for key, value in _plain(state).items()}


def fill(net: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Put a state dict into a net, all of it.

    Args:
        net: whose parameters and buffers they are.
        state: names and tensors.
        source: where they come from, for messages.

    Raises:
        CorruptWeights: names or shapes are not the net's.
    """
    try:
        net.load_state_dict(dict(state))
    except (RuntimeError, TypeError) as error:
        # The first line tells the net, the others one name each.
        wrong = [line.strip() for line in str(error).splitlines()[1:4]] or [str(error)]
        raise CorruptWeights(
            f"{source if isinstance(source, str | Path) else 'the state dict given'} is not of this net "
            f"({type(net).__name__}): {' '.join(wrong)[:400]} Give the weights that belong to it."
        ) from error


def _content(path: Path) -> BinaryIO:
    """What torch.load is to read: the file, or what a zip archive around it holds."""
    member = single_member(path)
    if member is None:
        return open(path, "rb")
    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read(member))
    _check_archive(path, content, len(content.getbuffer()))
    content.seek(0)
    return content


# How much more a file may hold than it has bytes: weights are nearly random, and PyTorch packs nothing.
_MOST_TIMES = 4
_SPARE = 1 << 20


def _check_unpacked(path: Path) -> None:
    _check_archive(path, path, path.stat().st_size)


def _check_archive(path: Path, content: Path | io.BytesIO, size: int) -> None:
    """A few bytes may unpack to more than there is memory: look before it is done."""
    try:
        if not zipfile.is_zipfile(content):
            return
        with zipfile.ZipFile(content) as archive:
            total = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        # Whoever reads it says what is wrong.
        return
    if total > _MOST_TIMES * size + _SPARE:
        raise CorruptWeights(
            f"{path} has {size} bytes and would unpack to {total}: no weights are like that. Get the file again."
        )


def _plain(content: Any) -> Any:
    """A dict without what an ordered one may have been given besides, down to functions of its own."""
    return dict(dict.items(content)) if isinstance(content, dict) else content


def _is_plain(value: Tensor) -> bool:
    strange = value.is_meta or value.is_quantized or value.is_nested
    return value.layout == torch.strided and not strange
