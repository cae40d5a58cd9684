"""Image quality: PSNR, SSIM and LPIPS inside and outside the faces, and how a change flickers from frame to frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torchmetrics.functional.image import structural_similarity_index_measure

from deidlib.faces import Faces
from deidlib.geometry.region import FaceRegion
from deidlib.images import check_images
from deidlib.metrics.frame_metric import FrameMetric
from deidlib.nets.precision import full_precision

# SSIM's Gaussian window of sigma 1.5 reaches this many pixels to each side.
_SSIM_REACH = 5


@full_precision()
def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each frame, -10 log10 of the mean squared error; symmetric.

    Args:
        a: ``(B, 3, H, W)`` in [0, 1].
        b: ``(B, 3, H, W)`` in [0, 1].
        mask: ``(B, 1, H, W)``, pixels above 0 count; all of them if not given.

    Returns:
        ``(B,)`` dB; infinite for equal frames, NaN for a frame without pixels that count.

    Raises:
        TypeError, ValueError: no image batches, or shapes differ.

    Example:
        >>> psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1))
        tensor([20.])
    """
    _check_pair(a, b, mask)
    return -10 * torch.log10(_mean((a - b).square(), mask))


@full_precision()
def ssim(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity of each frame (Wang et al., 2004), by torchmetrics; symmetric.

    The similarity at a pixel comes from a window of 11 x 11 pixels around it, which may look beyond the mask.

    Args:
        a: ``(B, 3, H, W)`` in [0, 1].
        b: ``(B, 3, H, W)`` in [0, 1].
        mask: ``(B, 1, H, W)``, similarity is averaged where it is above 0; everywhere if not given.

    Returns:
        ``(B,)`` in [-1, 1]; NaN for a frame without pixels that count.

    Raises:
        TypeError, ValueError: no image batches, shapes differ, or frames have less than 6 x 6 pixels.

    Example:
        >>> ssim(torch.ones(1, 3, 8, 8), torch.ones(1, 3, 8, 8))
        tensor([1.])
    """
    _check_pair(a, b, mask)
    if min(a.shape[-2:]) <= _SSIM_REACH:
        raise ValueError(f"SSIM needs frames of at least 6 x 6 pixels, got {tuple(a.shape[-2:])}.")
    result = structural_similarity_index_measure(a, b, reduction="none", data_range=1.0, return_full_image=True)
    assert isinstance(result, tuple)
    return _mean(result[1], mask)


@full_precision()
def flicker(changes: Tensor, mask: Tensor | None = None) -> Tensor:
    """How much a change to a video changes from frame to frame: 0 for one that stands still.

    Args:
        changes: ``(T, 3, H, W)`` in image units, the frames in order: protected minus hidden frames for the
            perturbation alone, protected minus original ones for everything.
        mask: ``(T, 1, H, W)``, pixels count that are above 0 in either of two neighbouring frames; all of them if
            not given.

    Returns:
        ``(T - 1,)`` mean absolute difference of neighbours in *grey levels*, 0..255; NaN where no pixels count.

    Raises:
        ValueError: shapes do not agree.

    Example:
        >>> flicker(torch.stack([torch.zeros(3, 2, 2), torch.full((3, 2, 2), 8 / 255)]))
        tensor([8.])
    """
    if changes.ndim != 4 or (mask is not None and mask.shape != (len(changes), 1, *changes.shape[-2:])):
        got = "" if mask is None else f" and a mask {tuple(mask.shape)}"
        raise ValueError(f"flicker needs (T, 3, H, W) and a mask (T, 1, H, W), got {tuple(changes.shape)}{got}.")
    union = None if mask is None else torch.maximum(mask[1:], mask[:-1])
    return _mean((changes[1:] - changes[:-1]).abs() * 255, union)


class LPIPS:
    """Learned perceptual distance (Zhang et al., arXiv 1801.03924), by torchmetrics; frame by frame.

    torchvision downloads the backbone when the object is made, unless torch's own cache has it.

    Args:
        net: ``"alex"``, ``"vgg"`` or ``"squeeze"``: their distances are not comparable with each other.
    """

    def __init__(self, net: Literal["alex", "vgg", "squeeze"] = "alex") -> None:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        self.net = net
        self._metric = LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True)

    @property
    def network(self) -> nn.Module:
        """The backbone and the weights of its layers' distances."""
        network: nn.Module = self._metric.net
        return network

    @full_precision()
    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """``(B, 3, H, W)`` twice, in [0, 1], to ``(B,)``: 0 for equal frames."""
        self._metric.to(a.device)
        rows = zip(a.float()[:, None], b.float()[:, None], strict=True)
        values = torch.stack([self._metric(x, y) for x, y in rows])
        self._metric.reset()
        return values


class ImageQuality(FrameMetric):
    """What is left of the picture, per frame and on average, inside and outside the faces' region.

    One metric for each video: frames are updated in order, and flicker compares each with the one before it.

    Args:
        region: what counts as inside; ``FaceRegion()`` if not given.
        lpips: ``LPIPS()``, or any ``(images, images) -> (B,)``; left out (NaN) if not given.

    Example:
        >>> faces = [Faces(torch.tensor([[8., 8., 20., 20.]]), torch.ones(1))]
        >>> original = torch.rand(1, 3, 32, 32)
        >>> protected = original.clone()
        >>> protected[:, :, 10:16, 10:16] = 0
        >>> quality = ImageQuality()
        >>> quality.update(original, protected, faces)
        >>> values = quality.compute()
        >>> values["psnr_outside"], values["ssim_outside"].round(decimals=4), bool(values["psnr_inside"] < 20)
        (tensor(inf), tensor(1.), True)
    """

    higher_is_better = True
    # Called as a function, the metric must see every frame twice: once after its predecessor, once for the batch alone.
    full_state_update = True
    columns: ClassVar[tuple[str, ...]] = (
        "psnr", "psnr_inside", "psnr_outside",
        "ssim", "ssim_inside", "ssim_outside",
        "lpips", "lpips_inside", "lpips_outside",
        "flicker", "flicker_inside",
    )  # fmt: skip

    def __init__(
        self, region: FaceRegion | None = None, *, lpips: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.region = FaceRegion() if region is None else region
        self.lpips = lpips
        self._last: tuple[Tensor, Tensor] | None = None

    @full_precision()
    @torch.no_grad()
    def update(self, reference: Tensor, protected: Tensor, faces: Sequence[Faces]) -> None:
        """Add frames, those that follow the ones before.

        Args:
            reference: ``(B, 3, H, W)`` in [0, 1]: the originals, to see what protection costs; or the hidden frames,
                to see the perturbation alone.
            protected: ``(B, 3, H, W)`` in [0, 1].
            faces: B entries, the originals' faces.

        Raises:
            TypeError, ValueError: no image batches, or lengths or shapes do not agree.
        """
        check_images(reference, name="reference")
        check_images(protected, name="protected")
        if len(faces) != len(reference):
            raise ValueError(f"expected one Faces per frame: {len(reference)} frames, got {len(faces)} entries.")
        # One by one: how a batch is summed depends on its size, in the last bits.
        for k, face in enumerate(faces):
            self._update(reference[k : k + 1], protected[k : k + 1], face)

    def _update(self, reference: Tensor, protected: Tensor, face: Faces) -> None:
        inside = (self.region.mask([face], *reference.shape[-2:]) > 0).to(reference)
        outside = 1 - inside
        # Only windows that lie outside altogether say something about the outside.
        far = 1 - max_pool2d(inside, 2 * _SSIM_REACH + 1, stride=1, padding=_SSIM_REACH)
        values = [psnr(reference, protected, where) for where in (None, inside, outside)]
        values += [ssim(reference, protected, where) for where in (None, inside, far)]
        values += self._lpips(reference, protected, inside)
        values += self._flicker(protected - reference, inside)
        self.rows.append(torch.stack(values, dim=1).float().to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """The mean over the frames that have the value.

        Returns:
            Zero-dimensional tensors: ``psnr`` in dB (infinite if a frame is unchanged), ``ssim``, ``lpips``, and the
            same ``_inside`` and ``_outside`` the faces' region; ``flicker`` and ``flicker_inside`` in grey
            levels. LPIPS inside is that of a frame changed inside only.
        """
        table = self._table()
        return {name: table[:, i].nanmean() for i, name in enumerate(self.columns)}

    def reset(self) -> None:
        """Forget all frames; the next one is the first of a video."""
        super().reset()
        self._last = None

    def _lpips(self, reference: Tensor, protected: Tensor, inside: Tensor) -> list[Tensor]:
        if self.lpips is None:
            return [reference.new_full((len(reference),), torch.nan)] * 3
        within = torch.where(inside > 0, protected, reference)
        beyond = torch.where(inside > 0, reference, protected)
        return [self.lpips(reference, shown).to(reference) for shown in (protected, within, beyond)]

    def _flicker(self, change: Tensor, inside: Tensor) -> list[Tensor]:
        first = self._last is None or self._last[0].shape[1:] != change.shape[1:]
        changes, masks = change, inside
        if self._last is not None and not first:
            changes, masks = (
                torch.cat([self._last[0].to(change), change]),
                torch.cat([self._last[1].to(inside), inside]),
            )
        self._last = (change[-1:].clone(), inside[-1:].clone())
        none = change.new_full((1 if first else 0,), torch.nan)
        return [torch.cat([none, flicker(changes, where)]) for where in (None, masks)]


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of each frame's ``(B, C, H, W)`` values where the mask is above 0."""
    if mask is None:
        return values.mean(dim=(1, 2, 3))
    counts = mask > 0
    total = values.where(counts, values.new_zeros(())).sum(dim=(1, 2, 3))
    return total / (counts.sum(dim=(1, 2, 3)) * values.shape[1])


def _check_pair(a: Tensor, b: Tensor, mask: Tensor | None) -> None:
    check_images(a, name="the first images")
    check_images(b, name="the second images")
    if a.shape != b.shape:
        raise ValueError(f"both images must have one shape, got {tuple(a.shape)} and {tuple(b.shape)}.")
    if mask is not None and mask.shape != (len(a), 1, *a.shape[-2:]):
        raise ValueError(f"mask must have shape {(len(a), 1, *a.shape[-2:])}, got {tuple(mask.shape)}.")
