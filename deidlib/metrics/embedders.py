"""Embedders: recognisers that turn an aligned face into a vector, alike for one person, unlike for two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from deidlib import weights as checkpoints
from deidlib.images import check_image_shape
from deidlib.nets.onnx import OnnxNet
from deidlib.nets.precision import full_precision

_FACENET_SIZE = 160


class Embedder(Protocol):
    """Any function from aligned faces to vectors; only the direction of the vectors counts."""

    def __call__(self, crops: Tensor) -> Tensor:
        """Embed faces.

        Args:
            crops: ``(N, 3, 112, 112)`` RGB in [0, 1], from :func:`~deidlib.metrics.align`; N may be 0.

        Returns:
            ``(N, D)``.
        """
        ...


class OnnxEmbedder:
    """A recogniser in an ONNX file, as ArcFace and its successors are published. Needs ``pip install deidlib[onnx]``.

    Args:
        weights: ``"mobilefacenet"`` (Chen et al., 2018; ImageNet mean and deviation), or a file that takes
            ``(N, 3, 112, 112)`` RGB.
        mean: per channel, subtracted from values in [0, 1]. Needed for a file that is not in
            :mod:`deidlib.weights.store`; InsightFace's take 0.5 each.
        std: per channel, divided by afterwards; likewise.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: mean or std are missing for an unknown file, or it is no such network.
    """

    def __init__(
        self,
        weights: str | Path = "mobilefacenet",
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        path = checkpoints.find(weights)
        known = checkpoints.checkpoint_of(path)
        conventions: Mapping[str, object] = known.conventions if known else {}
        self._mean = _per_channel("mean", mean, conventions, path)
        self._std = _per_channel("std", std, conventions, path)
        self._net = OnnxNet(path)

    @full_precision()
    def __call__(self, crops: Tensor) -> Tensor:
        """``(N, 3, 112, 112)`` RGB in [0, 1] to ``(N, D)``."""
        check_crops(crops)
        return self._net((crops - self._mean.to(crops)) / self._std.to(crops))


class FacenetEmbedder:
    """``InceptionResnetV1`` of facenet-pytorch (VGGFace2), 512 dimensions.

    The aligned faces are scaled to its 160 x 160. They show less of the head than the MTCNN crops it was trained with.

    Args:
        weights: ``"inception_resnet_v1"``, a file, or a state dict.

    Raises:
        FileNotFoundError: the weights cannot be had.
        RuntimeError: the state dict does not fit.
    """

    def __init__(self, weights: str | Path | Mapping[str, Tensor] = "inception_resnet_v1") -> None:
        from facenet_pytorch import InceptionResnetV1

        state = dict(weights) if isinstance(weights, Mapping) else checkpoints.load_state(weights)
        net = InceptionResnetV1(pretrained=None)
        # The published file keeps the training's classifier, which an embedding does not use.
        checkpoints.fill(net, {key: value for key, value in state.items() if not key.startswith("logits.")}, weights)
        self._net: torch.nn.Module = net.eval().requires_grad_(False)

    @full_precision()
    @torch.no_grad()
    def __call__(self, crops: Tensor) -> Tensor:
        """``(N, 3, 112, 112)`` RGB in [0, 1] to ``(N, 512)``, on the device of ``crops``."""
        check_crops(crops)
        if not len(crops):
            return crops.new_zeros(0, 512)
        self._net.to(crops)
        large = interpolate(crops, size=(_FACENET_SIZE, _FACENET_SIZE), mode="bilinear", align_corners=False)
        vectors: Tensor = self._net((large * 255 - 127.5) / 128)
        return vectors


def check_crops(crops: Tensor) -> Tensor:
    """Return ``crops`` unchanged if they can be aligned faces, else raise.

    Raises:
        TypeError: no float tensor.
        ValueError: not ``(N, 3, 112, 112)``.
    """
    if isinstance(crops, Tensor) and crops.is_floating_point() and crops.shape == (0, 3, 112, 112):
        return crops
    check_image_shape(crops, name="crops")
    if crops.shape[-2:] != (112, 112):
        raise ValueError(
            f"crops must be aligned faces of 112 x 112 pixels, got {tuple(crops.shape[-2:])}. "
            "Cut them out with deidlib.metrics.align(images, faces)."
        )
    return crops


def _per_channel(what: str, given: Sequence[float] | None, conventions: Mapping[str, object], path: Path) -> Tensor:
    values = given if given is not None else conventions.get(what)
    if not isinstance(values, Sequence) or len(values) != 3:
        raise ValueError(
            f"{path.name} is not in the table of checkpoints: give its mean and std, three numbers each, for RGB in "
            f"[0, 1] (InsightFace's models: mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)). Got {what}={given!r}."
        )
    return torch.tensor([float(v) for v in values])[:, None, None]
