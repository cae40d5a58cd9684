"""RetinaFace's network, rearranged: the same numbers, up to rounding, from two thirds of the operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from deidlib.nets.fold import without_batch_norm

_ANCHORS = 2
# Of an anchor's answers, in the order of the published heads' channels: centre, points, size, background, face.
_BOX, _CLASS, _POINTS = 4, 2, 10


class LeanRetinaFace(nn.Module):
    """What all A anchors answer, level by level, row by row, size by size: ``(B, A, 16)``.

    An anchor's answers are the code of the centre (2), of five points (x1, y1, ..., 10) and of the size (2), the logit
    of the background, and the margin by which that of a face exceeds it. Batch norms are folded into the convolutions,
    memory is channels last, and convolutions that look at the same maps are one.

    Args:
        net: as published, with its weights: a :class:`~deidlib.nets.retinaface_net.RetinaFaceNet`; taken apart.

    Example:
        >>> from deidlib.nets.retinaface_resnet50 import RetinaFaceResNet50
        >>> with torch.no_grad():
        ...     LeanRetinaFace(RetinaFaceResNet50())(torch.rand(1, 3, 64, 32)).shape
        torch.Size([1, 84, 16])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        whole: Any = without_batch_norm(net)
        self.body, self.fpn = whole.body, whole.fpn
        self.contexts = nn.ModuleList(_Context(ssh) for ssh in (whole.ssh1, whole.ssh2, whole.ssh3))
        self.heads = nn.ModuleList(
            _head(*(head.conv1x1 for head in level))
            for level in zip(whole.BboxHead, whole.ClassHead, whole.LandmarkHead, strict=True)
        )
        for layer in self.modules():
            if isinstance(layer, nn.LeakyReLU):
                # In place it would be followed by a look at the version of what it has overwritten.
                layer.inplace = False
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Of images ``(B, 3, H, W)`` as the network was trained to see them."""
        levels = self.fpn(self.body(images.contiguous(memory_format=torch.channels_last)))
        answers = [
            head(context(level)).permute(0, 2, 3, 1).reshape(len(images), -1, _BOX + _CLASS + _POINTS)
            for context, head, level in zip(self.contexts, self.heads, levels, strict=True)
        ]
        return torch.cat(answers, dim=1)


class _Context(nn.Module):
    """SSH's context module with two pairs of convolutions as one each."""

    def __init__(self, ssh: Any) -> None:
        super().__init__()
        self.first = _side_by_side([ssh.conv3X3[0], ssh.conv5X5_1[0]])
        self.second = _side_by_side([ssh.conv5X5_2[0], ssh.conv7X7_2[0]])
        self.third = ssh.conv7x7_3[0]
        self.active = ssh.conv5X5_1[2]
        self.channels = ssh.conv3X3[0].out_channels, ssh.conv5X5_1[0].out_channels, ssh.conv5X5_2[0].out_channels

    def forward(self, maps: Tensor) -> Tensor:
        wide, shared, five = self.channels
        three, rest = torch.split(self.first(maps), [wide, shared], dim=1)
        middle, rest = torch.split(self.second(self.active(rest)), [five, self.third.in_channels], dim=1)
        # A slope of 0 makes it torch.relu, but for what that would remember of its result.
        return leaky_relu(torch.cat([three, middle, self.third(self.active(rest))], dim=1), 0.0)


def _side_by_side(layers: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Convolutions of the same maps as one: its channels are theirs, one after the other."""
    first = layers[0]
    both = nn.Conv2d(first.in_channels, sum(layer.out_channels for layer in layers), 3, padding=1)
    both.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers]))
    both.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers if layer.bias is not None]))
    return both


def _head(box: nn.Conv2d, classes: nn.Conv2d, points: nn.Conv2d) -> nn.Conv2d:
    """The three heads of a level as one."""

    def answers(of: str) -> Tensor:
        b, c, p = (getattr(layer, of).detach().unflatten(0, (_ANCHORS, -1)) for layer in (box, classes, points))
        return torch.cat([b[:, :2], p, b[:, 2:], c[:, :1], c[:, 1:] - c[:, :1]], dim=1).flatten(0, 1)

    head = nn.Conv2d(box.in_channels, _ANCHORS * (_BOX + _CLASS + _POINTS), 1)
    head.weight, head.bias = nn.Parameter(answers("weight")), nn.Parameter(answers("bias"))
    return head
