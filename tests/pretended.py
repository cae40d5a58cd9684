"""A pretended accelerator: tensors that say ``cuda:0``, hold their values on the CPU, and refuse what a device would.

    with Pretend("cuda:0") as device:
        model = RetinaFace().to(device)
        with device.counted() as count:
            model.predict(images.to(device.name))
        count.waits, count.sent

It refuses to compute with tensors of two devices, to hand a tensor to numpy without ``.cpu()``, and, as ``mps``, to
hold float64. It counts how often the host waits for a value, and what is sent to the device. What makes tensors is
replaced in torch itself, so it works in every thread and in the backward of functions of one's own.

What it cannot show: kernels that a device lacks or rounds otherwise, and code that imported ``zeros`` from torch.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

# They make a tensor where their ``device`` says; the second ones from values of the host, which are sent.
_FACTORIES = (
    "arange empty empty_strided eye full linspace logspace ones rand randint randn randperm scalar_tensor zeros"
)
_FROM_VALUES = ("tensor", "as_tensor", "asarray")
_LIKE = "empty_like full_like ones_like rand_like randint_like randn_like zeros_like"
_NEW = ("new_empty", "new_full", "new_ones", "new_zeros")
# Results whose shape, or values of the host, hang on what the device has computed.
_WAITS = frozenset(
    {"_local_scalar_dense", "nonzero", "masked_select", "nms", "_unique2", "unique_dim", "unique_consecutive"}
    | {"bincount", "equal", "is_nonzero"}
)
# They take their places from the host, too, which are sent; and values without a dimension, as pointwise ones do.
_INDEXED = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
_JOINED = frozenset({"cat", "stack"})
_TAKE_SCALARS = _INDEXED | {"fill_", "fill", "masked_fill", "masked_fill_", "where"}


class Count:
    """What the host waited for and sent, by name, and how many operations it launched."""

    def __init__(self) -> None:
        self.operations = 0
        self.waited_for: Counter[str] = Counter()
        self.was_sent: Counter[str] = Counter()

    @property
    def waits(self) -> int:
        """How often the host waited."""
        return self.waited_for.total()

    @property
    def sent(self) -> int:
        """How often something was sent to the device."""
        return self.was_sent.total()


class Pretend:
    """An accelerator, as long as it is entered.

    Args:
        name: ``"cuda:0"``, ``"cuda:1"``, ``"mps:0"``.
        memory: bytes that are said to be free on it.
    """

    entered: Pretend | None = None

    def __init__(self, name: str = "cuda:0", *, memory: int = 1 << 34) -> None:
        self.device, self.memory = whole(torch.device(name)), memory
        self.counts: list[Count] = []
        # Told of every operation the frame that it was called from.
        self.watching: Callable[[FrameType], None] | None = None
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        assert Pretend.entered is None, "one device is pretended at a time"
        Pretend.entered = self
        for owner, name, value in self._replaced():
            self._exit.enter_context(patch.object(owner, name, value))
        # Parameters are exchanged rather than filled anew, which only tensors of one kind allow.
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        self._exit.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        return self

    def __exit__(self, *raised: object) -> None:
        Pretend.entered = None
        self._exit.close()

    @contextmanager
    def counted(self) -> Iterator[Count]:
        """Count what is done from now on, by whatever thread."""
        count = Count()
        self.counts.append(count)
        try:
            yield count
        finally:
            self.counts.remove(count)

    def _replaced(self) -> Iterator[tuple[Any, str, Any]]:
        for name in (*_FACTORIES.split(), *_LIKE.split()):
            yield torch, name, _placed(getattr(torch, name))
        for name in _FROM_VALUES:
            yield torch, name, _placed(getattr(torch, name), sends=True)
        for name in _NEW:
            yield Tensor, name, _placed(getattr(Tensor, name))
        yield Tensor, "new_tensor", _new_tensor
        yield Tensor, "to", _to
        yield Tensor, "cpu", lambda tensor, **_: _moved(tensor, torch.device("cpu"))
        yield Tensor, "cuda", lambda tensor, device="cuda", **_: _moved(tensor, torch.device(device))
        yield Tensor, "numpy", _numpy
        yield Tensor, "tolist", _tolist
        yield Tensor, "pin_memory", lambda tensor, *_: tensor
        yield torch.nn.Module, "to", _module_to
        yield torch, "autocast", _Autocast
        yield torch, "is_autocast_enabled", lambda device=None: _AUTOCASTS("cpu")
        # In C++ it asks for the device there.
        yield torch._C._nn, "pad_sequence", _pad_sequence
        here = self.device.type == "cuda"
        for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
            # It asks a driver that is not there.
            if hasattr(torch.optim.Optimizer, name):
                yield torch.optim.Optimizer, name, lambda optimizer: None
        yield torch.cuda, "is_available", lambda: here
        yield torch.cuda, "device_count", lambda: 2 * here
        yield torch.cuda, "mem_get_info", lambda device=None: (self.memory, self.memory)
        yield torch.cuda, "synchronize", lambda device=None: note("waited_for", "synchronize")
        yield torch.cuda, "empty_cache", lambda: None
        yield torch.cuda, "get_device_name", lambda device=None: "pretended"
        yield torch.backends.mps, "is_available", lambda: not here


class Remote(Tensor):
    """A tensor on the device: ``inner`` has its values."""

    inner: Tensor  # type: ignore[assignment]  # Tensor has a method of that name, which nobody calls
    place: torch.device
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls: type[Remote], inner: Tensor, place: torch.device) -> Remote:
        if place.type == "mps" and inner.dtype in (torch.float64, torch.complex128):
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        self: Remote = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=inner.device,
            requires_grad=inner.requires_grad,
        )
        self.inner, self.place = inner.detach() if inner.requires_grad else inner, place
        return self

    # Python sees the device; torch's C++, which has no kernels for it, sees a tensor of the CPU.
    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return self.place.type == "cuda"

    @property
    def is_mps(self) -> bool:  # type: ignore[override]
        return self.place.type == "mps"

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return self.place.index or 0

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Remote({self.inner}, {self.place})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Remote:
        copied = Remote(self.inner.clone(), self.place)
        copied.requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied._is_param = True
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        flat, _ = tree_flatten((args, kwargs))
        remote = [value for value in flat if isinstance(value, Remote)]
        local = [value for value in flat if isinstance(value, Tensor) and not isinstance(value, Remote)]
        place = remote[0].place
        if local and name in _JOINED and torch._C._current_graph_task_id() != -1:
            # Zeros for a gradient that nobody gave: torch makes them where it takes the tensor to be.
            args = tree_map(lambda value: _remote(value, place) if _is_zero(value) else value, args)
            local = [value for value in local if not _is_zero(value)]
        _check_places(func, name, args, remote, local)
        note("operations")
        if Pretend.entered is not None and Pretend.entered.watching is not None:
            Pretend.entered.watching(sys._getframe(1))
        if name in _WAITS or _counts_for_shape(name, args, kwargs):
            note("waited_for", name)
        if name in _INDEXED and any(value.dim() for value in local):
            note("was_sent", name)
        if "device" in kwargs:
            kwargs["device"] = None if name.startswith("_to_copy") else torch.device("cpu")
        out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        back = {id(value.inner): value for value in remote} if func._schema.is_mutable else {}
        if name == "copy_" and not isinstance(args[0], Remote):
            note("waited_for", "copy_")
            return args[0]
        if name == "copy_" and local:
            note("was_sent", "copy_")
        return tree_map(lambda value: back.get(id(value)) if id(value) in back else _remote(value, place), out)


def note(what: str, name: str = "") -> None:
    """Count an operation, a wait or what is sent."""
    for count in [] if Pretend.entered is None else Pretend.entered.counts:
        if name:
            getattr(count, what)[name] += 1
        else:
            count.operations += 1


def whole(device: torch.device) -> torch.device:
    """With its number: ``cuda`` is ``cuda:0``."""
    return device if device.type == "cpu" or device.index is not None else torch.device(device.type, 0)


def _check_places(func: Any, name: str, args: Sequence[Any], remote: Sequence[Remote], local: Sequence[Tensor]) -> None:
    """Raise where a device would: tensors of several devices, but for what takes some from the host."""
    found = {str(value.place) for value in remote}
    if name == "copy_":
        return
    scalars = torch.Tag.pointwise in func.tags or name in _TAKE_SCALARS
    allowed = {id(value) for value in args[1] if isinstance(value, Tensor)} if name in _INDEXED else set()
    foreign = [value for value in local if id(value) not in allowed and (value.dim() or not scalars)]
    if foreign or len(found) > 1:
        places = sorted(found | {"cpu" for _ in foreign})
        shapes = [tuple(value.shape) for value in foreign]
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {' and '.join(places)}! "
            f"({func}, of the CPU: {shapes})"
        )


def _counts_for_shape(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if name in _INDEXED:
        by_mask = any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        return by_mask and (name == "index" or args[2].numel() != 1)
    return name == "repeat_interleave" and kwargs.get("output_size") is None


def _is_zero(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, Remote) and not bool(value.any())


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Remote) else value


def _remote(value: Any, place: torch.device) -> Any:
    return Remote(value, place) if isinstance(value, Tensor) and not isinstance(value, Remote) else value


class _Crossing(torch.autograd.Function):
    """To a device, or from it, with a gradient that comes back the same way."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, device: torch.device) -> Tensor:
        ctx.origin = values.device
        return _crossed(values, device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _crossed(gradients[0], ctx.origin), None


def _crossed(values: Tensor, device: torch.device) -> Tensor:
    note(*(("waited_for", "cpu") if device.type == "cpu" else ("was_sent", "to")))
    copied: Tensor = _inner(values.detach()).clone()
    return copied if device.type == "cpu" else Remote(copied, device)


def _moved(values: Tensor, device: torch.device) -> Tensor:
    device = whole(device)
    if device == values.device:
        return values
    if values.requires_grad and torch.is_grad_enabled():
        moved: Tensor = _Crossing.apply(values, device)
        return moved
    return _crossed(values, device)


class _Autocast(torch.autocast):
    """The device's, which is the CPU's: for torch's C++ the values lie there."""

    def __init__(self, device_type: str, *args: Any, **settings: Any) -> None:
        super().__init__("cpu", *args, **settings)


_AUTOCASTS = torch.is_autocast_enabled
_TO, _NUMPY, _TOLIST, _MODULE_TO = Tensor.to, Tensor.numpy, Tensor.tolist, torch.nn.Module.to


def _to(values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    device, rest = None, []
    for value in args:
        if isinstance(value, str | torch.device):
            device = torch.device(value)
        elif isinstance(value, Tensor):
            device, rest = value.device, [value.dtype]
        elif isinstance(value, torch.dtype):
            rest = [value]
    if kwargs.get("device") is not None:
        device = torch.device(kwargs["device"])
    if (other := kwargs.pop("other", None)) is not None:
        device, rest = other.device, [other.dtype]
    kwargs = {name: value for name, value in kwargs.items() if name in ("dtype", "copy", "memory_format")}
    if device is not None and whole(device) != values.device:
        kwargs.pop("copy", None)
    if values.device.type != "cpu" and device is not None and device.type == "cpu":
        # What is fetched is converted there: the device may not know the type.
        values, device = _moved(values, device), None
    if rest or kwargs:
        values = _TO(values, *rest, **kwargs)  # type: ignore[call-overload]
    return values if device is None else _moved(values, device)


def _module_to(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    return _MODULE_TO(module, *args, **kwargs)


def _numpy(values: Tensor, *args: Any, **kwargs: Any) -> Any:
    if isinstance(values, Remote):
        raise TypeError(
            f"can't convert {values.place} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
            "memory first."
        )
    return _NUMPY(values, *args, **kwargs)


def _tolist(values: Tensor) -> Any:
    if isinstance(values, Remote):
        note("waited_for", "tolist")
        return values.inner.tolist()
    return _TOLIST(values)


def _new_tensor(values: Tensor, data: Any, **kwargs: Any) -> Tensor:
    kwargs = {"dtype": values.dtype, "device": values.device, **kwargs}
    return torch.tensor(data, **kwargs)


def _placed(make: Callable[..., Tensor], *, sends: bool = False) -> Callable[..., Tensor]:
    """What makes tensors, where ``device`` says."""

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Tensor:
        device = kwargs.get("device")
        if sends and args and isinstance(args[0], Remote) and make is not torch.tensor:
            return args[0].to(device or args[0].place, kwargs.get("dtype") or args[0].dtype)
        if device is None:
            return make(*args, **kwargs)
        device = whole(torch.device(device))
        kwargs["device"] = "cpu"
        if sends and args and not isinstance(args[0], Tensor):
            # Numbers that the device holds are asked for one by one.
            args = (tree_map(lambda value: value.item() if isinstance(value, Remote) else value, args[0]), *args[1:])
        values = make(*tree_map(_inner, args), **kwargs)
        if device.type == "cpu":
            return values
        if sends:
            note("was_sent", make.__name__)
        return Remote(values, device)

    return made


def _pad_sequence(rows: Sequence[Tensor], batch_first: bool = False, value: float = 0.0, side: str = "right") -> Tensor:
    assert side == "right"
    longest = max(len(row) for row in rows)
    shape = rows[0].shape[1:]
    padded = torch.stack([torch.cat([row, row.new_full((longest - len(row), *shape), value)]) for row in rows])
    return padded if batch_first else padded.transpose(0, 1)
