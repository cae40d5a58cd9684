"""The colours and the light of one face for another."""

from __future__ import annotations

import torch
from torch import Tensor

# A flat source is not blown up to the contrast of a target in hard light, nor the other way round.
_CONTRAST = (0.7, 1.4)


def match_colour(pixels: Tensor, original: Tensor, weight: Tensor, *, sigma: float) -> Tensor:
    """``pixels`` in the colours and the light of ``original``.

    In Lab, mean and spread over the face become the original's (Reinhard et al., 2001), and then what is left of the
    difference between the two, blurred: shadows and highlights that are wider than ``sigma``. Of the original nothing
    finer than that goes in.

    Args:
        pixels: ``(3, h, w)`` in [0, 1].
        original: ``(3, h, w)`` in [0, 1].
        weight: ``(h, w)`` >= 0, where both show the face; its sum is not 0.
        sigma: of the blur, in pixels.

    Returns:
        ``(3, h, w)`` in [0, 1].
    """
    from kornia.color import lab_to_rgb, rgb_to_lab

    own, goal = rgb_to_lab(pixels), rgb_to_lab(original)
    (mean, spread), (wanted, wanted_spread) = _statistics(own, weight), _statistics(goal, weight)
    shown = (own - mean) * (wanted_spread / spread.clamp(min=1e-3)).clamp(*_CONTRAST) + wanted
    shown = shown + _blurred(goal - shown, weight, sigma)
    result: Tensor = lab_to_rgb(shown).clamp(0, 1)
    return result


def _statistics(lab: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = weight.sum()
    mean = (lab * weight).sum(dim=(1, 2), keepdim=True) / total
    variance = ((lab - mean).square() * weight).sum(dim=(1, 2), keepdim=True) / total
    return mean, variance.sqrt()


def _blurred(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Gaussian means over what has weight; beyond it the nearest of them.

    Not by kornia's ``gaussian_blur2d``: its kernel ends somewhere, and would leave nothing to divide by beyond that.
    """
    height, width = weight.shape
    down, across = _gaussian(height, sigma, weight), _gaussian(width, sigma, weight)
    # So little weight everywhere that it counts only where nothing else is near.
    ground = weight + 1e-4
    return (down @ (values * ground) @ across) / (down @ ground @ across)


def _gaussian(count: int, sigma: float, like: Tensor) -> Tensor:
    place = torch.arange(count, device=like.device, dtype=like.dtype)
    return torch.exp(-0.5 * ((place[:, None] - place) / max(sigma, 0.5)) ** 2)
