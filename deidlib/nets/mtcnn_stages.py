"""MTCNN's three networks, rearranged: the same numbers, up to rounding, from fewer and wider operations."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from deidlib.nets.max_pool import with_shared_ties

# What the published networks were trained to see: 0..255, minus the first number, times the second.
_MEAN, _SCALE = 127.5, 0.0078125
# P-Net's first layer has 10 channels; a processor computes 16 as fast, and reads them faster.
_WIDE = 16
# The kernels of the pools behind the activations of those numbers; what has weights is told by its file.
_POOLS = {"pnet": {1: 2}, "rnet": {1: 3, 2: 3}, "onet": {1: 3, 2: 3, 3: 2}}


class Stage(nn.Module):
    """One network of the cascade: colours in [0, 1], and all its answers from one matrix product.

    The scaling of colours is folded into the first convolution; the last layers are side by side in one, that of the
    classes as face minus background, whose sigmoid is the score; memory is channels last.

    Args:
        layers: a network of facenet-pytorch by its layers, in order: weights as :class:`torch.nn.Module` names them,
            and ``poolN`` with a pool's kernel; its stride is 2.

    Example:
        >>> code, margin = Stage.published("rnet")(torch.rand(2, 3, 24, 24))
        >>> code.shape, margin.shape
        (torch.Size([2, 4]), torch.Size([2]))
    """

    def __init__(self, layers: Mapping[str, Mapping[str, Tensor] | int]) -> None:
        super().__init__()
        trunk: list[nn.Module] = []
        hidden: list[nn.Module] = []
        heads: list[tuple[Tensor, Tensor]] = []
        channels = 0
        for name, layer in layers.items():
            if isinstance(layer, int):
                trunk.append(nn.MaxPool2d(layer, 2, ceil_mode=True))
                continue
            weight = layer["weight"]
            if name.startswith("prelu"):
                parts, size = (hidden, len(weight)) if hidden else (trunk, channels)
                parts.append(_slopes(weight, size))
            elif "_" in name:
                heads.append((weight.flatten(1), layer["bias"]))
            elif weight.dim() == 4:
                wide = max(len(weight), _WIDE)
                trunk.append(_widened(weight, layer["bias"], channels or 3, wide, first=not channels))
                channels = wide
            else:
                hidden.append(_rows_first(weight, layer["bias"], channels))
        # The class heads come first.
        (weight, bias), *others = heads
        self.trunk = with_shared_ties(nn.Sequential(*trunk)).to(memory_format=torch.channels_last)
        self.hidden = nn.Sequential(*hidden)
        self.sizes = [1] + [len(b) for _, b in others]
        self.weight = nn.Parameter(torch.cat([weight[1:] - weight[:1]] + [w for w, _ in others]))
        self.bias = nn.Parameter(torch.cat([bias[1:] - bias[:1]] + [b for _, b in others]))

    @classmethod
    def published(cls, name: Literal["pnet", "rnet", "onet"]) -> Self:
        """A network with the weights that facenet-pytorch ships.

        Raises:
            ModuleNotFoundError: facenet-pytorch is not installed, or has no such file.
        """
        # Read from its files: the package, when it is imported, loads torchvision and changes the warning filters.
        package = find_spec("facenet_pytorch")
        folders = (package and package.submodule_search_locations) or ()
        path = next((path for folder in folders if (path := Path(folder, "data", f"{name}.pt")).is_file()), None)
        if path is None:
            raise ModuleNotFoundError(
                f"MTCNN needs data/{name}.pt of the package facenet-pytorch, and did not find it in {list(folders)}: "
                "pip install 'facenet-pytorch>=2.5.3,<2.6'"
            )
        layers: dict[str, dict[str, Tensor] | int] = {}
        for key, value in torch.load(path, weights_only=True).items():
            layer, _, parameter = key.partition(".")
            known = layers.setdefault(layer, {})
            assert isinstance(known, dict)
            known[parameter] = value
            number = int(layer[-1]) if layer.startswith("prelu") else 0
            if number in _POOLS[name]:
                layers[f"pool{number}"] = _POOLS[name][number]
        return cls(layers)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The box code ``(..., 4)``, the points' ``(..., 10)`` where the network has some, and the margin ``(...)``.

        Where every cell answers (P-Net), ``...`` is ``(N, rows, columns)``, else ``(N,)``.

        Args:
            images: ``(N, 3, h, w)`` in [0, 1].
        """
        margin, *codes = torch.split(self.answers(images), self.sizes, dim=-1)
        return *codes, margin[..., 0]

    def answers(self, images: Tensor, hollow: Tensor | None = None) -> Tensor:
        """The same side by side, ``(..., 5 or 15)``: margin, box code, and the points'.

        Args:
            images: ``(N, 3, h, w)`` in [0, 1].
            hollow: ``(N, 1, h - 2, w - 2)`` added to the maps of the first layer, before its pool: -inf where there is
                nothing.
        """
        maps = images.contiguous(memory_format=torch.channels_last)
        for number, layer in enumerate(self.trunk.children()):
            maps = layer(maps)
            if number == 1 and hollow is not None:
                maps = maps + hollow
        maps = maps.permute(0, 2, 3, 1)
        if self.hidden:
            maps = self.hidden(maps.flatten(1))
        return linear(maps, self.weight, self.bias)


def _widened(own: Tensor, biases: Tensor, inputs: int, outputs: int, *, first: bool) -> nn.Conv2d:
    """The convolution with channels of zeros beside its own; the first one takes colours in [0, 1]."""
    wide = nn.Conv2d(inputs, outputs, (own.shape[2], own.shape[3]))
    weight, bias = torch.zeros_like(wide.weight), torch.zeros(outputs)
    weight[: own.shape[0], : own.shape[1]] = own * (255 * _SCALE if first else 1)
    bias[: own.shape[0]] = biases - (_MEAN * _SCALE * own.sum(dim=(1, 2, 3)) if first else 0)
    wide.weight, wide.bias = nn.Parameter(weight), nn.Parameter(bias)
    return wide


def _rows_first(own: Tensor, bias: Tensor, channels: int) -> nn.Linear:
    """The layer for maps that are flattened as rows, columns, channels; upstream it is columns, rows, channels."""
    # Every network has 3 x 3 places left there.
    weight = own.reshape(-1, 3, 3, channels).transpose(1, 2).flatten(1)
    dense = nn.Linear(own.shape[1], own.shape[0])
    dense.weight, dense.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return dense


def _slopes(weight: Tensor, size: int) -> nn.PReLU:
    layer = nn.PReLU(size)
    layer.weight = nn.Parameter(torch.cat([weight, weight.new_zeros(size - len(weight))]))
    return layer
