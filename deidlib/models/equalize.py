"""``equalize``: histogram equalisation as OpenCV does it, with a useful gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def equalize(patches: Tensor, bandwidth: float = 4.0) -> Tensor:
    """Histogram equalisation exactly as ``cv2.equalizeHist``, with a useful gradient.

    Equalising replaces a pixel by its rank, which is constant almost everywhere. The gradient is that of the
    same with every pixel blurred along the grey scale: y_i = s * sum_j Phi((x_i - x_j) / bandwidth), s being
    255 / (pixels that are not of the darkest value). Brightening a pixel raises it past those near it in
    brightness, and lowers each of those. ::

        dL/dx_i = s * sum_j phi((x_i - x_j) / bandwidth) / bandwidth * (dL/dy_i - dL/dy_j)

    Args:
        patches: ``(N, 1, h, w)`` grey in [0, 1], whole multiples of 1/255.
        bandwidth: standard deviation of the blur in grey levels, for the gradient alone.

    Returns:
        ``(N, 1, h, w)`` in [0, 1], whole multiples of 1/255. A patch of one value stays as it is.

    Example:
        >>> equalize(torch.tensor([[[[10.0, 10.0, 11.0, 200.0]]]]) / 255).mul(255).round()
        tensor([[[[  0.,   0., 128., 255.]]]])
    """
    out: Tensor = _Equalize.apply(patches, bandwidth)
    return out


class _Equalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, bandwidth: float) -> Tensor:
        levels = (patches.detach() * 255).round().clamp(0, 255).long().flatten(start_dim=1)
        pixels = levels.shape[1]
        # In float32 whatever comes in, as OpenCV computes it.
        histogram = torch.zeros(len(levels), 256, dtype=torch.float32, device=levels.device)
        histogram.scatter_add_(1, levels, torch.ones_like(levels, dtype=torch.float32))
        darkest = histogram.gather(1, levels.amin(dim=1, keepdim=True))
        brighter = pixels - darkest
        scale = 255 / brighter.clamp(min=1)
        table = ((histogram.cumsum(dim=1) - darkest).clamp(min=0) * scale).round()
        equalized = torch.where(brighter > 0, table.gather(1, levels), levels.float())
        ctx.save_for_backward(levels, histogram, torch.where(brighter > 0, scale, 255 / pixels))
        ctx.bandwidth = bandwidth
        return (equalized.to(patches.dtype) / 255).reshape(patches.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        levels, histogram, scale = ctx.saved_tensors
        (gradient,) = gradients
        flat = gradient.flatten(start_dim=1)
        histogram, scale = histogram.to(flat), scale.to(flat)
        grey = torch.arange(256, device=flat.device, dtype=flat.dtype)
        blur = torch.exp(-0.5 * ((grey[:, None] - grey) / ctx.bandwidth) ** 2) / (
            math.sqrt(2 * math.pi) * ctx.bandwidth
        )
        # Pixels of one grey level have one neighbourhood: 256 levels instead of all pairs of pixels.
        density = histogram @ blur
        pull = torch.zeros_like(histogram).scatter_add_(1, levels, flat) @ blur
        slope = scale * (flat * density.gather(1, levels) - pull.gather(1, levels))
        return slope.reshape(gradient.shape), None
