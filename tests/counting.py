"""What an accelerator would be asked to do, counted on the CPU: operations, and times that the host waits for it.

An operation is whatever torch dispatches, forward or backward: each is launched by the host, some microseconds of its
time however few values it has. The host waits where what comes next hangs on values: a number that is read
(``float(x)``, ``bool(x)``, ``x.tolist()``, ``x.numpy()``, ``x.cpu()``), or a result whose *shape* hangs on them
(``nonzero``, a boolean index, suppression of boxes, repetitions that nobody has summed up). It also waits, on a device,
for what is sent to it: a tensor made of Python numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Their results' shapes hang on values, or they are numbers of the host.
_WAITS = frozenset(
    {"_local_scalar_dense", "nonzero", "masked_select", "nms", "_unique2", "unique_dim", "unique_consecutive"}
    | {"bincount", "equal", "is_nonzero"}
)
# They carry values to the host without being dispatched.
_LEAVE = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__}


class Work:
    """Counts what is done while it is entered.

        with Work() as work:
            model.loss(images, target).sum().backward()
        work.operations, work.waits

    Attributes:
        operations: dispatched, views too.
        waits: for values, and of sending some.
        by_name: how often each operation was dispatched.
        waited_for: the same of those that were waited for.
    """

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()
        self.waited_for: Counter[str] = Counter()
        self._modes = (_Leaving(self), _Dispatched(self))

    @property
    def operations(self) -> int:
        """How many were dispatched."""
        return self.by_name.total()

    @property
    def waits(self) -> int:
        """How often the host waited."""
        return self.waited_for.total()

    def __enter__(self) -> Self:
        for mode in self._modes:
            mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*raised)  # type: ignore[no-untyped-call]


class _Dispatched(TorchDispatchMode):
    def __init__(self, work: Work) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work = work

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        self.work.by_name[name] += 1
        if name in _WAITS or self._counts_for_shape(name, func, args, kwargs or {}):
            self.work.waited_for[name] += 1
        return func(*args, **kwargs or {})

    def _counts_for_shape(self, name: str, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            # torch turns a boolean index into numbers first; written to, one value under a mask need not be counted.
            by_mask = any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1])
            return by_mask and (name == "index" or args[2].numel() != 1)
        if name == "repeat_interleave":
            return kwargs.get("output_size") is None
        # A tensor of Python numbers, on its way to a device.
        return name == "lift_fresh"


class _Leaving(TorchFunctionMode):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _LEAVE:
            self.work.waited_for[func.__name__] += 1
        return func(*args, **kwargs or {})
