"""RetinaFace with a ResNet-50 backbone."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet50

from deidlib.nets.retinaface_net import RetinaFaceNet


class RetinaFaceResNet50(RetinaFaceNet):
    """:class:`~deidlib.nets.retinaface_net.RetinaFaceNet` on ResNet-50.

    Two checkpoints are in circulation. Their keys and shapes are the same, and each loads where the other is
    meant, but they were trained on different inputs:

    - biubug6/Pytorch_Retinaface: BGR, 0..255, minus (104, 117, 123);
    - ternaus/retinaface: RGB, ImageNet's mean and deviation.

    Example:
        >>> import torch
        >>> net = RetinaFaceResNet50().eval()
        >>> with torch.no_grad():
        ...     [tuple(out.shape) for out in net(torch.rand(1, 3, 64, 32))]
        [(1, 84, 4), (1, 84, 2), (1, 84, 10)]
    """

    def __init__(self) -> None:
        super().__init__(_Body(), (512, 1024, 2048), channels=256, slope=None)


class _Body(nn.Module):
    """ResNet-50 without its classifier; the maps at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        net = resnet50(weights=None)
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.bn1(self.conv1(images)).relu()
        maps = self.layer1(nn.functional.max_pool2d(maps, 3, stride=2, padding=1))
        levels = []
        for layer in (self.layer2, self.layer3, self.layer4):
            maps = layer(maps)
            levels.append(maps)
        return levels
