"""The MPIIFaceGaze network: three stages of ResNet-18 under spatial attention, in the layout of its checkpoint."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu
from torchvision.models.resnet import BasicBlock, ResNet


class MPIIFaceGazeNet(nn.Module):
    """The "resnet_simple" of hysts/pytorch_mpiigaze on a whole face, after Zhang et al., "It's Written All Over Your
    Face" (CVPR workshops 2017).

    ``forward(faces)`` takes normalised faces ``(N, 3, 224, 224)`` in *BGR* order, mean and standard deviation removed,
    and gives pitch and yaw ``(N, 2)``, radians.
    """

    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = _Features()
        self.conv = nn.Conv2d(256, 1, 1)
        self.fc = nn.Linear(256 * 14 * 14, 2)

    def forward(self, faces: Tensor) -> Tensor:
        """Pitch and yaw."""
        maps = self.feature_extractor(faces)
        attended = maps * relu(self.conv(maps))
        angles: Tensor = self.fc(attended.flatten(start_dim=1))
        return angles


class _Features(nn.Module):
    """ResNet-18 up to its third stage, at stride 16."""

    def __init__(self) -> None:
        super().__init__()
        # torchvision builds four stages; the fourth is made small and left behind.
        whole = ResNet(BasicBlock, [2, 2, 2, 1])
        self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
        self.layer1, self.layer2, self.layer3 = whole.layer1, whole.layer2, whole.layer3

    def forward(self, faces: Tensor) -> Tensor:
        maps = self.maxpool(self.relu(self.bn1(self.conv1(faces))))
        out: Tensor = self.layer3(self.layer2(self.layer1(maps)))
        return out
