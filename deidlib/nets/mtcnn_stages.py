"""MTCNN's three networks, rearranged: the same numbers, up to rounding, from fewer and wider operations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from deidlib.nets.max_pool import with_shared_ties

# What the published networks were trained to see: 0..255, minus the first number, times the second.
_MEAN, _SCALE = 127.5, 0.0078125
# P-Net's first layer has 10 channels; a processor computes 16 as fast, and reads them faster.
_WIDE = 16


class Stage(nn.Module):
    """One network of the cascade: colours in [0, 1], and all its answers from one matrix product.

    The scaling of colours is folded into the first convolution; the last layers are side by side in one, that of the
    classes as face minus background, whose sigmoid is the score; memory is channels last.

    Args:
        net: ``PNet``, ``RNet`` or ``ONet`` of facenet-pytorch, with its weights; not modified.

    Example:
        >>> from facenet_pytorch.models.mtcnn import RNet
        >>> code, margin = Stage(RNet())(torch.rand(2, 3, 24, 24))
        >>> code.shape, margin.shape
        (torch.Size([2, 4]), torch.Size([2]))
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        trunk: list[nn.Module] = []
        hidden: list[nn.Module] = []
        heads: list[tuple[Tensor, Tensor]] = []
        channels = 0
        for name, layer in net.named_children():
            if isinstance(layer, nn.Conv2d | nn.Linear) and "_" in name:
                heads.append((layer.weight.detach().flatten(1), _bias_of(layer)))
            elif isinstance(layer, nn.Conv2d):
                trunk.append(_widened(layer, channels or 3, max(layer.out_channels, _WIDE), first=not channels))
                channels = max(layer.out_channels, _WIDE)
            elif isinstance(layer, nn.MaxPool2d):
                trunk.append(layer)
            elif isinstance(layer, nn.Linear):
                hidden.append(_rows_first(layer, channels))
            elif isinstance(layer, nn.PReLU):
                parts, size = (hidden, layer.weight.numel()) if hidden else (trunk, channels)
                parts.append(_slopes(layer.weight.detach(), size))
        # The class heads come first.
        (weight, bias), *others = heads
        self.trunk = with_shared_ties(nn.Sequential(*trunk)).to(memory_format=torch.channels_last)
        self.hidden = nn.Sequential(*hidden)
        self.sizes = [1] + [len(b) for _, b in others]
        self.weight = nn.Parameter(torch.cat([weight[1:] - weight[:1]] + [w for w, _ in others]))
        self.bias = nn.Parameter(torch.cat([bias[1:] - bias[:1]] + [b for _, b in others]))

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


def _widened(layer: nn.Conv2d, inputs: int, outputs: int, *, first: bool) -> nn.Conv2d:
    """The convolution with channels of zeros beside its own; the first one takes colours in [0, 1]."""
    own, biases = layer.weight.detach(), _bias_of(layer)
    wide = nn.Conv2d(inputs, outputs, (own.shape[2], own.shape[3]))
    weight, bias = torch.zeros_like(wide.weight), torch.zeros(outputs)
    weight[: layer.out_channels, : layer.in_channels] = own * (255 * _SCALE if first else 1)
    bias[: layer.out_channels] = biases - (_MEAN * _SCALE * own.sum(dim=(1, 2, 3)) if first else 0)
    wide.weight, wide.bias = nn.Parameter(weight), nn.Parameter(bias)
    return wide


def _rows_first(layer: nn.Linear, channels: int) -> nn.Linear:
    """The layer for maps that are flattened as rows, columns, channels; upstream it is columns, rows, channels."""
    # Every network has 3 x 3 places left there.
    weight = layer.weight.detach().reshape(-1, 3, 3, channels).transpose(1, 2).flatten(1)
    dense = nn.Linear(layer.in_features, layer.out_features)
    dense.weight, dense.bias = nn.Parameter(weight.clone()), nn.Parameter(_bias_of(layer))
    return dense


def _slopes(weight: Tensor, size: int) -> nn.PReLU:
    layer = nn.PReLU(size)
    layer.weight = nn.Parameter(torch.cat([weight, weight.new_zeros(size - len(weight))]))
    return layer


def _bias_of(layer: nn.Conv2d | nn.Linear) -> Tensor:
    assert layer.bias is not None
    return layer.bias.detach().clone()
