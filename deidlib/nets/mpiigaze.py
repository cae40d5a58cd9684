"""The MPIIGaze eye-patch network: a pre-activation ResNet of depth 8, in the layout of the published checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu


class MPIIGazeNet(nn.Module):
    """ResNet-preact-8 on one eye (hysts/pytorch_mpiigaze), after Zhang et al., "MPIIGaze" (TPAMI 2019).

    ``forward(patches, head)`` takes equalised grey patches ``(N, 1, 36, 60)`` in [0, 1] of *left* eyes (right eyes
    mirrored) and the head's angles beside them ``(N, 2)``, and gives pitch and yaw ``(N, 2)``, all in radians.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.stage1 = _stage(16, 16, stride=1)
        self.stage2 = _stage(16, 32, stride=2)
        self.stage3 = _stage(32, 64, stride=2)
        self.bn = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64 + 2, 2)

    def forward(self, patches: Tensor, head: Tensor) -> Tensor:
        """Pitch and yaw."""
        maps = self.stage3(self.stage2(self.stage1(self.conv(patches))))
        features = relu(self.bn(maps)).mean(dim=(2, 3))
        angles: Tensor = self.fc(torch.cat([features, head], dim=1))
        return angles


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    stage = nn.Sequential()
    stage.add_module("block1", _Block(inputs, outputs, stride))
    return stage


class _Block(nn.Module):
    """Two convolutions, each after norm and ReLU; the shortcut starts after the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, maps: Tensor) -> Tensor:
        active = relu(self.bn1(maps))
        out: Tensor = self.conv2(relu(self.bn2(self.conv1(active)))) + self.shortcut(active)
        return out
