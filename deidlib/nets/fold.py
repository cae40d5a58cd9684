"""Batch norms in eval mode, folded away: what they do to a map is one factor and one shift per channel."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

M = TypeVar("M", bound=nn.Module)


class Affine(nn.Module):
    """What a batch norm does in eval mode: ``scale * maps + shift``, in one pass over memory instead of four.

    Args:
        norm: with running statistics and weights.

    Example:
        >>> norm = nn.BatchNorm2d(3).eval()
        >>> maps = torch.rand(1, 3, 2, 2)
        >>> torch.allclose(Affine(norm)(maps), norm(maps))
        True
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", (norm.bias.detach() - norm.running_mean * scale)[:, None, None])

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        return torch.addcmul(self.shift, maps, self.scale)


def without_batch_norm(net: M) -> M:
    """Replace every batch norm by what it does in eval mode, to save an attack's forward and backward passes.

    One that follows a convolution in an ``nn.Sequential`` becomes part of that convolution; any other, an
    :class:`Affine`.

    Args:
        net: changed in place, and in eval mode afterwards; its state dict has other keys then, so load weights first.

    Returns:
        The net.

    Example:
        >>> net = without_batch_norm(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()))
        >>> [type(layer).__name__ for layer in net]
        ['Conv2d', 'Identity', 'ReLU']
    """
    net.eval()
    if isinstance(net, nn.Sequential):
        for i in range(len(net) - 1):
            convolution, norm = net[i], net[i + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                net[i], net[i + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    for name, child in net.named_children():
        setattr(net, name, Affine(child) if isinstance(child, nn.BatchNorm2d) else without_batch_norm(child))
    return net
