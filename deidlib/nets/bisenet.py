"""BiSeNet, which parses a face into skin, brows, eyes, hair and so on, in the layout of its published checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import resnet18

FACE_CLASSES = (
    "background",
    "skin",
    "left_brow",
    "right_brow",
    "left_eye",
    "right_eye",
    "glasses",
    "left_ear",
    "right_ear",
    "earring",
    "nose",
    "mouth",
    "upper_lip",
    "lower_lip",
    "neck",
    "necklace",
    "clothes",
    "hair",
    "hat",
)
"""What the published weights tell apart, in the order of the output's channels.

The weights were trained on mirrored pictures without exchanging left and right (zllrunning/face-parsing.PyTorch,
issue 57): which of two eyes, brows or ears is left they do not know. Name both.
"""


class BiSeNet(nn.Module):
    """BiSeNet (Yu et al., arXiv 1808.00897) on ResNet-18, as zllrunning/face-parsing.PyTorch trained it for faces.

    ``forward(images)`` takes ``(B, 3, H, W)``, RGB with ImageNet's mean and deviation, and gives one logit per
    class and pixel, ``(B, classes, H, W)``. Of the paper's two paths, the spatial one is the ResNet's own map at
    stride 8 here.

    Example:
        >>> net = BiSeNet().eval()
        >>> with torch.no_grad():
        ...     tuple(net(torch.rand(1, 3, 64, 96)).shape)
        (1, 19, 64, 96)
    """

    def __init__(self, classes: int = len(FACE_CLASSES)) -> None:
        super().__init__()
        # The names are those of the checkpoint.
        self.cp = _ContextPath()
        self.ffm = _Fusion(256, 256)
        self.conv_out = _Head(256, 256, classes)
        self.conv_out16 = _Head(128, 64, classes)
        self.conv_out32 = _Head(128, 64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits per class, ``(B, classes, H, W)``."""
        spatial, context, _ = self.cp(images)
        return _resized(self.conv_out(self.ffm(spatial, context)), images)

    def levels(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the output and of the two heads that help in training, each ``(B, classes, H, W)``."""
        spatial, context, coarse = self.cp(images)
        return (
            _resized(self.conv_out(self.ffm(spatial, context)), images),
            _resized(self.conv_out16(context), images),
            _resized(self.conv_out32(coarse), images),
        )


class FaceParser(nn.Module):
    """A parsing net with the input that it was trained on: images in [0, 1] in, probabilities out.

    ``forward(images)`` takes ``(B, 3, H, W)``, RGB in [0, 1], a face filling most of it, and gives ``(B, classes,
    side, side)``, which sum to 1 over the classes.

    Args:
        net: from ``(B, 3, side, side)``, normalised with ImageNet's mean and deviation, to logits per class.
        side: what images are resized to, in pixels; by nearest neighbour, as the co-segmentation model does.

    Example:
        >>> parser = FaceParser(BiSeNet().eval(), side=64)
        >>> with torch.no_grad():
        ...     parser(torch.rand(1, 3, 32, 32)).sum(dim=1).allclose(torch.ones(1, 64, 64))
        True
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, side: int = 512) -> None:
        super().__init__()
        self.net = net
        self.side = side
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities per class, ``(B, classes, side, side)``."""
        resized = interpolate(images, size=(self.side, self.side), mode="nearest")
        logits: Tensor = self.net((resized - self.mean) / self.std)
        return logits.softmax(dim=1)


class _ContextPath(nn.Module):
    """ResNet-18 and what attention makes of its two coarsest maps: maps at strides 8, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = _Body()
        self.arm16 = _Attention(256, 128)
        self.arm32 = _Attention(512, 128)
        self.conv_head32 = _Convolution(128, 128, 3)
        self.conv_head16 = _Convolution(128, 128, 3)
        self.conv_avg = _Convolution(512, 128, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        at8, at16, at32 = self.resnet(images)
        overall = self.conv_avg(at32.mean(dim=(2, 3), keepdim=True))
        coarse = self.conv_head32(_nearest(self.arm32(at32) + overall, at16))
        fine = self.conv_head16(_nearest(self.arm16(at16) + coarse, at8))
        return at8, fine, coarse


class _Body(nn.Module):
    """ResNet-18 without its classifier; the maps at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        net = resnet18(weights=None)
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = nn.functional.max_pool2d(self.bn1(self.conv1(images)).relu(), 3, stride=2, padding=1)
        at8 = self.layer2(self.layer1(maps))
        at16 = self.layer3(at8)
        return at8, at16, self.layer4(at16)


class _Attention(nn.Module):
    """Attention refinement: channels weighed by what they are on average."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _Convolution(inputs, outputs, 3)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv(maps)
        weights: Tensor = self.bn_atten(self.conv_atten(maps.mean(dim=(2, 3), keepdim=True)))
        return maps * weights.sigmoid()


class _Fusion(nn.Module):
    """Feature fusion: both paths in one, the channels that matter added once more."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convblk = _Convolution(inputs, outputs, 1)
        self.conv1 = nn.Conv2d(outputs, outputs // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs // 4, outputs, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        maps: Tensor = self.convblk(torch.cat([spatial, context], dim=1))
        weights: Tensor = self.conv2(self.conv1(maps.mean(dim=(2, 3), keepdim=True)).relu())
        return maps + maps * weights.sigmoid()


class _Head(nn.Module):
    """From features to one logit per class."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.conv = _Convolution(inputs, hidden, 3)
        self.conv_out = nn.Conv2d(hidden, classes, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.conv_out(self.conv(maps))
        return out


class _Convolution(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(maps))
        return out.relu()


def _nearest(maps: Tensor, like: Tensor) -> Tensor:
    return interpolate(maps, size=like.shape[-2:], mode="nearest")


def _resized(logits: Tensor, like: Tensor) -> Tensor:
    # Corners on corners: so the published weights were trained.
    return interpolate(logits, size=like.shape[-2:], mode="bilinear", align_corners=True)
